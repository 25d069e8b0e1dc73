"""Refuses bodies of a shape that would take long to check, before anybody checks them.

The event loop answers nobody while a body is parsed and validated, and what that takes depends on
its shape more than on its size: each wrong value and each unknown key costs an error message. So
the number of values, the keys of an object, their length and the nesting have bounds here, for
every route alike, far beyond what any valid request needs.
"""

import asyncio
from typing import Any, cast

from pydantic_core import from_json

from server.errors import FieldProblem, InvalidRequest
from server.web.asgi import App, Receive, Scope, Send, give_again, has_document

SMALL_BYTES = 2**13  # a body that no shape makes slow
MOST_VALUES = 40_000  # particles of an inline system are the most that is sent: 4096 of 7 numbers
MOST_FIELDS, REPORTS = 10_000, "/v1/leases/"  # of all objects, but for rows of metrics
PLAIN = frozenset({float, str, bool, type(None)})  # whatever is in them is quick to check
MOST_KEYS = 400  # of an object
LONGEST_KEY = 200
DEEPEST = 32
MOST_BITS = 1024  # of a whole number: no float holds more, and each digit takes longer
MOST_DIGITS, MOST_LONG_NUMBERS = 300, 20  # that many are told apart from texts once parsed
LONG_BYTES = 2**16
DIGITS_ALIKE = bytes(ord("0") if chr(byte).isdigit() else byte for byte in range(128)) + bytes(128)


class BodyShapes:
    """Hands on what has a shape that is quick to check. The whole body has been received before."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request.

        Raises:
            InvalidRequest
        """
        if has_document(scope):
            whole = await receive()
            most_fields = MOST_VALUES if scope["path"].startswith(REPORTS) else MOST_FIELDS
            is_json = check_shape(whole.get("body", b""), most_fields)
            scope["state"]["is_json"] = is_json
            receive = give_again(whole, then=receive)
            if is_json:  # and large: others come in between before it is parsed again
                await asyncio.sleep(0)
        await self._app(scope, receive, send)


def check_shape(body: bytes, most_fields: int = MOST_VALUES) -> bool:
    """Look at a JSON document as a whole; what is not JSON is for others to refuse.

    Args:
        most_fields: of all its objects.

    Returns:
        Whether it is known to be JSON; of small bodies nothing is.

    Raises:
        InvalidRequest
    """
    if len(body) <= SMALL_BYTES:
        return False
    # Before it is parsed: no document has more values than these, and one.
    if len(body) - len(body.translate(None, b",[{")) > MOST_VALUES:
        raise _too_much(f"it has more than {MOST_VALUES} values (commas in texts count, too)")
    if body.count(b":") > most_fields:
        raise _too_much(f"it has more than {most_fields} keys (colons in texts count, too)")
    digits = body.translate(DIGITS_ALIKE) if len(body) > LONG_BYTES else b""
    if digits.count(b"0" * MOST_DIGITS) > MOST_LONG_NUMBERS:
        raise _too_much(f"numbers in it have more than {MOST_DIGITS} digits (in texts, too)")
    try:
        document = from_json(body)
    except ValueError:
        return False
    level = [document]
    for _ in range(DEEPEST):
        level = _below(level)
        if not level:
            return True
    raise _too_much(f"it is nested deeper than {DEEPEST} levels")


def _below(level: list[Any]) -> list[Any]:
    """What the objects and arrays of one level hold, where it needs a look."""
    found: list[Any] = []
    for value in level:
        if isinstance(value, dict):
            known = cast(dict[str, Any], value)
            if len(known) > MOST_KEYS:
                raise _too_much(f"an object in it has more than {MOST_KEYS} keys")
            if any(len(key) > LONGEST_KEY for key in known):
                raise _too_much(f"a key in it is longer than {LONGEST_KEY} characters")
            held = known.values()
        elif isinstance(value, list):
            held = cast(list[Any], value)
        else:
            if isinstance(value, int) and value.bit_length() > MOST_BITS:
                raise _too_much("a number in it has more than 300 digits")
            continue
        if not PLAIN.issuperset(map(type, held)):
            found.extend(held)
    return found


def _too_much(what: str) -> InvalidRequest:
    return InvalidRequest(FieldProblem("", f"the body asks for too much work: {what}; send less"))
