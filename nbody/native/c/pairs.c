/* Few particles: each pair once. Many: ROWS particles at once against one other after another,
 * which compilers turn into vector instructions without changing the order of any sum. */
#include "pairs.h"

#include <math.h>
#include <string.h>

enum { ROWS = 8, FEW = 6 };

static inline void few(orrery_system *system, const double *x, const double *v, double *a,
                       double *j, const bool jerks, const bool crowding) {
  const size_t n = system->n;
  const double *mass = system->mass;
  double tightest = 0.0;
  memset(a, 0, 3 * n * sizeof *a);
  if (jerks) memset(j, 0, 3 * n * sizeof *j);
  for (size_t i = 1; i < n; i++) {
    for (size_t k = 0; k < i; k++) {
      const double dx = x[3 * k] - x[3 * i], dy = x[3 * k + 1] - x[3 * i + 1],
                   dz = x[3 * k + 2] - x[3 * i + 2];
      const double near = 1.0 / sqrt(dx * dx + dy * dy + dz * dz + system->softening2);
      const double near2 = near * near, cube = near * near2;
      const double to = mass[k] * cube, from = mass[i] * cube;
      a[3 * i] += to * dx, a[3 * i + 1] += to * dy, a[3 * i + 2] += to * dz;
      a[3 * k] -= from * dx, a[3 * k + 1] -= from * dy, a[3 * k + 2] -= from * dz;
      if (crowding) tightest = fmax(tightest, to + from);
      if (!jerks) continue;
      const double ux = v[3 * k] - v[3 * i], uy = v[3 * k + 1] - v[3 * i + 1],
                   uz = v[3 * k + 2] - v[3 * i + 2];
      const double rate = 3.0 * near2 * (dx * ux + dy * uy + dz * uz);
      const double px = ux - rate * dx, py = uy - rate * dy, pz = uz - rate * dz;
      j[3 * i] += to * px, j[3 * i + 1] += to * py, j[3 * i + 2] += to * pz;
      j[3 * k] -= from * px, j[3 * k + 1] -= from * py, j[3 * k + 2] -= from * pz;
    }
  }
  system->crowding = tightest;
}

static inline void load(double row[ORRERY_D][ROWS], const double *from, size_t first, size_t n) {
  for (size_t lane = 0; lane < ROWS; lane++) {
    const size_t i = first + lane < n ? first + lane : n - 1;
    for (int d = 0; d < ORRERY_D; d++) row[d][lane] = from[3 * i + d];
  }
}

static inline void store(double row[ORRERY_D][ROWS], double *to, size_t first, size_t n) {
  for (size_t lane = 0; lane < ROWS && first + lane < n; lane++)
    for (int d = 0; d < ORRERY_D; d++) to[3 * (first + lane) + d] = row[d][lane];
}

static inline void many(orrery_system *system, const double *x, const double *v, double *a,
                        double *j, const bool jerks, const bool crowding) {
  const size_t n = system->n;
  const double *mass = system->mass, soft = system->softening2;
  double tightest[ROWS] = {0.0};
  for (size_t first = 0; first < n; first += ROWS) {
    double own[ROWS], at[ORRERY_D][ROWS], moves[ORRERY_D][ROWS];
    double force[ORRERY_D][ROWS] = {{0.0}}, jerk[ORRERY_D][ROWS] = {{0.0}};
    load(at, x, first, n);
    if (jerks) load(moves, v, first, n);
    for (size_t lane = 0; lane < ROWS; lane++)
      own[lane] = mass[first + lane < n ? first + lane : n - 1];
    for (size_t k = 0; k < n; k++) {
      const double m = mass[k], xk = x[3 * k], yk = x[3 * k + 1], zk = x[3 * k + 2];
      const double uk = jerks ? v[3 * k] : 0.0, vk = jerks ? v[3 * k + 1] : 0.0,
                   wk = jerks ? v[3 * k + 2] : 0.0;
      for (int lane = 0; lane < ROWS; lane++) {
        const double dx = xk - at[0][lane], dy = yk - at[1][lane], dz = zk - at[2][lane];
        const double distance2 = dx * dx + dy * dy + dz * dz;
        /* a particle does not pull itself */
        const double near = distance2 > 0.0 ? 1.0 / sqrt(distance2 + soft) : 0.0;
        const double near2 = near * near, cube = near * near2, pull = m * cube;
        force[0][lane] += pull * dx, force[1][lane] += pull * dy, force[2][lane] += pull * dz;
        if (crowding) {
          const double together = (m + own[lane]) * cube;
          tightest[lane] = together > tightest[lane] ? together : tightest[lane];
        }
        if (!jerks) continue;
        const double ux = uk - moves[0][lane], uy = vk - moves[1][lane], uz = wk - moves[2][lane];
        const double rate = 3.0 * near2 * (dx * ux + dy * uy + dz * uz);
        jerk[0][lane] += pull * (ux - rate * dx);
        jerk[1][lane] += pull * (uy - rate * dy);
        jerk[2][lane] += pull * (uz - rate * dz);
      }
    }
    store(force, a, first, n);
    if (jerks) store(jerk, j, first, n);
  }
  for (int lane = 1; lane < ROWS; lane++) tightest[0] = fmax(tightest[0], tightest[lane]);
  system->crowding = tightest[0];
}

void orrery_forces(orrery_system *system, const double *x, double *a, bool crowding) {
  if (system->n <= FEW) {
    few(system, x, NULL, a, NULL, false, crowding);
  } else if (crowding) {
    many(system, x, NULL, a, NULL, false, true);
  } else {
    many(system, x, NULL, a, NULL, false, false);
  }
}

void orrery_forces_and_jerks(orrery_system *system, const double *x, const double *v, double *a,
                             double *j, bool crowding) {
  if (system->n <= FEW) {
    few(system, x, v, a, j, true, crowding);
  } else if (crowding) {
    many(system, x, v, a, j, true, true);
  } else {
    many(system, x, v, a, j, true, false);
  }
}
