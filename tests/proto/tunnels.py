"""A client that waits for its proxy, and the outcome of the reply."""

import copy

from opchat_proto import Broken, Client, Done, Event, Limits, Reason
from tests.proto.asking import CREDENTIALS, NO_RESTART, Way, follow, is_reply
from tests.proto.cuts import every_cut, in_pieces


def at_reply(way: Way, number: int, *, limits: Limits = NO_RESTART) -> Client:
    """A client that waits for the proxy's reply with this index."""
    asking = way.client(limits=limits)
    follow(asking, way.script[: way.replies[number]])
    return asking


def outcome_of(asking: Client, reply: bytes) -> list[Event]:
    """The outcome of this reply followed by a close. It is the same for every cut, and no request reaches the site."""
    outcomes = []
    for pieces in every_cut(reply) if len(reply) < 500 else ([reply], in_pieces(reply, 1), in_pieces(reply, 1000)):
        reading = copy.deepcopy(asking)
        events = [event for piece in pieces for event in reading.receive_data(piece)]
        events += reading.receive_eof()
        assert is_reply(events), pieces
        assert (reading.next_step(), reading.submit_started, reading.receive_data(b"more")) == (Done(), False, [])
        outcomes.append(events)
    assert all(outcome == outcomes[0] for outcome in outcomes)
    assert not any(secret in repr(outcomes[0]) for secret in ("s3cr3t", "us3r", CREDENTIALS.decode()))
    return outcomes[0]


def refused(detail: str, *, limit: str | None = None) -> list[Event]:
    return [Broken(Reason.PROXY, detail, limit=limit)]


UNASKED = refused("the proxy sent bytes that nobody had asked for")


def at_port(kind: int, address: bytes, *, reply: int = 0, version: int = 5) -> bytes:
    return bytes((version, reply, 0, kind)) + address + b"\x04\x38"
