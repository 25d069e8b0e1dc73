/* Features of what a Hermite step leaves behind, sums over the bodies: no pass over the pairs. */
#ifndef ORRERY_LEADING_ERROR_H
#define ORRERY_LEADING_ERROR_H

#include "state.h"

enum { ORRERY_LEADING_ERROR_FEATURES = 14 };

/* features [14] of a state; returns ln t_ref */
double orrery_leading_error(const orrery_state *state, double threshold, double *features);

#endif
