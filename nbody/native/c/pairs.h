/* One pass over all pairs of particles. */
#ifndef ORRERY_PAIRS_H
#define ORRERY_PAIRS_H

#include <stdbool.h>

#include "system.h"

/* accelerations at positions x */
void orrery_forces(orrery_system *system, const double *x, double *a, bool crowding);

/* accelerations and jerks at positions x and velocities v */
void orrery_forces_and_jerks(orrery_system *system, const double *x, const double *v, double *a,
                             double *j, bool crowding);

#endif
