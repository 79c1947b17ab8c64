"""The steps of a driver."""

from dataclasses import FrozenInstanceError, fields
from typing import TypeAlias

import pytest

from opchat_proto import Connect, Done, Receive, Send, StartTLS, Wait
from tests.proto.cuts import copies

Step: TypeAlias = Connect | StartTLS | Send | Receive | Wait | Done

STEPS: list[Step] = [
    Connect("site.example", 443),
    StartTLS("site.example"),
    Send(b"GET /"),
    Receive(),
    Wait("signal"),
    Done(),
]


def told(step: Step) -> tuple[object, ...]:
    match step:
        case Connect(host, port):
            return ("connect", host, port)
        case StartTLS(server_name):
            return ("tls", server_name)
        case Send(data):
            return ("send", data)
        case Receive():
            return ("receive",)
        case Wait(signal):
            return ("wait", signal)
        case Done():
            return ("done",)


def test_a_driver_can_match_the_steps() -> None:
    assert [told(step) for step in STEPS] == [
        ("connect", "site.example", 443),
        ("tls", "site.example"),
        ("send", b"GET /"),
        ("receive",),
        ("wait", "signal"),
        ("done",),
    ]


def test_repr_shows_neither_bytes_nor_signal() -> None:
    assert [repr(step) for step in STEPS] == [
        "Connect(host='site.example', port=443)",
        "StartTLS(server_name='site.example')",
        "Send()",
        "Receive()",
        "Wait()",
        "Done()",
    ]


def test_no_two_kinds_of_step_are_equal() -> None:
    assert len(set(STEPS)) == len(STEPS) == 6
    assert Send(b"a") != Send(b"b")
    assert Connect("a", 80) != Connect("a", 81)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
def test_a_step_is_a_frozen_slotted_value(step: Step) -> None:
    assert list(copies(step)) == [step] * 6
    assert {hash(twin) for twin in copies(step)} == {hash(step)}
    assert not hasattr(step, "__dict__")
    for field in fields(step):
        with pytest.raises(FrozenInstanceError):
            setattr(step, field.name, "other")
