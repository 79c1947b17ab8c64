"""One HTTP/1.1 connection of a site, step by step."""

import pickle
from typing import Any

import pytest

from opchat_proto import Answer, Broken, Done, End, Limits, Live, Reason, Receive, Send, Server, Site
from tests.proto.servers import (
    ANSWERED,
    ANSWERED_WHOLE,
    CHUNKED,
    EXPECTING,
    HEAD_SIZE,
    HI,
    HI_WHOLE,
    LAST_CHUNK,
    LONG_HEAD,
    MAKE,
    SMALL,
    START_REQUEST,
    STARTED,
    SUBMIT_REQUEST,
    TOO_LARGE,
    UNSTREAMED_REQUEST,
    bad_request,
    chunk,
    converse,
    http,
    request,
)
from tests.proto.sites import NOW, QUESTION, SECRET, SESSION_ID, SITE, STREAMED, SUBMIT, UNSTREAMED, begun, wrong


def test_each_step_of_an_answer_has_its_order() -> None:
    server = Server(SITE)
    assert server.next_step() == server.next_step() == Receive()
    server.receive_data(SUBMIT_REQUEST, now=NOW)
    assert server.next_step() == server.next_step() == Answer(HI, SESSION_ID)
    server.send(Live("a"))
    head = http(begun(STREAMED, Live("a")), "Transfer-Encoding: chunked", body=b"")
    assert server.next_step() == server.next_step() == Send(head + chunk(STREAMED.encode(Live("a"))))
    server.step_done()
    assert server.next_step() == Answer(HI, SESSION_ID)
    server.send(Live("b", "status"), now=NOW)
    assert server.next_step() == Send(chunk(STREAMED.encode(Live("b", "status"), now=NOW)))
    server.step_done()
    server.send(Broken(Reason.REMOTE, "No"))
    assert server.next_step() == Send(chunk(STREAMED.encode(Broken(Reason.REMOTE, "No"))) + LAST_CHUNK)
    server.step_done()
    assert server.next_step() == Receive()
    server.receive_eof()
    assert server.next_step() == Done()


def test_a_driver_can_log_questions_and_responses() -> None:
    server = Server(SITE)
    seen: list[tuple[tuple[str, str] | None, int | None]] = []

    def look() -> None:
        seen.append((server.request, server.status))

    look()
    server.receive_data(SUBMIT_REQUEST + request("/elsewhere", method="GET") + b" NO HTTP", now=NOW)
    look()
    server.send(Live("a"))
    look()
    server.step_done()
    server.send(End("a"))
    look()
    server.step_done()
    look()
    server.step_done()
    look()
    question, other = ("POST", SUBMIT), ("GET", "/elsewhere")
    assert seen == [(None, None), (question, None), (question, 200), (question, 200), (other, 404), (None, 400)]


def test_a_head_that_is_too_large_is_not_logged() -> None:
    server = Server(Site(SECRET, limits=SMALL))
    server.receive_data(LONG_HEAD.replace(b"xx", b"xxx", 1), now=NOW)
    assert (server.request, server.status) == (None, 431)


def test_a_driver_can_count_the_bytes_held() -> None:
    server = Server(SITE)
    held = [server.held]
    head, body = CHUNKED, chunk(QUESTION[:20])
    for data in (head[:10], head[10:], body, b"1f", b";ext=1\r\n" + QUESTION[20:] + b"\r\n0\r\n\r\nPOST"):
        server.receive_data(data, now=NOW)
        held.append(server.held)
    assert held == [0, 10, 0, 20, 20, len(QUESTION) + 4]
    server.send(End("a"))
    assert server.held == 4


def test_pieces_of_an_answer_that_is_not_streamed_send_nothing() -> None:
    server = Server(SITE)
    server.receive_data(UNSTREAMED_REQUEST, now=NOW)
    server.send(Live("a"))
    assert server.next_step() == Answer(HI_WHOLE, SESSION_ID)
    server.send(Broken(Reason.REMOTE, "No"))
    response = begun(UNSTREAMED, Broken(Reason.REMOTE, "No"))
    assert server.next_step() == Send(http(response, reason="Internal Server Error"))


def test_half_a_character_is_sent_with_the_other_half() -> None:
    server = Server(SITE)
    server.receive_data(SUBMIT_REQUEST, now=NOW)
    server.send(Live("a"))
    server.step_done()
    server.send(Live("\ud83d"))
    assert server.next_step() == Answer(HI, SESSION_ID)
    server.send(Live("\ude00"))
    assert server.next_step() == Send(chunk(b'data: {"type":"live","data":"\\ud83d\\ude00"}\n\n'))
    sent, _ = converse(Server(SITE), [SUBMIT_REQUEST], [Live("\ud83d"), Live("\ude00"), End("a")])
    head = http(begun(STREAMED, Live("a")), "Transfer-Encoding: chunked", body=b"")
    assert (
        sent == head + chunk(STREAMED.encode(Live("\N{GRINNING FACE}"))) + chunk(STREAMED.encode(End("a"))) + LAST_CHUNK
    )


def test_a_comment_keeps_the_connection_alive_while_the_application_thinks() -> None:
    sent, questions = converse(Server(SITE), [SUBMIT_REQUEST], [wrong(None), Live("a"), wrong(None), End("a")])
    head = http(begun(STREAMED, Live("a")), "Transfer-Encoding: chunked", body=b"")
    comment = chunk(b": keepalive\n\n")
    events = [chunk(STREAMED.encode(event)) for event in (Live("a"), End("a"))]
    assert (sent, questions) == (head + comment + events[0] + comment + events[1] + LAST_CHUNK, [HI])
    sent, _ = converse(Server(SITE), [UNSTREAMED_REQUEST], [wrong(None), Live("a"), wrong(None), End("ab")])
    assert sent == ANSWERED_WHOLE


def test_a_preflight_has_no_body() -> None:
    site = Site(SECRET, origins=("https://shop.example",))
    asks = "Origin: https://shop.example", "Access-Control-Request-Method: POST"
    sent, _ = converse(Server(site), [request(SUBMIT, *asks, method="OPTIONS") + START_REQUEST])
    first, _, second = sent.partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 204 No Content\r\n")
    assert b"Access-Control-Allow-Origin: https://shop.example\r\n" in first
    assert second.startswith(b"HTTP/1.1 200 OK\r\n")


def test_the_date_is_the_responses_if_its_time_is_given() -> None:
    server = Server(SITE)
    server.receive_data(UNSTREAMED_REQUEST, now=NOW)
    server.send(End("ab"), now=NOW + 60)
    assert server.next_step() == Send(ANSWERED_WHOLE.replace(b"14:29:04", b"14:30:04"))


def test_a_client_that_waits_for_100_continue_gets_it() -> None:
    server = Server(SITE)
    server.receive_data(EXPECTING[:HEAD_SIZE], now=NOW)
    assert server.next_step() == Send(b"HTTP/1.1 100 Continue\r\n\r\n")
    server.step_done()
    assert server.next_step() == Receive()
    assert converse(server, [EXPECTING[HEAD_SIZE:]]) == (ANSWERED, [HI])


def test_a_client_that_does_not_wait_gets_no_100_continue() -> None:
    for size in (HEAD_SIZE + 1, len(EXPECTING)):
        assert converse(Server(SITE), [EXPECTING[:size], EXPECTING[size:]]) == (ANSWERED, [HI])
    old = EXPECTING.replace(b"HTTP/1.1", b"HTTP/1.0")
    assert converse(Server(SITE), [old[:HEAD_SIZE]]) == (b"", [])


def test_a_body_that_arrives_before_100_continue_is_read() -> None:
    server = Server(SITE)
    server.receive_data(EXPECTING[:HEAD_SIZE], now=NOW)
    server.receive_data(EXPECTING[HEAD_SIZE:], now=NOW)
    assert converse(server, []) == (b"HTTP/1.1 100 Continue\r\n\r\n" + ANSWERED, [HI])


def test_a_body_announced_as_too_large_gets_no_100_continue() -> None:
    head = request(SUBMIT, "Expect: 100-continue", f"Content-Length: {len(QUESTION) + 1}")
    assert converse(Server(Site(SECRET, limits=SMALL)), [head]) == (TOO_LARGE, [])


def test_requests_that_arrive_during_an_answer_wait() -> None:
    server = Server(SITE)
    server.receive_data(UNSTREAMED_REQUEST, now=NOW)
    server.receive_data(START_REQUEST[:10], now=NOW)
    server.send(End("ab"))
    server.receive_data(START_REQUEST[10:], now=NOW)
    assert converse(server, []) == (ANSWERED_WHOLE + STARTED, [])


def test_a_client_that_sends_too_much_ahead_is_disconnected() -> None:
    server = Server(Site(SECRET, limits=Limits(head_bytes=1000, request_bytes=100)))
    server.receive_data(SUBMIT_REQUEST, now=NOW)
    server.receive_data(b"x" * 1100, now=NOW)
    assert server.next_step() == Answer(HI, SESSION_ID)
    server.receive_data(b"x", now=NOW)
    assert server.next_step() == Done()


def test_line_ends_before_a_request_are_not_part_of_its_head_however_they_are_cut() -> None:
    site = Site(SECRET, limits=Limits(head_bytes=1))
    for pieces in ([b"\r\n\r\n "], [b"\r", b"\n\r\n", b" "], [b"\r\n\r", b"\n ", b""]):
        expected = bad_request("The request is not HTTP: expected a method.")
        assert converse(Server(site), pieces) == (expected, [])


def test_bytes_after_a_refusal_are_not_read() -> None:
    server = Server(SITE)
    server.receive_data(b" ", now=NOW)
    for _ in range(10):
        server.receive_data(b"x" * 1_000_000, now=NOW)
    assert repr(server) == "<Server CLOSING, 1 bytes unread>"
    assert converse(server, []) == (bad_request("The request is not HTTP: expected a method."), [])
    server.receive_data(START_REQUEST, now=NOW)
    assert server.next_step() == Done()


def test_events_after_the_client_has_left_are_ignored() -> None:
    server = Server(SITE)
    server.receive_data(SUBMIT_REQUEST, now=NOW)
    server.step_failed("timed out")
    server.send(Live("a"))
    server.send(End("a"))
    assert server.next_step() == Done()


def test_empty_data_changes_nothing() -> None:
    for state, make in MAKE.items():
        server = make()
        before = pickle.dumps(server)
        server.receive_data(b"", now=NOW + 1)
        assert pickle.dumps(server) == before, state


@pytest.mark.parametrize(
    "data", [bytearray(SUBMIT_REQUEST), memoryview(SUBMIT_REQUEST)], ids=lambda data: type(data).__name__
)
def test_any_bytes_like_object_is_accepted(data: Any) -> None:
    assert converse(Server(SITE), [data]) == (ANSWERED, [HI])


def test_a_servers_repr_shows_no_secret() -> None:
    server = Server(SITE)
    server.receive_data(SUBMIT_REQUEST + b"secret", now=NOW)
    assert repr(server) == "<Server ANSWERING, 6 bytes unread>"
    assert repr(server.next_step()) == f"Answer(submit={HI!r})"
