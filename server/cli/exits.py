"""How commands end."""

EXIT_FAILED, EXIT_USAGE, EXIT_CANCELLED, EXIT_NO_ANSWER = 1, 2, 3, 4


class CommandFailed(Exception):
    """A command ends with a message and an exit code of its own."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code
