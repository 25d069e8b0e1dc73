/* Leapfrogs: compositions of kick-drift-kick steps (Yoshida 1990; Kahan & Li 1997).
 * Hermite: the scheme of fourth order, P(EC)^k (Makino & Aarseth 1992). */
#include "steps.h"

#include <math.h>
#include <string.h>

#include "pairs.h"
#include "path.h"

#define OUTER_4 1.3512071919596578
static const double SHARES_2[] = {1.0};
static const double SHARES_4[] = {OUTER_4, 1.0 - 2.0 * OUTER_4, OUTER_4};
static const double SHARES_6[] = {
    0.1867,             0.5554970237124784, 0.1294669489134754, -0.843265623387734,
    0.9432033015235604, -0.843265623387734, 0.1294669489134754, 0.5554970237124784,
    0.1867};
static const double SHARES_8[] = {
    0.128865979381443,   0.581514087105251,   -0.410175371469850,  0.1851469357165877,
    -0.4095523434208514, 0.1444059410800120,  0.2783355003936797,  0.3149566839162949,
    -0.6269948254051343979, 0.3149566839162949, 0.2783355003936797, 0.1444059410800120,
    -0.4095523434208514, 0.1851469357165877,  -0.410175371469850,  0.581514087105251,
    0.128865979381443};

const orrery_method orrery_methods[ORRERY_METHODS] = {
    {1, SHARES_2, 0, 2}, {3, SHARES_4, 0, 4}, {9, SHARES_6, 0, 6}, {17, SHARES_8, 0, 8},
    {0, NULL, 1, 4},     {0, NULL, 2, 4},     {0, NULL, 3, 4},
};

static void leapfrog(orrery_system *system, const orrery_method *method, double dt, bool crowding) {
  const size_t size = ORRERY_D * system->n;
  double *x = system->x, *v = system->v, *a = system->a;
  for (int part = 0; part < method->parts; part++) {
    const double step = method->share[part] * dt, half = 0.5 * step;
    for (size_t i = 0; i < size; i++) {
      v[i] += half * a[i];
      x[i] += step * v[i];
    }
    orrery_forces(system, x, a, crowding && part == method->parts - 1);
    for (size_t i = 0; i < size; i++) v[i] += half * a[i];
  }
}

static void hermite(orrery_system *system, const orrery_method *method, double h, bool crowding) {
  const size_t size = ORRERY_D * system->n;
  double *restrict x = system->x, *restrict v = system->v, *restrict a = system->a,
         *restrict j = system->j, *restrict s = system->s, *restrict c = system->c,
         *restrict f = system->f, *restrict x1 = system->x1, *restrict v1 = system->v1,
         *restrict a1 = system->a1, *restrict j1 = system->j1;
  const double half = 0.5 * h, third = h / 3.0, twelfth = h * h / 12.0, per_h = 1.0 / h;
  for (size_t i = 0; i < size; i++) {
    x1[i] = x[i] + h * (v[i] + half * (a[i] + third * j[i]));
    v1[i] = v[i] + h * (a[i] + half * j[i]);
  }
  for (int k = 0; k < method->evaluations; k++) {
    orrery_forces_and_jerks(system, x1, v1, a1, j1, crowding && k == method->evaluations - 1);
    for (size_t i = 0; i < size; i++) {
      v1[i] = v[i] + half * (a[i] + a1[i]) + twelfth * (j[i] - j1[i]);
      x1[i] = x[i] + half * (v[i] + v1[i]) + twelfth * (a[i] - a1[i]);
    }
  }
  for (size_t i = 0; i < size; i++) {
    const double change = a[i] - a1[i];
    const double crackle = (12.0 * per_h * change + 6.0 * (j[i] + j1[i])) * per_h * per_h;
    s[i] = (-6.0 * per_h * change - (4.0 * j[i] + 2.0 * j1[i])) * per_h + h * crackle;
    f[i] = (crackle - c[i]) * per_h;
    c[i] = crackle;
    x[i] = x1[i], v[i] = v1[i], a[i] = a1[i], j[i] = j1[i];
  }
}

void orrery_take_step(orrery_system *system, const orrery_method *method, double dt,
                      bool crowding) {
  if (method->parts)
    leapfrog(system, method, dt, crowding);
  else if (dt != 0.0)
    hermite(system, method, dt, crowding);
}

void orrery_begin(orrery_system *system, const orrery_method *method) {
  orrery_forces_and_jerks(system, system->x, system->v, system->a, system->j, true);
  if (!method->parts) orrery_true_path(system);
}
