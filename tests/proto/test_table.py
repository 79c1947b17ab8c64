"""A state machine as a table."""

from enum import StrEnum

import pytest

from opchat_proto import LocalProtocolError
from opchat_proto._table import Table  # what all machines are made of is not public
from tests.proto.cuts import copies


class Door(StrEnum):
    OPEN = "open"
    SHUT = "shut"
    GONE = "gone"


class Hand(StrEnum):
    PUSH = "push"
    KICK = "kick"
    PULL = "pull"


def door() -> Table[Door, Hand]:
    return Table(
        "Door",
        (Door.OPEN, Door.SHUT),
        {
            Door.OPEN: {Hand.PUSH: Door.SHUT, Hand.KICK: Door.SHUT},
            Door.SHUT: {Hand.PULL: Door.OPEN, Hand.PUSH: Door.SHUT, Hand.KICK: Door.GONE},
            Door.GONE: {},
        },
    )


def test_every_pair_moves_as_the_rows_say_or_raises() -> None:
    table = door()
    for state in Door:
        for given in Hand:
            target = table.rows[state].get(given)
            if target is not None:
                assert table.next(state, given) is target
            else:
                with pytest.raises(
                    LocalProtocolError, match=f"^Door: {given} is not legal in state {state}$"
                ) as caught:
                    table.next(state, given)
                assert caught.value.__suppress_context__  # the KeyError means nothing to the caller


def test_a_state_without_a_row_allows_nothing() -> None:
    table: Table[Door, Hand] = Table("Half", (Door.OPEN,), {})
    with pytest.raises(LocalProtocolError, match=r"^Half: push is not legal in state open$"):
        table.next(Door.OPEN, Hand.PUSH)


def test_the_diagram_has_one_arrow_for_each_pair_of_states_in_row_order() -> None:
    assert door().mermaid() == (
        "stateDiagram-v2\n"
        "    [*] --> open\n"
        "    [*] --> shut\n"
        "    open --> shut: push, kick\n"
        "    shut --> open: pull\n"
        "    shut --> shut: push\n"
        "    shut --> gone: kick\n"
        "    gone --> [*]"
    )


def test_a_copied_table_works() -> None:
    for twin in copies(door()):
        assert twin.next(Door.SHUT, Hand.KICK) is Door.GONE
        assert twin.mermaid() == door().mermaid()
