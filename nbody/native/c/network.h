/* A trained network: features -> ln(dt / t_ref). */
#ifndef ORRERY_NETWORK_H
#define ORRERY_NETWORK_H

#ifndef ORRERY_WIDEST
#define ORRERY_WIDEST 1024 /* layer that there is room for */
#endif

typedef enum {
  ORRERY_RELU,
  ORRERY_TANH,
  ORRERY_SIGMOID,
  ORRERY_SILU,
  ORRERY_GELU,
  ORRERY_ISRU
} orrery_activation;

typedef struct {
  int inputs, layers;  /* linear maps, activations between them */
  const int *width;    /* [layers] outputs of each map, of which the last has one that counts */
  const double *waves; /* [width of the embedding / 2][inputs] of a Fourier embedding, or NULL */
  int embedding;       /* its width, or 0 */
  orrery_activation activation;
  const double *weights;  /* of each map: its biases, then the row of each input */
  const double *envelope; /* [2][inputs + 1]: least and largest that training saw of each feature
                             and, last, of ln(dt / t_ref); NULL: not known */
} orrery_network;

double orrery_network_value(const orrery_network *network, const double *features);

/* whether training saw such features */
int orrery_network_knows(const orrery_network *network, const double *features);

/* a value held within what training saw */
double orrery_network_bounded(const orrery_network *network, double value);

/* the most cautious value that training saw */
double orrery_network_least(const orrery_network *network);

#endif
