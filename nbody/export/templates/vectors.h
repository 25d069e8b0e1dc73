/* States, and the steps that torch gave them. Made by `orrery export`. */
#ifndef @UPPER@_VECTORS_H
#define @UPPER@_VECTORS_H

#include "@NAME@_stepper.h"

typedef struct {
  @NAME@_state state;
  double threshold, dt;
  bool outside;
} @NAME@_vector;

enum { @UPPER@_VECTORS = @COUNT@ };
extern const @NAME@_vector @NAME@_vectors[@UPPER@_VECTORS];

#endif
