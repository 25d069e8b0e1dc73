"""Ids: prefixed, sortable by time of creation, not guessable."""

import secrets
import time
from base64 import b32encode

CROCKFORD = bytes.maketrans(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", b"0123456789abcdefghjkmnpqrstvwxyz"
)
DIGITS, RANDOM_BYTES = 26, 10


def new_id(prefix: str) -> str:
    """`prefix_` and 26 characters: 48 bits of milliseconds, 80 bits of chance."""
    milliseconds = time.time_ns() // 1_000_000
    # Twenty bytes are 32 digits without padding; the first of them are zeros.
    number = milliseconds.to_bytes(20 - RANDOM_BYTES, "big") + secrets.token_bytes(RANDOM_BYTES)
    return f"{prefix}_{b32encode(number).translate(CROCKFORD)[-DIGITS:].decode()}"
