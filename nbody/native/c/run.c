#include "run.h"

#include <math.h>

#include "path.h"

static double asked(orrery_system *system, const orrery_method *method, orrery_rule rule) {
  if (method->parts && orrery_wants_path(rule.criterion)) orrery_true_path(system);
  return rule.accuracy * orrery_time(system, rule.criterion);
}

static double symmetric(double wanted, double last) {
  const double step = 1.0 / (2.0 / wanted - 1.0 / last);
  if (!(step > 0.0) || step > 2.0 * wanted) return 2.0 * wanted;
  return fmax(step, 0.5 * wanted);
}

static double energy_of(const orrery_system *system) {
  const orrery_energies energy = orrery_energy(system);
  return energy.kinetic + energy.potential;
}

orrery_outcome orrery_run(orrery_system *system, const orrery_method *method, orrery_rule rule,
                          orrery_limits limits) {
  const bool crowding = orrery_wants_crowding(rule.criterion);
  const double start = energy_of(system);
  orrery_outcome outcome = {.end = ORRERY_DONE};
  double last = 0.0;
  while (outcome.time < limits.span) {
    if (outcome.steps == limits.most_steps) {
      outcome.end = ORRERY_TOO_MANY_STEPS;
      break;
    }
    const double wanted = asked(system, method, rule);
    const double step = rule.reversible && last > 0.0 ? symmetric(wanted, last) : wanted;
    const double rest = limits.span - outcome.time, dt = step < rest ? step : rest;
    if (!(outcome.time + dt > outcome.time)) {
      outcome.end = ORRERY_STANDS_STILL;
      break;
    }
    orrery_take_step(system, method, dt, crowding);
    outcome.time = dt < rest ? outcome.time + dt : limits.span;
    outcome.steps++;
    last = step;
    if (!limits.watched) continue;
    outcome.last_error = fabs(energy_of(system) / start - 1.0);
    if (!(outcome.last_error <= outcome.largest_error)) outcome.largest_error = outcome.last_error;
    if (!(outcome.last_error < limits.lost_at)) {
      outcome.end = ORRERY_LOST;
      break;
    }
  }
  if (!limits.watched) {
    outcome.last_error = fabs(energy_of(system) / start - 1.0);
    outcome.largest_error = outcome.last_error;
  }
  return outcome;
}
