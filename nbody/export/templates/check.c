/* Does @NAME@_stepper.c say here what it said where it was trained? Made by `orrery export`. */
#include <math.h>
#include <stdio.h>

#include "@NAME@_vectors.h"

int main(void) {
  double worst = 0.0;
  int wrong = 0, strange = 0;
  for (int k = 0; k < @UPPER@_VECTORS; k++) {
    const @NAME@_vector *vector = @NAME@_vectors + k;
    bool outside;
    const double dt = @NAME@_step(&vector->state, vector->threshold, &outside);
    strange += outside;
    const double off = fabs(dt / vector->dt - 1.0);
    if (!(off <= worst)) worst = off;
    if (!(off <= 1e-12) || outside != vector->outside) {
      printf("state %d: dt %.17g, expected %.17g; outside %d, expected %d\n", k, dt, vector->dt,
             outside, vector->outside);
      wrong++;
    }
  }
  printf("%d states, %d of them strange to it, largest relative difference %.1e: %s\n",
         @UPPER@_VECTORS, strange, worst, wrong ? "WRONG" : "right");
  return wrong > 0;
}
