/* @TITLE@
 *
 * Made by `orrery export`. C99, no library but libm. Compile @NAME@_stepper.c with your program; for
 * speed with -O3 -march=native -fno-math-errno -fno-trapping-math.
 *
 * It was trained for the steps of @INTEGRATOR@, for thresholds of the relative energy error of one
 * step of @THRESHOLDS@. On the samples of its last epoch @VIOLATIONS@ of its steps were beyond the
 * threshold. Each step is multiplied with @UPPER@_CALIBRATION.
 *
 * Nothing is allocated and nothing is kept between calls: any number of threads may ask at once. */
#ifndef @UPPER@_STEPPER_H
#define @UPPER@_STEPPER_H

#include <stdbool.h>
#include <stddef.h>

#define @UPPER@_CALIBRATION @CALIBRATION@
#define @UPPER@_THRESHOLD @THRESHOLD@ /* that it was trained for, the least of them */

@STATE@

#ifdef __cplusplus
extern "C" {
#endif

/* The step of a state; NaN for a state that is not finite. `outside` (may be NULL) is set to whether
 * the state is unlike those of the training: then the step is the most cautious that training took,
 * in units of what the features alone would say. Threshold: of the relative energy error of a step;
 * a dimensionless stepper does not look at it. */
double @NAME@_step(const @NAME@_state *state, double threshold, bool *outside);

/* The same, even in time: for symmetric integrators, with @NAME@_symmetric. */
double @NAME@_even_step(const @NAME@_state *state, double threshold, bool *outside);

/* The reversible rule: dt with 1/dt + 1/last = 2/wanted (Holder, Leimkuhler & Reich 2001), within a
 * factor 2 of what @NAME@_even_step wants; last: the dt before, or 0 at the first step. */
double @NAME@_symmetric(double wanted, double last);

/* The steps of many states; outside may be NULL. */
void @NAME@_step_batch(size_t count, const @NAME@_state *states, double threshold, double *dt,
                       bool *outside);

#ifdef __cplusplus
}
#endif

#endif
