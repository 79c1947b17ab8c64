"""The end of a question: failures, a caller who leaves, answers that begin before the request is sent."""

import copy
from dataclasses import replace

import pytest

from opchat_proto import Broken, Client, Connect, Done, Endpoint, Limits, Live, Reason, Receive, Send, Session
from opchat_proto._client import State  # the table is not public, and this test walks it
from tests.proto.asking import ANSWER, ANSWERED, HI, ask, asked, client, content_length
from tests.proto.clients import (
    BUSY,
    CLEAR,
    CLOSED,
    OPENED,
    SAID,
    STALE,
    UNFINISHED,
    at,
    early,
    is_start_session,
    is_submit,
)
from tests.proto.cuts import every_cut

OPENED_AGAIN = content_length(b'{"success":true,"sessionId":"s2","restNonce":"n2"}')


# ------------------------------------------------------------------------------ what is legal when


@pytest.mark.parametrize("state", UNFINISHED)
@pytest.mark.parametrize("reason", Reason)
def test_a_failure_ends_the_question_with_its_reason_and_place(state: State, reason: Reason) -> None:
    asking = at(state)
    events = asking.step_failed("it failed", reason, limit="connect")
    if reason is Reason.LOST and state in (State.TUNNEL_SEND, State.SENDING):
        assert (events, asking.next_step()) == ([], Receive())
        return
    was_lost = reason is Reason.LOST
    detail = SAID[state][0 if was_lost else 1] + "it failed"
    if was_lost and state in (State.PROXY_TLS, State.TUNNEL_RECEIVE):
        reason = Reason.PROXY
    asked = state in (State.SENDING, State.RECEIVE)
    assert events == [Broken(reason, detail, limit="connect", asked=asked)]
    assert (asking.next_step(), asking.awaiting, asking.submit_started) == (Done(), None, asked)


def test_the_place_of_a_failure_is_written_like_an_address() -> None:
    asking = client(endpoint=Endpoint.parse("https://[2001:db8::1]"))
    asking.next_step()
    assert asking.step_failed("refused") == [Broken(Reason.LOST, "could not connect to [2001:db8::1]:443: refused")]


@pytest.mark.parametrize("reason", Reason)
def test_a_failure_inside_an_answer_breaks_it(reason: Reason) -> None:
    lost = reason is Reason.LOST
    expected = Broken(
        Reason.TRUNCATED if lost else reason, "the connection failed: it failed" if lost else "it failed", asked=True
    )
    data = content_length(ANSWER)
    head = data.index(b"\r\n\r\n") + 4
    for count in (1, head - 1, head, head + 1, head + len(HI) - 1):
        asking = asked()
        asking.receive_data(data[:count])
        [event] = asking.step_failed("it failed", reason)
        assert isinstance(event, Broken)
        assert (
            replace(event, detail=event.detail.partition(";")[0]) == expected
        )  # the rest names a line that the stream ignored
    asking = asked()
    assert asking.receive_data(data[: head + len(HI)]) == [Live("Hi")]
    assert asking.step_failed("it failed", reason) == [expected]


@pytest.mark.parametrize("reason", Reason)
def test_a_failure_inside_a_refusal_stays_a_refusal_and_names_no_clock(reason: Reason) -> None:
    asking = asked()
    asking.receive_data(content_length(b"Not now", status=b"503 -")[:-1])
    expected = Broken(Reason.REFUSED, "Not no", 503, raw="Not no", asked=True)
    limit = "idle" if reason is Reason.TIMEOUT else None
    assert asking.step_failed("it failed", reason, limit=limit) == [expected]


def test_bytes_in_the_clear_before_tls_are_not_read() -> None:
    asking = at(State.TLS)
    assert asking.receive_data(content_length(ANSWER)) == CLEAR
    assert (asking.next_step(), asking.submit_started) == (Done(), False)


# ------------------------------------------------------------------------------ leaving


def test_closing_inside_an_answer_is_truncated() -> None:
    data = content_length(ANSWER)
    for count in range(1, len(data) - 1):
        asking = asked()
        asking.receive_data(data[:count])
        assert asking.close() == [Broken(Reason.TRUNCATED, CLOSED, asked=True)]
        assert (asking.close(), asking.receive_data(data[count:]), asking.next_step()) == ([], [], Done())


@pytest.mark.parametrize("state", UNFINISHED)
def test_closing_before_the_session_has_asked_nothing(state: State) -> None:
    asking = at(state, session=None)
    assert asking.close() == [Broken(Reason.LOST, CLOSED, in_session=True)]
    assert asking.next_step() == Done()


def test_closing_inside_the_answer_to_start_session_is_lost() -> None:
    for start, data, expected in (
        (b"", OPENED, Broken(Reason.LOST, CLOSED, in_session=True)),
        (STALE, OPENED_AGAIN, Broken(Reason.LOST, CLOSED, in_session=True, asked=True)),
    ):
        for count in range(len(data)):
            asking = asked(session=Session("n0") if start else None, limits=Limits())
            if start:
                assert asking.receive_data(start) == []
                ask(asking)
            asking.receive_data(data[:count])
            assert asking.close() == [expected]
    asking = asked(session=None)
    asking.receive_data(OPENED)
    for step in (Connect, Send):
        assert isinstance(asking.next_step(), step)
        leaving = copy.deepcopy(asking)
        assert leaving.close() == [Broken(Reason.LOST, CLOSED, asked=step is Send)]
        asking.step_done()


def test_a_server_that_speaks_first_is_read_and_nothing_was_asked() -> None:
    for data, expected in (
        (BUSY, [Broken(Reason.REFUSED, "busy", 503, raw="busy")]),
        (content_length(ANSWER), ANSWERED),
        (b"\x00", [Broken(Reason.TRUNCATED, "HTTP: no status line")]),
    ):
        for pieces in every_cut(data):
            asking = at(State.SEND)
            assert [event for piece in pieces for event in asking.receive_data(piece)] == expected
            assert (asking.next_step(), asking.submit_started) == (Done(), False)
    for end, expected in (
        (Client.close, [Broken(Reason.TRUNCATED, CLOSED)]),
        (Client.receive_eof, [Broken(Reason.TRUNCATED, "the connection was closed inside the head of the answer")]),
        (lambda asking: asking.step_failed("reset"), [Broken(Reason.TRUNCATED, "the connection failed: reset")]),
    ):
        asking = at(State.SEND)
        assert asking.receive_data(b"H") == []
        assert end(asking) == expected
        assert (asking.next_step(), asking.submit_started) == (Done(), False)


def test_a_question_counts_as_asked_from_the_send_that_hands_it_out() -> None:
    for handed_out, expected in ((False, Broken(Reason.LOST, CLOSED)), (True, Broken(Reason.LOST, CLOSED, asked=True))):
        asking = at(State.SEND)
        if handed_out:
            assert is_submit(asking.next_step())
        assert asking.submit_started is handed_out
        assert asking.close() == [expected]


# ------------------------------------------------------------------------------ early answers


@pytest.mark.parametrize("failed", [False, True])
def test_after_an_early_answer_the_next_request_is_due(failed: bool) -> None:
    connect, submit = ask(early(OPENED, failed=failed))
    assert (connect, is_submit(submit)) == (Connect("site.example", 80), True)


def test_an_early_answer_may_end_after_the_request_was_sent_or_failed_to_be_sent() -> None:
    asking = early(OPENED[:9], failed=False)
    assert is_start_session(asking.next_step())
    asking.step_done()
    for reading in (asking, early(OPENED[:9], failed=True)):
        assert reading.next_step() == Receive()
        assert reading.receive_data(OPENED[9:]) == []
        assert reading.next_step() == Connect("site.example", 80)


def test_an_early_answer_to_start_session_gives_a_session() -> None:
    asking = at(State.SEND, session=None)
    assert asking.receive_data(OPENED) == []
    assert (asking.session, asking.next_step()) == (Session("n1", "s1"), Connect("site.example", 80))


@pytest.mark.parametrize("failed", [False, True])
def test_an_early_refusal_is_read_while_the_question_is_sent(failed: bool) -> None:
    asking = at(State.SENDING)
    if failed:
        asking.step_failed("broken pipe")
    data = content_length(b"<title>Too large</title>", b"Connection: close", status=b"413 Content Too Large")
    for pieces in every_cut(data):
        reading = copy.deepcopy(asking)
        assert [event for piece in pieces for event in reading.receive_data(piece)] == [
            Broken(Reason.REFUSED, "Too large", 413, raw="<title>Too large</title>", asked=True)
        ]
        assert reading.next_step() == Done()
