#include "rule.h"

#include <math.h>

#include "leading_error.h"
#include "path.h"

#define LEAST_SHARE 1e-4 /* of K + |U| that errors are relative to, where |E| is less */

static orrery_state state_of(const orrery_system *system, double energy) {
  return (orrery_state){
      .n = system->n,
      .mass = system->mass,
      .position = system->x,
      .velocity = system->v,
      .acceleration = system->a,
      .jerk = system->j,
      .snap = system->s,
      .crackle = system->c,
      .fourth = system->f,
      .softening = sqrt(system->softening2),
      .G = 1.0,
      .energy = energy,
  };
}

double orrery_wanted(orrery_system *system, const orrery_method *method, orrery_rule rule,
                     double energy, bool *outside) {
  if (rule.stepper || rule.criterion == ORRERY_LEADING_TERM) {
    const orrery_state state = state_of(system, energy);
    double features[ORRERY_LEADING_ERROR_FEATURES];
    if (!rule.stepper) return exp(orrery_leading_error(&state, rule.accuracy, features));
    return rule.reversible ? orrery_ask_even(rule.stepper, &state, rule.accuracy, outside)
                           : orrery_ask(rule.stepper, &state, rule.accuracy, outside);
  }
  if (method->parts && orrery_wants_path(rule.criterion)) orrery_true_path(system);
  return rule.accuracy * orrery_time(system, rule.criterion);
}

double orrery_error_scale(orrery_energies energy) {
  const double least = LEAST_SHARE * (energy.kinetic + fabs(energy.potential));
  return fmax(fabs(energy.kinetic + energy.potential), least);
}
