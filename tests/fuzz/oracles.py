"""What must hold for any input, in one place. The targets only say what to run."""

import copy
import pickle
import random
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, TypeVar

from opchat_proto import Broken, End, Event, Limits, Live
from tests.fuzz import reference

T = TypeVar("T")
E = TypeVar("E", bound=Exception)

MARK = b"\xff\x00\xff"
"""Separates the byte strings of one input."""
SECRET = "5EcReT"


class Choices:
    """A fuzz input, taken apart: byte strings from its front, decisions from its end.

    The last byte says how many bytes before it are decisions, so an input that ends
    with a zero byte has only byte strings. A missing decision is zero: the ordinary one.
    """

    def __init__(self, data: bytes) -> None:
        count = min(data[-1] % 64, len(data) - 1) if data else 0
        end = len(data) - 1 - count
        self.data = data[: max(0, end)]
        self._decisions = list(data[max(0, end) : -1])
        self.random = random.Random(zlib.crc32(data))
        """For things that must make no difference: cuts and copies."""

    def __bool__(self) -> bool:
        return bool(self._decisions)

    def number(self, bound: int) -> int:
        """A number from 0 to `bound` - 1; `bound` is at most 256."""
        return self._decisions.pop() % bound if self._decisions else 0

    def one_of(self, options: Sequence[T]) -> T:
        return options[self.number(len(options))]

    @property
    def strings(self) -> list[bytes]:
        return self.data.split(MARK)

    def limits(self) -> Limits:
        """The default limits, or some that are small enough to be met."""
        small = self.number(256)
        given: dict[str, int] = {}
        for bit, name in enumerate(("event_bytes", "reply_bytes", "refusal_bytes", "head_bytes")):
            if small >> bit & 1:
                given[name] = 1 + 4 * self.number(256)
        if small >> 4 & 1:
            given["json_depth"] = 1 + self.number(4)
        if small >> 5 & 1:
            given["headers"] = 1 + self.number(8)
        if small >> 6 & 1:
            given["interim_responses"] = self.number(4)
        if small >> 7 & 1:
            given["restarts"] = 0
        return Limits(**given)


def seed(*strings: bytes, decisions: bytes = b"") -> bytes:
    """The input that `Choices` takes apart into these."""
    return MARK.join(strings) + decisions[::-1] + bytes([len(decisions)])


# ---------------------------------------------------------------- cuts and copies

Cut = Callable[[bytes], list[bytes]]
Again = Callable[[Any], Any]


def whole(data: bytes) -> list[bytes]:
    return [data]


def the_same(machine: T) -> T:
    return machine


def random_cut(chance: random.Random) -> Cut:
    """Cut into pieces: byte by byte, or in a few places. Some pieces are empty."""

    def cut(data: bytes) -> list[bytes]:
        if len(data) < 400 and chance.random() < 0.3:
            return [data[at : at + 1] for at in range(len(data))]
        places = sorted(chance.randint(0, len(data)) for _ in range(chance.randint(1, 6)))
        bounds = [0, *places, len(data)]
        return [data[start:end] for start, end in pairwise(bounds)]

    return cut


def random_copies(chance: random.Random) -> Again:
    """Now and then, replace the machine by its copy."""

    def again(machine: T) -> T:
        if chance.random() > 0.1:
            return machine
        if chance.random() < 0.5:
            return copy.deepcopy(machine)
        copied: T = pickle.loads(pickle.dumps(machine, chance.randint(2, pickle.HIGHEST_PROTOCOL)))
        return copied

    return again


def ways(chance: random.Random) -> Iterator[tuple[Cut, Again]]:
    """Check two cuts, the second with copies: both must have the outcome of the whole."""
    yield random_cut(chance), the_same
    yield random_cut(chance), random_copies(chance)


def check_all_ways(choices: Choices, run: Callable[[Cut, Again], T]) -> T:
    """The outcome, after checking that it does not depend on cuts and copies."""
    expected = run(whole, the_same)
    for cut, again in ways(choices.random):
        outcome = run(cut, again)
        assert outcome == expected, f"\n{outcome}\nis not, as for the whole,\n{expected}"
    return expected


# ---------------------------------------------------------------- events


def check_reply(events: list[Event]) -> None:
    """Check that the events are `Live* (End | Broken)`, and that each can be read, copied and encoded."""
    assert events, "no terminal event"
    check_events(events)
    assert isinstance(events[-1], End | Broken), events[-1]


def check_events(events: list[Event]) -> None:
    """Check that the events are the beginning of a reply."""
    assert all(isinstance(event, Live) for event in events[:-1]), events
    for event in events:
        assert len(repr(event)) < 10_000 + 8 * _shown(event)
        assert pickle.loads(pickle.dumps(event)) == event
        for text in _texts(event):
            text.encode()
        if isinstance(event, End):
            payload = event.payload()
            assert isinstance(payload, dict)
            assert (event.images, event.actions, event.shortcuts, event.blocks) is not None
            assert isinstance(event.response_id, str | None)
            assert isinstance(event.new_token, str | None)
            assert isinstance(event.usage, dict | None)


def check_verdicts(events: list[Event], expected: list[reference.Verdict]) -> None:
    """Check that the events match the reference's reading of the body."""
    given: list[reference.Verdict] = []
    for event in events:
        match event:
            case Live(text, kind):
                given.append(("live", text, kind))
            case End(reply):
                given.append(("end", reply, ""))
            case Broken(reason):
                given.append(("broken", None, str(reason)))
    if expected[-1][2] == "malformed or unfinished":
        assert given[-1][0] == "broken", given
        given, expected = given[:-1], expected[:-1]
    assert given == expected, f"\n{given}\nis not, as the reference says,\n{expected}"


def _texts(event: Event) -> Iterator[str]:
    match event:
        case Live(text, kind, raw):
            yield from (text, kind, raw)
        case End(reply, raw):
            yield from (reply or "", raw)
        case Broken(_, detail, _, code, _, raw):
            yield from (detail, code or "", raw)


def _shown(event: Event) -> int:
    return sum(map(len, _texts(event)))


# ---------------------------------------------------------------- bounds

_OVERHEAD = 64 * 1024  # of a machine that holds nothing, several times over, including its question


def check_memory(machine: object, bound: int, chance: random.Random) -> None:
    """Check now and then that a machine holds no more than its limits allow, measured by its pickle."""
    if chance.random() > 0.1:
        return
    size = len(pickle.dumps(machine, pickle.HIGHEST_PROTOCOL))
    assert size <= bound + _OVERHEAD, f"{size} bytes are held, more than {bound}"


def check_linear(run: Callable[[bytes], object], data: bytes) -> None:
    """Check that eight times the input takes about eight times as long. Fails if the ratio is bad in three runs."""
    unit = data * (1 + 4_000 // max(1, len(data)))
    ratio = 0.0
    for _ in range(3):
        small, large = (_cpu_time(run, unit * times) for times in (1, 8))
        ratio = large / max(small, 0.001)
        if large < 0.5 or ratio < 24:
            return
    raise AssertionError(f"8 times the input took {ratio:.0f} times as long")


def _cpu_time(run: Callable[[bytes], object], data: bytes) -> float:
    start = time.process_time()
    run(data)
    return time.process_time() - start


def check_secrets(*shown: object) -> None:
    for one in shown:
        assert SECRET not in repr(one), type(one)
        assert SECRET not in str(one), type(one)


def unchanged(machine: object, call: Callable[[], object], error: type[Exception]) -> bool:
    """Whether the call raised this error. If so, it must have changed nothing."""
    before = pickle.dumps(machine)
    try:
        call()
    except error:
        assert pickle.dumps(machine) == before, "an illegal call has changed something"
        return True
    return False


def attempt(
    call: Callable[[Any], T], argument: object, error: type[E] | tuple[type[E], ...]
) -> tuple[T | None, E | None]:
    """The result of the call, or an error that it may raise."""
    try:
        return call(argument), None
    except error as raised:
        return None, raised
