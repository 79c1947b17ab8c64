"""Exceptions for the caller's mistakes. The peer's faults are values: see `Broken`."""

__all__ = ["InvalidMessages", "LocalProtocolError"]


class LocalProtocolError(Exception):
    """A method was called in a state that does not allow it.

    The message names the state and the input. Nothing has changed, so the object
    can be used as if the call had not been made.
    """


class InvalidMessages(ValueError):
    """The messages of a question cannot be asked.

    `index` is the position of the wrong message, or None if the list as a whole is
    wrong. The text says what was expected.
    """

    def __init__(self, text: str, index: int | None = None) -> None:
        super().__init__(text, index)
        self.text = text
        self.index = index

    def __str__(self) -> str:
        return self.text
