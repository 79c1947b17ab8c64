"""Proxies: their URLs, and what they reply, right and wrong, cut everywhere."""

import array
import base64
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
    StartTLS,
    _tunnel,  # whose table is watched here
)
from opchat_proto._tunnel import SOCKS_TABLE, SOCKSState  # the table itself is not public, and is walked over here
from tests.proto.asking import (
    ANSWER,
    ANSWERED,
    BOUND_NAME,
    BOUND_V4,
    BOUND_V6,
    CREDENTIALS,
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
    connect,
    content_length,
    follow,
    is_reply,
)
from tests.proto.cuts import byte_by_byte, clones, copies, every_cut, in_pieces, random_cuts

EVERY_WAY = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)

# ------------------------------------------------------------------------------------------------ URLs


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://proxy.example", Proxy("http", "proxy.example", 80)),
        ("https://proxy.example", Proxy("https", "proxy.example", 443)),
        ("socks5://proxy.example", Proxy("socks5", "proxy.example", 1080)),
        ("socks5h://proxy.example", Proxy("socks5h", "proxy.example", 1080)),
        ("http://proxy.example:3128", Proxy("http", "proxy.example", 3128)),
        ("https://proxy.example:1", Proxy("https", "proxy.example", 1)),
        ("socks5://proxy.example:65535", Proxy("socks5", "proxy.example", 65535)),
        ("socks5h://proxy.example:00080", Proxy("socks5h", "proxy.example", 80)),
        ("http://proxy.example/", Proxy("http", "proxy.example", 80)),
        ("http://proxy.example:3128//", Proxy("http", "proxy.example", 3128)),
        ("HTTP://Proxy.EXAMPLE:3128", Proxy("http", "proxy.example", 3128)),
        ("Socks5H://PROXY", Proxy("socks5h", "proxy", 1080)),
        ("http://X.example", Proxy("http", "x.example", 80)),
        ("proxy.example:3128", Proxy("http", "proxy.example", 3128)),
        ("proxy.example:3128/", Proxy("http", "proxy.example", 3128)),
        ("proxy.example", Proxy("http", "proxy.example", 80)),
        ("localhost:8080", Proxy("http", "localhost", 8080)),
        ("127.0.0.1:8080", Proxy("http", "127.0.0.1", 8080)),
        ("[::1]:8080", Proxy("http", "::1", 8080)),
        ("[::1]", Proxy("http", "::1", 80)),
        ("socks5://[2001:DB8::1]", Proxy("socks5", "2001:db8::1", 1080)),
        ("https://[::ffff:192.0.2.1]:8443/", Proxy("https", "::ffff:192.0.2.1", 8443)),
        ("http://_proxy_:80", Proxy("http", "_proxy_", 80)),
        ("http://xn--bcher-kva.example.:80", Proxy("http", "xn--bcher-kva.example.", 80)),
        ("http://user:pass@proxy.example:3128", Proxy("http", "proxy.example", 3128, "user", "pass")),
        ("user:pass@proxy.example:3128", Proxy("http", "proxy.example", 3128, "user", "pass")),
        ("socks5://user:pass@[::1]:9050", Proxy("socks5", "::1", 9050, "user", "pass")),
        ("http://user@proxy.example", Proxy("http", "proxy.example", 80, "user", "")),
        ("http://user:@proxy.example", Proxy("http", "proxy.example", 80, "user", "")),
        ("http://:pass@proxy.example", Proxy("http", "proxy.example", 80, "", "pass")),
        ("http://:@proxy.example", Proxy("http", "proxy.example", 80)),
        ("http://@proxy.example", Proxy("http", "proxy.example", 80)),
        ("http://user:pa:ss@proxy.example", Proxy("http", "proxy.example", 80, "user", "pa:ss")),
        ("http://user@there:p@ss@proxy.example", Proxy("http", "proxy.example", 80, "user@there", "p@ss")),
        ("http://us%40er:p%3a%2F%3f%23%25@proxy.example", Proxy("http", "proxy.example", 80, "us@er", "p:/?#%")),
        ("http://user:pass%20word@proxy.example", Proxy("http", "proxy.example", 80, "user", "pass word")),
        ("http://user:100%@proxy.example", Proxy("http", "proxy.example", 80, "user", "100%")),
        ("http://user:a+b@proxy.example", Proxy("http", "proxy.example", 80, "user", "a+b")),
        ("http://J%C3%B6rg:%E2%82%AC@proxy.example", Proxy("http", "proxy.example", 80, "Jörg", "€")),
        ("http://Jörg:€@proxy.example", Proxy("http", "proxy.example", 80, "Jörg", "€")),
        ("http://user:[pass]@proxy.example", Proxy("http", "proxy.example", 80, "user", "[pass]")),
        ("http://user:pass@[::1]", Proxy("http", "::1", 80, "user", "pass")),
        ("socks5://us%3Aer:pass@proxy.example", Proxy("socks5", "proxy.example", 1080, "us:er", "pass")),
        (f"socks5://{255 * 'u'}:{255 * 'p'}@h", Proxy("socks5", "h", 1080, 255 * "u", 255 * "p")),
        (f"http://{300 * 'u'}:{5000 * 'p'}@h", Proxy("http", "h", 80, 300 * "u", 5000 * "p")),
    ],
)
def test_a_proxy_is_read_from_its_url(text: str, expected: Proxy) -> None:
    assert Proxy.parse(text) == expected


EXPECTED = (
    "expected a proxy (http://proxy.example:3128, https://..., socks5://user:password@127.0.0.1:1080, socks5h://...)"
)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "http://",
        "http:",
        "://proxy.example",
        "//proxy.example",
        "http:proxy.example",
        "http:/proxy.example",
        "http:/",
        "http://proxy.example:",
        "proxy.example:",
        "socks://proxy.example",
        "socks4://proxy.example",
        "socks4a://us3r:s3cr3t@proxy.example",
        "ftp://us3r:s3cr3t@proxy.example",
        "direct://",
        "http\u017f://us3r:s3cr3t@proxy.example",
        "http//us3r:s3cr3t@proxy.example",
        "http://us3r:s3cr3t@",
        "http://us3r:s3cr3t",
        "us3r:s3cr3t",
        "us3r:s3cr3t@",
        "http://us3r:s3cr3t@:3128",
        "http://us3r:s3cr3t@proxy.example:0",
        "http://us3r:s3cr3t@proxy.example:65536",
        "http://us3r:s3cr3t@proxy.example:999999999999999999999999999999",
        "http://us3r:s3cr3t@proxy.example:" + 5000 * "9",
        "http://us3r:s3cr3t@proxy.example:-1",
        "http://us3r:s3cr3t@proxy.example:+80",
        "http://us3r:s3cr3t@proxy.example:8_0",
        "http://us3r:s3cr3t@proxy.example:\uff18\uff10",
        "http://us3r:s3cr3t@proxy.example:80:80",
        "http://us3r:s3cr3t@proxy.example:http",
        "http://us3r:s3cr3t@proxy.example/path",
        "http://us3r:s3cr3t@proxy.example?query",
        "http://us3r:s3cr3t@proxy.example/?",
        "http://us3r:s3cr3t@proxy.example#fragment",
        "http://us3r:s3cr3t@proxy.example/#",
        "http://s3cr3t#us3r:pass@proxy.example",
        "http://us3r:12#s3cr3t@proxy.example",
        "http://us3r:12/s3cr3t@proxy.example",
        "http://us3r:12?s3cr3t@proxy.example",
        "http://us3r:s3cr3t\\@proxy.example",
        "http://us3r:s3cr3t@proxy.example\\",
        "http://us3r:s3cr3t@proxy.example ",
        " http://us3r:s3cr3t@proxy.example",
        "http://us3r:s3cr3t@proxy.example\n",
        "http://us3r:s3cr3t@pro\txy.example",
        "http://us er:s3cr3t@proxy.example",
        "http://us3r:s3cr3t\r\nX-Evil: yes@proxy.example",
        "http://us3r:s3cr3t\x00@proxy.example",
        "http://us3r:s3cr3t\x7f@proxy.example",
        "http://us3r:s3cr3t%0d%0aX-Evil:%20yes@proxy.example",
        "http://us3%00er:s3cr3t@proxy.example",
        "http://us3r:s3cr3t\x85@proxy.example",
        "http://us3r:s3cr3t%C2%85@proxy.example",
        "http://us3r:s3cr3t%E2%80%AE@proxy.example",
        "http://us3r:s3cr3t\ud800@proxy.example",
        "http://us3r:s3cr3t%ff@proxy.example",
        "http://us%ffer:s3cr3t@proxy.example",
        "http://us%3aer:s3cr3t@proxy.example",
        "https://us%3Aer:s3cr3t@proxy.example",
        "http://us3r:s3cr3t@pröxy.example",
        "http://us3r:s3cr3t@proxy\u2024example",
        "http://us3r:s3cr3t@\u212aelvin.example",
        "http://us3r:s3cr3t@pro%78y.example",
        "http://us3r:s3cr3t@-proxy.example",
        "http://us3r:s3cr3t@proxy-",
        "http://us3r:s3cr3t@.example",
        "http://us3r:s3cr3t@[::1",
        "http://us3r:s3cr3t@::1]",
        "http://us3r:s3cr3t@::1",
        "http://us3r:s3cr3t@[]",
        "http://us3r:s3cr3t@[127.0.0.1]",
        "http://us3r:s3cr3t@[proxy.example]",
        "http://us3r:s3cr3t@[::1%25eth0]",
        "http://us3r:s3cr3t@[::1%eth0]",
        "http://us3r:s3cr3t@[::1]x:80",
        "http://us3r:s3cr3t@x[::1]:80",
        "http://us3r:s3cr3t@[v1.x]:80",
        f"socks5://us3r:{'s3cr3t' + 250 * 'x'}@proxy.example",
        f"socks5h://{'s3cr3t' + 250 * 'x'}:pass@proxy.example",
        f"socks5://us3r:{'s3cr3t' + 125 * 'ö'}@proxy.example",
    ],
)
def test_what_is_no_proxy_is_refused_and_no_credentials_are_shown(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(?:Proxy(?:\.host|\.port|\.username)?: )?expected ") as caught:
        Proxy.parse(text)
    assert not any(secret in str(caught.value) for secret in ("s3cr3t", "us3r", "X-Evil"))
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("proxy.example:http", EXPECTED),
        ("us3r:s3cr3t@", EXPECTED),
        ("socks4://us3r:s3cr3t@proxy.example", f"{EXPECTED}, got the scheme 'socks4'"),
        ("http2://", f"{EXPECTED}, got the scheme 'http2'"),
        ("http://", EXPECTED),
        ("us3r:s3cr3t://proxy.example", EXPECTED),
        ("proxy.example:0", "Proxy.port: expected 1 to 65535, got 0"),
        ("proxy.example:65536", "Proxy.port: expected 1 to 65535, got 65536"),
        ("-proxy", "Proxy.host: expected an ASCII host name or an address, got '-proxy'"),
        ("u%ff@proxy.example", "Proxy: expected a username and a password in UTF-8"),
        ("u%00@proxy.example", "Proxy: expected a printable username and password"),
        ("u%3a@proxy.example", "Proxy.username: expected no colon, which ends it in HTTP (RFC 7617, 2)"),
        (f"socks5://u:{256 * 'p'}@h", "Proxy: expected a username and a password of at most 255 bytes each"),
    ],
)
def test_a_refusal_says_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        Proxy.parse(text)
    assert str(caught.value) == message


@pytest.mark.parametrize("text", [None, b"http://proxy.example", 5, Proxy("http", "proxy.example", 80)])
def test_another_type_than_a_string_is_no_url(text: Any) -> None:
    with pytest.raises(TypeError, match=f"^expected a str, got {type(text).__name__}$"):
        Proxy.parse(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ftp", "h", 80), "Proxy.scheme: expected one of http, https, socks5, socks5h, got 'ftp'"),
        (("HTTP", "h", 80), "Proxy.scheme: expected one of http, https, socks5, socks5h, got 'HTTP'"),
        (("http", "", 80), "Proxy.host: expected an ASCII host name or an address, got ''"),
        (("http", "H", 80), "Proxy.host: expected an ASCII host name or an address, got 'H'"),
        (("http", "h\r\nX: y", 80), r"Proxy.host: expected an ASCII host name or an address, got 'h\r\nX: y'"),
        (("http", "h\n", 80), r"Proxy.host: expected an ASCII host name or an address, got 'h\n'"),
        (("http", "[::1]", 80), "Proxy.host: expected an ASCII host name or an address, got '[::1]'"),
        (("http", "h", 0), "Proxy.port: expected 1 to 65535, got 0"),
        (("http", "h", 65536), "Proxy.port: expected 1 to 65535, got 65536"),
        (("http", "h", "80"), "Proxy.port: expected 1 to 65535, got '80'"),
        (("http", "h", True), "Proxy.port: expected 1 to 65535, got True"),
        (("http", "h", None), "Proxy.port: expected 1 to 65535, got None"),
        (("http", "h", 80, "s3cr3t"), "Proxy: expected a username and a password, or neither"),
        (("http", "h", 80, None, "s3cr3t"), "Proxy: expected a username and a password, or neither"),
        (("http", "h", 80, "s3cr3t\n", ""), "Proxy: expected a printable username and password"),
        (("socks5", "h", 80, "", "s3cr3t\x00"), "Proxy: expected a printable username and password"),
        (("socks5", "h", 80, "", "\udcff"), "Proxy: expected a printable username and password"),
        (("socks5", "h", 80, "", 256 * "s"), "Proxy: expected a username and a password of at most 255 bytes each"),
        (("socks5", "h", 80, 128 * "ö", ""), "Proxy: expected a username and a password of at most 255 bytes each"),
        (("https", "h", 80, "s3cr3t:", ""), "Proxy.username: expected no colon, which ends it in HTTP (RFC 7617, 2)"),
    ],
)
def test_a_proxy_that_could_break_out_of_a_line_or_a_field_is_not_made(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        Proxy(*arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize(("username", "password"), [(b"u", b"p"), ("u", 5), (b"u", "p")])
def test_credentials_are_strings(username: Any, password: Any) -> None:
    with pytest.raises(TypeError, match=r"^Proxy: expected a str or None as username and password, got (bytes|int)$"):
        Proxy("http", "h", 80, username, password)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://us3r:s3cr3t@proxy.example", "http://proxy.example:80"),
        ("socks5h://us3r:s3cr3t@[::1]:9050", "socks5h://[::1]:9050"),
        ("https://192.0.2.1", "https://192.0.2.1:443"),
    ],
)
def test_a_proxy_is_shown_without_its_credentials_and_may_be_parsed_again(text: str, shown: str) -> None:
    proxy = Proxy.parse(text)
    assert (str(proxy), f"{proxy}") == (shown, shown)
    assert Proxy.parse(shown) == Proxy(proxy.scheme, proxy.host, proxy.port)
    assert repr(proxy) == f"Proxy(scheme={proxy.scheme!r}, host={proxy.host!r}, port={proxy.port})"
    for twin in copies(proxy):
        assert (twin, hash(twin)) == (proxy, hash(proxy))
        assert (twin.username, twin.password) == (proxy.username, proxy.password)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://proxy.example", ()),
        ("http://Aladdin:open%20sesame@h", (("Proxy-Authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),)),
        ("http://test:123%C2%A3@h", (("Proxy-Authorization", "Basic dGVzdDoxMjPCow=="),)),  # RFC 7617, 2.1
        ("http://user@h", (("Proxy-Authorization", "Basic dXNlcjo="),)),
    ],
)
def test_credentials_for_http_are_those_of_rfc_7617(text: str, expected: tuple[tuple[str, str], ...]) -> None:
    assert Proxy.parse(text).authorization == expected


@pytest.mark.parametrize("scheme", ["http", "https", "socks5", "socks5h"])
def test_requests_to_an_http_site_are_relayed_and_all_else_is_tunnelled(scheme: str) -> None:
    proxy = Proxy.parse(f"{scheme}://proxy.example:3128")
    assert (proxy.relays("http"), proxy.relays("https")) == (scheme in ("http", "https"), False)


def test_credentials_of_any_length_make_one_header_line() -> None:
    proxy = Proxy.parse(f"http://us3r:{3000 * 'p'}@proxy.example:3128")
    asking = client(endpoint=Endpoint.parse("https://site.example"), proxy=proxy)
    credentials = base64.b64encode(b"us3r:" + 3000 * b"p")
    follow(asking, (PROXY, connect(b"site.example:443", credentials), ESTABLISHED, StartTLS("site.example")))


# ------------------------------------------------------------------------------------------------ tunnels that open


@EVERY_WAY
def test_a_proxy_may_cut_its_replies_anywhere(way: Way) -> None:
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


def test_a_name_that_only_looks_like_an_address_is_left_to_the_proxy() -> None:
    for host in ("127.1", "0x7f.0.0.1", "127.0.0.01", "1.2.3.4.", "_"):
        asking = client(endpoint=Endpoint.parse(f"http://{host}"), proxy=Proxy.parse("socks5://proxy.example:3128"))
        follow(asking, (PROXY, NO_PASSWORD, b"\x05\x00"))
        named = bytes((len(host),)) + host.encode()
        assert asking.next_step() == Send(b"\x05\x01\x00\x03" + named + b"\x00\x50")


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
@pytest.mark.parametrize(
    ("username", "password"), [("u", "p"), (255 * "u", 255 * "p"), ("user", ""), ("ü", "€"), ("u:u", "p:p")]
)
def test_a_password_is_sent_as_in_rfc_1929(scheme: str, username: str, password: str) -> None:
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


# ------------------------------------------------------------------------------------------------ tunnels that do not


def at_reply(way: Way, number: int, *, limits: Limits = NO_RESTART) -> Client:
    """Where the proxy is to give this reply of its replies, the first is 0."""
    asking = way.client(limits=limits)
    follow(asking, way.script[: way.replies[number]])
    return asking


def outcome_of(asking: Client, reply: bytes) -> list[Event]:
    """What this reply and then a close come to, the same for every cut, and nothing is asked of the site."""
    outcomes = []
    for pieces in every_cut(reply) if len(reply) < 500 else ([reply], in_pieces(reply, 1), in_pieces(reply, 1000)):
        reading = copy.deepcopy(asking)
        events = [event for piece in pieces for event in reading.receive_data(piece)]
        events += reading.receive_eof()
        assert is_reply(events), pieces
        assert (reading.next_step(), reading.submit_started, reading.receive_data(b"more")) == (Done(), False, [])
        outcomes.append(events)
    assert all(outcome == outcomes[0] for outcome in outcomes)
    assert not any(secret in repr(outcomes[0]) for secret in ("s3cr3t", "us3r", CREDENTIALS.decode()))
    return outcomes[0]


def refused(detail: str, *, limit: str | None = None) -> list[Event]:
    return [Broken(Reason.PROXY, detail, limit=limit)]


UNASKED = refused("the proxy sent bytes that nobody had asked for")
CLOSED_HTTP = refused("the proxy http://proxy.example:3128: the connection was closed before any answer")
CLOSED_SOCKS = refused("the proxy socks5://proxy.example:3128: the connection was closed before any answer")
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
def test_a_proxy_that_opens_no_tunnel_is_the_end(reply: bytes, expected: list[Event]) -> None:
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


NO_SOCKS = "the SOCKS proxy sent a reply that is not SOCKS5: "


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (b"\x05\xff", refused("the SOCKS proxy accepts none of our ways to authenticate")),
        (b"\x05\xffmore", refused("the SOCKS proxy accepts none of our ways to authenticate")),
        (b"\x05\x01", refused(NO_SOCKS + r"b'\x05\x01'")),
        (b"\x05\x02", refused(NO_SOCKS + r"b'\x05\x02'")),
        (b"\x05\x80", refused(NO_SOCKS + r"b'\x05\x80'")),
        (b"\x04\x00", refused(NO_SOCKS + r"b'\x04\x00'")),
        (b"\x00\x5a\x00\x00\x00\x00\x00\x00", refused(NO_SOCKS + r"b'\x00Z'")),
        (b"\x01\x00", refused(NO_SOCKS + r"b'\x01\x00'")),
        (b"\x00\x00", refused(NO_SOCKS + r"b'\x00\x00'")),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", refused(NO_SOCKS + "b'HT'")),
        (b"\x05\x00\x05", UNASKED),
        (b"\x05\x00" + BOUND_V4, UNASKED),
        (b"\x05\x00" + 100_000 * b"x", UNASKED),
        (b"\x05", CLOSED_SOCKS),
        (b"", CLOSED_SOCKS),
    ],
)
def test_a_socks_proxy_that_chooses_no_method_is_the_end(reply: bytes, expected: list[Event]) -> None:
    assert outcome_of(at_reply(WAYS["socks5 to http"], 0), reply) == expected


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (b"\x01\x01", refused("the SOCKS proxy refused the username and password")),
        (b"\x01\xff", refused("the SOCKS proxy refused the username and password")),
        (b"\x01\x01s3cr3t", refused("the SOCKS proxy refused the username and password")),
        (b"\x05\x00", refused(NO_SOCKS + r"b'\x05\x00'")),
        (b"\x05\x01", refused(NO_SOCKS + r"b'\x05\x01'")),
        (b"\x00\x00", refused(NO_SOCKS + r"b'\x00\x00'")),
        (b"\x01\x00\x05", UNASKED),
        (b"\x01\x00" + BOUND_V4, UNASKED),
        (b"\x01", CLOSED_SOCKS),
        (b"", CLOSED_SOCKS),
    ],
)
def test_a_socks_proxy_that_refuses_the_password_is_the_end(reply: bytes, expected: list[Event]) -> None:
    assert outcome_of(at_reply(WAYS["socks5 to https with a password"], 1), reply) == expected


@pytest.mark.parametrize("secret", [b"\x05\x01", b"\x04\x02", b"\x05\x03"])
def test_a_method_that_is_none_is_refused_with_a_password_too(secret: bytes) -> None:
    expected = refused(NO_SOCKS + repr(secret))
    assert outcome_of(at_reply(WAYS["socks5 to https with a password"], 0), secret) == expected


def at_port(kind: int, address: bytes, *, reply: int = 0, version: int = 5) -> bytes:
    return bytes((version, reply, 0, kind)) + address + b"\x04\x38"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (1, "general server failure"),
        (2, "connection not allowed by ruleset"),
        (3, "network unreachable"),
        (4, "host unreachable"),
        (5, "connection refused"),
        (6, "ttl expired"),
        (7, "command not supported"),
        (8, "address type not supported"),
        (9, "reply code 9"),
        (0xF0, "reply code 240"),  # Tor's: the onion service cannot be found
        (255, "reply code 255"),
    ],
)
def test_a_socks_proxy_that_cannot_connect_says_why(code: int, said: str) -> None:
    asking = at_reply(WAYS["socks5 to http"], 1)
    for kind, address in (
        (1, bytes(4)),
        (3, b"\x0dus3r:s3cr3t!!"),
        (3, b"\x00"),
        (4, bytes(16)),
        (0, b""),
        (9, b"more"),
    ):
        reply = at_port(kind, address, reply=code)
        assert (
            outcome_of(asking, reply) == outcome_of(asking, reply + b"x") == refused(f"the SOCKS proxy refused: {said}")
        )


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (at_port(1, bytes(4), version=4), refused(NO_SOCKS + r"b'\x04\x00\x00\x01'")),
        (at_port(1, bytes(4), version=1, reply=1), refused(NO_SOCKS + r"b'\x01\x01\x00\x01'")),
        (at_port(3, b"\x06s3cr3t", version=0), refused(NO_SOCKS + r"b'\x00\x00\x00\x03'")),
        (at_port(0, bytes(4)), refused(NO_SOCKS + r"b'\x05\x00\x00\x00'")),
        (at_port(2, b"s3cr3t"), refused(NO_SOCKS + r"b'\x05\x00\x00\x02'")),
        (at_port(5, b""), refused(NO_SOCKS + r"b'\x05\x00\x00\x05'")),
        (at_port(255, 300 * b"x"), refused(NO_SOCKS + r"b'\x05\x00\x00\xff'")),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", refused(NO_SOCKS + "b'HTTP'")),
        (BOUND_V4 + b"H", UNASKED),
        (BOUND_V6 + b"\x00", UNASKED),
        (BOUND_NAME + content_length(ANSWER), UNASKED),
        (BOUND_V4 + BOUND_V4, UNASKED),
        (at_port(3, b"\x00") + b"\x00", UNASKED),
        *((reply[:size], CLOSED_SOCKS) for reply in (BOUND_V4, BOUND_V6, BOUND_NAME) for size in range(len(reply))),
    ],
)
def test_a_socks_proxy_whose_last_reply_is_none_or_not_the_last_is_the_end(reply: bytes, expected: list[Event]) -> None:
    assert outcome_of(at_reply(WAYS["socks5 to http"], 1), reply) == expected


def test_leftovers_are_a_fault_also_where_tls_would_begin() -> None:
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
def test_what_a_proxy_says_before_it_was_asked_opens_nothing(early: bytes) -> None:
    for name, asking in before_each_request():
        expected = UNASKED
        if not name.startswith("socks5") and early is not ESTABLISHED:
            expected = refused(NOT_FOLLOWED + "HTTP: no status line")
        assert outcome_of(asking, early) == expected


def test_one_byte_before_a_socks_request_was_sent_is_one_too_many() -> None:
    for name, asking in before_each_request():
        if name.startswith("socks5"):
            assert asking.receive_data(b"\x05") == UNASKED


def test_an_http_proxy_may_refuse_before_it_was_asked() -> None:
    asking = WAYS["http to https"].client()
    follow(asking, (PROXY,))
    reply = content_length(b"busy", status=b"503 -")
    for pieces in every_cut(reply):
        reading = copy.deepcopy(asking)
        events = [event for piece in pieces for event in reading.receive_data(piece)]
        assert (events, reading.next_step()) == (refused("the proxy refused: status 503"), Done())


def test_a_clock_that_runs_out_while_a_proxy_is_awaited_stays_one() -> None:
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
def test_any_buffer_of_bytes_is_taken(view: Any) -> None:
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


def test_a_buffer_may_be_used_again_by_the_caller() -> None:
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


# ------------------------------------------------------------------------------------------------ anything at all

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
def test_any_bytes_from_a_proxy_in_any_pieces_come_to_the_same(
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
def test_any_replies_of_a_proxy_are_one_reply_and_at_most_one_submit(
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
