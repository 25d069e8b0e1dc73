/* A system of particles, as the engine moves it. Vectors are [n][3], row by row; G = 1. */
#ifndef ORRERY_SYSTEM_H
#define ORRERY_SYSTEM_H

#include "state.h"

typedef struct {
  size_t n;
  const double *mass;
  double softening2;
  double *x, *v, *a;         /* positions, velocities, accelerations */
  double *j, *s, *c, *f;     /* their first four derivatives: what a Hermite step leaves behind */
  double *x1, *v1, *a1, *j1; /* room to work in */
  double crowding;           /* the largest (m_i + m_j) / r^3 of the last pass that looked for it */
} orrery_system;

/* doubles that the vectors of a system take */
size_t orrery_room(size_t n);

/* a system whose vectors lie in a room */
orrery_system orrery_in_room(size_t n, const double *mass, double softening, double *room);

typedef struct {
  double kinetic, potential;
} orrery_energies;

/* in the frame of the centre of mass */
orrery_energies orrery_energy(const orrery_system *system);

#endif
