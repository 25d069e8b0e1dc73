/* The shape of a state: features that no change of units, frame or order changes. */
#ifndef ORRERY_DIMENSIONLESS_H
#define ORRERY_DIMENSIONLESS_H

#include "state.h"

enum { ORRERY_DIMENSIONLESS_FEATURES = 11 };

/* features [11] of a state; returns ln t_ref */
double orrery_dimensionless(const orrery_state *state, double *features);

/* the features of the same state with time running backward */
void orrery_dimensionless_backward(const double *features, double *backward);

#endif
