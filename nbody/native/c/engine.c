#define _POSIX_C_SOURCE 200112L
#include "engine.h"

#include <math.h>
#include <string.h>
#include <time.h>

#include "pairs.h"

static orrery_system begun(size_t n, const double *mass, double softening, const double *x,
                           const double *v, int method, double *room) {
  orrery_system system = orrery_in_room(n, mass, softening, room);
  memset(room, 0, orrery_room(n) * sizeof *room);
  memcpy(system.x, x, ORRERY_D * n * sizeof *x);
  memcpy(system.v, v, ORRERY_D * n * sizeof *v);
  orrery_begin(&system, orrery_methods + method);
  return system;
}

static void written(const orrery_system *system, double *x, double *v) {
  memcpy(x, system->x, ORRERY_D * system->n * sizeof *x);
  memcpy(v, system->v, ORRERY_D * system->n * sizeof *v);
}

int orrery_integrate(size_t n, const double *mass, double softening, double *x, double *v,
                     int method, const orrery_rule *rule, const orrery_limits *limits,
                     double *room, orrery_outcome *outcome) {
  orrery_system system = begun(n, mass, softening, x, v, method, room);
  *outcome = orrery_run(&system, orrery_methods + method, *rule, *limits);
  written(&system, x, v);
  return outcome->end;
}

void orrery_repeat(size_t n, const double *mass, double softening, double *x, double *v, int method,
                   double dt, long steps, double *room) {
  orrery_system system = begun(n, mass, softening, x, v, method, room);
  for (long step = 0; step < steps; step++)
    orrery_take_step(&system, orrery_methods + method, dt, false);
  written(&system, x, v);
}

static double now(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return (double)at.tv_sec + 1e-9 * (double)at.tv_nsec;
}

typedef enum { ONE_PASS, ONE_QUESTION, ONE_STEP } timed_call;

/* Each call sees another state than the last: nothing of it can be left out. */
static double timed(orrery_system *system, const orrery_method *method, const orrery_rule *rule,
                    timed_call call, long calls) {
  double answers = 0.0;
  const double scale = fabs(orrery_energy(system).potential), start = now();
  for (long number = 0; number < calls; number++) {
    system->x[0] += 1e-14;
    if (call == ONE_STEP) {
      orrery_take_step(system, method, 1e-14, false);
    } else if (call == ONE_QUESTION) {
      system->f[0] += 1e-14;
      answers += orrery_wanted(system, method, *rule, scale, NULL);
    } else if (method->parts) {
      orrery_forces(system, system->x, system->a1, false);
    } else {
      orrery_forces_and_jerks(system, system->x, system->v, system->a1, system->j1, false);
    }
  }
  system->v1[0] = answers;
  return (now() - start) / (double)calls;
}

void orrery_time_calls(size_t n, const double *mass, double softening, const double *x,
                       const double *v, int method, const orrery_rule *rule, long calls, int rounds,
                       double *room, double seconds[3]) {
  for (int call = ONE_PASS; call <= ONE_STEP; call++) {
    seconds[call] = INFINITY;
    for (int round = 0; round < rounds; round++) {
      orrery_system system = begun(n, mass, softening, x, v, method, room);
      seconds[call] = fmin(seconds[call], timed(&system, orrery_methods + method, rule,
                                                (timed_call)call, calls));
    }
  }
}
