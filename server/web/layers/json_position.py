"""Where in a JSON document its reader gave up, as a pointer: errors should name the field."""

import re

TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"?|[{}\[\],:]', re.DOTALL)
PLACE = re.compile(r"at line (\d+) column (\d+)")
LONGEST_SEARCHED = 2**15  # bytes; farther on the message's line and column must do
MOST_PARTS = 3  # of the pointer: enough to name the field, however deep the nonsense in it is


def pointer_of(body: bytes, message: str) -> str:
    """The pointer of the field in which the parser's message places the error; "" is the whole."""
    place = PLACE.search(message)
    if place is None:
        return ""
    lines = body.split(b"\n", int(place[1]))
    before = [*lines[: int(place[1]) - 1], lines[int(place[1]) - 1][: int(place[2])]]
    text_before = b"\n".join(before)
    if len(text_before) > LONGEST_SEARCHED:
        return ""
    keys: list[str | int] = []
    text: str | None = None
    for token in TOKEN.findall(text_before.decode(errors="replace")):
        if token in "{[":
            keys.append("" if token == "{" else 0)
        elif token in "}]":
            del keys[-1:]
        elif token == ":":
            if keys and text is not None:
                keys[-1] = text
        elif token == ",":
            if keys and isinstance(keys[-1], int):
                keys[-1] += 1
        else:
            text = token.strip('"')
    parts = [str(key)[:100] for key in keys[:MOST_PARTS]]
    return "".join(f"/{part}" for part in parts if part)
