"""Which clock runs in which phase, on every way to a site, and the options of the connections there."""

import gc
import socket
import ssl
import threading
from contextlib import suppress
from typing import Any

import pytest
import trustme

from opchat_proto import Broken, Limits, Live, Reason, Session
from opchat_transports import Timeouts

from .proxies import Journal, http_proxy, socks_proxy
from .scripted import SESSION, STREAM, Peer, Script, Scripted, chunk, live, tells
from .test_blocking import full_port, linux
from .test_proxies import NAME, PROXIES, ROUTES, SITES, Ask, ask, authority, certificate, trust

__all__ = ["ask", "authority", "full_port", "trust"]  # fixtures

SOON = 0.3
LATER = 20.0


@pytest.fixture(scope="module")
def tls(authority: trustme.CA) -> ssl.SSLContext:
    return certificate("good", authority)


def is_silent(peer: Peer) -> None:
    assert peer.is_left()


def asked_through(ask: Ask, route: str, scheme: str, script: Script, tls: ssl.SSLContext, **options: Any) -> list[Any]:
    """Ask a site that plays a script, by some route."""
    with Scripted(script, tls=tls if scheme == "https" else None) as site:
        if route == "direct":
            return ask(f"{scheme}://localhost:{site.port}", proxy=None, **options)
        proxied = socks_proxy(Journal()) if "socks" in route else http_proxy(Journal())
        with Scripted(proxied, tls=tls if route == "https" else None) as proxy:
            return ask(f"{scheme}://{NAME}:{site.port}", proxy=f"{route}://localhost:{proxy.port}", **options)


def timed_out(what: str, clock: str, events: int = 0) -> Broken:
    counted = f"{events} event{'' if events == 1 else 's'}"
    return Broken(Reason.TIMEOUT, f"{what} within {SOON} s (timeout '{clock}'), after {counted}")


# ------------------------------------------------------------------------------------------------ on the way


@linux
@pytest.mark.parametrize("scheme", SITES)
@pytest.mark.parametrize("route", PROXIES)
def test_no_connection_to_the_proxy(ask: Ask, route: str, scheme: str, full_port: int, trust: ssl.SSLContext) -> None:
    url = f"{route}://127.0.0.1:{full_port}"
    timeouts = Timeouts(connect=SOON)
    events = ask(f"{scheme}://{NAME}", proxy=url, ssl_context=trust, session=Session(), timeouts=timeouts)
    assert events == [timed_out(f"no connection to 127.0.0.1:{full_port}", "connect")]


@pytest.mark.parametrize("scheme", SITES)
def test_a_proxy_that_stalls_in_the_handshake(ask: Ask, scheme: str, trust: ssl.SSLContext) -> None:
    with Scripted(is_silent) as proxy:
        url = f"https://localhost:{proxy.port}"
        timeouts = Timeouts(connect=SOON)
        events = ask(f"{scheme}://{NAME}", proxy=url, ssl_context=trust, session=Session(), timeouts=timeouts)
    assert events == [timed_out("no connection to localhost with TLS", "connect")]


@pytest.mark.parametrize("route", PROXIES)
def test_a_proxy_that_does_not_reply(ask: Ask, route: str, tls: ssl.SSLContext, trust: ssl.SSLContext) -> None:
    with Scripted(is_silent, tls=tls if route == "https" else None) as proxy:
        url = f"{route}://localhost:{proxy.port}"
        timeouts = Timeouts(connect=SOON, first_event=LATER)
        events = ask(f"https://{NAME}", proxy=url, ssl_context=trust, session=Session(), timeouts=timeouts)
    assert events == [timed_out("no reply of the proxy", "connect")]


@pytest.mark.parametrize("route", ROUTES)
def test_a_site_that_stalls_in_the_handshake(ask: Ask, route: str, tls: ssl.SSLContext, trust: ssl.SSLContext) -> None:
    def play(peer: Peer) -> None:
        peer.socket.recv(1, socket.MSG_PEEK)
        is_silent(peer)

    with Scripted(play) as site:
        journal = Journal()
        proxied = socks_proxy(journal) if "socks" in route else http_proxy(journal)
        with Scripted(proxied, tls=tls if route == "https" else None) as proxy:
            name = "localhost" if route == "direct" else NAME
            options: dict[str, Any] = {"proxy": None if route == "direct" else f"{route}://localhost:{proxy.port}"}
            timeouts = Timeouts(connect=SOON, first_event=LATER)
            options |= {"ssl_context": trust, "session": Session(), "timeouts": timeouts}
            assert ask(f"https://{name}:{site.port}", **options) == [
                timed_out(f"no connection to {name} with TLS", "connect")
            ]


# ------------------------------------------------------------------------------------------------ of the answer


@pytest.mark.parametrize("scheme", SITES)
@pytest.mark.parametrize("route", ROUTES)
def test_the_clocks_of_the_answer(
    ask: Ask, route: str, scheme: str, tls: ssl.SSLContext, trust: ssl.SSLContext
) -> None:
    def no_session(peer: Peer) -> None:
        peer.read()
        is_silent(peer)

    def no_head(peer: Peer) -> None:
        peer.read()
        peer.send(SESSION)
        no_session(peer)

    def comments(peer: Peer) -> None:
        peer.read()
        peer.send(STREAM, live("a"))
        with suppress(OSError):
            while not peer.is_left(SOON / 10):
                peer.send(chunk(b": keepalive\n\n"))

    soon = Timeouts(connect=LATER, first_event=SOON, idle=LATER)
    options: dict[str, Any] = {"ssl_context": trust, "timeouts": soon}
    [broken] = asked_through(ask, route, scheme, no_session, tls, **options)
    assert broken == timed_out("start_session: no answer", "first_event")
    [broken] = asked_through(ask, route, scheme, no_head, tls, **options)
    assert broken == timed_out("no event of the answer", "first_event")

    options |= {"timeouts": Timeouts(connect=LATER, first_event=LATER, idle=SOON), "session": Session()}
    first, broken = asked_through(ask, route, scheme, comments, tls, **options)
    assert first == Live("a")
    assert broken == timed_out("no further event of the answer", "idle", 1)


@pytest.mark.parametrize("route", ROUTES)
def test_a_question_that_nobody_takes(ask: Ask, route: str, tls: ssl.SSLContext, trust: ssl.SSLContext) -> None:
    def play(peer: Peer) -> None:
        assert left.wait(LATER)

    def ask_and_leave(url: str, **options: Any) -> list[Any]:
        try:
            return ask(url, question="x" * 32_000_000, **options)
        finally:
            left.set()

    left = threading.Event()
    timeouts = Timeouts(connect=LATER, write=1.0, first_event=0.1)
    limits = Limits(request_bytes=64 * 1024 * 1024)
    options: dict[str, Any] = {"ssl_context": trust, "timeouts": timeouts, "limits": limits, "session": Session()}
    [broken] = asked_through(ask_and_leave, route, "https", play, tls, **options)
    detail = "the request could not be sent within 1 s (timeout 'write'), after 0 events"
    assert broken == Broken(Reason.TIMEOUT, detail)


# ------------------------------------------------------------------------------------------------ options


@linux
@pytest.mark.parametrize("route", ROUTES)
def test_the_system_looks_after_a_connection_that_is_silent(
    ask: Ask, route: str, tls: ssl.SSLContext, trust: ssl.SSLContext
) -> None:
    seen: list[tuple[int, ...]] = []
    first_hop = 0

    def play(peer: Peer) -> None:
        peer.read()  # start_session, so the client has done what it does when it has connected
        for each in [each for each in gc.get_objects() if isinstance(each, socket.socket)]:
            with suppress(OSError):
                if each.getpeername()[1:2] == (first_hop,):
                    names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_NODELAY")
                    values = [each.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names]
                    seen.append((each.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), *values))
        peer.send(SESSION)
        tells("a")(peer)

    with Scripted(play) as site:
        proxied = socks_proxy(Journal()) if "socks" in route else http_proxy(Journal())
        with Scripted(proxied, tls=tls if route == "https" else None) as proxy:
            first_hop = site.port if route == "direct" else proxy.port
            url = None if route == "direct" else f"{route}://localhost:{proxy.port}"
            events = ask(f"http://localhost:{site.port}", proxy=url, ssl_context=trust)
    assert events[-1].reply == "a"
    assert seen
    assert set(seen) == {(1, 60, 60, 5, 1)}
