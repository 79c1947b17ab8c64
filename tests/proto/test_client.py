"""The steps of a question, in order, over http and https."""

from collections.abc import Callable

import pytest

from opchat_proto import (
    Awaiting,
    Broken,
    Client,
    Connect,
    Done,
    End,
    Endpoint,
    Flow,
    Limits,
    Live,
    LocalProtocolError,
    Proxy,
    Reason,
    Receive,
    Send,
    Session,
    StartTLS,
)
from tests.proto.asking import (
    ANSWER,
    ANSWERED,
    ENDPOINT,
    ESTABLISHED,
    NO_PASSWORD,
    QUESTION,
    ask,
    client,
    connect,
    content_length,
    follow,
)
from tests.proto.clients import CLOSED, HTTPS, OPENED, REFUSAL, STALE, frozen, is_start_session, is_submit, parts_of
from tests.proto.cuts import byte_by_byte


def test_the_steps_of_a_question_over_http() -> None:
    asking = client(session=Session(nonce="n", session_id="s", cookie="a=b"))
    assert asking.next_step() == Connect("site.example", 80)
    asking.step_done()
    first, fields, sent = parts_of(asking.next_step())
    body = (
        b'{"botId":"default","customId":null,"session":"s","contextId":null,"messages":[],"newMessage":"Hi?",'
        b'"newFileId":null,"newFileIds":null,"stream":true}'
    )
    assert first == b"POST /wp-json/mwai-ui/v1/chats/submit HTTP/1.1"
    assert {b"Host: site.example", b"Content-Length: %d" % len(body), b"X-WP-Nonce: n", b"Cookie: a=b"} <= fields
    assert sent == body
    asking.step_done()
    assert asking.next_step() == Receive()
    assert asking.receive_data(content_length(ANSWER)) == ANSWERED
    assert asking.next_step() == Done()


def test_the_steps_of_a_question_over_https() -> None:
    asking = client(endpoint=Endpoint.parse("https://site.example:8443"))
    assert follow(asking, (Connect("site.example", 8443), StartTLS("site.example"))) == []
    assert is_submit(asking.next_step())
    asking.step_done()
    assert asking.next_step() == Receive()


def test_the_trailing_dot_of_a_host_stays_in_dns_and_leaves_the_certificate_name() -> None:
    asking = client(endpoint=Endpoint.parse("https://site.example."), proxy=Proxy.parse("https://proxy.example."))
    follow(asking, (Connect("proxy.example.", 443), StartTLS("proxy.example"), connect(b"site.example.:443")))
    follow(asking, (ESTABLISHED, StartTLS("site.example")))
    assert b"Host: site.example." in parts_of(asking.next_step())[1]
    assert client(endpoint=Endpoint.parse("http://site.example.")).next_step() == Connect("site.example.", 80)


def test_start_session_and_submit_each_use_a_connection_with_connection_close() -> None:
    asking = client(session=None)
    connect, start = ask(asking)
    assert (connect, is_start_session(start)) == (Connect("site.example", 80), True)
    assert b"Connection: close" in parts_of(start)[1]
    assert (asking.session, asking.awaiting, asking.submit_started) == (None, Awaiting.SESSION, False)
    assert asking.receive_data(OPENED) == []
    session = Session("n1", "s1")
    assert (asking.session, asking.awaiting, asking.submit_started) == (session, Awaiting.FIRST_EVENT, False)
    connect, submit = ask(asking)
    assert (connect, is_submit(submit)) == (Connect("site.example", 80), True)
    assert {b"Connection: close", b"X-WP-Nonce: n1"} <= parts_of(submit)[1]
    assert asking.submit_started
    assert asking.receive_data(content_length(ANSWER)[:-1]) == [Live("Hi")]
    assert (asking.awaiting, asking.next_step()) == (Awaiting.EVENT, Receive())
    assert asking.receive_data(b"\n") == ANSWERED[1:]
    assert (asking.session, asking.awaiting, asking.submit_started) == (session, None, True)


def test_a_stale_nonce_is_renewed_and_the_question_repeated_each_time_over_a_new_connection() -> None:
    asking = client(session=Session("n0", "s0"), limits=Limits())
    for is_due, answer, expected in (
        (is_submit, STALE, []),
        (is_start_session, OPENED, []),
        (is_submit, STALE, [REFUSAL]),
    ):
        connect, request = ask(asking)
        assert (connect, is_due(request)) == (Connect("site.example", 80), True)
        assert asking.receive_data(answer) == expected
    assert asking.next_step() == Done()


@pytest.mark.parametrize("session", [None, Session()])
@pytest.mark.parametrize("endpoint", [ENDPOINT, HTTPS])
def test_a_step_stays_the_same_until_it_is_reported(session: Session | None, endpoint: Endpoint) -> None:
    asking = client(session=session, endpoint=endpoint)
    while not isinstance(step := asking.next_step(), Receive):
        before = frozen(asking)
        assert asking.next_step() == step
        assert asking.receive_data(b"") == []
        assert asking.next_step() == step
        assert frozen(asking) == before
        asking.step_done()
    for byte in byte_by_byte((OPENED if session is None else content_length(ANSWER))[:-1]):
        assert asking.next_step() == Receive()
        asking.receive_data(byte)


def test_a_step_can_be_reported_without_being_asked_for() -> None:
    told, remembering = client(), client()
    ask(told)
    remembering.step_done()
    remembering.step_done()
    assert frozen(remembering) == frozen(told)
    refused = client()
    assert refused.step_failed("refused") == [Broken(Reason.LOST, "could not connect to site.example:80: refused")]


def test_a_flow_without_a_submit_only_starts_a_session() -> None:
    asking = Client(Flow(ENDPOINT, None))
    ask(asking)
    assert asking.receive_data(OPENED) == [End(None)]
    assert (asking.session, asking.submit_started, asking.next_step()) == (Session("n1", "s1"), False, Done())


def test_a_flow_that_has_begun_is_refused() -> None:
    flow = Flow(ENDPOINT, QUESTION, session=Session())
    flow.next_request()
    with pytest.raises(ValueError, match=r"^flow: expected one that has not begun$"):
        Client(flow)
    with pytest.raises(TypeError, match=r"^flow: expected a Flow, got Submit$"):
        Client(QUESTION)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(TypeError, match=r"^proxy: expected a Proxy or None, got str$"):
        Client(Flow(ENDPOINT, QUESTION), proxy="http://proxy.example:3128")  # type: ignore[arg-type]  # wrong on purpose


def test_socks_accepts_the_longest_host_name() -> None:
    asking = Client(Flow(f"http://{254 * 'a'}", QUESTION), proxy=Proxy.parse("socks5://proxy.example"))
    follow(asking, (Connect("proxy.example", 1080), NO_PASSWORD, b"\x05\x00"))
    assert asking.next_step() == Send(b"\x05\x01\x00\x03\xfe" + 254 * b"a" + b"\x00\x50")


@pytest.mark.parametrize("take", [Client.next_step, Client.step_done])
def test_a_flow_whose_request_was_taken_is_refused(take: Callable[[Client], object]) -> None:
    flow = Flow(ENDPOINT, QUESTION, session=Session())
    asking = Client(flow)
    flow.next_request()
    before = frozen(asking)
    with pytest.raises(LocalProtocolError, match=r"^Client: the request of its flow was already taken$"):
        take(asking)
    assert frozen(asking) == before
    assert asking.close() == [Broken(Reason.LOST, CLOSED)]
