"""The table of a call. `test_call_base.py` makes each of its moves."""

from opchat_proto._call_table import TABLE, State  # the table is not public, and this test reads it


def test_the_table_begins_with_the_session_and_ends_with_over() -> None:
    assert TABLE.start == (State.SESSION,)
    assert list(TABLE.rows) == list(State)
    assert TABLE.rows[State.OVER] == {}
