/* The integrators: one step of a system. Each ends with the accelerations that the next needs. */
#ifndef ORRERY_STEPS_H
#define ORRERY_STEPS_H

#include <stdbool.h>

#include "system.h"

typedef struct {
  int parts;           /* kick-drift-kick steps of a leapfrog; 0: Hermite */
  const double *share; /* [parts] of dt, which sum up to one */
  int evaluations;     /* of a Hermite step */
  int order;
} orrery_method;

enum { ORRERY_METHODS = 7 };
extern const orrery_method orrery_methods[ORRERY_METHODS]; /* in the order of IntegratorName */

/* crowding: whether the pass looks for the closest pair */
void orrery_take_step(orrery_system *system, const orrery_method *method, double dt, bool crowding);

/* accelerations, and for a Hermite scheme their first four derivatives along the true path */
void orrery_begin(orrery_system *system, const orrery_method *method);

#endif
