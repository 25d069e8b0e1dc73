/* The accelerations' derivatives along the path that the particles really take. */
#ifndef ORRERY_PATH_H
#define ORRERY_PATH_H

#include "system.h"

/* jerk, snap, crackle and the fourth derivative, from positions, velocities and accelerations */
void orrery_true_path(orrery_system *system);

#endif
