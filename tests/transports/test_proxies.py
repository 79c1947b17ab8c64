"""Proxies and TLS: one suite for all transports."""

import ssl
import threading
from typing import Any

import httpx
import pytest

from opchat_proto import Broken, Live, Proxy, Reason, Session
from opchat_transports import Timeouts
from opchat_transports.asyncio_httpx import HttpxTransport
from opchat_transports.blocking_sockets import BlockingTransport
from opchat_transports.testing import FaultServer

from .asking import TRANSPORTS, Ask, in_thread, on_asyncio
from .peer import PATIENCE, Peer, plays, refusing_port
from .proxies import (
    CREDENTIALS,
    PROXIES,
    ROUTES,
    SITES,
    TUNNEL,
    USERINFO,
    Journal,
    Nets,
    cuts,
    http_proxy,
    talks,
)
from .tls import FAULTS, NAME
from .wire import LAST, STREAM, end, live, tells

# ------------------------------------------------------------------------------------------------ working proxies


@pytest.mark.parametrize("scheme", SITES)
@pytest.mark.parametrize("route", ROUTES)
def test_every_site_is_reached_through_every_kind_of_proxy(
    ask: Ask, net: Nets, route: str, scheme: str, trust: ssl.SSLContext
) -> None:
    over = net(route, scheme, tells("Hel", "lo"))
    events = ask(over.url, proxy=over.proxy, ssl_context=trust)
    assert events[:-1] == [Live("Hel"), Live("lo")]
    assert events[-1].reply == "Hello"
    assert (over.site.routes, len(over.site.visits)) == (("start_session", "submit"), 2)
    assert over.journal.targets == ([] if route == "direct" else [over.target] * 2)
    assert b"Proxy" not in b"".join(request.raw for request in over.site.requests)
    assert len(over.journal.heads) == (2 if "http" in route else 0)
    assert over.journal.credentials == ([] if route == "direct" else ["", ""])


@pytest.mark.parametrize("scheme", SITES)
@pytest.mark.parametrize("route", PROXIES)
def test_only_the_proxy_gets_the_password(ask: Ask, net: Nets, route: str, scheme: str, trust: ssl.SSLContext) -> None:
    over = net(route, scheme, tells("a"), "good", CREDENTIALS, USERINFO)
    assert ask(over.url, proxy=over.proxy, ssl_context=trust)[-1].reply == "a"
    assert over.journal.credentials == [CREDENTIALS] * 2
    assert b"Proxy" not in b"".join(request.raw for request in over.site.requests)
    assert all(b"\r\nProxy-Authorization: Basic " in head for head in over.journal.heads)
    if scheme == "https":
        assert b"X-WP-Nonce" not in b"".join(over.journal.heads)


@pytest.mark.parametrize("scheme", SITES)
@pytest.mark.parametrize("route", PROXIES)
def test_a_wrong_password_is_a_failure_of_the_proxy(
    ask: Ask, net: Nets, route: str, scheme: str, trust: ssl.SSLContext
) -> None:
    over = net(route, scheme, tells("a"), "good", "ulla:other", USERINFO)
    [broken] = ask(over.url, proxy=over.proxy, ssl_context=trust, session=Session())
    assert broken.reason is Reason.PROXY
    assert ("password" in broken.detail) if "socks" in route else (broken.detail == "the proxy refused: status 407")
    assert is_discreet(broken)
    assert (len(over.site.visits), over.journal.targets) == (0, [])


def is_discreet(broken: Broken) -> bool:
    said = repr(broken) + broken.raw
    return not any(part in said for part in ("s3cret", "ulla", "%40", "dWxsYT"))


@pytest.mark.parametrize("route", ROUTES)
def test_a_large_answer_and_a_large_question_pass_through(
    net: Nets, ask: Ask, route: str, trust: ssl.SSLContext
) -> None:
    text = "0123456789abcdef" * 20_000  # many records in each layer
    over = net(route, "https", tells(text, text))
    options: dict[str, Any] = {"proxy": over.proxy, "ssl_context": trust, "headers": {"X-Much": "y" * 30_000}}
    assert ask(over.url, **options)[-1].reply == text * 2


@pytest.mark.parametrize("scheme", SITES)
@pytest.mark.parametrize("kind", FAULTS)
def test_a_proxy_with_an_untrusted_certificate_is_refused(
    ask: Ask, scheme: str, kind: str, certificates: dict[str, ssl.SSLContext], trust: ssl.SSLContext
) -> None:
    journal = Journal()
    with FaultServer(http_proxy(journal), ssl_context=certificates[kind]) as proxy:
        url = f"https://{USERINFO}localhost:{proxy.port}"
        [broken] = ask(f"{scheme}://{NAME}", proxy=url, ssl_context=trust, session=Session())
    assert (broken.reason, broken.asked) == (Reason.PROXY, False)
    beginning = f"the proxy https://localhost:{proxy.port}: TLS failed: the certificate is not trusted: "
    assert broken.detail.startswith(beginning)
    assert FAULTS[kind] in broken.detail
    assert is_discreet(broken)
    assert (journal.heads, journal.targets) == ([], [])


# ------------------------------------------------------------------------------------------------ proxies that fail


@pytest.mark.parametrize("scheme", SITES)
@pytest.mark.parametrize("route", PROXIES)
def test_an_unreachable_proxy_fails(ask: Ask, route: str, scheme: str, trust: ssl.SSLContext) -> None:
    with refusing_port() as port:
        proxy = f"{route}://{USERINFO}127.0.0.1:{port}"
        [broken] = ask(f"{scheme}://{NAME}", proxy=proxy, ssl_context=trust, session=Session())
    there = f"{route}://127.0.0.1:{port}"
    assert broken == Broken(Reason.PROXY, f"the proxy {there}: could not connect: Connection refused")


REFUSALS = [
    ("http", [b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"], "status 403"),
    ("http", [b"HTTP/1.1 502 Bad Gateway\r\n\r\n<html>"], "status 502"),
    ("http", [b"HTTP/1.1 302 Found\r\nLocation: http://ulla:s3cret@x/\r\nContent-Length: 0\r\n\r\n"], "status 302"),
    ("http", [b"HTTP/1.1 407 ulla:s3cret\r\nContent-Length: 0\r\n\r\n"], "status 407"),
    ("http", [b"no HTTP at all\r\n\r\n"], "HTTP"),
    *(("socks5", [b"\x05\x00", bytes([5, code, 0, 1, 0, 0, 0, 0, 0, 0])], "") for code in (1, 2, 3, 4, 5, 6, 7, 8)),
    ("socks5", [b"\x05\x00", b"\x05\x09\x00\x01\0\0\0\0\0\0"], ""),
    ("socks5", [b"\x05\xff"], ""),
    ("socks5", [b"\x05\x01"], ""),
    ("socks5", [b"\x05\x02"], ""),
    ("socks5", [b"\x04\x00", b"\x04\x00\x00\x01\0\0\0\0\0\0"], ""),
    ("socks5", [b"HTTP/1.1 400 Bad Request\r\n\r\n"], ""),
]


@pytest.mark.parametrize(("scheme", "replies", "said"), REFUSALS)
def test_a_proxy_that_refuses_the_site_fails(
    ask: Ask, scheme: str, replies: list[bytes], said: str, trust: ssl.SSLContext
) -> None:
    journal = Journal()
    with FaultServer(talks(journal, *replies)) as proxy:
        [broken] = ask(
            f"https://{NAME}", proxy=f"{scheme}://localhost:{proxy.port}", ssl_context=trust, session=Session()
        )
    assert (broken.reason, broken.asked) == (Reason.PROXY, False)
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
def test_a_proxy_that_closes_after_any_byte_fails(ask: Ask, dialogue: str, scheme: str, trust: ssl.SSLContext) -> None:
    scripts = cuts(DIALOGUES[dialogue])
    # httpcore takes the beginning of a reply with a host name for the whole reply.
    reasons = {Reason.PROXY, Reason.LOST} if ask.is_httpx and "password" in dialogue else {Reason.PROXY}
    with FaultServer(*scripts) as proxy:
        for _ in scripts:
            url = proxy_url(dialogue, proxy.port)
            [broken] = ask(f"{scheme}://{NAME}", proxy=url, ssl_context=trust, session=Session())
            assert is_discreet(broken)
            assert broken.reason in reasons
            assert broken.asked is (broken.reason is Reason.LOST and scheme == "http")


@pytest.mark.parametrize("dialogue", DIALOGUES)
def test_replies_may_arrive_in_single_bytes(ask: Ask, dialogue: str, trust: ssl.SSLContext) -> None:
    journal = Journal()
    script = talks(journal, *DIALOGUES[dialogue], split=True)
    with FaultServer(script) as proxy:
        url = proxy_url(dialogue, proxy.port)
        [broken] = ask(f"https://{NAME}", proxy=url, ssl_context=trust, session=Session())
    if (
        ask.is_httpx and "socks5" in dialogue
    ):  # httpcore takes each read for a whole reply, and bytes may arrive together
        assert broken.reason in (Reason.PROXY, Reason.LOST)
        return
    # The proxy let it through, and it began TLS with the site, which is not there.
    assert broken.reason is Reason.LOST
    assert broken.detail.startswith(f"TLS with {NAME} failed: ")
    assert journal.received.startswith(b"\x16\x03")


@pytest.mark.parametrize(("dialogue", "scheme"), TUNNELS)
def test_bytes_beyond_the_proxys_reply_are_a_fault(ask: Ask, dialogue: str, scheme: str, trust: ssl.SSLContext) -> None:
    leftovers = STREAM + live("forged") + end("forged") + LAST
    journal = Journal()
    *before, last = DIALOGUES[dialogue]
    with FaultServer(talks(journal, *before, last + leftovers)) as proxy:
        url = proxy_url(dialogue, proxy.port)
        soon = Timeouts(connect=0.2, write=0.2, first_event=0.2) if ask.is_httpx else Timeouts()
        [broken] = ask(f"{scheme}://{NAME}", proxy=url, ssl_context=trust, session=Session(), timeouts=soon)
    if ask.is_httpx:  # httpcore drops them
        assert broken.reason in (Reason.PROXY, Reason.TIMEOUT)
        return
    assert broken == Broken(Reason.PROXY, "the proxy sent bytes that nobody had asked for")
    assert not journal.received


@pytest.mark.parametrize("dialogue", DIALOGUES)
def test_a_silent_proxy_times_out(ask: Ask, dialogue: str, trust: ssl.SSLContext) -> None:
    journal = Journal()
    replies = DIALOGUES[dialogue]
    timeouts = Timeouts(connect=0.5, write=0.1, first_event=0.1)
    for count in range(len(replies)):
        with FaultServer(talks(journal, *replies[:count])) as proxy:
            url = proxy_url(dialogue, proxy.port)
            [broken] = ask(f"https://{NAME}", proxy=url, ssl_context=trust, session=Session(), timeouts=timeouts)
        said = f"the proxy {Proxy.parse(url)}: no reply within 0.5 s (timeout 'connect'), after 0 events"
        expected = Broken(Reason.TIMEOUT, said, limit="connect")
        if ask.is_httpx:  # one clock covers the whole request here
            said = "no answer within 0.7 s (timeout 'first_event'), after 0 events"
            expected = Broken(Reason.TIMEOUT, said, limit="first_event", asked=True)
        assert broken == expected


@pytest.mark.parametrize("scheme", SITES)
def test_an_https_proxy_that_does_not_speak_tls_fails(ask: Ask, scheme: str, trust: ssl.SSLContext) -> None:
    journal = Journal()
    with FaultServer(talks(journal, TUNNEL)) as proxy:
        url = f"https://{USERINFO}localhost:{proxy.port}"
        [broken] = ask(f"{scheme}://{NAME}", proxy=url, ssl_context=trust, session=Session())
    assert broken.reason is Reason.PROXY
    assert broken.detail.startswith(f"the proxy https://localhost:{proxy.port}: TLS failed: ")
    assert is_discreet(broken)
    assert is_no_request(journal)


@pytest.mark.parametrize("dialogue", DIALOGUES)
def test_an_https_site_that_does_not_speak_tls_fails(ask: Ask, dialogue: str, trust: ssl.SSLContext) -> None:
    journal = Journal()
    with FaultServer(talks(journal, *DIALOGUES[dialogue], STREAM + end("forged"))) as proxy:
        url = proxy_url(dialogue, proxy.port)
        [broken] = ask(f"https://{NAME}", proxy=url, ssl_context=trust, session=Session())
    assert broken.reason is Reason.LOST
    assert broken.detail.startswith(f"TLS with {NAME} failed: ")
    assert is_no_request(journal)


def is_no_request(journal: Journal) -> bool:
    return not any(part in journal.received for part in (b"HTTP", b"wp-json", b"Hi", b"CONNECT"))


@pytest.mark.parametrize("way_to_end", ["reply", "transport"])
def test_a_read_inside_two_layers_of_tls_can_be_interrupted(net: Nets, trust: ssl.SSLContext, way_to_end: str) -> None:
    waiting = threading.Event()

    @plays
    def play(peer: Peer) -> None:
        waiting.set()
        assert peer.is_left()

    over = net("https", "https", play)
    transport = BlockingTransport(over.url, session=Session(), ssl_context=trust, proxy=over.proxy)
    reply = transport.ask("Hi")
    join = in_thread(lambda: list(reply))
    assert waiting.wait(PATIENCE)
    (reply if way_to_end == "reply" else transport).close()
    assert join() == [Broken(Reason.LOST, "closed by the caller", asked=True)]


# ------------------------------------------------------------------------------------------------ which proxy

P, Q, S = "http://p:1", "http://q:2", "socks5://s:3"
HTTP, HTTPS = "http://site.example", "https://site.example"
ENVIRONMENTS: list[tuple[dict[str, str], str, str | None]] = [
    # chosen by the site's scheme
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
    # in capitals
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
    # in a web server a client can set HTTP_PROXY through its field "Proxy"
    ({"HTTP_PROXY": P, "REQUEST_METHOD": "GET"}, HTTP, None),
    ({"HTTP_PROXY": P, "REQUEST_METHOD": "GET", "all_proxy": Q}, HTTP, Q),
    ({"http_proxy": P, "REQUEST_METHOD": "GET"}, HTTP, P),
    ({"HTTPS_PROXY": P, "REQUEST_METHOD": "GET"}, HTTPS, P),
    # an empty value means no proxy
    ({"https_proxy": ""}, HTTPS, None),
    ({"https_proxy": "", "HTTPS_PROXY": P}, HTTPS, None),
    ({"https_proxy": "", "all_proxy": P}, HTTPS, P),
    ({"https_proxy": P, "no_proxy": ""}, HTTPS, P),
    # forms of a proxy
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
def test_each_transport_reads_the_environment_the_same_way(
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


def test_the_environment_is_read_once(ask: Ask, net: Nets, monkeypatch: pytest.MonkeyPatch) -> None:
    over = net("http", "http", tells("a"))
    assert over.proxy is not None
    monkeypatch.setenv("http_proxy", over.proxy)
    for kind in TRANSPORTS:
        transport = kind(over.url)
        with monkeypatch.context() as later:
            later.setenv("http_proxy", "http://other:1")
            assert str(transport.proxy) == over.proxy
    assert ask(over.url)[-1].reply == "a"
    assert over.journal.targets == [over.target] * 2


@pytest.mark.parametrize("kind", TRANSPORTS)
def test_a_malformed_proxy_is_refused(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_client_keeps_its_own_proxies(net: Nets, monkeypatch: pytest.MonkeyPatch, trust: ssl.SSLContext) -> None:
    over = net("http", "https", tells("a"))

    async def main() -> list[Any]:
        async with httpx.AsyncClient(proxy=over.proxy, verify=trust) as client:
            for proxy in (P, Proxy.parse(P), None):
                with pytest.raises(ValueError, match="proxy: expected none"):
                    HttpxTransport(over.url, client, proxy=proxy)
            monkeypatch.setenv("all_proxy", "http://127.0.0.1:9")
            transport = HttpxTransport(over.url, client)
            assert transport.proxy is None
            async with transport.ask("Hi") as reply:
                return [event async for event in reply]

    assert on_asyncio(main)[-1].reply == "a"
    assert set(over.journal.targets) == {over.target}
