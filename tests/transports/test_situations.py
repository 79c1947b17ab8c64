"""The events of each transport in the same situation, on each way to the site."""

import _thread
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme

from opchat_proto import Broken, End, Event, Live, Reason, Session
from opchat_transports.testing import FaultServer, Script

from .asking import ASKS, TRANSPORTS, Ask, in_thread
from .peer import PATIENCE, Peer, refusing_port, takes
from .proxies import SITES, Journal, Nets, proxy_of, pump
from .tls import IDN, NAME, tls_server, without_close_notify
from .wire import STREAM, end, live, tells

ROUTES = ["direct", "http", "https", "socks5"]
ASYNC = {name: ask for name, ask in ASKS.items() if ask.run is not None}


@pytest.fixture(autouse=True)
def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Records name lookups. The names of sites resolve to this machine."""
    names: list[str] = []
    system = socket.getaddrinfo

    def look_up(host: Any, port: Any, *arguments: Any, **more: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if "." in name and not name.startswith("127."):
            names.append(name)
        return system("127.0.0.1" if name.removesuffix(".") in (NAME, IDN) else host, port, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return names


@contextmanager
def on_ipv6(port: int) -> Iterator[int]:
    """A port on ::1 that relays one connection."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        listener.settimeout(PATIENCE)

        def run() -> None:
            client, _ = listener.accept()
            with client, socket.create_connection(("127.0.0.1", port)) as site:
                pump(client, site)

        join = in_thread(run)
        yield listener.getsockname()[1]
        assert join() is None


@takes
def plain(peer: Peer) -> None:
    """Answer a handshake with HTTP."""
    peer.socket.recv(1)
    peer.send(b"HTTP/1.1 400 What is this?\r\n\r\n")
    assert peer.is_left()


CUT = b"HTTP/1.1 200 OK\r\n\r\n" + b'data: {"type":"live","data":"a"}\n\n'
ANSWER: list[Event] = [Live("a"), End("a", '{"success": true, "reply": "a"}')]


def not_trusted(why: str) -> list[Event]:
    return [Broken(Reason.LOST, f"TLS with {NAME} failed: the certificate is not trusted: {why}")]


# The site's script, its certificate and name, and the events; without details where the wording is OpenSSL's or
# httpx's.
SITUATIONS: dict[str, tuple[Script, str, str, list[Event]]] = {
    "all is well": (tells("a"), "good", NAME, ANSWER),
    "an address of IPv6": (tells("a"), "good", "[::1]", ANSWER),
    "a name that is not ASCII, as the DNS has it": (tells("a"), "good", IDN, ANSWER),
    "another name in the certificate": (
        tells("a"),
        "wrong name",
        NAME,
        not_trusted(f"Hostname mismatch, certificate is not valid for '{NAME}'."),
    ),
    "a certificate that has expired": (tells("a"), "expired", NAME, not_trusted("certificate has expired")),
    "a certificate signed by itself": (tells("a"), "self-signed", NAME, not_trusted("self-signed certificate")),
    "cut in the answer": (
        without_close_notify(CUT),
        "good",
        NAME,
        [Live("a"), Broken(Reason.TRUNCATED, asked=True)],
    ),
    "cut after the answer": (without_close_notify(STREAM, live("a"), end("a")), "good", NAME, ANSWER),
}


def named(ask: Ask, route: str, host: str) -> str:
    """The target that the proxy sees. httpcore writes an IPv6 address without its brackets."""
    return host.strip("[]") if ask.is_httpx and "http" in route else host


@pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS)
@pytest.mark.parametrize("route", ROUTES)
def test_each_situation_has_its_events(
    ask: Ask,
    net: Nets,
    route: str,
    situation: tuple[Script, str, str, list[Event]],
    trust: ssl.SSLContext,
) -> None:
    script, kind, host, expected = situation
    over = net(route, "https", script, kind)
    with ExitStack() as stack:
        port = over.site.port
        if host == "[::1]" and over.proxy is None:
            port = stack.enter_context(on_ipv6(port))
        events = ask(f"https://{host}:{port}", proxy=over.proxy, ssl_context=trust, session=Session())
    if isinstance(expected[-1], Broken) and not expected[-1].detail:
        events[-1] = replace(events[-1], detail="")
    assert events == expected
    assert over.journal.targets == ([] if over.proxy is None else [f"{named(ask, route, host)}:{port}"])
    assert [request.raw.count(f"\r\nHost: {host}:{port}\r\n".encode()) for request in over.site.requests] == (
        [] if "TLS" in getattr(expected[-1], "detail", "") else [1]
    )


@pytest.mark.parametrize("route", ROUTES)
def test_an_ipv6_address_works_without_tls(ask: Ask, net: Nets, route: str, trust: ssl.SSLContext) -> None:
    over = net(route, "http", tells("a"))
    with ExitStack() as stack:
        port = over.site.port if over.proxy else stack.enter_context(on_ipv6(over.site.port))
        assert ask(f"http://[::1]:{port}", proxy=over.proxy, ssl_context=trust, session=Session()) == ANSWER
    assert over.journal.targets == ([f"{named(ask, route, '[::1]')}:{port}"] if over.proxy else [])
    assert f"\r\nHost: [::1]:{port}\r\n".encode() in over.site.requests[0].raw


@pytest.mark.parametrize("route", ROUTES)
def test_a_site_works_without_tls(ask: Ask, net: Nets, route: str, trust: ssl.SSLContext) -> None:
    over = net(route, "http", plain)
    [broken] = ask(f"https://{NAME}:{over.site.port}", proxy=over.proxy, ssl_context=trust, session=Session())
    assert broken.detail.startswith(f"TLS with {NAME} failed: ")
    assert replace(broken, detail="") == Broken(Reason.LOST)


@pytest.mark.parametrize("scheme", SITES)
@pytest.mark.parametrize("route", ROUTES)
def test_an_unreachable_site_is_lost(ask: Ask, net: Nets, route: str, scheme: str, trust: ssl.SSLContext) -> None:
    over = net(route, scheme, tells("a"))
    with refusing_port() as port:
        [broken] = ask(f"{scheme}://{NAME}:{port}", proxy=over.proxy, ssl_context=trust, session=Session())
    if route == "direct":
        assert broken == Broken(Reason.LOST, f"could not connect to {NAME}:{port}: Connection refused")
    elif route == "socks5":
        assert "onnection refused" in broken.detail
        assert replace(broken, detail="") == Broken(Reason.PROXY)
    elif scheme == "https":
        assert broken == Broken(Reason.PROXY, "the proxy refused: status 502")
    else:  # the proxy answers instead of the site, which nobody can detect
        assert (broken.reason, broken.status) == (Reason.REFUSED, 502)


@pytest.mark.parametrize("route", ROUTES)
def test_a_trailing_dot_stays_in_dns_and_host_and_leaves_tls(
    ask: Ask,
    route: str,
    looked_up: list[str],
    authority: trustme.CA,
    certificates: dict[str, ssl.SSLContext],
    trust: ssl.SSLContext,
) -> None:
    """The dot is for the DNS and the site, but not for TLS."""
    journal = Journal()
    called: list[str | None] = []
    context = tls_server(authority, NAME)
    context.sni_callback = lambda _, name, __: called.append(name)
    tls = certificates["good"] if route == "https" else None
    with (
        FaultServer(tells("a"), ssl_context=context) as site,
        FaultServer(proxy_of(route, journal), ssl_context=tls) as proxy,
    ):
        target = f"{NAME}.:{site.port}"
        url = None if route == "direct" else f"{route}://localhost:{proxy.port}"
        events = ask(f"https://{target}", proxy=url, ssl_context=trust, session=Session())
    if ask.is_httpx and "http" in route:  # inside a tunnel, httpcore keeps the trailing dot
        assert called == [f"{NAME}."]
        return
    assert events == ANSWER
    assert called == [NAME]
    assert f"\r\nHost: {target}\r\n".encode() in site.requests[0].raw
    assert looked_up == ([f"{NAME}."] if url is None else [])
    assert journal.targets == ([] if url is None else [target])


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
def test_a_system_without_threads_to_look_up_names_is_lost(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may have few threads. The event loops' libraries keep some, so here only the lookup fails."""

    def no_thread(*_: object, flags: int = 0, **__: object) -> Any:
        raise OSError if flags else RuntimeError("can't start new thread")  # flags: a lookup that needs no thread

    monkeypatch.setattr(socket, "getaddrinfo", no_thread)
    monkeypatch.setattr(_thread, "start_new_thread", no_thread)
    [broken] = ask(f"http://{NAME}", session=Session())
    if ask.is_httpx:
        assert broken == Broken(Reason.LOST, "the client failed: RuntimeError: can't start new thread", asked=True)
    else:
        assert broken == Broken(Reason.LOST, f"could not connect to {NAME}:80: can't start new thread")


@pytest.mark.parametrize("kind", TRANSPORTS)
def test_a_name_that_is_not_ascii_is_refused(kind: Any) -> None:
    """The endpoint accepts its ASCII form."""
    with pytest.raises(ValueError, match="ASCII"):
        kind("https://bücher.example")
    assert repr(kind(f"http://{IDN}")) == f"<{kind.__name__} to http://{IDN}>"


@pytest.mark.parametrize("variable", ["SSLKEYLOGFILE", "SSL_CERT_FILE"])
@pytest.mark.parametrize(("scheme", "route"), [(scheme, route) for scheme in SITES for route in ROUTES])
@pytest.mark.parametrize("kind", TRANSPORTS)
def test_a_file_that_openssl_cannot_read_is_named(
    kind: Any, scheme: str, route: str, variable: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = str(tmp_path / "nowhere" / "file")
    monkeypatch.setenv(variable, path)
    proxy = None if route == "direct" else f"{route}://localhost"

    def make() -> Any:
        return kind(f"{scheme}://{NAME}", proxy=proxy)

    if "https" not in (scheme, route):
        assert make().session is None
    else:
        with pytest.raises(FileNotFoundError, match=rf"No such file or directory \({variable}\)") as caught:
            make()
        assert caught.value.filename == path


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("ask", ASYNC.values(), ids=ASYNC)
def test_a_transport_in_a_second_event_loop_is_an_error(ask: Ask, net: Nets, route: str, trust: ssl.SSLContext) -> None:
    over = net(route, "https", tells("a"))
    transport = ask.kind(f"https://{NAME}:{over.site.port}", proxy=over.proxy, ssl_context=trust)

    async def main() -> list[Event]:
        async with transport.ask("Hi") as reply:
            return [event async for event in reply]

    run: Callable[..., Any] = ask.run or (lambda _: None)
    unread = transport.ask("Hi")
    assert run(main) == ANSWER
    for work in (main, unread.aclose):
        with pytest.raises(RuntimeError, match="belongs to another event loop"):
            run(work)
    assert over.site.routes == ("start_session", "submit")
