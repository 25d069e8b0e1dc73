"""Newton's constant in the systems of units in use (IAU 2015 resolution B3, CODATA 2018)."""

from typing import Literal

UnitSystem = Literal["SI", "AU/Msun/yr", "AU/Msun/day", "pc/Msun/Myr", "henon"]

_SUN = 1.3271244e20  # G M [m³/s²], nominal
_AU, _DAY = 1.495978707e11, 86400.0  # [m], [s]
_PARSEC = 648000 / 3.141592653589793 * _AU
_YEAR = 365.25 * _DAY

G_OF_UNITS: dict[UnitSystem, float] = {
    "SI": 6.6743e-11,
    "AU/Msun/yr": _SUN * _YEAR**2 / _AU**3,
    "AU/Msun/day": _SUN * _DAY**2 / _AU**3,
    "pc/Msun/Myr": _SUN * (1e6 * _YEAR) ** 2 / _PARSEC**3,
    "henon": 1.0,
}


def newton(units: UnitSystem | float) -> float:
    """G, of a system of units or as it was given."""
    return G_OF_UNITS[units] if isinstance(units, str) else units
