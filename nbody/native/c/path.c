/* Positions as power series of time: x = x_0 + x_1 t + ..., with x_0, x_1 given, and
 * (k + 1)(k + 2) x_(k+2) = a_k, the k-th coefficient of the accelerations along the series so far.
 * Along it, w = (r^2 + eps^2)^(-3/2) has the coefficients of
 * k q_0 w_k = -sum_i (3 i / 2 + k - i) q_i w_(k-i), q those of r^2 + eps^2. */
#include "path.h"

#include <math.h>
#include <string.h>

enum { ORDER = 4 };

/* coefficients of one particle's position: two of them are halves of what is kept */
static void series(const orrery_system *system, size_t i, int known, double x[ORDER + 1][ORRERY_D]) {
  const double *from[] = {system->x, system->v, system->a, system->j, system->s};
  const double divisor[] = {1.0, 1.0, 2.0, 6.0, 24.0};
  for (int k = 0; k <= known; k++)
    for (int d = 0; d < ORRERY_D; d++) x[k][d] = from[k][ORRERY_D * i + d] / divisor[k];
}

/* adds the coefficient of order k of what a mass at a series of separations pulls */
static void pull(double mass, double r[ORDER + 1][ORRERY_D], double softening2, int order,
                 double *sum) {
  double q[ORDER + 1], w[ORDER + 1];
  for (int k = 0; k <= order; k++) {
    q[k] = k ? 0.0 : softening2;
    for (int i = 0; i <= k; i++)
      for (int d = 0; d < ORRERY_D; d++) q[k] += r[i][d] * r[k - i][d];
  }
  w[0] = 1.0 / (q[0] * sqrt(q[0]));
  for (int k = 1; k <= order; k++) {
    double term = 0.0;
    for (int i = 1; i <= k; i++) term -= (0.5 * i + k) * q[i] * w[k - i];
    w[k] = term / (k * q[0]);
  }
  for (int k = 0; k <= order; k++)
    for (int d = 0; d < ORRERY_D; d++) sum[d] += mass * w[k] * r[order - k][d];
}

static void derivative(const orrery_system *system, int order, double factorial, double *out) {
  double one[ORDER + 1][ORRERY_D], other[ORDER + 1][ORRERY_D];
  memset(out, 0, ORRERY_D * system->n * sizeof *out);
  for (size_t i = 0; i < system->n; i++) {
    series(system, i, order, one);
    for (size_t k = 0; k < system->n; k++) {
      if (k == i) continue;
      series(system, k, order, other);
      for (int t = 0; t <= order; t++)
        for (int d = 0; d < ORRERY_D; d++) other[t][d] -= one[t][d];
      pull(system->mass[k], other, system->softening2, order, out + ORRERY_D * i);
    }
    for (int d = 0; d < ORRERY_D; d++) out[ORRERY_D * i + d] *= factorial;
  }
}

void orrery_true_path(orrery_system *system) {
  derivative(system, 1, 1.0, system->j);
  derivative(system, 2, 2.0, system->s);
  derivative(system, 3, 6.0, system->c);
  derivative(system, 4, 24.0, system->f);
}
