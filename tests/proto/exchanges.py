"""The events of an answer's bytes, and the items of an `Exchange` alone."""

from opchat_proto import Broken, End, Event, Limits, Reason, Request
from tests.proto.asking import NO_RESTART, answered
from tests.proto.cuts import every_cut

JSON = b'{"success":true,"reply":"Hi"}'
JSON_ANSWERED: list[Event] = [End("Hi", JSON.decode())]


def outcome_of(data: bytes, *, limits: Limits = NO_RESTART, close: bool = True) -> list[Event]:
    """The events of these bytes, after checking that they are the same for every cut."""
    cuttings = every_cut(data)
    events = answered(next(cuttings), limits=limits, close=close)
    for pieces in cuttings:
        assert answered(pieces, limits=limits, close=close) == events, pieces
    return events


def truncated(detail: str, *, limit: str | None = None) -> list[Event]:
    return [Broken(Reason.TRUNCATED, detail, limit=limit, asked=True)]


REQUEST = Request("POST", "http://site.example/a?b=c", (("Host", "site.example"), ("Content-Length", "4")), b"body")
