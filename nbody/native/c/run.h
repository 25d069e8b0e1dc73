/* Whole runs of a system, each step as long as a rule says. */
#ifndef ORRERY_RUN_H
#define ORRERY_RUN_H

#include <stdbool.h>

#include "rule.h"

typedef enum { ORRERY_DONE, ORRERY_STANDS_STILL, ORRERY_TOO_MANY_STEPS, ORRERY_LOST } orrery_end;

typedef struct {
  double span;
  long most_steps;
  double lost_at; /* a relative energy error at which a run ends; looked at where it is watched */
  bool watched;   /* whether energies are looked at after each step */
} orrery_limits;

typedef struct {
  orrery_end end;
  long steps, outside; /* states unlike those that the stepper was trained on */
  double time, largest_error, last_error; /* errors are relative to the energy at the start */
} orrery_outcome;

/* Moves a system that was begun; the end is LOST, too, where a step is not a number. */
orrery_outcome orrery_run(orrery_system *system, const orrery_method *method, orrery_rule rule,
                          orrery_limits limits);

#endif
