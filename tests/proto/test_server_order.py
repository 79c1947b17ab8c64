"""Legal inputs of a server's connection, copies, and arbitrary bytes."""

import pickle
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opchat_proto import (
    Answer,
    Done,
    End,
    Keep,
    Kept,
    Limits,
    Live,
    LocalProtocolError,
    Receive,
    Response,
    Send,
    Server,
    Site,
)
from opchat_proto._server import TABLE, Input, State  # the table is not public, and this test walks it
from tests.proto.cuts import copies, cut_at
from tests.proto.servers import (
    ANSWERED,
    ANSWERED_WHOLE,
    CHUNKED,
    CLOSE,
    EXPECTING,
    HEAD_SIZE,
    HI,
    HI_WHOLE,
    IN_CHUNKS,
    MAKE,
    SMALL,
    START_REQUEST,
    STARTED,
    SUBMIT_REQUEST,
    UNSTREAMED_REQUEST,
    UPLOAD,
    WITH_NONCE,
    after,
    closing,
    converse,
    request,
    uploading,
)
from tests.proto.sites import NOW, QUESTION, SECRET, SITE, START, SUBMIT, wrong

# ------------------------------------------------------------------------------ the table

REPORTS: dict[Input, Callable[[Server], None]] = {
    Input.RECEIVE_DATA: lambda server: server.receive_data(b"P", now=NOW),
    Input.RECEIVE_EOF: Server.receive_eof,
    Input.STEP_FAILED: lambda server: server.step_failed("reset"),
    Input.STEP_DONE: Server.step_done,
    Input.SEND: lambda server: server.send(Live("a")),
    Input.RESPOND: lambda server: server.respond(Response(200, ())),
}
LARGE = b"x" * (Limits().head_bytes + Limits().request_bytes + 1)


def lead(state: State, given: Input) -> Server:
    """A server that was in this state and got this input."""
    server = MAKE[state]()
    match given:
        case Input.FLOOD:
            server.receive_data(LARGE, now=NOW)
        case Input.PART:
            server.send(Live("a"))
        case Input.RESPONSE if state is State.ANSWERING:
            server.send(End("a"))
        case Input.LAST_RESPONSE if state is State.ANSWERING:
            server = after(request(SUBMIT, WITH_NONCE, CLOSE, body=QUESTION))
            server.send(End("a"))
        case Input.FILE_PART:
            server = uploading(UPLOAD)
        case Input.FILE:
            server = uploading(UPLOAD, kept=True)
        case Input.LAST_RESPONSE if state is State.RESPONDING:
            server = uploading(UPLOAD.replace(b"Host", b"Connection: close\r\nHost"), kept=True)
            server.respond(Response(200, ()))
        case Input.EXPECTATION | Input.QUESTION | Input.RESPONSE | Input.LAST_RESPONSE:
            data = {
                Input.EXPECTATION: EXPECTING[:HEAD_SIZE],
                Input.QUESTION: SUBMIT_REQUEST,
                Input.RESPONSE: START_REQUEST,
                Input.LAST_RESPONSE: b" ",
            }
            server = after(data[given])
        case Input.SEND:
            server = after(UNSTREAMED_REQUEST)
            server.send(Live("a"))
        case _:
            REPORTS[given](server)
    return server


def state_of(server: Server) -> str:
    return repr(server).removeprefix("<Server ").partition(",")[0]


STEPS = {
    State.RECEIVING: Receive,
    State.KEEPING: Keep,
    State.RESPONDING: Kept,
    State.ANSWERING: Answer,
    State.DONE: Done,
}


def test_the_table_has_every_state_and_uses_every_input() -> None:
    assert list(TABLE.rows) == list(State) == list(MAKE)
    assert {given for row in TABLE.rows.values() for given in row} == set(Input)
    assert TABLE.start == (State.RECEIVING,)


@pytest.mark.parametrize("state", State)
def test_every_state_gives_its_step(state: State) -> None:
    server = MAKE[state]()
    assert state_of(server) == state
    assert type(server.next_step()) is STEPS.get(state, Send)


@pytest.mark.parametrize(
    ("state", "given", "target"),
    [(state, given, target) for state, row in TABLE.rows.items() for given, target in row.items()],
)
def test_every_transition_of_the_table_is_made(state: State, given: Input, target: State) -> None:
    assert state_of(lead(state, given)) == target


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("report", REPORTS)
def test_a_report_that_is_illegal_in_the_state_changes_nothing(state: State, report: Input) -> None:
    if report in TABLE.rows[state]:
        return
    server = MAKE[state]()
    before = pickle.dumps(server)
    ignored = set(REPORTS) - {Input.STEP_DONE} if state is State.DONE else {Input.RECEIVE_DATA}
    if report in ignored:
        REPORTS[report](server)
    else:
        with pytest.raises(LocalProtocolError, match=f"Server: {report} is not legal in state {state}"):
            REPORTS[report](server)
    assert pickle.dumps(server) == before


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (TypeError, "bytes-like object is required", lambda server: server.receive_data("text", now=NOW)),
        (TypeError, "bytes-like object is required", lambda server: server.receive_data(5, now=NOW)),
        (TypeError, "^now: expected Unix seconds, got NoneType$", lambda server: server.receive_data(b"P", now=None)),
        (
            ValueError,
            r"^now: expected Unix seconds from 0 to 2\*\*32, got -1$",
            lambda server: server.receive_data(b"P", now=-1),
        ),
        (TypeError, "^detail: expected a str, got OSError$", lambda server: server.step_failed(OSError())),
        (TypeError, "^expected a Response, got bytes$", lambda server: server.respond(b"HTTP/1.1 200 OK")),
    ],
)
@pytest.mark.parametrize("state", State)
def test_a_wrong_argument_changes_nothing(
    error: type[Exception], message: str, call: Callable[[Server], None], state: State
) -> None:
    server = MAKE[state]()
    before = pickle.dumps(server)
    with pytest.raises(error, match=message):
        call(server)
    assert pickle.dumps(server) == before


@pytest.mark.parametrize("make", [MAKE[State.ANSWERING], lambda: after(UNSTREAMED_REQUEST)], ids=["stream", "whole"])
def test_a_wrong_event_changes_nothing(make: Callable[[], Server]) -> None:
    server = make()
    before = pickle.dumps(server)
    with pytest.raises(TypeError, match="expected Live, End or Broken, got str"):
        server.send(wrong("text"))
    with pytest.raises(ValueError, match="now: expected Unix seconds"):
        server.send(Live("a", "status"), now=-1)
    assert pickle.dumps(server) == before


# ------------------------------------------------------------------------------ copies and arbitrary bytes

EVERYTHING = START_REQUEST + SUBMIT_REQUEST + IN_CHUNKS + UNSTREAMED_REQUEST + request(START, CLOSE)
EVERYTHING_SENT = STARTED + ANSWERED + ANSWERED + ANSWERED_WHOLE + closing(STARTED)


@pytest.mark.parametrize("kind", range(6))
def test_a_server_can_be_copied_between_any_two_calls(kind: int) -> None:
    def copied(server: Server) -> Server:
        return list(copies(server))[kind]

    pieces = [EVERYTHING[start : start + 50] for start in range(0, len(EVERYTHING), 50)]
    assert converse(Server(SITE), pieces, between=copied) == (EVERYTHING_SENT, [HI, HI, HI_WHOLE])
    pieces = [EXPECTING[:HEAD_SIZE], EXPECTING[HEAD_SIZE:]]
    assert converse(Server(SITE), pieces, between=copied)[1] == [HI]


def test_a_copy_is_independent() -> None:
    server = after(SUBMIT_REQUEST)
    twin = pickle.loads(pickle.dumps(server))
    server.receive_eof()
    assert server.next_step() == Done()
    assert converse(twin, []) == (ANSWERED, [HI])


FRAGMENTS = st.sampled_from(
    [
        START_REQUEST,
        SUBMIT_REQUEST,
        IN_CHUNKS,
        UNSTREAMED_REQUEST,
        CHUNKED,
        QUESTION,
        b"POST / HTTP/1.1\r\n",
        b"GET /?rest_route=%ff HTTP/1.0\r\n",
        b"Host: a\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: +5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
        b"Upgrade: a\r\n",
        b"Cookie: mwai_session_id=\xff\r\n",
        b"\r\n",
        b"\r",
        b"\n",
        b" ",
        b"5\r\nabcde\r\n",
        b"ffffffffffffffffffff\r\n",
        b"0\r\n",
        b"0\r\n\r\n",
    ]
)
CONVERSATIONS = st.lists(FRAGMENTS | st.binary(max_size=20), max_size=12).map(b"".join)


@given(CONVERSATIONS, st.data())
def test_any_bytes_in_any_cuts_get_the_same_responses(given_bytes: bytes, data: st.DataObject) -> None:
    site = Site(SECRET, limits=data.draw(st.sampled_from([SMALL, Limits()])))
    expected = converse(Server(site), [given_bytes])
    places = data.draw(st.lists(st.integers(0, len(given_bytes)), max_size=10))
    assert converse(Server(site), cut_at(given_bytes, places)) == expected
    assert converse(Server(site), [given_bytes[i : i + 1] for i in range(len(given_bytes))]) == expected


def test_a_server_needs_a_site() -> None:
    with pytest.raises(TypeError, match="site: expected a Site, got bytes"):
        Server(wrong(b"a"))
