#include "run.h"

#include <float.h>
#include <math.h>

#include "leading_error.h"
#include "path.h"

enum { LOOK_EVERY = 256 }; /* steps between looks at the energy of a run that is not watched */
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

static double scale_of(orrery_energies energy) {
  const double least = LEAST_SHARE * (energy.kinetic + fabs(energy.potential));
  return fmax(fabs(energy.kinetic + energy.potential), least);
}

static double energy_of(const orrery_system *system) {
  const orrery_energies energy = orrery_energy(system);
  return energy.kinetic + energy.potential;
}

orrery_outcome orrery_run(orrery_system *system, const orrery_method *method, orrery_rule rule,
                          orrery_limits limits) {
  const bool crowding = orrery_wants_crowding(rule.criterion) && !rule.stepper;
  const double start = energy_of(system), scale = scale_of(orrery_energy(system));
  orrery_outcome outcome = {.end = ORRERY_DONE};
  double last = 0.0;
  while (outcome.time < limits.span) {
    bool outside = false;
    if (outcome.steps == limits.most_steps) {
      outcome.end = ORRERY_TOO_MANY_STEPS;
      break;
    }
    const double wanted = orrery_wanted(system, method, rule, scale, &outside);
    const double step = rule.reversible ? orrery_symmetric(wanted, last) : wanted;
    const double rest = limits.span - outcome.time, dt = step < rest ? step : rest;
    outcome.outside += outside;
    if (isnan(step)) {
      outcome.end = ORRERY_LOST;
      break;
    }
    if (step < DBL_EPSILON * limits.span) {
      outcome.end = ORRERY_STANDS_STILL;
      break;
    }
    orrery_take_step(system, method, dt, crowding);
    outcome.time = dt < rest ? outcome.time + dt : limits.span;
    outcome.steps++;
    last = step;
    if (!limits.watched && outcome.steps % LOOK_EVERY) continue;
    outcome.last_error = fabs(energy_of(system) - start) / scale;
    if (!(outcome.last_error <= outcome.largest_error)) outcome.largest_error = outcome.last_error;
    if (!(outcome.last_error < limits.lost_at)) {
      outcome.end = ORRERY_LOST;
      break;
    }
  }
  outcome.last_error = fabs(energy_of(system) - start) / scale;
  if (!(outcome.last_error <= outcome.largest_error)) outcome.largest_error = outcome.last_error;
  return outcome;
}
