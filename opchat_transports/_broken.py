"""A broken reply as an exception, and as a line for people."""

from typing import Any, final

from opchat_proto import Broken, Reason

__all__ = ["ReplyBroken", "arun", "broken_line", "run"]

_WHAT_HAPPENED = {
    Reason.REMOTE: "the server reported an error",
    Reason.REFUSED: "the server refused",
    Reason.MALFORMED: "this is not a chat answer",
    Reason.TRUNCATED: "the answer was cut off",
    Reason.TOO_LARGE: "the answer is too large",
    Reason.LOST: "no answer",
    Reason.TIMEOUT: "timed out",
    Reason.PROXY: "the proxy failed",
}


def broken_line(broken: Broken) -> str:
    """One line for a person that says what happened. It quotes the server: untrusted text."""
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
    return " ".join(line.split())  # every line end of str.splitlines is whitespace for split


@final
class ReplyBroken(RuntimeError):
    """Raised if a whole answer was wanted and the reply is broken. Can be pickled.

    Its text is one line that says what happened.
    """

    def __init__(self, broken: Broken, text: str = "") -> None:
        super().__init__(broken, text)
        self.broken = broken
        """The terminal event."""
        self.text = text
        """The pieces of the answer that came before, joined."""

    @property
    def status(self) -> int | None:
        """The HTTP status if the server refused with one."""
        return self.broken.status

    def __str__(self) -> str:
        return broken_line(self.broken)


def run(reply: Any) -> Any:
    """Read a reply to its end, close it and return it. Raises `ReplyBroken`."""
    with reply:
        for _ in reply:
            pass
    return _whole(reply)


async def arun(reply: Any) -> Any:
    """Like `run`, in async code. If cancelled, the reply is closed."""
    async with reply:
        async for _ in reply:
            pass
    return _whole(reply)


def _whole(reply: Any) -> Any:
    if reply.broken is not None:
        raise ReplyBroken(reply.broken)
    return reply
