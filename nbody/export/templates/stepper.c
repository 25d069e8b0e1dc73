/* @TITLE@: see @NAME@_stepper.h. Made by `orrery export`. */
#include "@NAME@_stepper.h"

#include <math.h>

#define @UPPER@_WIDEST @WIDEST@

@PARTS@

@WEIGHTS@

double @NAME@_step(const @NAME@_state *state, double threshold, bool *outside) {
  return @NAME@_ask(&@NAME@_trained, state, threshold, outside);
}

double @NAME@_even_step(const @NAME@_state *state, double threshold, bool *outside) {
  return @NAME@_ask_even(&@NAME@_trained, state, threshold, outside);
}

void @NAME@_step_batch(size_t count, const @NAME@_state *states, double threshold, double *dt,
                       bool *outside) {
  for (size_t i = 0; i < count; i++)
    dt[i] = @NAME@_step(states + i, threshold, outside ? outside + i : NULL);
}
