#include "system.h"

#include <math.h>

enum { VECTORS = 11 };

size_t orrery_room(size_t n) { return VECTORS * ORRERY_D * n; }

orrery_system orrery_in_room(size_t n, const double *mass, double softening, double *room) {
  const size_t size = ORRERY_D * n;
  return (orrery_system){
      .n = n,
      .mass = mass,
      .softening2 = softening * softening,
      .x = room,
      .v = room + size,
      .a = room + 2 * size,
      .j = room + 3 * size,
      .s = room + 4 * size,
      .c = room + 5 * size,
      .f = room + 6 * size,
      .x1 = room + 7 * size,
      .v1 = room + 8 * size,
      .a1 = room + 9 * size,
      .j1 = room + 10 * size,
      .crowding = 0.0,
  };
}

orrery_energies orrery_energy(const orrery_system *system) {
  const size_t n = system->n;
  const double *mass = system->mass, *x = system->x, *v = system->v;
  double total = 0.0, momentum[ORRERY_D] = {0.0}, kinetic = 0.0, potential = 0.0;
  for (size_t i = 0; i < n; i++) {
    total += mass[i];
    for (int d = 0; d < ORRERY_D; d++) momentum[d] += mass[i] * v[3 * i + d];
  }
  for (size_t i = 0; i < n; i++) {
    double squared = 0.0, depth = 0.0;
    for (int d = 0; d < ORRERY_D; d++) {
      const double own = v[3 * i + d] - momentum[d] / total;
      squared += own * own;
    }
    for (size_t k = 0; k < i; k++) {
      const double dx = x[3 * k] - x[3 * i], dy = x[3 * k + 1] - x[3 * i + 1],
                   dz = x[3 * k + 2] - x[3 * i + 2];
      depth += mass[k] / sqrt(dx * dx + dy * dy + dz * dz + system->softening2);
    }
    kinetic += 0.5 * mass[i] * squared;
    potential -= mass[i] * depth;
  }
  return (orrery_energies){kinetic, potential};
}
