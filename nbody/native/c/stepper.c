#include "stepper.h"

#include <math.h>

#include "dimensionless.h"
#include "leading_error.h"

enum { MOST_FEATURES = 16 };

static double answer(const orrery_stepper *stepper, const double *features, double log_reference,
                     bool *outside) {
  const orrery_network *network = &stepper->network;
  const bool known = orrery_network_knows(network, features);
  if (outside) *outside = *outside || !known;
  const double value = known ? orrery_network_bounded(network, orrery_network_value(network, features))
                             : orrery_network_least(network);
  return stepper->calibration * exp(log_reference + value);
}

static double features_of(const orrery_stepper *stepper, const orrery_state *state,
                          double threshold, double *features) {
  return stepper->features == ORRERY_LEADING_ERROR
             ? orrery_leading_error(state, threshold, features)
             : orrery_dimensionless(state, features);
}

double orrery_ask(const orrery_stepper *stepper, const orrery_state *state, double threshold,
                  bool *outside) {
  double features[MOST_FEATURES];
  if (outside) *outside = false;
  const double log_reference = features_of(stepper, state, threshold, features);
  return answer(stepper, features, log_reference, outside);
}

double orrery_ask_even(const orrery_stepper *stepper, const orrery_state *state, double threshold,
                       bool *outside) {
  double features[MOST_FEATURES], backward[MOST_FEATURES];
  if (outside) *outside = false;
  const double log_reference = features_of(stepper, state, threshold, features);
  const double forth = answer(stepper, features, log_reference, outside);
  if (stepper->features == ORRERY_LEADING_ERROR) return forth;
  orrery_dimensionless_backward(features, backward);
  return sqrt(forth * answer(stepper, backward, log_reference, outside));
}

double orrery_symmetric(double wanted, double last) {
  if (!(last > 0.0)) return wanted;
  const double step = 1.0 / (2.0 / wanted - 1.0 / last);
  if (!(step > 0.0) || step > 2.0 * wanted) return 2.0 * wanted;
  return step < 0.5 * wanted ? 0.5 * wanted : step;
}
