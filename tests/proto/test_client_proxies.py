"""The way through a proxy, and its failures."""

import copy
from dataclasses import replace

import pytest

from opchat_proto import (
    Awaiting,
    Broken,
    Client,
    Connect,
    Done,
    Endpoint,
    Event,
    Flow,
    Limits,
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
    CREDENTIALS,
    ESTABLISHED,
    PROXY,
    QUESTION,
    WAYS,
    Way,
    ask,
    client,
    connect,
    content_length,
    follow,
)
from tests.proto.clients import BUSY, EVERY_WAY, NO_ANSWER, OPENED, STALE, is_start_session, is_submit, parts_of
from tests.proto.cuts import byte_by_byte, clones, every_cut

RELAYED = WAYS["http to http"]
TUNNELLED = [name for name, way in WAYS.items() if way.replies]


@EVERY_WAY
def test_the_tunnel_comes_first_and_the_proxy_learns_only_the_target(way: Way) -> None:
    flow = Flow(
        Endpoint.parse(way.site),
        QUESTION,
        session=Session("n0nce", "s0", "mwai_session_id=c00kie"),
        headers={"X-Extra": "extra"},
    )
    asking = Client(flow, proxy=Proxy.parse(way.proxy))
    assert follow(asking, way.script) == []  # compares every byte sent
    assert not asking.submit_started
    _, fields, _ = parts_of(asking.next_step())
    assert {b"X-WP-Nonce: n0nce", b"Cookie: mwai_session_id=c00kie", b"X-Extra: extra"} <= fields
    asking.step_done()
    assert asking.receive_data(content_length(ANSWER)) == ANSWERED
    assert asking.next_step() == Done()


@pytest.mark.parametrize("name", TUNNELLED)
@pytest.mark.parametrize("session", [None, Session("n0", "s0", "mwai_session_id=s0")])
def test_a_request_through_a_tunnel_is_the_same_as_without_a_proxy(name: str, session: Session | None) -> None:
    way = WAYS[name]
    through, directly = way.client(session=session), client(session=session, endpoint=Endpoint.parse(way.site))
    follow(through, way.script)
    [request] = ask(through)
    assert request == ask(directly)[-1]


@pytest.mark.parametrize("name", ["http to http", "https to http"])
def test_a_proxy_for_an_http_site_gets_the_absolute_url_and_its_own_credentials(name: str) -> None:
    asking, directly = WAYS[name].client(session=None), client(session=None)
    for route, answer in ((b"/mwai/v1/start_session", OPENED), (b"/mwai-ui/v1/chats/submit", content_length(ANSWER))):
        follow(asking, WAYS[name].script)
        directly.step_done()
        first, fields, body = parts_of(asking.next_step())
        assert first == b"POST http://site.example/wp-json" + route + b" HTTP/1.1"
        assert (
            b"POST /wp-json" + route + b" HTTP/1.1",
            fields - {b"Proxy-Authorization: Basic " + CREDENTIALS},
            body,
        ) == (parts_of(directly.next_step()))
        assert b"Proxy-Authorization: Basic " + CREDENTIALS in fields
        asking.step_done()
        directly.step_done()
        assert asking.receive_data(answer) == directly.receive_data(answer)
    assert asking.next_step() == Done()


def test_a_proxy_without_credentials_gets_none() -> None:
    asking = client(proxy=Proxy.parse("proxy.example:3128"))
    follow(asking, (PROXY,))
    first, fields, _ = parts_of(asking.next_step())
    assert first == b"POST http://site.example/wp-json/mwai-ui/v1/chats/submit HTTP/1.1"
    assert not any(line.startswith(b"Proxy-") for line in fields)


@pytest.mark.parametrize("session", [None, Session()])
def test_a_407_is_the_proxys_refusal_only_if_it_reads_the_requests(session: Session | None) -> None:
    refusal = content_length(
        b"<title>s3cr3t</title>", b"Proxy-Authenticate: Basic realm=s3cr3t", status=b"407 Proxy Authentication Required"
    )
    start = "start_session: " if session is None else ""
    for name, way in WAYS.items():
        expected = Broken(Reason.REFUSED, f"{start}s3cr3t", 407, raw="<title>s3cr3t</title>")
        if name in ("http to http", "https to http"):
            expected = Broken(Reason.PROXY, f"{start}the proxy refused: status 407")
        expected = replace(expected, in_session=session is None, asked=session is not None)
        asking = way.client(session=session)
        follow(asking, way.script)
        ask(asking)
        for pieces in every_cut(refusal) if way is RELAYED else ([refusal], byte_by_byte(refusal)):
            reading = copy.deepcopy(asking)
            events = [event for piece in pieces for event in reading.receive_data(piece)]
            if start and expected.reason is Reason.REFUSED:
                [event] = events
                assert isinstance(event, Broken)
                events = [replace(event, detail=event.detail.partition(";")[0])]
            assert (events, reading.next_step()) == ([expected], Done())


def test_a_407_before_the_request_is_the_proxys_refusal() -> None:
    asking = RELAYED.client()
    follow(asking, RELAYED.script)
    assert asking.receive_data(content_length(b"", status=b"407 -")) == [
        Broken(Reason.PROXY, "the proxy refused: status 407")
    ]


@EVERY_WAY
def test_each_request_goes_the_whole_way_over_its_own_connection(way: Way) -> None:
    asking = way.client(session=Session("n0", "s0"), limits=Limits())
    for is_due, answer, expected in (
        (is_submit, STALE, []),
        (is_start_session, OPENED, []),
        (is_submit, content_length(ANSWER), ANSWERED),
    ):
        follow(asking, way.script)
        [request] = ask(asking)
        assert is_due(request)
        assert asking.receive_data(answer) == expected


@EVERY_WAY
def test_a_loss_before_the_tunnel_is_the_proxys_and_inside_it_the_sites(way: Way) -> None:
    site = Endpoint.parse(way.site).host
    said = f"the proxy {Proxy.parse(way.proxy)}: "
    for count, due in enumerate((*way.script, None)):
        asking = way.client()
        follow(asking, way.script[:count])
        reason, lost, otherwise = Reason.PROXY, f"{said}the connection failed: ", said
        match due:
            case Connect():
                lost = otherwise = f"{said}could not connect: "
            case StartTLS(name) if name == site:
                reason, lost, otherwise = Reason.LOST, f"TLS with {site} failed: ", f"TLS with {site} failed: "
            case StartTLS():
                lost = otherwise = f"{said}TLS failed: "
            case None:
                reason, lost, otherwise = Reason.LOST, "the connection failed: ", ""
        broken = [Broken(reason, f"{lost}it failed")] if not isinstance(due, Send) else []
        closed = [Broken(reason, NO_ANSWER if reason is Reason.LOST else said + NO_ANSWER)] if count else []
        for expected, lose in (
            (broken, lambda asking: asking.step_failed("it failed")),
            (closed, Client.receive_eof),
        ):
            for inside in (b"", *(due[:size] for size in range(1, len(due)))) if isinstance(due, bytes) else (b"",):
                for losing in clones(asking) if not inside else (copy.deepcopy(asking),):
                    assert losing.receive_data(inside) == []
                    assert lose(losing) == expected
                    assert (losing.next_step() == Done(), losing.submit_started) == (expected != [], False)
        assert asking.step_failed("slow", Reason.TIMEOUT, limit="connect") == [
            Broken(Reason.TIMEOUT, f"{otherwise}slow", limit="connect")
        ]
        assert (asking.next_step(), asking.submit_started, asking.awaiting) == (Done(), False, None)


def test_a_loss_says_what_the_connection_was_for() -> None:
    asking = client(session=None, proxy=Proxy.parse("socks5://proxy.example"))
    detail = "start_session: the proxy socks5://proxy.example:1080: could not connect: no route"
    assert asking.step_failed("no route") == [Broken(Reason.PROXY, detail, in_session=True)]


@EVERY_WAY
def test_a_proxy_that_has_to_reply_is_awaited(way: Way) -> None:
    asking = way.client()
    for item in way.script:
        expected = Awaiting.FIRST_EVENT
        if isinstance(item, bytes) or (isinstance(item, Send) and not is_submit(item)):
            expected = Awaiting.PROXY
        assert asking.awaiting is expected
        follow(asking, (item,))
    assert asking.awaiting is Awaiting.FIRST_EVENT


@EVERY_WAY
@pytest.mark.parametrize("clear", [b"\x15", content_length(ANSWER), ESTABLISHED, b"HTTP/1.1 407 -\r\n\r\n"])
def test_bytes_in_the_clear_before_tls_are_fatal_and_no_request_is_handed_out(way: Way, clear: bytes) -> None:
    for count, due in enumerate(way.script):
        if isinstance(due, StartTLS):
            asking = way.client()
            follow(asking, way.script[:count])
            assert asking.next_step() == due
            [event] = asking.receive_data(clear)
            assert isinstance(event, Broken)
            assert event.reason is Reason.PROXY
            assert (asking.next_step(), asking.submit_started) == (Done(), False)


def test_a_site_that_speaks_first_inside_tls_is_read_through_a_proxy_too() -> None:
    way = WAYS["http to https"]
    asking = way.client()
    follow(asking, way.script)
    assert asking.receive_data(BUSY) == [Broken(Reason.REFUSED, "busy", 503, raw="busy")]


UNASKED = Broken(Reason.PROXY, "the proxy sent bytes that nobody had asked for")


def test_bytes_through_a_socks_proxy_before_the_question_are_not_an_answer() -> None:
    way = WAYS["socks5 to http"]
    asking = way.client()
    follow(asking, way.script)
    assert asking.receive_data(content_length(ANSWER)) == [UNASKED]
    assert (asking.next_step(), asking.submit_started) == (Done(), False)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 407 -\r\n\r\n", Broken(Reason.PROXY, "the proxy refused: status 407")),
        (ESTABLISHED, UNASKED),
        (
            b"HTTP/1.1 4",
            Broken(Reason.PROXY, "the proxy http://proxy.example:3128: the connection was closed before any answer"),
        ),
    ],
)
def test_after_a_failed_send_of_connect_a_refusal_is_read_but_no_tunnel_is_used(
    answer: bytes, expected: Broken
) -> None:
    way = WAYS["http to https"]
    for pieces in every_cut(answer):
        asking = way.client()
        follow(asking, (PROXY,))
        assert asking.next_step() == connect(b"site.example:443", CREDENTIALS)
        assert asking.step_failed("broken pipe") == []
        events: list[Event] = []
        for piece in pieces:
            assert asking.next_step() == Receive() or not piece
            events += asking.receive_data(piece)
        events += asking.receive_eof()
        assert (events, asking.next_step()) == ([expected], Done())


def test_after_a_failed_send_to_a_socks_proxy_no_reply_counts() -> None:
    way = WAYS["socks5 to http"]
    asking = way.client()
    asking.step_done()
    assert asking.step_failed("broken pipe") == []
    assert asking.next_step() == Receive()
    assert asking.receive_data(b"\x05") == [UNASKED]
