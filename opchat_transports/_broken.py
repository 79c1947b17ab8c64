"""A reply that is broken, as an exception and in words."""

from typing import final

from opchat_proto import Broken, Reason

__all__ = ["ReplyBroken", "broken_line"]

_WHAT_HAPPENED = {
    Reason.REMOTE: "the server reported an error",
    Reason.REFUSED: "the server refused",
    Reason.MALFORMED: "this is not a chat answer",
    Reason.TRUNCATED: "the answer broke off",
    Reason.TOO_LARGE: "the answer is too large",
    Reason.LOST: "no answer",
    Reason.TIMEOUT: "timed out",
    Reason.PROXY: "the proxy failed",
}


def broken_line(broken: Broken) -> str:
    """What happened, as one line for a person. It holds the server's words: untrusted text."""
    known = [f"status {broken.status}"] if broken.status is not None else []
    if broken.code:
        known.append(broken.code)
    if broken.retry_after is not None:
        known.append(f"try again in {broken.retry_after} s")
    line = _WHAT_HAPPENED[broken.reason]
    if known:
        line += f" ({', '.join(known)})"
    if broken.detail:
        line += f": {broken.detail}"
    return " ".join(line.split())  # whatever str.splitlines takes for a line end is blank for split


@final
class ReplyBroken(RuntimeError):
    """A whole answer was wanted and the reply is broken. Pickles.

    Its text is one line that says what happened.
    """

    def __init__(self, broken: Broken, text: str = "") -> None:
        super().__init__(broken, text)
        self.broken = broken
        """The terminal event."""
        self.text = text
        """The pieces of the answer that came before it."""

    @property
    def status(self) -> int | None:
        """The HTTP status if the server refused with one."""
        return self.broken.status

    def __str__(self) -> str:
        return broken_line(self.broken)
