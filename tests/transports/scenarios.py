"""The contract of all transports, written once.

`ANSWERED` holds questions that are asked and read to their end, `PLAYED` everything
else. They are written as coroutines. A way of asking (test_contract.py) opens a
transport; the coroutines of the blocking one never wait.
"""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from .scenarios_again import (
    a_site_that_comes_up_late,
    a_site_that_says_when,
    closed_while_it_pauses,
    never_repeated,
)
from .scenarios_answered import ANSWERED
from .scenarios_cut import a_refused_connection, cut_by_fin, cut_by_rst, heads_beyond_the_limits
from .scenarios_left import (
    a_hundred_at_once,
    a_hundred_at_once_with_an_expired_nonce,
    a_slow_reader,
    closed_unread,
    closed_while_it_waits,
    each_piece_comes_before_the_next_is_sent,
    left_by_break,
    left_by_close,
    left_by_exception,
    one_after_the_other,
    two_in_turns,
)
from .serving import Way

Played: TypeAlias = Callable[[Way], Awaitable[None]]
PLAYED: list[Played] = [
    a_refused_connection,
    cut_by_fin,
    cut_by_rst,
    heads_beyond_the_limits,
    each_piece_comes_before_the_next_is_sent,
    left_by_break,
    left_by_exception,
    left_by_close,
    closed_while_it_waits,
    closed_unread,
    a_slow_reader,
    a_hundred_at_once,
    a_hundred_at_once_with_an_expired_nonce,
    two_in_turns,
    one_after_the_other,
    a_site_that_comes_up_late,
    a_site_that_says_when,
    never_repeated,
    closed_while_it_pauses,
]
SCENARIOS: dict[str, Played] = {f"answered: {each.name}": each.play for each in ANSWERED} | {
    each.__name__: each for each in PLAYED
}
