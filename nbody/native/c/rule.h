/* Which step each state gets. */
#ifndef ORRERY_RULE_H
#define ORRERY_RULE_H

#include <stdbool.h>

#include "criteria.h"
#include "stepper.h"
#include "steps.h"
#include "system.h"

typedef struct {
  const orrery_stepper *stepper; /* is asked, or where it is NULL: */
  orrery_criterion criterion;
  double accuracy; /* factor on the criterion's time; the threshold of those that know one */
  bool reversible; /* steps are made symmetric in time */
} orrery_rule;

/* the step that a rule asks for, for a run whose errors are relative to an energy; outside: may be
 * NULL, else set where a stepper says so */
double orrery_wanted(orrery_system *system, const orrery_method *method, orrery_rule rule,
                     double energy, bool *outside);

/* What energy errors are relative to: |E|, or where that is small, a share of K + |U|. */
double orrery_error_scale(orrery_energies energy);

#endif
