/* Whole runs of a system, each step as long as a rule says. */
#ifndef ORRERY_RUN_H
#define ORRERY_RUN_H

#include <stdbool.h>

#include "criteria.h"
#include "steps.h"
#include "system.h"

typedef struct {
  orrery_criterion criterion;
  double accuracy; /* the criterion's time is multiplied with it */
  bool reversible; /* 1/h' = 2/h - 1/h_last (Holder, Leimkuhler & Reich 2001) */
} orrery_rule;

typedef enum { ORRERY_DONE, ORRERY_STANDS_STILL, ORRERY_TOO_MANY_STEPS, ORRERY_LOST } orrery_end;

typedef struct {
  double span;
  long most_steps;
  double lost_at; /* a relative energy error at which a run ends; looked at where it is watched */
  bool watched;   /* whether energies are looked at after each step */
} orrery_limits;

typedef struct {
  orrery_end end;
  long steps;
  double time, largest_error, last_error; /* errors are relative to the energy at the start */
} orrery_outcome;

/* Moves a system that was begun. */
orrery_outcome orrery_run(orrery_system *system, const orrery_method *method, orrery_rule rule,
                          orrery_limits limits);

#endif
