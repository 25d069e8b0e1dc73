/* What programs in other languages call: a run from positions and velocities. */
#ifndef ORRERY_ENGINE_H
#define ORRERY_ENGINE_H

#include "run.h"

/* Moves a system of n particles by a rule. x and v, [n][3], are overwritten with where it ends; room
 * holds orrery_room(n) doubles. Returns the outcome's end. */
int orrery_integrate(size_t n, const double *mass, double softening, double *x, double *v,
                     int method, const orrery_rule *rule, const orrery_limits *limits,
                     double *room, orrery_outcome *outcome);

/* A system that was begun, moved by steps of one dt each, without a rule. */
void orrery_repeat(size_t n, const double *mass, double softening, double *x, double *v, int method,
                   double dt, long steps, double *room);

/* seconds of the fastest of `rounds` of `calls` calls each: one pass over all pairs as the method
 * makes it, one question to the stepper; and one whole step of the method */
void orrery_time_calls(size_t n, const double *mass, double softening, const double *x,
                       const double *v, int method, const orrery_rule *rule, long calls, int rounds,
                       double *room, double seconds[3]);

#endif
