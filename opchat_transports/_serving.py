"""What the servers have in common: bots and their answers."""

from opchat_proto import Broken, End, Event, Live, Reason

__all__ = ["broken_bot", "to_event"]

_OOPS = (  # WIRE 5.6
    "Oops! Something went wrong on the server. Please try again, and if you are the site developer, "
    "check the PHP Error Logs for details."
)


def to_event(item: object) -> Event:
    """What a bot gave, as an event: a str is a piece of the answer. Raises `TypeError` for anything else."""
    event = Live(item) if isinstance(item, str) else item
    if not isinstance(event, Live | End | Broken):
        raise TypeError(f"a bot gives str, Live, End or Broken, not {type(event).__name__}")
    return event


def broken_bot(error: BaseException, *, debug: bool = False) -> Broken:
    """What a client is told about a bot that raised: the plugin's general error, or what was raised."""
    return Broken(Reason.REMOTE, f"{type(error).__name__}: {error}" if debug else _OOPS)
