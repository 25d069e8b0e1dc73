/* What a stepper is asked about: a system, and what the last step left behind. */
#ifndef ORRERY_STATE_H
#define ORRERY_STATE_H

#include <stddef.h>

enum { ORRERY_D = 3 }; /* dimensions */

typedef struct {
  size_t n;                          /* particles */
  const double *mass;                /* [n] */
  const double *position, *velocity; /* [n][3], row by row; of a plane, the third is 0 */
  /* [n][3] the accelerations with their first four derivatives, as a Hermite step leaves them
     behind; a stepper for leapfrogs does not look at them */
  const double *acceleration, *jerk, *snap, *crackle, *fourth;
  double softening, G;
  double energy; /* that errors are relative to, above zero: |E|, or where that is less than 1e-4 of
                    it, 1e-4 (K + |U|) */
} orrery_state;

#endif
