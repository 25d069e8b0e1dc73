"""What is wrong with a config, in words for a terminal."""

from pydantic import ValidationError


def in_words(error: Exception) -> str:
    """An error as a line for people: of a wrong config, what is wrong with which field."""
    if isinstance(error, ValidationError):
        return "\n".join(
            f"{'.'.join(map(str, line['loc'])) or 'config'}: {line['msg']}"
            for line in error.errors(include_url=False)
        )
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)
