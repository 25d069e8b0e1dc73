/* A trained stepper: a state and a threshold in, a time step out. Nothing is allocated and nothing
 * kept between calls, so that any number of threads may ask at once. */
#ifndef ORRERY_STEPPER_H
#define ORRERY_STEPPER_H

#include <stdbool.h>

#include "network.h"
#include "state.h"

typedef enum { ORRERY_LEADING_ERROR, ORRERY_DIMENSIONLESS } orrery_features;

typedef struct {
  orrery_features features;
  orrery_network network;
  double calibration; /* factor on each step */
} orrery_stepper;

/* The step of a state; NaN for a state that is not finite. `outside` (may be NULL) is set to whether
 * the state is unlike those of the training: the step is then the most cautious of those that
 * training took, in units of what the features alone would say. */
double orrery_ask(const orrery_stepper *stepper, const orrery_state *state, double threshold,
                  bool *outside);

/* The same, even in time: the geometric mean of the steps forth and back. For symmetric integrators,
 * with orrery_symmetric. Of a leading_error stepper the step itself: Hermite is not symmetric. */
double orrery_ask_even(const orrery_stepper *stepper, const orrery_state *state, double threshold,
                       bool *outside);

/* dt with 1/dt + 1/last = 2/wanted (Holder, Leimkuhler & Reich 2001), within a factor 2 of wanted;
 * last: the dt before, or 0 at the first step. */
double orrery_symmetric(double wanted, double last);

#endif
