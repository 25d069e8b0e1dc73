#include "leading_error.h"

#include <math.h>

#define LONGEST 12.0 /* times threshold^(1/5) of the bodies' time, where the leading term vanishes */
#define SHARPNESS 6.0 /* with which that bound takes over */
#define AHEAD 0.5     /* of the step: where the bodies' time is taken */
#define STEEPEST 0.5  /* change of that time in a step that is believed */
#define TINY 1e-300

enum { LANES = 8, TERMS = 5 };

typedef enum {
  SUM_W, SUM_W2, SUM_WA, SUM_WJ, SUM_WS, SUM_WC, SUM_WAJ, SUM_WAS, SUM_WJS, SUM_RATE,
  SUM_VF, SUM_JS, SUM_AC, SUM_MIDDLE_RATE, SUM_LAST_RATE, SUMS
} sum_name;

/* asinh, to rounding of numbers of order one, in a fraction of its time */
static inline double compressed(double x) {
  return copysign(log(fabs(x) + sqrt(x * x + 1.0)), x);
}

static void mean_velocity(const orrery_state *state, double mean[ORRERY_D]) {
  double total = 0.0;
  mean[0] = mean[1] = mean[2] = 0.0;
  for (size_t i = 0; i < state->n; i++) {
    total += state->mass[i];
    for (int d = 0; d < ORRERY_D; d++) mean[d] += state->mass[i] * state->velocity[ORRERY_D * i + d];
  }
  for (int d = 0; d < ORRERY_D; d++) mean[d] /= total;
}

/* adds what LANES bodies in a row contribute, of which `count` are real */
static inline void add_up(const double *const from[TERMS], const double *v, const double *m,
                          const double mean[ORRERY_D], size_t count, double lanes[SUMS][LANES]) {
  const double *a = from[0], *j = from[1], *s = from[2], *c = from[3], *f = from[4];
  for (size_t lane = 0; lane < LANES; lane++) {
    const size_t i = ORRERY_D * lane;
#define DOT(x, y) (x[i] * y[i] + x[i + 1] * y[i + 1] + x[i + 2] * y[i + 2])
    const double a2 = DOT(a, a) + TINY, j2 = DOT(j, j) + TINY, s2 = DOT(s, s) + TINY,
                 c2 = DOT(c, c) + TINY;
    const double aj = DOT(a, j), as = DOT(a, s), ac = DOT(a, c), js = DOT(j, s), jc = DOT(j, c),
                 sc = DOT(s, c), cf = DOT(c, f), af = DOT(a, f),
                 vf = DOT(v, f) - (mean[0] * f[i] + mean[1] * f[i + 1] + mean[2] * f[i + 2]);
#undef DOT
    const double outer = sqrt(a2 * s2), inner = sqrt(j2 * c2);
    const double above = outer + j2, below = inner + s2; /* of the square of Aarseth's time */
    const double rise = (aj * s2 + sc * a2) / outer + 2.0 * js,
                 fall = (js * c2 + cf * j2) / inner + 2.0 * sc;
    const double share = lane < count ? 1.0 / (above * below) : 0.0;
    const double rate2 = below * below * share;
    const double rate4 = rate2 * rate2, w = rate4 * rate4;
    lanes[SUM_W][lane] += w, lanes[SUM_W2][lane] += w * w;
    lanes[SUM_WA][lane] += w * a2, lanes[SUM_WJ][lane] += w * j2;
    lanes[SUM_WS][lane] += w * s2, lanes[SUM_WC][lane] += w * c2;
    lanes[SUM_WAJ][lane] += w * aj, lanes[SUM_WAS][lane] += w * as;
    lanes[SUM_WJS][lane] += w * js;
    lanes[SUM_RATE][lane] += w * 0.5 * share * (rise * below - fall * above);
    lanes[SUM_VF][lane] += m[lane] * vf, lanes[SUM_JS][lane] += m[lane] * js;
    lanes[SUM_AC][lane] += m[lane] * ac;
    lanes[SUM_MIDDLE_RATE][lane] += m[lane] * (s2 + jc);
    lanes[SUM_LAST_RATE][lane] += m[lane] * (jc + af);
  }
}

/* sums over the bodies, as many of them at once as a vector holds */
static void sum_up(const orrery_state *state, double sums[SUMS]) {
  const double *rows[TERMS + 1] = {state->acceleration, state->jerk,   state->snap,
                                   state->crackle,      state->fourth, state->velocity};
  double mean[ORRERY_D], lanes[SUMS][LANES] = {{0.0}};
  const size_t rest = state->n % LANES, whole = state->n - rest;
  mean_velocity(state, mean);
  for (size_t first = 0; first < whole; first += LANES) {
    const double *from[TERMS + 1];
    for (int t = 0; t <= TERMS; t++) from[t] = rows[t] + ORRERY_D * first;
    add_up(from, from[TERMS], state->mass + first, mean, LANES, lanes);
  }
  if (rest) { /* filled up with bodies that count for nothing */
    double room[TERMS + 1][ORRERY_D * LANES], m[LANES] = {0.0};
    const double *from[TERMS + 1];
    for (int t = 0; t <= TERMS; t++) {
      from[t] = room[t];
      for (size_t lane = 0; lane < LANES; lane++)
        for (int d = 0; d < ORRERY_D; d++)
          room[t][ORRERY_D * lane + d] = rows[t][ORRERY_D * (whole + (lane < rest ? lane : 0)) + d];
    }
    for (size_t i = 0; i < rest; i++) m[i] = state->mass[whole + i];
    add_up(from, from[TERMS], m, mean, rest, lanes);
  }
  for (int sum = 0; sum < SUMS; sum++) {
    sums[sum] = 0.0;
    for (int lane = 0; lane < LANES; lane++) sums[sum] += lanes[sum][lane];
  }
}

double orrery_leading_error(const orrery_state *state, double threshold, double *features) {
  double sum[SUMS];
  sum_up(state, sum);
  const double u = 1.0 / sqrt(sqrt(sqrt(sum[SUM_W]))), u2 = u * u, u4 = u2 * u2;
  const double q = u4 * u / (720.0 * threshold * state->energy);
  const double middle = q * 30.0 * sum[SUM_JS], last = q * sum[SUM_AC],
               whole = q * sum[SUM_VF] + middle - last;
  const double log_threshold = log(threshold);
  const double bound = exp(-SHARPNESS * (log(LONGEST) + log_threshold / 5.0)),
               limit = exp(SHARPNESS / 5.0 * log(fabs(whole))) + bound;
  const double log_step = log(u) - log(limit) / SHARPNESS;
  double rate = exp(log_step) * sum[SUM_RATE] / sum[SUM_W];
  rate = rate > STEEPEST ? STEEPEST : rate < -STEEPEST ? -STEEPEST : rate;
  const double a = sum[SUM_WA], j = sum[SUM_WJ], s = sum[SUM_WS], c = sum[SUM_WC];
  const double columns[ORRERY_LEADING_ERROR_FEATURES] = {
      compressed(whole),
      compressed(middle),
      compressed(last),
      compressed(q * u * 30.0 * sum[SUM_MIDDLE_RATE]),
      compressed(q * u * sum[SUM_LAST_RATE]),
      0.5 * log(u2 * j / a),
      0.5 * log(u4 * s / a),
      0.5 * log(u4 * u2 * c / a),
      sum[SUM_WAJ] / sqrt(a * j),
      sum[SUM_WAS] / sqrt(a * s),
      sum[SUM_WJS] / sqrt(j * s),
      log(sum[SUM_W] * sum[SUM_W] / sum[SUM_W2]),
      log_threshold,
      rate,
  };
  for (int i = 0; i < ORRERY_LEADING_ERROR_FEATURES; i++) features[i] = columns[i];
  return log_step - log1p(-AHEAD * rate);
}
