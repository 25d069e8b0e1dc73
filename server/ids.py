"""Ids: prefixed, sortable by time of creation, not guessable."""

import secrets
import time

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32
TIME_DIGITS, RANDOM_DIGITS = 10, 16


def new_id(prefix: str) -> str:
    """`prefix_` and 26 characters: 48 bits of milliseconds, 80 bits of chance."""
    milliseconds = time.time_ns() // 1_000_000
    digits = f"{_base32(milliseconds, TIME_DIGITS)}{_base32(secrets.randbits(80), RANDOM_DIGITS)}"
    return f"{prefix}_{digits}"


def _base32(number: int, digits: int) -> str:
    return "".join(ALPHABET[(number >> 5 * place) & 31] for place in reversed(range(digits)))
