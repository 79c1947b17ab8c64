"""Which clock runs in which phase, on every way to a site, and the socket options of the connections."""

import os
import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from opchat_proto import Broken, Limits, Live, Reason, Session
from opchat_transports import Timeouts
from opchat_transports.testing import Accept, Expect, FaultServer, Repeat, Stall, Write

from .asking import ASKS, EACH, Ask, linux
from .peer import Peer, takes
from .proxies import SITES, Nets
from .tls import NAME
from .wire import LAST, SESSION, STREAM, chunk, end, live

ROUTES = ["direct", "http", "https", "socks5"]
PROXIES = ROUTES[1:]
SOON = 0.3  # seconds; on a busy machine a tenth is too short for a connection on loopback
ENOUGH = 0.4  # seconds, for the handshake with a proxy before it
LATER = 20.0
ANSWER = STREAM + end("a") + LAST


@pytest.fixture(params=EACH)
def ask(request: pytest.FixtureRequest) -> Ask:
    """Each of the transports, asyncio's on uvloop too."""
    return EACH[request.param]


IS_SILENT = (Accept(), Stall())


def timed_out(detail: str, limit: str, events: int = 0, *, seconds: float = SOON, **more: Any) -> Broken:
    counted = f"{events} event{'' if events == 1 else 's'}"
    words = f"{detail} within {seconds:g} s (timeout '{limit}'), after {counted}"
    return Broken(Reason.TIMEOUT, words, limit=limit, **more)


def not_connected(ask: Ask, where: str, what: str, seconds: float = SOON) -> Broken:
    """The connect clock ran out. While httpcore connects, the detail is httpcore's."""
    if ask.is_httpx:
        return Broken(Reason.TIMEOUT, f"{where}: no connection within {seconds} s (timeout 'connect')", limit="connect")
    return timed_out(f"{where}: {what}", "connect", seconds=seconds)


# ------------------------------------------------------------------------------------------------ before the request


@linux
@pytest.mark.parametrize("scheme", SITES)
@pytest.mark.parametrize("route", ROUTES)
def test_without_a_connection_the_connect_clock_runs_out(
    ask: Ask, route: str, scheme: str, full_port: int, trust: ssl.SSLContext
) -> None:
    there = f"127.0.0.1:{full_port}"
    url, proxy = (f"{scheme}://{there}", None) if route == "direct" else (f"{scheme}://{NAME}", f"{route}://{there}")
    timeouts = Timeouts(connect=SOON)
    events = ask(url, proxy=proxy, ssl_context=trust, session=Session(), timeouts=timeouts)
    where = f"could not connect to {there}" if route == "direct" else f"the proxy {proxy}: could not connect"
    assert events == [not_connected(ask, where, "no connection")]


@pytest.mark.parametrize("scheme", SITES)
def test_a_proxy_that_stalls_during_its_handshake_times_out(ask: Ask, scheme: str, trust: ssl.SSLContext) -> None:
    with FaultServer(IS_SILENT) as proxy:
        url = f"https://localhost:{proxy.port}"
        timeouts = Timeouts(connect=ENOUGH)
        events = ask(f"{scheme}://{NAME}", proxy=url, ssl_context=trust, session=Session(), timeouts=timeouts)
    assert events == [not_connected(ask, f"the proxy {url}: TLS failed", "no handshake", ENOUGH)]


@pytest.mark.parametrize("route", PROXIES)
def test_a_proxy_that_does_not_reply_times_out(
    ask: Ask, route: str, certificates: dict[str, ssl.SSLContext], trust: ssl.SSLContext
) -> None:
    with FaultServer(IS_SILENT, ssl_context=certificates["good"] if route == "https" else None) as proxy:
        url = f"{route}://localhost:{proxy.port}"
        timeouts = Timeouts(connect=ENOUGH, first_event=SOON, write=ENOUGH)
        events = ask(f"https://{NAME}", proxy=url, ssl_context=trust, session=Session(), timeouts=timeouts)
    expected = timed_out(f"the proxy {url}: no reply", "connect", seconds=ENOUGH)
    if ask.is_httpx:  # one clock covers the whole request here
        expected = timed_out("no answer", "first_event", seconds=ENOUGH * 2 + SOON, asked=True)
    assert events == [expected]


@pytest.mark.parametrize("route", ROUTES)
def test_a_site_that_stalls_during_its_handshake_times_out(
    ask: Ask, net: Nets, route: str, trust: ssl.SSLContext
) -> None:
    over = net(route, "http", IS_SILENT)
    url = over.url.replace("http:", "https:")
    timeouts = Timeouts(connect=ENOUGH, first_event=LATER)
    events = ask(url, proxy=over.proxy, ssl_context=trust, session=Session(), timeouts=timeouts)
    name = "localhost" if route == "direct" else NAME
    assert events == [not_connected(ask, f"TLS with {name} failed", "no handshake", ENOUGH)]


# ------------------------------------------------------------------------------------------------ during the answer


@pytest.mark.parametrize("scheme", SITES)
@pytest.mark.parametrize("route", ROUTES)
def test_without_an_answer_of_start_session_the_first_event_clock_runs_out(
    ask: Ask, net: Nets, route: str, scheme: str, trust: ssl.SSLContext
) -> None:
    over = net(route, scheme, (Expect("start_session"), Stall()))
    timeouts = Timeouts(connect=ENOUGH, write=ENOUGH, first_event=SOON, idle=LATER)
    seconds = ENOUGH * 2 + SOON if ask.is_httpx else SOON
    assert ask(over.url, proxy=over.proxy, ssl_context=trust, timeouts=timeouts) == [
        timed_out("start_session: no answer", "first_event", seconds=seconds, in_session=True)
    ]


@pytest.mark.parametrize("scheme", SITES)
@pytest.mark.parametrize("route", ROUTES)
def test_without_an_event_the_first_event_clock_runs_out(
    ask: Ask, net: Nets, route: str, scheme: str, trust: ssl.SSLContext
) -> None:
    over = net(route, scheme, (Write(STREAM), Stall()))
    timeouts = Timeouts(connect=LATER, first_event=SOON, idle=LATER)
    assert ask(over.url, proxy=over.proxy, ssl_context=trust, session=Session(), timeouts=timeouts) == [
        timed_out("no event of the answer", "first_event", asked=True)
    ]


@pytest.mark.parametrize("scheme", SITES)
@pytest.mark.parametrize("route", ROUTES)
def test_comments_after_an_event_do_not_stop_the_idle_clock(
    ask: Ask, net: Nets, route: str, scheme: str, trust: ssl.SSLContext
) -> None:
    over = net(route, scheme, (Write(STREAM + live("a")), Repeat(chunk(b": keepalive\n\n"), gap=SOON / 10)))
    timeouts = Timeouts(connect=LATER, first_event=LATER, idle=SOON)
    assert ask(over.url, proxy=over.proxy, ssl_context=trust, session=Session(), timeouts=timeouts) == [
        Live("a"),
        timed_out("no further event of the answer", "idle", 1, asked=True),
    ]


@pytest.mark.parametrize("route", ROUTES)
def test_a_question_that_the_server_does_not_read_times_out(
    ask: Ask, net: Nets, route: str, trust: ssl.SSLContext
) -> None:
    @takes
    def play(_: Peer) -> None:
        assert left.wait(LATER)

    left = threading.Event()
    over = net(route, "https", play)
    try:
        [broken] = ask(
            over.url,
            question="x" * 32_000_000,
            proxy=over.proxy,
            ssl_context=trust,
            timeouts=Timeouts(connect=LATER, write=0.5, first_event=LATER),
            limits=Limits(request_bytes=64 * 1024 * 1024),
            session=Session(),
        )
    finally:
        left.set()
    said = "the request could not be sent: not all of it was taken"
    if ask.is_httpx:
        assert broken == Broken(Reason.TIMEOUT, f"{said} within 0.5 s (timeout 'write')", limit="write", asked=True)
    else:
        assert broken == timed_out(said, "write", seconds=0.5, asked=True)


# ------------------------------------------------------------------------------------------------ options


@linux
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)  # uvloop's sockets are not Python's
def test_keep_alive_is_on(ask: Ask, net: Nets, route: str, trust: ssl.SSLContext) -> None:
    seen: list[tuple[int, ...]] = []
    names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_NODELAY")

    @takes
    def play(peer: Peer) -> None:
        request = peer.read()  # by then the client has set the options of its connection
        first_hop = over.site.port if over.proxy is None else int(over.proxy.rpartition(":")[2])
        for file in Path("/proc/self/fd").iterdir():
            with suppress(OSError):  # it was closed meanwhile, or is not connected
                if os.readlink(file).startswith("socket:"):
                    with socket.socket(fileno=os.dup(int(file.name))) as each:
                        if each.getpeername()[1:2] == (first_hop,):
                            values = [each.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names]
                            seen.append((each.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), *values))
        peer.send(SESSION if b"start_session" in request else ANSWER)

    over = net(route, "http", play)
    assert ask(over.url, proxy=over.proxy, ssl_context=trust)[-1].reply == "a"
    assert len(seen) >= 2
    assert set(seen) == {(1, 60, 60, 5, 1)}
