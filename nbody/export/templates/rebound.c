/* @TITLE@
 *
 * A custom integrator for REBOUND 5. Made by `orrery export`.
 *
 *   cc -O3 -march=native -fno-math-errno -fno-trapping-math -shared -fPIC -I DIR @NAME@_rebound.c -lm -o lib@NAME@.so
 *
 * with DIR the folder of rebound.h. Load it after librebound, call @NAME@_register() once, and name
 * the integrator "@NAME@". This file uses REBOUND, which is under the GPL, version 3. */
#include <rebound.h>

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

@PARTS@

/* What a simulation begins with. */
static const double BEGIN_ACCURACY = @ACCURACY@;
static const int BEGIN_METHOD = @METHOD@, BEGIN_CRITERION = @CRITERION@, BEGIN_REVERSIBLE = @REVERSIBLE@;
static const double BEGIN_STEPPER[] = {
    @STEPPER@}; /* a 0 alone: none */

enum { MOST_LAYERS = 32, HEAD = 7 };

typedef struct {
  double accuracy;     /* threshold of the stepper, or factor on the criterion's time */
  int32_t method, criterion;
  uint32_t reversible; /* steps are made symmetric in time */
  uint64_t steps, outside;
  double last, planned, energy, crowding, G, softening; /* of the run that is kept */
  int32_t direction;                 /* of time */
  size_t numbers;                    /* in kept */
  double *kept; /* masses, and the room of a system: where the last step ended, what it left */
  size_t stepper_numbers;
  double *stepper; /* a trained one, or NULL */
} integrator_state;

static const struct reb_binarydata_field_descriptor fields[] = {
    {"Whose steps: @METHODS@.", REB_INT, "method", offsetof(integrator_state, method), 0, 0, 0},
    {"How long they are, where no trained stepper says so: @CRITERIA@.", REB_INT, "criterion",
     offsetof(integrator_state, criterion), 0, 0, 0},
    {"Threshold of the relative energy error of one step; or factor on the time of a criterion.",
     REB_DOUBLE, "accuracy", offsetof(integrator_state, accuracy), 0, 0, 0},
    {"1: steps are made symmetric in time (Holder, Leimkuhler & Reich 2001); for leapfrogs.",
     REB_UINT32, "reversible", offsetof(integrator_state, reversible), 0, 0, 0},
    {"Steps that were taken.", REB_UINT64, "steps", offsetof(integrator_state, steps), 0, 0, 0},
    {"States among them that are unlike those of the stepper's training.", REB_UINT64, "outside",
     offsetof(integrator_state, outside), 0, 0, 0},
    {"", REB_DOUBLE, "last", offsetof(integrator_state, last), 0, 0, 0},
    {"", REB_DOUBLE, "planned", offsetof(integrator_state, planned), 0, 0, 0},
    {"", REB_DOUBLE, "energy", offsetof(integrator_state, energy), 0, 0, 0},
    {"", REB_DOUBLE, "crowding", offsetof(integrator_state, crowding), 0, 0, 0},
    {"", REB_DOUBLE, "kept_G", offsetof(integrator_state, G), 0, 0, 0},
    {"", REB_DOUBLE, "kept_softening", offsetof(integrator_state, softening), 0, 0, 0},
    {"", REB_INT, "direction", offsetof(integrator_state, direction), 0, 0, 0},
    {"", REB_POINTER, "kept", offsetof(integrator_state, kept), offsetof(integrator_state, numbers),
     sizeof(double), 0},
    {"", REB_POINTER, "stepper", offsetof(integrator_state, stepper),
     offsetof(integrator_state, stepper_numbers), sizeof(double), 0},
    {0}};

/* Gives a simulation's integrator a trained stepper; without numbers, takes it away. */
bool @NAME@_set_stepper(void *integrator, const double *numbers, size_t count);
bool @NAME@_set_stepper(void *integrator, const double *numbers, size_t count) {
  integrator_state *state = integrator;
  double *copy = count ? malloc(count * sizeof *copy) : NULL;
  if (count && !copy) return false;
  if (count) memcpy(copy, numbers, count * sizeof *copy);
  free(state->stepper);
  state->stepper = copy, state->stepper_numbers = count;
  return true;
}

/* The stepper in some numbers: its kind, sizes, widths, waves, weights, envelope, in a row. */
static bool unpack(const double *numbers, size_t count, orrery_stepper *stepper, int *widths) {
  if (count < HEAD) return false;
  const int layers = (int)numbers[2], embedding = (int)numbers[4];
  orrery_network *network = &stepper->network;
  network->inputs = (int)numbers[1], network->layers = layers, network->embedding = embedding;
  network->activation = (orrery_activation)numbers[3];
  stepper->features = (orrery_features)numbers[0], stepper->calibration = numbers[5];
  if (layers < 1 || layers > MOST_LAYERS || count < (size_t)(HEAD + layers)) return false;
  size_t at = HEAD, values = 0;
  int width = embedding ? embedding : network->inputs;
  for (int layer = 0; layer < layers; layer++) {
    widths[layer] = (int)numbers[at++];
    if (widths[layer] < 1 || widths[layer] > ORRERY_WIDEST) return false;
    values += (size_t)widths[layer] * (size_t)(width + 1);
    width = widths[layer];
  }
  const size_t waves = (size_t)(embedding / 2) * (size_t)network->inputs;
  network->width = widths;
  network->waves = waves ? numbers + at : NULL, at += waves;
  network->weights = numbers + at, at += values;
  network->envelope = numbers[6] != 0.0 ? numbers + at : NULL;
  return count == at + (numbers[6] != 0.0 ? 2 * (size_t)(network->inputs + 1) : 0);
}

static void *create(void) {
  integrator_state *state = calloc(1, sizeof *state);
  if (!state) return NULL;
  state->accuracy = BEGIN_ACCURACY, state->reversible = BEGIN_REVERSIBLE;
  state->method = BEGIN_METHOD, state->criterion = BEGIN_CRITERION;
  const size_t count = sizeof BEGIN_STEPPER / sizeof *BEGIN_STEPPER;
  if (count > 1) @NAME@_set_stepper(state, BEGIN_STEPPER, count);
  return state;
}

static void destroy(void *pointer) {
  integrator_state *state = pointer;
  free(state->kept);
  free(state->stepper);
  free(state);
}

static void refuse(struct reb_simulation *r, const char *why) {
  reb_simulation_error(r, why);
  r->status = REB_STATUS_GENERIC_ERROR;
}

/* Whether this integrator can do what the simulation asks for; says so where it cannot. */
static bool is_possible(struct reb_simulation *r, const integrator_state *state) {
  const char *why = NULL;
  if (r->additional_forces)
    why = "@NAME@: additional_forces are not known to this integrator; use IAS15.";
  else if (r->N_var_config)
    why = "@NAME@: variational equations are not known to this integrator; use IAS15.";
  else if (r->gravity != REB_GRAVITY_BASIC && r->gravity != REB_GRAVITY_COMPENSATED)
    why = "@NAME@: only gravity = 'basic' (or 'compensated') is known to this integrator.";
  else if (r->testparticle_type && r->N_active < r->N)
    why = "@NAME@: only testparticle_type = 0 is known to this integrator.";
  else if (state->method < 0 || state->method >= ORRERY_METHODS)
    why = "@NAME@: no such method; see the documentation of sim.integrator.";
  else if (state->criterion < 0 || state->criterion >= ORRERY_CRITERIA)
    why = "@NAME@: no such criterion; see the documentation of sim.integrator.";
  else if (r->N < 2)
    why = "@NAME@: at least two particles are needed.";
  if (why) refuse(r, why);
  return !why;
}

static double mass_of(const struct reb_simulation *r, size_t i) {
  return i < r->N_active ? r->G * r->particles[i].m : 0.0; /* a test particle does not pull */
}

static const orrery_method *method_of(const integrator_state *state) {
  return orrery_methods + state->method;
}

static orrery_system system_of(const integrator_state *state, size_t n) {
  orrery_system system = orrery_in_room(n, state->kept, state->softening, state->kept + n);
  system.crowding = state->crowding;
  return system;
}

/* Whether the particles are where the last step left them. */
static bool is_kept(const struct reb_simulation *r, const integrator_state *state, int direction) {
  const size_t n = r->N;
  if (!state->kept || state->numbers != n + orrery_room(n) || state->direction != direction ||
      state->G != r->G || state->softening != r->softening)
    return false;
  const orrery_system system = system_of(state, n);
  for (size_t i = 0; i < n; i++) {
    const struct reb_particle *p = r->particles + i;
    const double *x = system.x + 3 * i, *v = system.v + 3 * i;
    if (p->x != x[0] || p->y != x[1] || p->z != x[2] || direction * p->vx != v[0] ||
        direction * p->vy != v[1] || direction * p->vz != v[2] || mass_of(r, i) != system.mass[i])
      return false;
  }
  return true;
}

/* Takes over particles that somebody else moved; running backward is running forward with velocities
 * turned around. */
static bool take_over(struct reb_simulation *r, integrator_state *state, int direction) {
  const size_t n = r->N, numbers = n + orrery_room(n);
  double *kept = realloc(state->kept, numbers * sizeof *kept);
  if (!kept) {
    refuse(r, "@NAME@: out of memory.");
    return false;
  }
  memset(kept, 0, numbers * sizeof *kept);
  state->kept = kept, state->numbers = numbers, state->direction = direction;
  state->G = r->G, state->softening = r->softening, state->last = state->planned = 0.0;
  orrery_system system = system_of(state, n);
  for (size_t i = 0; i < n; i++) {
    const struct reb_particle *p = r->particles + i;
    kept[i] = mass_of(r, i);
    system.x[3 * i] = p->x, system.x[3 * i + 1] = p->y, system.x[3 * i + 2] = p->z;
    system.v[3 * i] = direction * p->vx, system.v[3 * i + 1] = direction * p->vy;
    system.v[3 * i + 2] = direction * p->vz;
  }
  orrery_begin(&system, method_of(state));
  state->energy = orrery_error_scale(orrery_energy(&system));
  state->crowding = system.crowding;
  return true;
}

static void give_back(struct reb_simulation *r, const orrery_system *system, int direction) {
  for (size_t i = 0; i < r->N; i++) {
    struct reb_particle *p = r->particles + i;
    const double *x = system->x + 3 * i, *v = system->v + 3 * i, *a = system->a + 3 * i;
    p->x = x[0], p->y = x[1], p->z = x[2];
    p->vx = direction * v[0], p->vy = direction * v[1], p->vz = direction * v[2];
    p->ax = a[0], p->ay = a[1], p->az = a[2];
  }
}

/* The step that comes next, above zero; 0 where there is none, after saying so. */
static double next(struct reb_simulation *r, integrator_state *state, orrery_system *system) {
  orrery_stepper stepper;
  int widths[MOST_LAYERS];
  const bool trained = state->stepper != NULL;
  if (trained && !unpack(state->stepper, state->stepper_numbers, &stepper, widths)) {
    refuse(r, "@NAME@: the trained stepper in this simulation is damaged.");
    return 0.0;
  }
  const orrery_rule rule = {trained ? &stepper : NULL, (orrery_criterion)state->criterion,
                            state->accuracy, state->reversible != 0};
  bool outside = false;
  const double wanted = orrery_wanted(system, method_of(state), rule, state->energy, &outside);
  const double step = rule.reversible ? orrery_symmetric(wanted, state->last) : wanted;
  state->outside += outside;
  if (step > DBL_EPSILON * fabs(r->t) && isfinite(step)) return step;
  refuse(r, isfinite(step) ? "@NAME@: the clock stands still: a singular encounter, or an accuracy "
                             "that cannot be reached."
                           : "@NAME@: there is no step: positions, velocities or masses are not "
                             "finite, or two particles are at one place.");
  return 0.0;
}

static void step(struct reb_simulation *r, void *pointer) {
  integrator_state *state = pointer;
  const int direction = r->dt < 0.0 ? -1 : 1;
  if (!is_possible(r, state)) return;
  double dt = fabs(r->dt);
  const bool goes_on = is_kept(r, state, direction);
  if (!goes_on && !take_over(r, state, direction)) return;
  orrery_system system = system_of(state, r->N);
  if (!goes_on) {
    const double wanted = next(r, state, &system);
    if (!(wanted > 0.0)) return;
    if (wanted < dt) dt = wanted;
    state->planned = wanted; /* symmetric steps that began with a much shorter one would swing */
  }
  orrery_take_step(&system, method_of(state), dt,
                   !state->stepper && orrery_wants_crowding((orrery_criterion)state->criterion));
  state->crowding = system.crowding;
  state->steps++;
  state->last = fmax(dt, state->planned); /* where dt ends at a time that somebody asked for */
  r->t += direction * dt;
  r->dt_last_done = direction * dt;
  give_back(r, &system, direction);
  const double wanted = next(r, state, &system);
  if (wanted > 0.0) r->dt = direction * wanted, state->planned = wanted;
}

void @NAME@_register(void);
void @NAME@_register(void) {
  const struct reb_integrator integrator = {
      .documentation = "@TITLE@",
      .step = step,
      .create = create,
      .free = destroy,
      .field_descriptor_list = fields,
  };
  reb_integrator_register(integrator, "@NAME@");
}
