#include "network.h"

#include <math.h>

enum { BLOCK = 8 }; /* outputs at once */
#define ENVELOPE_MARGIN 0.02 /* of a feature's range */
#define ENVELOPE_NOISE 1e-4  /* where a feature was the same in all that was seen */

/* Each case loops by itself, so that compilers turn what they can into vectors. */
static void activate(orrery_activation activation, int width, double *values) {
  switch (activation) {
    case ORRERY_RELU:
      for (int i = 0; i < width; i++) values[i] = values[i] > 0.0 ? values[i] : 0.0;
      break;
    case ORRERY_TANH:
      for (int i = 0; i < width; i++) values[i] = tanh(values[i]);
      break;
    case ORRERY_SIGMOID:
      for (int i = 0; i < width; i++) values[i] = 1.0 / (1.0 + exp(-values[i]));
      break;
    case ORRERY_SILU:
      for (int i = 0; i < width; i++) values[i] /= 1.0 + exp(-values[i]);
      break;
    case ORRERY_GELU:
      for (int i = 0; i < width; i++) values[i] *= 0.5 * (1.0 + erf(values[i] * sqrt(0.5)));
      break;
    case ORRERY_ISRU:
      for (int i = 0; i < width; i++) values[i] /= sqrt(1.0 + values[i] * values[i]);
      break;
  }
}

static void embed(const orrery_network *network, const double *features, double *out) {
  const double turn = 6.283185307179586;
  const int half = network->embedding / 2;
  for (int wave = 0; wave < half; wave++) {
    double phase = 0.0;
    for (int i = 0; i < network->inputs; i++)
      phase += network->waves[wave * network->inputs + i] * features[i];
    out[wave] = sin(turn * phase);
    out[half + wave] = cos(turn * phase);
  }
}

/* A linear map: its biases [outputs], then the row [outputs] of each input. Outputs go in blocks, so
 * that their sums stay in registers; only the first `wanted` are found. */
static void linear(const double *weights, const double *in, int inputs, double *out, int outputs,
                   int wanted) {
  const double *rows = weights + outputs;
  int first = 0;
  for (; first + BLOCK <= wanted; first += BLOCK) {
    double sums[BLOCK];
    for (int o = 0; o < BLOCK; o++) sums[o] = weights[first + o];
    for (int i = 0; i < inputs; i++) {
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC unroll 1 /* or gcc 12 unrolls this before it looks for vectors: four times as slow */
#endif
      for (int o = 0; o < BLOCK; o++) sums[o] += in[i] * rows[i * outputs + first + o];
    }
    for (int o = 0; o < BLOCK; o++) out[first + o] = sums[o];
  }
  for (; first < wanted; first++) {
    double sum = weights[first];
    for (int i = 0; i < inputs; i++) sum += in[i] * rows[i * outputs + first];
    out[first] = sum;
  }
}

double orrery_network_value(const orrery_network *network, const double *features) {
  double room[2][ORRERY_WIDEST];
  const double *weights = network->weights, *in = features;
  int width = network->inputs;
  if (network->embedding) {
    embed(network, features, room[1]);
    in = room[1], width = network->embedding;
  }
  for (int layer = 0; layer < network->layers; layer++) {
    const int outputs = network->width[layer];
    double *out = room[layer % 2];
    linear(weights, in, width, out, outputs, layer < network->layers - 1 ? outputs : 1);
    weights += outputs * (width + 1);
    if (layer < network->layers - 1) activate(network->activation, outputs, out);
    in = out, width = outputs;
  }
  return in[0];
}

int orrery_network_knows(const orrery_network *network, const double *features) {
  const double *low = network->envelope;
  if (!low) return 1;
  const double *high = low + network->inputs + 1;
  int inside = 1;
  for (int i = 0; i < network->inputs; i++) {
    const double margin = ENVELOPE_MARGIN * (high[i] - low[i]) + ENVELOPE_NOISE;
    inside &= features[i] >= low[i] - margin && features[i] <= high[i] + margin;
  }
  return inside;
}

double orrery_network_bounded(const orrery_network *network, double value) {
  if (!network->envelope) return value;
  const double least = network->envelope[network->inputs],
               most = network->envelope[2 * network->inputs + 1];
  return value < least ? least : value > most ? most : value;
}

double orrery_network_least(const orrery_network *network) {
  return network->envelope ? network->envelope[network->inputs] : -1.0;
}
