"""`scripts()`: it draws every kind of script, and each gives one reply."""

from collections.abc import Callable

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis.errors import NoSuchExample

from opchat_proto import (
    Client,
    End,
    Endpoint,
    Event,
    Flow,
    Reason,
    Submit,
)
from opchat_transports.testing import FAULTS, Delay, Expect, MemoryServer, Repeat, Reset, Script, Stall, Write, scripts
from tests.proto.asking import is_reply

SEARCH = settings(max_examples=20_000, database=None, phases=[Phase.generate])


def played(script: Script) -> tuple[list[Event], int]:
    server = MemoryServer(script)
    client = Client(Flow(Endpoint.parse("http://site.example"), Submit(new_message="Hi?")))
    return list(server.run(client)), len(server.questions)


@given(scripts())
def test_a_script_always_gives_the_same_single_reply(script: Script) -> None:
    events, questions = played(script)
    assert is_reply(events)
    assert questions <= 2
    assert played(script) == (events, questions)


@pytest.mark.parametrize(
    "wanted",
    [
        lambda script: script == FAULTS["gzip"],
        lambda script: script[0] == Expect("start_session") and script[-1] == Reset(),
        lambda script: isinstance(played(script)[0][-1], End) and script[-1] == Stall(),
        lambda script: any(isinstance(step, Delay) for step in script) and len(script) > 4,
        lambda script: any(isinstance(step, Write) and step.size == 1 for step in script),
        *(
            lambda script, reason=reason: getattr(played(script)[0][-1], "reason", None) is reason
            for reason in Reason
            if reason is not Reason.PROXY
        ),
    ],
)
def test_every_kind_of_script_is_drawn(wanted: Callable[[Script], bool]) -> None:
    assert wanted(find(scripts(), wanted, settings=SEARCH))


def test_every_script_ends() -> None:
    def endless(script: Script) -> bool:
        return any(isinstance(step, Repeat) and step.times is None for step in script)

    with pytest.raises(NoSuchExample):
        find(scripts(), endless, settings=settings(SEARCH, max_examples=100))
