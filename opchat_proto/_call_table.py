"""The states of a call, its inputs, and its transitions."""

from enum import StrEnum
from typing import final

from ._table import Table

__all__: list[str] = []


@final
class State(StrEnum):
    """The stage of a question."""

    SESSION = "SESSION"  # it needs a session, and looks for one at the next step
    WAIT = "WAIT"  # another call starts or renews the session
    START = "START"  # this call starts or renews it
    UPLOAD = "UPLOAD"  # it has a session, and uploads a file for the question
    ASK = "ASK"  # it has a session, and asks
    PAUSE = "PAUSE"  # it waits before the question is repeated
    LAST = "LAST"  # it is over, and the connection must be closed
    OVER = "OVER"  # the last event can be taken


@final
class Input(StrEnum):
    """What a driver reports, and the consequences of a report."""

    STEP_DONE = "step_done"
    STEP_FAILED = "step_failed"
    HEAD = "receive_head"
    DATA = "receive_data"
    EOF = "receive_eof"
    ATTACH = "attach"
    CLOSE = "close"
    FOUND = "session found"
    ANOTHER_STARTS = "another call starts the session"
    TO_START = "session to be started"
    ABANDONED = "the other call has left"
    STARTED = "session started"
    FILE_DUE = "file due"
    UPLOADED = "file uploaded"
    REFUSED = "nonce refused"
    POSTPONED = "to be asked again"
    RESUMED = "pause over"
    TERMINAL = "terminal event"
    DONE = "done"


_REPORTS = (Input.STEP_FAILED, Input.HEAD, Input.DATA, Input.EOF)
_ENDS = {Input.TERMINAL: State.LAST, Input.CLOSE: State.LAST}

TABLE: Table[State, Input] = Table(
    "Call",
    (State.SESSION,),
    {
        State.SESSION: {
            **dict.fromkeys((*_REPORTS, Input.ATTACH), State.SESSION),
            Input.FOUND: State.ASK,
            Input.ANOTHER_STARTS: State.WAIT,
            Input.TO_START: State.START,
            Input.CLOSE: State.LAST,
        },
        State.WAIT: {
            **dict.fromkeys(_REPORTS, State.WAIT),
            Input.FOUND: State.ASK,
            Input.ABANDONED: State.SESSION,
            Input.POSTPONED: State.PAUSE,
            **_ENDS,
        },
        State.START: {
            **dict.fromkeys((Input.STEP_DONE, *_REPORTS), State.START),
            Input.STARTED: State.ASK,
            Input.POSTPONED: State.PAUSE,
            **_ENDS,
        },
        State.UPLOAD: {
            **dict.fromkeys((Input.STEP_DONE, *_REPORTS), State.UPLOAD),
            Input.UPLOADED: State.SESSION,
            Input.REFUSED: State.SESSION,
            Input.POSTPONED: State.PAUSE,
            **_ENDS,
        },
        State.ASK: {
            Input.FILE_DUE: State.UPLOAD,
            **dict.fromkeys((Input.STEP_DONE, *_REPORTS), State.ASK),
            Input.REFUSED: State.SESSION,
            Input.POSTPONED: State.PAUSE,
            **_ENDS,
        },
        State.PAUSE: {
            **dict.fromkeys(_REPORTS, State.PAUSE),
            Input.RESUMED: State.SESSION,
            Input.CLOSE: State.LAST,
        },
        State.LAST: {Input.DONE: State.OVER},
        State.OVER: {},
    },
)
