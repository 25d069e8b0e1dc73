/* Criteria for time steps: times of a state, to be multiplied with an accuracy. */
#ifndef ORRERY_CRITERIA_H
#define ORRERY_CRITERIA_H

#include <stdbool.h>

#include "steps.h"
#include "system.h"

typedef enum {
  ORRERY_FIXED,
  ORRERY_SEPARATION_OVER_SPEED,
  ORRERY_FREE_FALL,
  ORRERY_DEEP_FREE_FALL,
  ORRERY_AARSETH,
  ORRERY_PHAM_REIN_SPIEGEL,
  ORRERY_LEADING_TERM, /* knows the threshold: its time is the step */
  ORRERY_CRITERIA
} orrery_criterion;

/* whether the last pass must have looked for the closest pair */
bool orrery_wants_crowding(orrery_criterion criterion);

/* whether it needs derivatives of the accelerations, which a leapfrog does not leave behind */
bool orrery_wants_path(orrery_criterion criterion);

double orrery_time(const orrery_system *system, orrery_criterion criterion);

#endif
