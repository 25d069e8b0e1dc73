#include "run.h"

#include <float.h>
#include <math.h>

enum { LOOK_EVERY = 256 }; /* steps between looks at the energy of a run that is not watched */

static double energy_of(const orrery_system *system) {
  const orrery_energies energy = orrery_energy(system);
  return energy.kinetic + energy.potential;
}

orrery_outcome orrery_run(orrery_system *system, const orrery_method *method, orrery_rule rule,
                          orrery_limits limits) {
  const bool crowding = orrery_wants_crowding(rule.criterion) && !rule.stepper;
  const double start = energy_of(system), scale = orrery_error_scale(orrery_energy(system));
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
