"""Proxies and TLS: one suite for all transports."""

import asyncio
import datetime
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
import trio
import trustme

from opchat_proto import Broken, End, Live, Proxy, Reason, Session
from opchat_transports import Timeouts
from opchat_transports.asyncio_httpx import AsyncioTransport
from opchat_transports.blocking_sockets import BlockingTransport
from opchat_transports.trio_streams import TrioTransport

from .proxies import TUNNEL, Journal, cuts, http_proxy, socks_proxy, talks
from .scripted import LAST, PATIENCE, STREAM, Peer, Script, Scripted, end, live, tells
from .test_blocking import in_thread, trusting, without_close_notify

NAME = "site.example"  # known to the proxies only
PASSWORD = "s3cret:@ü"
CREDENTIALS = f"ulla:{PASSWORD}"
USERINFO = "ulla:s3cret%3A%40%C3%BC@"

# ------------------------------------------------------------------------------------------------ the transports


class Ask(Protocol):
    """Asks once and gives all events."""

    def __call__(self, url: str, *, question: str = "Hi", **options: Any) -> list[Any]: ...


def ask_blocking(url: str, *, question: str = "Hi", **options: Any) -> list[Any]:
    with BlockingTransport(url, **options) as transport, transport.ask(question) as reply:
        return list(reply)


async def ask_async(kind: Any, url: str, options: dict[str, Any]) -> list[Any]:
    question = options.pop("question", "Hi")
    async with kind(url, **options) as transport, transport.ask(question) as reply:
        return [event async for event in reply]


def ask_trio(url: str, **options: Any) -> list[Any]:
    return trio.run(ask_async, TrioTransport, url, options)


def ask_asyncio(url: str, **options: Any) -> list[Any]:
    return asyncio.run(ask_async(AsyncioTransport, url, options))


ASKS = {"blocking": ask_blocking, "trio": ask_trio, "asyncio": ask_asyncio}
TRANSPORTS: list[Any] = [BlockingTransport, TrioTransport, AsyncioTransport]


@pytest.fixture(params=list(ASKS.values()), ids=list(ASKS))
def ask(request: pytest.FixtureRequest) -> Ask:
    way: Ask = request.param
    return way


# ------------------------------------------------------------------------------------------------ certificates


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def trust(authority: trustme.CA) -> ssl.SSLContext:
    return trusting(authority)


def expired(authority: trustme.CA) -> trustme.LeafCert:
    now = datetime.datetime.now(datetime.UTC)
    days = datetime.timedelta(days=1)
    return authority.issue_cert("localhost", NAME, not_before=now - 2 * days, not_after=now - days)


def certificate(kind: str, authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    match kind:
        case "good":
            authority.issue_cert("localhost", NAME, "::1").configure_cert(context)
        case "wrong name":
            authority.issue_cert("other.example").configure_cert(context)
        case "expired":
            expired(authority).configure_cert(context)
        case _:  # self-signed
            itself = trustme.CA()
            with tempfile.TemporaryDirectory() as folder:
                itself.cert_pem.write_to_path(f"{folder}/cert")
                itself.private_key_pem.write_to_path(f"{folder}/key")
                context.load_cert_chain(Path(folder, "cert"), Path(folder, "key"))
    return context


@pytest.fixture(scope="module")
def certificates(authority: trustme.CA) -> dict[str, ssl.SSLContext]:
    return {kind: certificate(kind, authority) for kind in ("good", *FAULTS)}


FAULTS = {"wrong name": "Hostname mismatch", "expired": "has expired", "self-signed": "self-signed certificate"}

# ------------------------------------------------------------------------------------------------ the ways

ROUTES = ["direct", "http", "https", "socks5", "socks5h"]
PROXIES = ROUTES[1:]
SITES = ["http", "https"]


class Net:
    """A site, and a way to it."""

    def __init__(self, route: str, site: Scripted, proxy: Scripted | None, journal: Journal, userinfo: str) -> None:
        self.site = site
        self.journal = journal
        host = "localhost" if proxy is None else NAME
        self.url = f"{site.url.partition(':')[0]}://{host}:{site.port}"
        self.target = f"{NAME}:{site.port}"
        self.proxy = None if proxy is None else f"{route}://{userinfo}localhost:{proxy.port}"


class Nets(Protocol):
    """Starts a site and a proxy."""

    def __call__(self, route: str, site: Scripted, credentials: str = "", userinfo: str = "") -> Net: ...


@pytest.fixture
def net(certificates: dict[str, ssl.SSLContext]) -> Iterator[Nets]:
    running: list[Scripted] = []

    def start(route: str, site: Scripted, credentials: str = "", userinfo: str = "") -> Net:
        journal = Journal()
        proxy = None
        if route != "direct":
            script = (socks_proxy if route.startswith("socks") else http_proxy)(journal, credentials)
            proxy = Scripted(script, tls=certificates["good"] if route == "https" else None)
        for server in (site, proxy):
            if server is not None:
                server.__enter__()
                running.append(server)
        return Net(route, site, proxy, journal, userinfo)

    yield start
    for server in running:
        server.__exit__(None, None, None)


def site_of(scheme: str, script: Script, certificates: dict[str, ssl.SSLContext], kind: str = "good") -> Scripted:
    return Scripted(script, tls=certificates[kind] if scheme == "https" else None)


# ------------------------------------------------------------------------------------------------ what works


@pytest.mark.parametrize("scheme", SITES)
@pytest.mark.parametrize("route", ROUTES)
def test_every_site_through_every_kind_of_proxy(
    ask: Ask, net: Nets, route: str, scheme: str, certificates: dict[str, ssl.SSLContext], trust: ssl.SSLContext
) -> None:
    over = net(route, site_of(scheme, tells("Hel", "lo"), certificates))
    events = ask(over.url, proxy=over.proxy, ssl_context=trust)
    assert events[:-1] == [Live("Hel"), Live("lo")]
    assert events[-1].reply == "Hello"
    assert (over.site.routes, over.site.connections) == (["start_session", "submit"], 1)
    assert over.journal.targets == ([] if route == "direct" else [over.target])
    assert b"Proxy" not in b"".join(over.site.requests)
    relayed = route in ("http", "https") and scheme == "http"
    assert len(over.journal.heads) == (2 if relayed else "http" in route)
    assert over.journal.credentials == ([] if route == "direct" else [""])


@pytest.mark.parametrize("scheme", SITES)
@pytest.mark.parametrize("route", PROXIES)
def test_the_proxy_and_nobody_else_gets_the_password(
    ask: Ask, net: Nets, route: str, scheme: str, certificates: dict[str, ssl.SSLContext], trust: ssl.SSLContext
) -> None:
    over = net(route, site_of(scheme, tells("a"), certificates), CREDENTIALS, USERINFO)
    assert ask(over.url, proxy=over.proxy, ssl_context=trust)[-1].reply == "a"
    assert over.journal.credentials == [CREDENTIALS]
    assert b"Proxy" not in b"".join(over.site.requests)
    if scheme == "http" and "http" in route:
        assert all(b"\r\nProxy-Authorization: Basic " in head for head in over.journal.heads)
    if scheme == "https" and "http" in route:
        [head] = over.journal.heads
        assert b"X-WP-Nonce" not in head


@pytest.mark.parametrize("route", PROXIES)
def test_a_wrong_password(
    ask: Ask, net: Nets, route: str, certificates: dict[str, ssl.SSLContext], trust: ssl.SSLContext
) -> None:
    for scheme in SITES:
        over = net(route, site_of(scheme, tells("a"), certificates), "ulla:other", USERINFO)
        [broken] = ask(over.url, proxy=over.proxy, ssl_context=trust, session=Session())
        assert broken.reason is Reason.PROXY
        assert ("password" in broken.detail) if "socks" in route else (broken.detail == "the proxy refused: status 407")
        assert is_discreet(broken)
        assert (over.site.connections, over.journal.targets) == (0, [])


def is_discreet(broken: Broken) -> bool:
    said = repr(broken) + broken.raw
    return not any(part in said for part in ("s3cret", "ulla", "%40", "dWxsYT"))


@pytest.mark.parametrize("route", ROUTES)
def test_a_large_answer_and_a_large_question(
    net: Nets, ask: Ask, route: str, certificates: dict[str, ssl.SSLContext], trust: ssl.SSLContext
) -> None:
    text = "0123456789abcdef" * 20_000  # many records, in each layer
    over = net(route, site_of("https", tells(text, text), certificates))
    options: dict[str, Any] = {"proxy": over.proxy, "ssl_context": trust, "headers": {"X-Much": "y" * 30_000}}
    assert ask(over.url, **options)[-1].reply == text * 2


# ------------------------------------------------------------------------------------------------ certificates


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("route", ROUTES)
def test_a_site_that_nobody_vouches_for(
    ask: Ask, net: Nets, route: str, kind: str, certificates: dict[str, ssl.SSLContext], trust: ssl.SSLContext
) -> None:
    over = net(route, site_of("https", tells("a"), certificates, kind))
    [broken] = ask(over.url, proxy=over.proxy, ssl_context=trust, session=Session())
    name = "localhost" if route == "direct" else NAME
    assert broken.reason is Reason.LOST
    assert broken.detail.startswith(f"the certificate of {name} is not trusted: ")
    assert FAULTS[kind] in broken.detail
    assert over.site.requests == []


@pytest.mark.parametrize("scheme", SITES)
@pytest.mark.parametrize("kind", FAULTS)
def test_a_proxy_that_nobody_vouches_for(
    ask: Ask, scheme: str, kind: str, certificates: dict[str, ssl.SSLContext], trust: ssl.SSLContext
) -> None:
    journal = Journal()
    with Scripted(http_proxy(journal), tls=certificates[kind]) as proxy:
        url = f"https://{USERINFO}localhost:{proxy.port}"
        [broken] = ask(f"{scheme}://{NAME}", proxy=url, ssl_context=trust, session=Session())
    assert broken.reason is Reason.PROXY
    beginning = f"the proxy https://localhost:{proxy.port}: the certificate of localhost is not trusted: "
    assert broken.detail.startswith(beginning)
    assert FAULTS[kind] in broken.detail
    assert is_discreet(broken)
    assert (journal.heads, journal.targets) == ([], [])


@pytest.mark.parametrize("route", ROUTES)
def test_a_cut_without_close_notify(
    ask: Ask, net: Nets, route: str, certificates: dict[str, ssl.SSLContext], trust: ssl.SSLContext
) -> None:
    before = without_close_notify(b"HTTP/1.1 200 OK\r\n\r\n" + b'data: {"type":"live","data":"a"}\n\n')
    over = net(route, site_of("https", before, certificates))
    [first, broken] = ask(over.url, proxy=over.proxy, ssl_context=trust)
    assert first == Live("a")
    assert broken.reason is Reason.TRUNCATED

    after = without_close_notify(STREAM, live("a"), end("a"))
    over = net(route, site_of("https", after, certificates))
    assert [type(event) for event in ask(over.url, proxy=over.proxy, ssl_context=trust)] == [Live, End]


# ------------------------------------------------------------------------------------------------ proxies that fail


@pytest.mark.parametrize("scheme", SITES)
@pytest.mark.parametrize("route", PROXIES)
def test_a_proxy_that_is_not_there(ask: Ask, route: str, scheme: str, trust: ssl.SSLContext) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    [broken] = ask(
        f"{scheme}://{NAME}", proxy=f"{route}://{USERINFO}127.0.0.1:{port}", ssl_context=trust, session=Session()
    )
    there = f"{route}://127.0.0.1:{port}"
    assert broken.reason is Reason.PROXY
    assert broken.detail.startswith(f"the proxy {there}: could not connect to 127.0.0.1:{port}: ")
    assert is_discreet(broken)


REFUSALS = [
    ("http", [b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"], "status 403"),
    ("http", [b"HTTP/1.1 502 Bad Gateway\r\n\r\n<html>"], "status 502"),
    ("http", [b"HTTP/1.1 302 Found\r\nLocation: http://ulla:s3cret@x/\r\nContent-Length: 0\r\n\r\n"], "status 302"),
    ("http", [b"HTTP/1.1 407 ulla:s3cret\r\nContent-Length: 0\r\n\r\n"], "status 407"),
    ("http", [b"no HTTP at all\r\n\r\n"], "cannot be followed"),
    *(("socks5", [b"\x05\x00", bytes([5, code, 0, 1, 0, 0, 0, 0, 0, 0])], "") for code in (1, 2, 3, 4, 5, 6, 7, 8)),
    ("socks5", [b"\x05\x00", b"\x05\x09\x00\x01\0\0\0\0\0\0"], ""),
    ("socks5", [b"\x05\xff"], ""),
    ("socks5", [b"\x05\x01"], ""),
    ("socks5", [b"\x05\x02"], ""),
    ("socks5", [b"\x04\x00", b"\x04\x00\x00\x01\0\0\0\0\0\0"], ""),
    ("socks5", [b"HTTP/1.1 400 Bad Request\r\n\r\n"], ""),
]


@pytest.mark.parametrize(("scheme", "replies", "said"), REFUSALS)
def test_a_proxy_that_refuses(ask: Ask, scheme: str, replies: list[bytes], said: str, trust: ssl.SSLContext) -> None:
    journal = Journal()
    with Scripted(talks(journal, *replies)) as proxy:
        [broken] = ask(
            f"https://{NAME}", proxy=f"{scheme}://localhost:{proxy.port}", ssl_context=trust, session=Session()
        )
    assert broken.reason is Reason.PROXY
    assert said in broken.detail
    assert is_discreet(broken)
    assert not journal.received


# ------------------------------------------------------------------------------------------------ hostile proxies

GRANTED = b"\x05\x00\x00\x01\0\0\0\0\0\0"
DIALOGUES = {
    "http": [TUNNEL],
    "socks5": [b"\x05\x00", GRANTED],
    "socks5 with a password": [b"\x05\x02", b"\x01\x00", b"\x05\x00\x00\x03\x01h\0\0"],
}
TUNNELS = [(dialogue, scheme) for dialogue in DIALOGUES for scheme in SITES if (dialogue, scheme) != ("http", "http")]


def proxy_url(dialogue: str, port: int) -> str:
    scheme, _, password = dialogue.partition(" ")
    return f"{scheme}://{USERINFO if password else ''}localhost:{port}"


@pytest.mark.parametrize(("dialogue", "scheme"), TUNNELS)
def test_a_proxy_that_closes_at_any_byte(ask: Ask, dialogue: str, scheme: str, trust: ssl.SSLContext) -> None:
    scripts = cuts(DIALOGUES[dialogue])
    with Scripted(*scripts) as proxy:
        for _ in scripts:
            url = proxy_url(dialogue, proxy.port)
            [broken] = ask(f"{scheme}://{NAME}", proxy=url, ssl_context=trust, session=Session())
            assert is_discreet(broken)
            assert broken.reason is Reason.PROXY


@pytest.mark.parametrize("dialogue", DIALOGUES)
def test_replies_in_single_bytes(ask: Ask, dialogue: str, trust: ssl.SSLContext) -> None:
    journal = Journal()
    script = talks(journal, *DIALOGUES[dialogue], split=True)
    with Scripted(script) as proxy:
        url = proxy_url(dialogue, proxy.port)
        timeouts = Timeouts(connect=1)
        [broken] = ask(f"https://{NAME}", proxy=url, ssl_context=trust, session=Session(), timeouts=timeouts)
    # It was let through, and began TLS with the site, which nobody answers here.
    assert broken.reason is Reason.TIMEOUT
    assert f"{NAME} with TLS" in broken.detail
    assert journal.received.startswith(b"\x16\x03")


@pytest.mark.parametrize(("dialogue", "scheme"), TUNNELS)
def test_more_than_the_proxy_was_asked_for(ask: Ask, dialogue: str, scheme: str, trust: ssl.SSLContext) -> None:
    leftovers = STREAM + live("forged") + end("forged") + LAST
    journal = Journal()
    *before, last = DIALOGUES[dialogue]
    with Scripted(talks(journal, *before, last + leftovers)) as proxy:
        url = proxy_url(dialogue, proxy.port)
        timeouts = Timeouts(connect=0.5, first_event=0.5)
        [broken] = ask(f"{scheme}://{NAME}", proxy=url, ssl_context=trust, session=Session(), timeouts=timeouts)
    assert broken.reason is Reason.PROXY
    assert broken.detail == "the proxy sent bytes that nobody had asked for"
    assert not journal.received


@pytest.mark.parametrize("dialogue", DIALOGUES)
def test_a_proxy_that_is_silent(ask: Ask, dialogue: str, trust: ssl.SSLContext) -> None:
    journal = Journal()
    replies = DIALOGUES[dialogue]
    timeouts = Timeouts(connect=0.2)
    for count in range(len(replies)):
        with Scripted(talks(journal, *replies[:count])) as proxy:
            url = proxy_url(dialogue, proxy.port)
            [broken] = ask(f"https://{NAME}", proxy=url, ssl_context=trust, session=Session(), timeouts=timeouts)
        detail = "no reply of the proxy within 0.2 s (timeout 'connect'), after 0 events"
        assert broken == Broken(Reason.TIMEOUT, detail)


@pytest.mark.parametrize("scheme", SITES)
def test_a_proxy_that_is_to_speak_tls_and_does_not(ask: Ask, scheme: str, trust: ssl.SSLContext) -> None:
    journal = Journal()
    with Scripted(talks(journal, TUNNEL)) as proxy:
        url = f"https://{USERINFO}localhost:{proxy.port}"
        [broken] = ask(f"{scheme}://{NAME}", proxy=url, ssl_context=trust, session=Session())
    assert broken.reason is Reason.PROXY
    assert broken.detail.startswith(f"the proxy https://localhost:{proxy.port}: TLS with localhost failed: ")
    assert is_discreet(broken)
    assert is_no_request(journal)


@pytest.mark.parametrize("dialogue", DIALOGUES)
def test_a_site_that_is_to_speak_tls_and_does_not(ask: Ask, dialogue: str, trust: ssl.SSLContext) -> None:
    journal = Journal()
    with Scripted(talks(journal, *DIALOGUES[dialogue], STREAM + end("forged"))) as proxy:
        url = proxy_url(dialogue, proxy.port)
        [broken] = ask(f"https://{NAME}", proxy=url, ssl_context=trust, session=Session())
    assert broken.reason is Reason.LOST
    assert broken.detail.startswith(f"TLS with {NAME} failed: ")
    assert is_no_request(journal)


def is_no_request(journal: Journal) -> bool:
    return not any(part in journal.received for part in (b"HTTP", b"wp-json", b"Hi", b"CONNECT"))


@pytest.mark.parametrize("way_to_end", ["reply", "transport"])
def test_a_read_in_two_layers_of_tls_can_be_ended(
    net: Nets, certificates: dict[str, ssl.SSLContext], trust: ssl.SSLContext, way_to_end: str
) -> None:
    waiting = threading.Event()

    def play(peer: Peer) -> None:
        peer.read()
        waiting.set()
        assert peer.is_left()

    over = net("https", site_of("https", play, certificates))
    transport = BlockingTransport(over.url, session=Session(), ssl_context=trust, proxy=over.proxy)
    reply = transport.ask("Hi")
    join = in_thread(lambda: list(reply))
    assert waiting.wait(PATIENCE)
    (reply if way_to_end == "reply" else transport).close()
    assert [event.reason for event in join()] == [Reason.LOST]


@pytest.mark.parametrize("clock", ["first_event", "idle"])
def test_the_clocks_in_two_layers_of_tls(
    ask: Ask, net: Nets, certificates: dict[str, ssl.SSLContext], trust: ssl.SSLContext, clock: str
) -> None:
    def play(peer: Peer) -> None:
        peer.read()
        if clock == "idle":
            peer.send(STREAM, live("a"))
        assert peer.is_left()

    over = net("https", site_of("https", play, certificates))
    timeouts = Timeouts(**{clock: 0.2})
    *_, broken = ask(over.url, session=Session(), ssl_context=trust, proxy=over.proxy, timeouts=timeouts)
    assert broken.reason is Reason.TIMEOUT
    assert f"(timeout '{clock}')" in broken.detail


def test_a_site_that_stalls_in_the_handshake_behind_a_proxy_with_tls(
    ask: Ask, net: Nets, trust: ssl.SSLContext
) -> None:
    over = net("https", Scripted(lambda peer: peer.is_left()))
    url = over.url.replace("http:", "https:")
    timeouts = Timeouts(connect=0.3)
    [broken] = ask(url, session=Session(), ssl_context=trust, proxy=over.proxy, timeouts=timeouts)
    detail = f"no connection to {NAME} with TLS within 0.3 s (timeout 'connect'), after 0 events"
    assert broken == Broken(Reason.TIMEOUT, detail)


# ------------------------------------------------------------------------------------------------ which proxy

P, Q, S = "http://p:1", "http://q:2", "socks5://s:3"
HTTP, HTTPS = "http://site.example", "https://site.example"
ENVIRONMENTS: list[tuple[dict[str, str], str, str | None]] = [
    # by the site's scheme
    ({}, HTTP, None),
    ({}, HTTPS, None),
    ({"http_proxy": P}, HTTP, P),
    ({"http_proxy": P}, HTTPS, None),
    ({"https_proxy": P}, HTTPS, P),
    ({"https_proxy": P}, HTTP, None),
    ({"http_proxy": P, "https_proxy": Q}, HTTP, P),
    ({"http_proxy": P, "https_proxy": Q}, HTTPS, Q),
    ({"all_proxy": S}, HTTP, S),
    ({"all_proxy": S}, HTTPS, S),
    ({"all_proxy": S, "http_proxy": P}, HTTP, P),
    ({"all_proxy": S, "http_proxy": P}, HTTPS, S),
    ({"all_proxy": S, "https_proxy": P}, HTTPS, P),
    ({"all_proxy": S, "https_proxy": P}, HTTP, S),
    ({"ftp_proxy": P, "socks_proxy": S, "proxy": Q}, HTTP, None),
    # capitals
    ({"HTTP_PROXY": P}, HTTP, P),
    ({"HTTPS_PROXY": P}, HTTPS, P),
    ({"ALL_PROXY": P}, HTTPS, P),
    ({"Https_Proxy": P}, HTTPS, P),
    ({"https_proxy": P, "HTTPS_PROXY": Q}, HTTPS, P),
    ({"http_proxy": P, "HTTP_PROXY": Q}, HTTP, P),
    ({"all_proxy": P, "ALL_PROXY": Q}, HTTP, P),
    ({"HTTPS_PROXY": P, "all_proxy": Q}, HTTPS, P),
    ({"HTTPS_PROXY": P, "NO_PROXY": "site.example"}, HTTPS, None),
    ({"https_proxy": P, "NO_PROXY": "site.example", "no_proxy": "other.example"}, HTTPS, P),
    # where a client of a web server could have set HTTP_PROXY by its field "Proxy"
    ({"HTTP_PROXY": P, "REQUEST_METHOD": "GET"}, HTTP, None),
    ({"HTTP_PROXY": P, "REQUEST_METHOD": "GET", "all_proxy": Q}, HTTP, Q),
    ({"http_proxy": P, "REQUEST_METHOD": "GET"}, HTTP, P),
    ({"HTTPS_PROXY": P, "REQUEST_METHOD": "GET"}, HTTPS, P),
    # empty is none
    ({"https_proxy": ""}, HTTPS, None),
    ({"https_proxy": "", "HTTPS_PROXY": P}, HTTPS, None),
    ({"https_proxy": "", "all_proxy": P}, HTTPS, P),
    ({"https_proxy": P, "no_proxy": ""}, HTTPS, P),
    # what a proxy looks like
    ({"https_proxy": "p:1"}, HTTPS, "http://p:1"),
    ({"https_proxy": "http://p"}, HTTPS, "http://p:80"),
    ({"https_proxy": "https://p"}, HTTPS, "https://p:443"),
    ({"https_proxy": "socks5://p"}, HTTPS, "socks5://p:1080"),
    ({"https_proxy": "socks5h://p"}, HTTPS, "socks5h://p:1080"),
    ({"https_proxy": "HTTP://P:1/"}, HTTPS, "http://p:1"),
    ({"https_proxy": "http://127.0.0.1:8080"}, HTTPS, "http://127.0.0.1:8080"),
    ({"http_proxy": "socks5://[::1]:9050"}, HTTP, "socks5://[::1]:9050"),
    ({"https_proxy": "http://user:password@p:1"}, HTTPS, "http://user:password@p:1"),
    ({"https_proxy": "http://us%40er:pass%3Aword@p:1"}, HTTPS, "http://us%40er:pass%3Aword@p:1"),
    ({"https_proxy": "socks5://user:@p:1"}, HTTPS, "socks5://user:@p:1"),
    # no_proxy
    ({"https_proxy": P, "no_proxy": "*"}, HTTPS, None),
    ({"all_proxy": P, "no_proxy": "*"}, HTTP, None),
    ({"https_proxy": P, "no_proxy": "site.example"}, HTTPS, None),
    ({"https_proxy": P, "no_proxy": "SITE.Example"}, HTTPS, None),
    ({"https_proxy": P, "no_proxy": "site.example"}, "https://SITE.example", None),
    ({"https_proxy": P, "no_proxy": "other.example"}, HTTPS, P),
    ({"https_proxy": P, "no_proxy": "other.example,site.example"}, HTTPS, None),
    ({"https_proxy": P, "no_proxy": " other.example , site.example "}, HTTPS, None),
    ({"https_proxy": P, "no_proxy": ",,site.example,"}, HTTPS, None),
    ({"https_proxy": P, "no_proxy": "example"}, HTTPS, None),
    ({"https_proxy": P, "no_proxy": ".example"}, HTTPS, None),
    ({"https_proxy": P, "no_proxy": ".site.example"}, HTTPS, None),
    ({"https_proxy": P, "no_proxy": "site.example"}, "https://www.site.example", None),
    ({"https_proxy": P, "no_proxy": ".site.example"}, "https://www.site.example", None),
    ({"https_proxy": P, "no_proxy": "www.site.example"}, HTTPS, P),
    ({"https_proxy": P, "no_proxy": "site.example"}, "https://mysite.example", P),
    ({"https_proxy": P, "no_proxy": "site"}, HTTPS, P),
    ({"https_proxy": P, "no_proxy": "*.example"}, HTTPS, P),
    ({"https_proxy": P, "no_proxy": "site.example:443"}, HTTPS, None),
    ({"https_proxy": P, "no_proxy": "site.example:8443"}, HTTPS, P),
    ({"https_proxy": P, "no_proxy": "site.example:8443"}, "https://site.example:8443", None),
    ({"https_proxy": P, "no_proxy": "site.example"}, "https://site.example:8443", None),
    ({"http_proxy": P, "no_proxy": "site.example:443"}, HTTP, P),
    ({"http_proxy": P, "no_proxy": "localhost,127.0.0.1"}, "http://localhost:8000", None),
    ({"http_proxy": P, "no_proxy": "localhost,127.0.0.1"}, "http://127.0.0.1:8000", None),
    ({"http_proxy": P, "no_proxy": "localhost"}, "http://127.0.0.1:8000", P),
    ({"http_proxy": P, "no_proxy": "127.0.0.0/8"}, "http://127.0.0.1", P),
    ({"all_proxy": S, "no_proxy": "::1"}, "http://[::1]:8000", None),
    ({"all_proxy": S, "no_proxy": "::1"}, "http://[::1]", None),
    ({"all_proxy": S, "no_proxy": "::2"}, "http://[::1]", S),
    ({"http_proxy": P, "https_proxy": Q, "all_proxy": S, "no_proxy": "a.example"}, "https://a.example", None),
]


@pytest.mark.parametrize(("variables", "site", "expected"), ENVIRONMENTS)
def test_the_environment_is_read_the_same_way(
    monkeypatch: pytest.MonkeyPatch,
    trust: ssl.SSLContext,
    variables: dict[str, str],
    site: str,
    expected: str | None,
) -> None:
    monkeypatch.delenv("REQUEST_METHOD", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    proxy = None if expected is None else Proxy.parse(expected)
    for transport in TRANSPORTS:
        assert transport(site, ssl_context=trust).proxy == proxy
        assert transport(site, ssl_context=trust, proxy=None).proxy is None
        assert transport(site, ssl_context=trust, proxy="socks5h://mine").proxy == Proxy.parse("socks5h://mine")


def test_the_environment_is_read_once(
    ask: Ask, net: Nets, monkeypatch: pytest.MonkeyPatch, certificates: dict[str, ssl.SSLContext]
) -> None:
    over = net("http", site_of("http", tells("a"), certificates))
    assert over.proxy is not None
    monkeypatch.setenv("http_proxy", over.proxy)
    for kind in TRANSPORTS:
        transport = kind(over.url)
        with monkeypatch.context() as later:
            later.setenv("http_proxy", "http://other:1")
            assert str(transport.proxy) == over.proxy
    assert ask(over.url)[-1].reply == "a"
    assert over.journal.targets == [over.target]


@pytest.mark.parametrize("kind", TRANSPORTS)
def test_what_is_no_proxy(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("", "ftp://ulla:s3cret@p", "http://ulla:s3cret@p:x", "http://ulla:s3cret@p:99999"):
        with pytest.raises(ValueError, match=r"proxy|Proxy") as caught:
            kind(HTTP, proxy=wrong)
        assert "s3cret" not in str(caught.value)
    with pytest.raises(TypeError, match="proxy: expected a Proxy"):
        kind(HTTP, proxy=1)
    monkeypatch.setenv("all_proxy", "socks4://ulla:s3cret@p")
    with pytest.raises(ValueError, match=r"all_proxy in the environment: .*'socks4'") as caught:
        kind(HTTP)
    assert "s3cret" not in str(caught.value)
    with pytest.raises(ValueError, match="longer than the 255 bytes that SOCKS5"):
        kind(f"http://{'a.' * 128}example", proxy=S)


def test_the_proxies_of_a_client_are_its_own(
    net: Nets, monkeypatch: pytest.MonkeyPatch, certificates: dict[str, ssl.SSLContext], trust: ssl.SSLContext
) -> None:
    over = net("http", site_of("https", tells("a"), certificates))

    async def main() -> list[Any]:
        async with httpx.AsyncClient(proxy=over.proxy, verify=trust) as client:
            for proxy in (P, Proxy.parse(P), None):
                with pytest.raises(ValueError, match="proxy: expected none"):
                    AsyncioTransport(over.url, client, proxy=proxy)
            monkeypatch.setenv("all_proxy", "http://127.0.0.1:9")
            transport = AsyncioTransport(over.url, client)
            assert transport.proxy is None
            async with transport.ask("Hi") as reply:
                return [event async for event in reply]

    assert asyncio.run(main())[-1].reply == "a"
    assert over.journal.targets == [over.target]


@pytest.mark.parametrize("scheme", SITES)
@pytest.mark.parametrize("route", PROXIES)
def test_a_site_that_has_an_address_of_ipv6(
    ask: Ask, net: Nets, route: str, scheme: str, certificates: dict[str, ssl.SSLContext], trust: ssl.SSLContext
) -> None:
    over = net(route, site_of(scheme, tells("a"), certificates))
    url = f"{scheme}://[::1]:{over.site.port}"
    assert ask(url, proxy=over.proxy, ssl_context=trust)[-1].reply == "a"
    assert over.journal.targets == [f"[::1]:{over.site.port}"]
    assert f"\r\nHost: [::1]:{over.site.port}\r\n".encode() in over.site.requests[-1]
