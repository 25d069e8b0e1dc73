#include "dimensionless.h"

#include <math.h>

#define ROUNDING 1e-12 /* keeps ratios and logarithms finite */
#define LOG_RANGE 30.0
#define LEAST_PAIR_MASS 1e-18 /* of the system's mass */
#define LEAST_SHARE 1e-4      /* of K + |U| that |E| is taken for, where it is less */
#define TINY 1e-185

typedef enum {
  MEAN_RADIAL, MEAN_DIRECTION, MEAN_SWIFTNESS, MEAN_LOG_SWIFTNESS, MEAN_DOMINANCE, MEAN_WEIGHT,
  MEAN_PRODUCT, MEAN_SOFTENING, MEANS
} mean_name;

typedef struct {
  double mass, potential, distance, rate4, separation[ORRERY_D];
  size_t one, other;
} pair;

static double bounded_log(double value) {
  const double least = exp(-LOG_RANGE), most = exp(LOG_RANGE);
  return log(value < least ? least : value > most ? most : value);
}

static pair pair_of(const orrery_state *state, double total_mass, size_t one, size_t other) {
  const double m1 = state->mass[one], m2 = state->mass[other];
  const double least = LEAST_PAIR_MASS * total_mass;
  double distance2 = state->softening * state->softening;
  pair found = {.one = one, .other = other};
  for (int d = 0; d < ORRERY_D; d++) {
    const double r = state->position[ORRERY_D * other + d] - state->position[ORRERY_D * one + d];
    found.separation[d] = r;
    distance2 += r * r;
  }
  found.distance = sqrt(distance2);
  found.mass = state->G * (m1 + m2 > least ? m1 + m2 : least);
  found.potential = state->G * m1 * m2 / found.distance;
  const double rate2 = found.mass / (distance2 * found.distance); /* of free fall */
  found.rate4 = rate2 * rate2;
  return found;
}

/* adds what a pair is, with its weight in the soft minimum of free-fall times */
static void add_pair(const orrery_state *state, const pair *p, double weight, double potential,
                     double means[MEANS]) {
  double speed2 = 0.0, along = 0.0;
  for (int d = 0; d < ORRERY_D; d++) {
    const double v = state->velocity[ORRERY_D * p->other + d] - state->velocity[ORRERY_D * p->one + d];
    speed2 += v * v;
    along += v * p->separation[d];
  }
  const double circular2 = p->mass / p->distance;
  const double radial = along / (p->distance * sqrt(circular2)), swiftness = speed2 / circular2;
  const double product = state->G * state->mass[p->one] * state->G * state->mass[p->other];
  const double values[MEANS] = {
      radial,
      radial / sqrt(swiftness + ROUNDING),
      swiftness / (1.0 + swiftness),
      log(swiftness + 0.01),
      bounded_log(p->potential / (potential > TINY ? potential : TINY)),
      log(weight + ROUNDING),
      4.0 * product / (p->mass * p->mass),
      state->softening / p->distance,
  };
  for (int i = 0; i < MEANS; i++) means[i] += weight * values[i];
}

static double kinetic_energy(const orrery_state *state, double total_mass) {
  double momentum[ORRERY_D] = {0.0}, kinetic = 0.0;
  for (size_t i = 0; i < state->n; i++)
    for (int d = 0; d < ORRERY_D; d++) momentum[d] += state->mass[i] * state->velocity[ORRERY_D * i + d];
  for (size_t i = 0; i < state->n; i++) {
    for (int d = 0; d < ORRERY_D; d++) {
      const double v = state->velocity[ORRERY_D * i + d] - momentum[d] / total_mass;
      kinetic += 0.5 * state->mass[i] * v * v;
    }
  }
  return kinetic;
}

double orrery_dimensionless(const orrery_state *state, double *features) {
  double mass = 0.0, potential = 0.0, rates = 0.0, means[MEANS] = {0.0};
  for (size_t i = 0; i < state->n; i++) mass += state->mass[i];
  for (size_t i = 1; i < state->n; i++) {
    for (size_t k = 0; k < i; k++) {
      const pair p = pair_of(state, mass, k, i);
      potential += p.potential;
      rates += p.rate4;
    }
  }
  for (size_t i = 1; i < state->n; i++) {
    for (size_t k = 0; k < i; k++) {
      const pair p = pair_of(state, mass, k, i);
      add_pair(state, &p, p.rate4 / rates, potential, means);
    }
  }
  const double kinetic = kinetic_energy(state, mass), both = kinetic + potential;
  const double total = fabs(kinetic - potential);
  const double scale = total > LEAST_SHARE * both ? total : LEAST_SHARE * both;
  const double depth = bounded_log(potential / (scale > TINY ? scale : TINY));
  features[0] = depth;
  for (int i = 0; i <= MEAN_LOG_SWIFTNESS; i++) features[1 + i] = means[i];
  features[5] = kinetic / (both > TINY ? both : TINY);
  for (int i = MEAN_DOMINANCE; i < MEANS; i++) features[2 + i] = means[i];
  features[10] = log((double)state->n);
  return -0.25 * log(rates) - depth / 3.0;
}

void orrery_dimensionless_backward(const double *features, double *backward) {
  for (int i = 0; i < ORRERY_DIMENSIONLESS_FEATURES; i++) backward[i] = features[i];
  backward[1] = -features[1];
  backward[2] = -features[2];
}
