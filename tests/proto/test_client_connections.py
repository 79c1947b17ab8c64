"""Each request has its own connection, and a broken one does not repeat a question."""

import copy
from collections.abc import Callable

import pytest

from opchat_proto import Broken, Client, Connect, Done, Event, Flow, Limits, Live, Reason, Receive, Session
from tests.proto.asking import (
    ANSWER,
    ANSWERED,
    CHUNKED,
    END,
    ENDPOINT,
    QUESTION,
    WAYS,
    ask,
    asked,
    chunks,
    client,
    content_length,
)
from tests.proto.clients import DIRECT, OPENED, REFUSAL, STALE, again, frozen, is_submit


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(OPENED.replace(b"OK\r\n", b"OK\r\nConnection: keep-alive\r\n"), id="Connection: keep-alive"),
        pytest.param(OPENED.replace(b"HTTP/1.1", b"HTTP/1.0"), id="HTTP/1.0"),
        pytest.param(OPENED + b"\r\n", id="bytes after the answer"),
        pytest.param(OPENED + content_length(ANSWER), id="an answer that nobody asked for"),
        pytest.param(OPENED + 100_000 * b"x", id="many bytes after the answer"),
    ],
)
def test_a_connection_is_over_after_its_answer_whatever_follows(answer: bytes) -> None:
    end = answer.index(b"}") + 1
    for cut in (end - 1, end, end + 1, len(answer)):
        asking = asked(session=None)
        assert asking.receive_data(answer[:cut]) == asking.receive_data(answer[cut:]) == []
        assert (asking.next_step(), asking.submit_started) == (Connect("site.example", 80), False)
        assert asking.receive_eof() == []
        _, submit = ask(asking)
        assert is_submit(submit)
        assert asking.receive_data(content_length(ANSWER)) == ANSWERED


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n"])
def test_the_answer_to_start_session_may_end_with_the_close(head: bytes) -> None:
    asking = asked(session=None)
    assert asking.receive_data(head + OPENED.partition(b"\r\n\r\n")[2]) == []
    assert asking.next_step() == Receive()
    assert asking.receive_eof() == []
    _, submit = ask(asking)
    assert is_submit(submit)


@pytest.mark.parametrize(
    "lose",
    [
        pytest.param(Client.receive_eof, id="eof"),
        pytest.param(lambda asking: asking.step_failed("reset"), id="lost"),
        pytest.param(lambda asking: asking.step_failed("slow", Reason.TIMEOUT), id="timeout"),
        pytest.param(lambda asking: asking.receive_data(b"x\r\n"), id="framing"),
    ],
)
def test_a_session_that_is_complete_before_its_connection_breaks_is_used(lose: Callable[[Client], list[Event]]) -> None:
    asking = asked(session=None)
    assert asking.receive_data(CHUNKED + chunks(OPENED.partition(b"\r\n\r\n")[2])) == []
    assert lose(asking) == []
    assert (asking.session, asking.next_step()) == (Session("n1", "s1"), Connect("site.example", 80))


@pytest.mark.parametrize(
    "late",
    [
        lambda asking: asking.receive_data(b"HTTP/1.1 408 Request Timeout\r\n\r\n"),
        lambda asking: asking.receive_data(content_length(ANSWER)),
        lambda asking: asking.receive_data(bytearray(1)),
        Client.receive_eof,
    ],
)
def test_late_news_of_the_previous_connection_changes_nothing(late: Callable[[Client], list[Event]]) -> None:
    for asking in (client(), *map(again, (DIRECT, *WAYS.values()))):
        connecting = asking.next_step()
        before = frozen(asking)
        assert isinstance(connecting, Connect)
        assert late(asking) == late(asking) == []
        assert (frozen(asking), asking.next_step()) == (before, connecting)


@pytest.mark.parametrize(
    "lose", [Client.receive_eof, lambda asking: asking.step_failed("reset"), lambda asking: asking.receive_data(b"\0")]
)
def test_a_broken_connection_repeats_no_request(lose: Callable[[Client], list[Event]]) -> None:
    asking = asked(session=None, limits=Limits())
    [broken] = lose(copy.deepcopy(asking))
    assert isinstance(broken, Broken)
    assert (broken.in_session, broken.asked) == (True, False)
    asking.receive_data(OPENED)
    ask(asking)
    [broken] = lose(copy.deepcopy(asking))
    assert isinstance(broken, Broken)
    assert (broken.in_session, broken.asked) == (False, True)
    asking.receive_data(STALE)
    ask(asking)
    assert (lose(asking), asking.next_step()) == ([REFUSAL], Done())  # the result without a session


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"])
def test_all_pieces_in_one_read_are_given_in_order(head: bytes) -> None:
    # More than one scan of a head covers, so that events found with the head precede later ones.
    pieces = [Live(f"piece {number}") for number in range(1000)]
    body = b"".join(b'data: {"type":"live","data":"%b"}\n\n' % piece.text.encode() for piece in pieces)
    assert asked().receive_data(head + body + END) == [*pieces, ANSWERED[-1]]


def test_a_switch_of_protocols_is_truncated_even_if_the_caller_offered_one() -> None:
    asking = Client(Flow(ENDPOINT, QUESTION, session=Session(), headers={"Upgrade": "x", "Connection-Is": "ours"}))
    ask(asking)
    assert asking.receive_data(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n" + ANSWER) == [
        Broken(Reason.TRUNCATED, "status 101: the server switched protocols, unasked", asked=True)
    ]
