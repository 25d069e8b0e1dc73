#include "criteria.h"

#include <math.h>

#include "pairs.h"

#define NO_FORCE 1e-12 /* of the largest acceleration */

bool orrery_wants_crowding(orrery_criterion criterion) { return criterion == ORRERY_FREE_FALL; }

bool orrery_wants_path(orrery_criterion criterion) {
  return criterion == ORRERY_AARSETH || criterion == ORRERY_PHAM_REIN_SPIEGEL;
}

static double squared(const double *vector) {
  return vector[0] * vector[0] + vector[1] * vector[1] + vector[2] * vector[2];
}

/* r / v of the pair where it is smallest */
static double separation_over_speed(const orrery_system *system) {
  double least = INFINITY;
  for (size_t i = 1; i < system->n; i++) {
    for (size_t k = 0; k < i; k++) {
      double distance2 = system->softening2, speed2 = 0.0;
      for (int d = 0; d < ORRERY_D; d++) {
        const double r = system->x[3 * k + d] - system->x[3 * i + d];
        const double v = system->v[3 * k + d] - system->v[3 * i + d];
        distance2 += r * r, speed2 += v * v;
      }
      if (distance2 < least * speed2) least = distance2 / speed2;
    }
  }
  return sqrt(least);
}

/* soft minimum over the pairs of free-fall times, times (|E| / |potential|)^(1/3) */
static double deep_free_fall(const orrery_system *system) {
  double sum = 0.0;
  for (size_t i = 1; i < system->n; i++) {
    for (size_t k = 0; k < i; k++) {
      double distance2 = system->softening2;
      for (int d = 0; d < ORRERY_D; d++) {
        const double r = system->x[3 * k + d] - system->x[3 * i + d];
        distance2 += r * r;
      }
      const double rate2 = (system->mass[i] + system->mass[k]) / (distance2 * sqrt(distance2));
      sum += rate2 * rate2;
    }
  }
  const orrery_energies energy = orrery_energy(system);
  const double total = fabs(energy.kinetic + energy.potential), depth = fabs(energy.potential);
  const double scale = fmax(total, 1e-4 * (energy.kinetic + depth));
  return pow(sum, -0.25) * cbrt(scale / depth);
}

/* Aarseth (1985), with jerk, snap and crackle */
static double aarseth(const orrery_system *system) {
  double least = INFINITY;
  for (size_t i = 0; i < 3 * system->n; i += 3) {
    const double a2 = squared(system->a + i), j2 = squared(system->j + i),
                 s2 = squared(system->s + i), c2 = squared(system->c + i);
    const double above = sqrt(a2 * s2) + j2, below = sqrt(j2 * c2) + s2;
    if (above < least * below) least = above / below;
  }
  return sqrt(least);
}

/* Pham, Rein & Spiegel (2024); particles on which no force acts are left out */
static double pham_rein_spiegel(const orrery_system *system) {
  double least = INFINITY, largest = 0.0;
  for (size_t i = 0; i < 3 * system->n; i += 3) largest = fmax(largest, squared(system->a + i));
  for (size_t i = 0; i < 3 * system->n; i += 3) {
    const double a2 = squared(system->a + i), below = squared(system->j + i) +
                                                      sqrt(a2 * squared(system->s + i));
    if (a2 > NO_FORCE * NO_FORCE * largest && 2.0 * a2 < least * below) least = 2.0 * a2 / below;
  }
  return sqrt(least);
}

double orrery_time(const orrery_system *system, orrery_criterion criterion) {
  switch (criterion) {
    case ORRERY_SEPARATION_OVER_SPEED: return separation_over_speed(system);
    case ORRERY_FREE_FALL: return 1.0 / sqrt(system->crowding);
    case ORRERY_DEEP_FREE_FALL: return deep_free_fall(system);
    case ORRERY_AARSETH: return aarseth(system);
    case ORRERY_PHAM_REIN_SPIEGEL: return pham_rein_spiegel(system);
    default: return 1.0;
  }
}
