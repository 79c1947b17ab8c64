"""The states of a flow, its inputs, and its transitions."""

from enum import StrEnum
from typing import final

from ._table import Table

__all__ = ["Awaiting"]


@final
class Awaiting(StrEnum):
    """What the server owes: it decides which clock of the transport runs."""

    SESSION = "session"
    """The answer to start_session, or to another request before the question, such as `GET users/me`."""
    FIRST_EVENT = "first event"
    """The first event of the reply."""
    EVENT = "event"
    """The next event."""
    PROXY = "proxy"
    """The proxy's reply, which comes before all others. Only a `Client` waits for it."""


@final
class State(StrEnum):
    """The stage of the exchange."""

    SESSION = "SESSION"  # start_session, or another request for a nonce, is due
    SESSION_HEAD = "SESSION_HEAD"  # it was handed out
    SESSION_BODY = "SESSION_BODY"  # its answer has begun
    PROOF = "PROOF"  # the same three for users/me, which says who asks
    PROOF_HEAD = "PROOF_HEAD"
    PROOF_BODY = "PROOF_BODY"
    SUBMIT = "SUBMIT"  # the same three for the submit, and for queries before it
    SUBMIT_HEAD = "SUBMIT_HEAD"
    SUBMIT_BODY = "SUBMIT_BODY"
    DONE = "DONE"


@final
class Input(StrEnum):
    """What can happen to an exchange."""

    REQUEST = "next_request"
    HEAD = "receive_head"
    INTERIM = "receive_head (1xx)"
    DATA = "receive_data"
    EOF = "receive_eof"
    FAILURE = "receive_failure"
    USE_SESSION = "use_session"
    CLOSE = "close"
    NO_NONCE = "no nonce yet"
    UNPROVED = "member to be proved"
    PROVED = "member proved"
    OPENED = "session opened"
    REDIRECTED = "page redirects"
    STALE = "nonce refused"
    PASSED = "question may be asked"
    TERMINAL = "terminal event"


_ENDS = {Input.TERMINAL: State.DONE, Input.CLOSE: State.DONE}

TABLE: Table[State, Input] = Table(
    "Flow",
    (State.SESSION, State.PROOF, State.SUBMIT),
    {
        State.SESSION: {
            Input.REQUEST: State.SESSION_HEAD,
            Input.USE_SESSION: State.SUBMIT,
            Input.UNPROVED: State.PROOF,
            Input.NO_NONCE: State.SESSION,
            Input.FAILURE: State.SESSION,
            **_ENDS,
        },
        State.SESSION_HEAD: {
            Input.HEAD: State.SESSION_BODY,
            Input.INTERIM: State.SESSION_HEAD,
            Input.EOF: State.SESSION_HEAD,
            Input.FAILURE: State.SESSION_HEAD,
            **_ENDS,
        },
        State.SESSION_BODY: {
            Input.DATA: State.SESSION_BODY,
            Input.EOF: State.SESSION_BODY,
            Input.FAILURE: State.SESSION_BODY,
            Input.OPENED: State.SUBMIT,
            Input.UNPROVED: State.PROOF,
            Input.REDIRECTED: State.SESSION,
            **_ENDS,
        },
        State.PROOF: {
            Input.REQUEST: State.PROOF_HEAD,
            Input.USE_SESSION: State.SUBMIT,
            Input.UNPROVED: State.PROOF,
            Input.NO_NONCE: State.SESSION,
            Input.FAILURE: State.PROOF,
            **_ENDS,
        },
        State.PROOF_HEAD: {
            Input.HEAD: State.PROOF_BODY,
            Input.INTERIM: State.PROOF_HEAD,
            Input.EOF: State.PROOF_HEAD,
            Input.FAILURE: State.PROOF_HEAD,
            **_ENDS,
        },
        State.PROOF_BODY: {
            Input.DATA: State.PROOF_BODY,
            Input.EOF: State.PROOF_BODY,
            Input.FAILURE: State.PROOF_BODY,
            Input.PROVED: State.SUBMIT,
            Input.NO_NONCE: State.SESSION,
            Input.STALE: State.SESSION,
            **_ENDS,
        },
        State.SUBMIT: {
            Input.REQUEST: State.SUBMIT_HEAD,
            Input.FAILURE: State.SUBMIT,
            **_ENDS,
        },
        State.SUBMIT_HEAD: {
            Input.HEAD: State.SUBMIT_BODY,
            Input.INTERIM: State.SUBMIT_HEAD,
            Input.EOF: State.SUBMIT_HEAD,
            Input.FAILURE: State.SUBMIT_HEAD,
            **_ENDS,
        },
        State.SUBMIT_BODY: {
            Input.DATA: State.SUBMIT_BODY,
            Input.EOF: State.SUBMIT_BODY,
            Input.FAILURE: State.SUBMIT_BODY,
            Input.STALE: State.SESSION,
            Input.PASSED: State.SUBMIT,
            Input.UNPROVED: State.PROOF,
            **_ENDS,
        },
        State.DONE: {},
    },
)
