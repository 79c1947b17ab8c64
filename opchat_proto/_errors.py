"""What the caller did wrong. What the peer does wrong is a value: see `Broken`."""

__all__ = ["InvalidMessages", "LocalProtocolError"]


class LocalProtocolError(Exception):
    """A method was called in a state that does not allow it.

    The message names the state and the input. It is raised before anything
    changed, so the object can be used on as if the call had not been made.
    """


class InvalidMessages(ValueError):
    """The messages of a question are not what `Submit.from_messages` takes.

    `index` is the position of the message that is wrong, or None where the
    list as a whole is. The text says what was expected.
    """

    def __init__(self, text: str, index: int | None = None) -> None:
        super().__init__(text, index)
        self.text = text
        self.index = index

    def __str__(self) -> str:
        return self.text
