"""Replies of a proxy, valid and malformed, cut everywhere."""

import array
import copy
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opchat_proto import (
    Broken,
    Client,
    Done,
    Endpoint,
    Event,
    Limits,
    Proxy,
    Reason,
    Receive,
    Send,
    _tunnel,  # its table is watched here
)
from opchat_proto._tunnel import SOCKS_TABLE, SOCKSState  # the table is not public, and this test walks it
from tests.proto.asking import (
    ANSWER,
    ANSWERED,
    BOUND_NAME,
    BOUND_V4,
    BOUND_V6,
    ESTABLISHED,
    NO_PASSWORD,
    NO_RESTART,
    PASSWORD_TOO,
    PROXY,
    SITE_80,
    WAYS,
    Recorder,
    Way,
    client,
    content_length,
    follow,
    is_reply,
)
from tests.proto.cuts import byte_by_byte, clones, every_cut, random_cuts
from tests.proto.tunnels import UNASKED, at_port, at_reply, outcome_of, refused

EVERY_WAY = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


# ------------------------------------------------------------------------------ tunnels that open


@EVERY_WAY
def test_the_replies_of_a_proxy_may_be_cut_anywhere(way: Way) -> None:
    whole = way.client()
    assert follow(whole, way.script) == []
    request = whole.next_step()
    for cut_reply in way.replies:
        reply = way.script[cut_reply]
        assert isinstance(reply, bytes)
        before = way.client()
        follow(before, way.script[:cut_reply])
        for pieces in every_cut(reply):
            asking = copy.deepcopy(before)
            for piece in pieces:
                assert asking.next_step() == Receive() or not piece
                assert asking.receive_data(piece) == []
            assert follow(asking, way.script[cut_reply + 1 :]) == []
            assert asking.next_step() == request
    asking = way.client()
    assert follow(asking, way.script, byte_by_byte) == []
    assert asking.next_step() == request
    asking.step_done()
    assert asking.receive_data(content_length(ANSWER)) == ANSWERED


def test_a_name_that_only_resembles_an_address_is_left_to_the_proxy() -> None:
    for host in ("127.1", "0x7f.0.0.1", "127.0.0.01", "1.2.3.4.", "_"):
        asking = client(endpoint=Endpoint.parse(f"http://{host}"), proxy=Proxy.parse("socks5://proxy.example:3128"))
        follow(asking, (PROXY, NO_PASSWORD, b"\x05\x00"))
        named = bytes((len(host),)) + host.encode()
        assert asking.next_step() == Send(b"\x05\x01\x00\x03" + named + b"\x00\x50")


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
@pytest.mark.parametrize(
    ("username", "password"), [("u", "p"), (255 * "u", 255 * "p"), ("user", ""), ("ü", "€"), ("u:u", "p:p")]
)
def test_a_password_is_encoded_as_in_rfc_1929(scheme: str, username: str, password: str) -> None:
    asking = client(proxy=Proxy(scheme, "proxy.example", 3128, username, password))
    user, secret = username.encode(), password.encode()
    login = Send(b"\x01" + bytes((len(user),)) + user + bytes((len(secret),)) + secret)
    assert follow(asking, (PROXY, PASSWORD_TOO, b"\x05\x02", login, b"\x01\x00", SITE_80, BOUND_V4)) == []


@pytest.mark.parametrize("status", [200, 201, 204, 206, 299])
@pytest.mark.parametrize(
    "fields", [b"", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n"]
)
def test_any_2xx_opens_the_tunnel_and_has_no_body(status: int, fields: bytes) -> None:
    way = WAYS["http to https"]
    asking = way.client()
    opened = b"HTTP/1.1 %d -\r\n%b\r\n" % (status, fields)
    assert follow(asking, (*way.script[:2], opened, *way.script[3:])) == []


def test_every_move_of_the_socks_table_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Recorder(SOCKS_TABLE)
    monkeypatch.setattr(_tunnel, "SOCKS_TABLE", table)
    for way in WAYS.values():
        follow(way.client(), way.script)
    assert table.untaken == set()
    assert SOCKS_TABLE.start == (SOCKSState.METHOD,)
    assert set(SOCKS_TABLE.rows) == set(SOCKSState)
    assert SOCKS_TABLE.rows[SOCKSState.OPEN] == {}


# ------------------------------------------------------------------------------ tunnels that do not open

CLOSED_HTTP = refused("the proxy http://proxy.example:3128: the connection was closed before any answer")
NOT_FOLLOWED = "the proxy's answer cannot be followed: "


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", refused("the proxy refused: status 407")),
        (content_length(b"us3r:s3cr3t", status=b"407 -"), refused("the proxy refused: status 407")),
        (b"HTTP/1.0 502 Bad Gateway\r\n\r\n<title>s3cr3t</title>", refused("the proxy refused: status 502")),
        (b"HTTP/1.1 302 -\r\nLocation: http://us3r:s3cr3t@x/\r\n\r\n", refused("the proxy refused: status 302")),
        (b"HTTP/1.1 300 -\r\n\r\n", refused("the proxy refused: status 300")),
        (b"HTTP/1.1 304 -\r\n\r\n", refused("the proxy refused: status 304")),
        (b"HTTP/1.1 400 -\r\n\r\n", refused("the proxy refused: status 400")),
        (b"HTTP/1.1 999 -\r\n\r\n", refused("the proxy refused: status 999")),
        (b"HTTP/1.1 100 -\r\n\r\nHTTP/1.1 403 -\r\n\r\n", refused("the proxy refused: status 403")),
        (b"HTTP/1.1 407 -\r\n\r\n" + ESTABLISHED, refused("the proxy refused: status 407")),
        (
            b"HTTP/1.1 407 -\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            refused(NOT_FOLLOWED + "HTTP: conflicting Content-Length headers"),
        ),
        (ESTABLISHED + b"\x00", UNASKED),
        (ESTABLISHED + b"\r\n", UNASKED),
        (ESTABLISHED + ESTABLISHED, UNASKED),
        (ESTABLISHED + content_length(ANSWER), UNASKED),
        (ESTABLISHED + 70_000 * b"x", UNASKED),
        (b"HTTP/1.1 200 -\r\nContent-Length: 5\r\n\r\nhello", UNASKED),
        (b"HTTP/1.1 100 -\r\n\r\n" + ESTABLISHED + b"HTTP/1.1 407 -\r\n\r\n", UNASKED),
        (
            b"HTTP/1.1 101 -\r\n\r\n",
            refused(NOT_FOLLOWED + "HTTP: Received server _SWITCH_UPGRADE event without a pending proposal"),
        ),
        (b"HTTP/2.0 200 OK\r\n\r\n", refused(NOT_FOLLOWED + "HTTP: a version that is not 1.x: 2.0")),
        (b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", refused(NOT_FOLLOWED + "HTTP: a folded header line")),
        (b"HTTP/1.1 200 OK\r\nA s3cr3t\r\n\r\n", refused(NOT_FOLLOWED + "HTTP: illegal header line")),
        (b"SSH-2.0-s3cr3t\r\n\r\n", refused(NOT_FOLLOWED + "HTTP: illegal status line")),
        (b"\x05\x00", refused(NOT_FOLLOWED + "HTTP: no status line")),
        (b"\x15\x03\x01\x00\x02\x02\x16", refused(NOT_FOLLOWED + "HTTP: no status line")),
        (b"\r\n" + ESTABLISHED, refused(NOT_FOLLOWED + "HTTP: no status line")),
        (b"HTTP/1.1 100 -\r\n\r\n", CLOSED_HTTP),
        (b"", CLOSED_HTTP),
        *((ESTABLISHED[:size], CLOSED_HTTP) for size in range(1, len(ESTABLISHED))),
    ],
)
def test_a_proxy_that_opens_no_tunnel_ends_the_question(reply: bytes, expected: list[Event]) -> None:
    assert outcome_of(at_reply(WAYS["http to https"], 0), reply) == expected


@pytest.mark.parametrize(
    "head",
    [
        ESTABLISHED,
        b"HTTP/1.1 200 OK\nA: b\n\n",
        b"HTTP/1.1 102 -\r\n\r\n" + ESTABLISHED,
        b"HTTP/1.1 407 -\r\nA: b\r\n\r\n",
    ],
)
def test_a_proxys_head_passes_at_the_limit_and_not_one_byte_beyond(head: bytes) -> None:
    way = WAYS["http to https"]
    size = len(ESTABLISHED) if ESTABLISHED in head else len(head)
    read = outcome_of(at_reply(way, 0), head)
    assert "Limits" not in repr(read)
    assert outcome_of(at_reply(way, 0, limits=Limits(head_bytes=size)), head) == read
    too_long = refused(f"{NOT_FOLLOWED}more than {size - 1} bytes of head (Limits.head_bytes)", limit="head_bytes")
    assert outcome_of(at_reply(way, 0, limits=Limits(head_bytes=size - 1)), head) == too_long


@pytest.mark.parametrize("excess", [0, 1])
def test_a_head_without_an_end_is_read_up_to_the_limit(excess: int) -> None:
    reply = b"HTTP/1.1 200 OK\r\nA: "
    reply += (65536 - len(reply) + excess) * b"x"
    too_long = refused(NOT_FOLLOWED + "more than 65536 bytes of head (Limits.head_bytes)", limit="head_bytes")
    expected = too_long if excess else CLOSED_HTTP
    assert outcome_of(at_reply(WAYS["http to https"], 0), reply) == expected


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_a_proxys_interim_responses_pass_at_the_limit_and_not_one_beyond(limit: int) -> None:
    limits = Limits(interim_responses=limit)
    interim = b"HTTP/1.1 102 x\r\nA: b\r\n\r\n"
    at_limit = at_reply(WAYS["http to https"], 0, limits=limits)
    assert outcome_of(at_limit, limit * interim + b"HTTP/1.1 407 -\r\n\r\n") == refused("the proxy refused: status 407")
    flood = refused("the proxy sent more 1xx responses than Limits.interim_responses", limit="interim_responses")
    assert outcome_of(at_limit, (limit + 1) * interim + ESTABLISHED) == flood
    assert outcome_of(at_limit, 5000 * interim) == flood


def test_bytes_after_the_reply_are_a_fault_even_before_tls() -> None:
    for name in ("socks5 to https with a password", "https to https"):
        way = WAYS[name]
        last = way.script[way.replies[-1]]
        assert isinstance(last, bytes)
        for leftover in (b"\x16", content_length(ANSWER), b"\x15\x03\x01\x00\x02\x02\x16"):
            assert outcome_of(at_reply(way, -1), last + leftover) == UNASKED


def before_each_request() -> Iterator[tuple[str, Client]]:
    for name, way in WAYS.items():
        for place in way.replies:
            asking = way.client()
            follow(asking, way.script[: place - 1])
            assert isinstance(asking.next_step(), Send)
            yield name, asking


@pytest.mark.parametrize("early", [b"\x05\x00", b"\x05\x02", b"\x01\x00", BOUND_V4, ESTABLISHED])
def test_a_reply_before_the_request_opens_nothing(early: bytes) -> None:
    for name, asking in before_each_request():
        expected = UNASKED
        if not name.startswith("socks5") and early is not ESTABLISHED:
            expected = refused(NOT_FOLLOWED + "HTTP: no status line")
        assert outcome_of(asking, early) == expected


def test_a_byte_before_a_socks_request_was_sent_is_a_fault() -> None:
    for name, asking in before_each_request():
        if name.startswith("socks5"):
            assert asking.receive_data(b"\x05") == UNASKED


def test_an_http_proxy_may_refuse_before_the_request() -> None:
    asking = WAYS["http to https"].client()
    follow(asking, (PROXY,))
    reply = content_length(b"busy", status=b"503 -")
    for pieces in every_cut(reply):
        reading = copy.deepcopy(asking)
        events = [event for piece in pieces for event in reading.receive_data(piece)]
        assert (events, reading.next_step()) == (refused("the proxy refused: status 503"), Done())


def test_a_timeout_while_waiting_for_a_proxy_stays_a_timeout() -> None:
    for way in WAYS.values():
        for number, place in enumerate(way.replies):
            reply = way.script[place]
            assert isinstance(reply, bytes)
            asking = at_reply(way, number)
            asking.receive_data(reply[:1])
            assert asking.step_failed("slow", Reason.TIMEOUT, limit="connect") == [
                Broken(Reason.TIMEOUT, f"the proxy {Proxy.parse(way.proxy)}: slow", limit="connect")
            ]


@pytest.mark.parametrize(
    "view", [bytearray, memoryview, lambda data: memoryview(b"".join(bytes((n, 0)) for n in data))[::2]]
)
def test_any_bytes_like_object_is_accepted(view: Any) -> None:
    for way in WAYS.values():
        asking = way.client()
        for item in way.script:
            if isinstance(item, bytes):
                assert asking.receive_data(view(item)) == []
            else:
                follow(asking, (item,))
    asking = at_reply(WAYS["socks5 to http"], 1)
    assert asking.receive_data(array.array("H", BOUND_V4[:4] + bytes(6))) == []  # type: ignore[arg-type]  # any buffer does
    assert isinstance(asking.next_step(), Send)


def test_the_caller_may_reuse_a_buffer() -> None:
    for way in WAYS.values():
        asking = way.client()
        buffer = bytearray(1)
        for item in way.script:
            if isinstance(item, bytes):
                for byte in item:
                    buffer[0] = byte
                    assert asking.receive_data(memoryview(buffer)) == []
                    buffer[:] = b"?"
            else:
                follow(asking, (item,))


# ------------------------------------------------------------------------------ arbitrary replies

PIECES = st.sampled_from(
    [
        ESTABLISHED,
        b"HTTP/1.1 407 -\r\n\r\n",
        b"HTTP/1.1 100 -\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n",
        b"Content-Length: 3\r\n",
        b"\r\n",
        b"\n",
        b"\x05\x00",
        b"\x05\x02",
        b"\x05\xff",
        b"\x01\x00",
        b"\x01\x01",
        BOUND_V4,
        BOUND_V6,
        BOUND_NAME,
        at_port(1, bytes(4), reply=5),
        content_length(ANSWER),
    ]
)
STREAMS = st.lists(PIECES | st.binary(max_size=6), max_size=6).map(b"".join)
SMALL = Limits(restarts=0, head_bytes=50, interim_responses=1)
TUNNELLED = [(way, number) for way in WAYS.values() for number in range(len(way.replies))]


@given(st.data(), st.sampled_from(TUNNELLED), st.booleans(), STREAMS, st.sampled_from([NO_RESTART, SMALL]))
def test_any_bytes_from_a_proxy_give_the_same_outcome_in_any_pieces(
    data: st.DataObject, place: tuple[Way, int], asked: bool, stream: bytes, limits: Limits
) -> None:
    way, number = place
    before = way.client(limits=limits)
    follow(before, way.script[: way.replies[number] - (not asked)])
    outcomes = []
    for pieces in ([stream], byte_by_byte(stream), data.draw(random_cuts(stream)), data.draw(random_cuts(stream))):
        asking = copy.deepcopy(before)
        events = [event for piece in pieces for event in asking.receive_data(piece)]
        assert not events or is_reply(events)
        assert all(isinstance(event, Broken) and event.reason is Reason.PROXY for event in events)
        assert not asking.submit_started
        outcomes.append((events, repr(asking), asking.next_step(), asking.awaiting))
    assert outcomes[1:] == 3 * outcomes[:1]


@given(
    st.sampled_from(list(WAYS.values())), st.lists(STREAMS | PIECES, max_size=8), st.sampled_from([NO_RESTART, SMALL])
)
def test_any_replies_of_a_proxy_give_one_reply_and_at_most_one_submit(
    way: Way, replies: list[bytes], limits: Limits
) -> None:
    asking = way.client(limits=limits)
    events: list[Event] = []
    submits = 0
    for _ in range(50):
        match asking.next_step():
            case Receive():
                events += asking.receive_data(replies.pop(0)) if replies and replies[0] else asking.receive_eof()
            case Done():
                break
            case step:
                submits += isinstance(step, Send) and b"/chats/submit " in step.data
                asking = next(clones(asking))
                asking.step_done()
    assert is_reply(events)
    assert (submits, asking.submit_started) in ((0, False), (1, True))
    assert "s3cr3t" not in repr(events)
