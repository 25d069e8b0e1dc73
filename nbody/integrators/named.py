"""The integrators, by the names that a Config has for them."""

from nbody.config.stepping_rules import IntegratorName
from nbody.integrators.hermite import HERMITE_4, HERMITE_4_PEC2, HERMITE_4_PEC3
from nbody.integrators.integrator import Integrator
from nbody.integrators.leapfrog import LEAPFROG_2, LEAPFROG_4, LEAPFROG_6, LEAPFROG_8

INTEGRATORS: dict[IntegratorName, Integrator] = {
    "leapfrog2": LEAPFROG_2,
    "leapfrog4": LEAPFROG_4,
    "leapfrog6": LEAPFROG_6,
    "leapfrog8": LEAPFROG_8,
    "hermite4": HERMITE_4,
    "hermite4_pec2": HERMITE_4_PEC2,
    "hermite4_pec3": HERMITE_4_PEC3,
}
