"""Exceptions of an httpx client become events, and the clocks of a question."""

import asyncio
import re
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import httpx
import httpx2
import pytest
import trustme

from opchat_proto import Broken, Limits, Live, Reason, Session
from opchat_transports import Timeouts
from opchat_transports.asyncio_httpx import HttpxTransport
from opchat_transports.testing import Accept, Close, Expect, FaultServer, Run, Write

from .asking import full_queue, linux
from .on_httpx import NO_TRUST, OWN, WAYS, Way, mocked, owns, read, ways
from .peer import PATIENCE, Peer, plays
from .tls import tls_server, trusting
from .wire import STREAM, answers, chunk, live, object_

pytestmark = pytest.mark.usefixtures("asyncio_is_silent")


# ------------------------------------------------------------------------------ what goes wrong


class TimeoutException(Exception):
    pass


class ReadTimeout(TimeoutException):
    pass


class ProxyError(Exception):
    pass


def lost(detail: str, reason: Reason = Reason.LOST, *, asked: bool = True) -> Broken:
    limit = re.search("[(]timeout '(.*)'[)]", detail)
    return Broken(reason, detail, asked=asked, limit=limit and limit[1])


@ways
@pytest.mark.parametrize("notify", [True, False], ids=["end", "cut"])
@pytest.mark.parametrize(
    ("head", "is_delimited"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n", True),
    ],
    ids=["HTTP/1.1", "HTTP/1.0", "with a length"],
)
def test_only_close_notify_ends_a_body_without_a_length_under_tls(
    way: Way, head: bytes, is_delimited: bool, notify: bool, authority: trustme.CA
) -> None:
    script = Expect(), Write(head + b"<p>No."), Close(notify=notify)
    with FaultServer(script, ssl_context=tls_server(authority)) as server:
        events = way.ask(server.url, session=Session(), ssl_context=trusting(authority))
    page = "a web page, not a chat answer: No."
    if notify or is_delimited:
        assert events == [Broken(Reason.MALFORMED, page, raw="<p>No.", asked=True)]
    else:
        detail = f"the connection failed: TLS ended without close_notify; it began as {page}"
        assert events == [Broken(Reason.TRUNCATED, detail, raw="<p>No.", asked=True)]


@ways
@pytest.mark.parametrize("notify", [True, False], ids=["end", "cut"])
def test_a_response_without_a_body_needs_no_close_notify(way: Way, notify: bool, authority: trustme.CA) -> None:
    script = Expect(), Write(b"HTTP/1.1 204 No Content\r\n\r\n"), Close(notify=notify)
    with FaultServer(script, ssl_context=tls_server(authority)) as server:
        events = way.ask(server.url, session=Session(), ssl_context=trusting(authority))
    assert events == [Broken(Reason.REFUSED, "status 204 and no text", status=204, asked=True)]


@pytest.mark.parametrize(
    ("error", "broken"),
    [
        (httpx.RemoteProtocolError("odd"), lost("HTTP: odd", Reason.TRUNCATED)),
        (httpx2.RemoteProtocolError("odd"), lost("HTTP: odd", Reason.TRUNCATED)),
        (
            httpx.RemoteProtocolError("Server disconnected without sending a response."),
            lost("the connection was closed before any answer"),
        ),
        (httpx.ReadError("gone"), lost("the connection failed: gone")),
        (BrokenPipeError(32, "x"), lost("the connection failed: Broken pipe")),
        (httpx2.ConnectError("no"), lost("could not connect: no", asked=False)),
        (
            httpx.ConnectTimeout(""),
            lost("could not connect: no connection within 0.05 s (timeout 'connect')", Reason.TIMEOUT, asked=False),
        ),
        (
            httpx.WriteTimeout(""),
            lost("the request could not be sent: not all of it was taken within 0.05 s (timeout 'write')",
                 Reason.TIMEOUT),
        ),
        (httpx.PoolTimeout("full"), lost("the client gave up: full", Reason.TIMEOUT, asked=False)),
        (ReadTimeout("slow"), lost("the client gave up: slow", Reason.TIMEOUT)),
        (httpx.ProxyError("407 No"), lost("the proxy refused: status 407", Reason.PROXY, asked=False)),
        (ProxyError("bad"), lost("the proxy failed: bad", Reason.PROXY, asked=False)),
        (httpx.InvalidURL("odd"), lost("the client failed: InvalidURL: odd")),
        (KeyError("bug"), lost("the client failed: KeyError: 'bug'")),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)  # fmt: skip
def test_an_exception_of_the_client_is_an_event(error: Exception, broken: Broken) -> None:
    def fail(request: Any) -> Any:
        raise error

    assert mocked(fail) == [broken]


@pytest.mark.parametrize("error", [httpx.ReadError("gone"), KeyError("bug")], ids=["httpx's", "another"])
def test_an_exception_during_the_body_truncates_the_answer(error: Exception) -> None:
    class Breaking(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b'data: {"type":"live","data":"a"}\n\n'
            raise error

    events = mocked(lambda _: httpx.Response(200, stream=Breaking()))
    assert [type(event) for event in events] == [Live, Broken]
    assert events[-1].reason is Reason.TRUNCATED


def test_a_client_that_does_not_answer_times_out() -> None:
    async def hang(request: Any) -> Any:
        await asyncio.Event().wait()

    [broken] = mocked(hang, first_event=0.1)
    assert (broken.reason, broken.limit) == (Reason.TIMEOUT, "first_event")
    assert broken.detail.startswith("no answer within 0.2 s ")


def test_an_interim_response_passed_on_as_final_is_not_awaited_again() -> None:
    asked: list[Any] = []

    def handle(request: Any) -> Any:
        asked.append(request)
        return httpx.Response(103)

    [broken] = mocked(handle)
    assert (broken.reason, len(asked)) == (Reason.TRUNCATED, 1)


def test_a_closed_client_is_an_event() -> None:
    async def main() -> list[Any]:
        client = httpx.AsyncClient(verify=NO_TRUST)
        await client.aclose()
        return await read(HttpxTransport("http://h", client, session=Session()))

    [broken] = OWN.run(main)
    assert broken.detail.startswith("the client failed: RuntimeError: Cannot send a request")


@linux
@ways
def test_the_connect_clock_bounds_the_connection(way: Way) -> None:
    with full_queue() as port:
        timeouts = Timeouts(connect=0.2, write=PATIENCE)
        [broken] = way.ask(f"http://127.0.0.1:{port}", session=Session(), timeouts=timeouts)
    detail = f"could not connect to 127.0.0.1:{port}: no connection within 0.2 s (timeout 'connect')"
    assert broken == lost(detail, Reason.TIMEOUT, asked=False)


@owns
def test_the_write_clock_bounds_the_request(way: Way) -> None:
    over = threading.Event()
    options: dict[str, Any] = {"session": Session(), "limits": Limits(request_bytes=64 * 1024 * 1024)}
    with FaultServer((Accept(), Run(lambda _: over.wait(PATIENCE)))) as server:
        [broken] = way.ask(server.url, "x" * 32_000_000, timeouts=Timeouts(write=0.4), **options)
        over.set()
    detail = "the request could not be sent: not all of it was taken within 0.4 s (timeout 'write')"
    assert broken == lost(detail, Reason.TIMEOUT)


@ways
def test_comments_do_not_move_the_idle_clock(way: Way) -> None:
    @plays
    def play(peer: Peer) -> None:
        peer.send(STREAM, live("a"))
        with suppress(OSError):
            while not peer.is_left(within=0.02):
                peer.send(chunk(b": keepalive\n\n"))

    with FaultServer(play) as server:
        events = way.ask(server.url, session=Session(), timeouts=Timeouts(idle=0.2))
    detail = "no further event of the answer within 0.2 s (timeout 'idle'), after 1 event"
    assert events == [Live("a"), Broken(Reason.TIMEOUT, detail, limit="idle", asked=True)]


def test_comments_that_never_let_other_tasks_run_do_not_stop_the_idle_clock() -> None:
    class Chatter(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b'data: {"type":"live","data":"a"}\n\n'
            while True:
                yield b": keepalive\n\n"

    async def main() -> list[Any]:
        client = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(200, stream=Chatter())))
        timeouts = Timeouts(idle=0.1)
        async with client, HttpxTransport("http://h", client, session=Session(), timeouts=timeouts) as transport:
            return await read(transport)

    detail = "no further event of the answer within 0.1 s (timeout 'idle'), after 1 event"
    assert OWN.run(main) == [Live("a"), Broken(Reason.TIMEOUT, detail, limit="idle", asked=True)]


def test_the_wait_for_a_free_connection_is_bounded() -> None:
    async def main() -> None:
        limits = httpx.Limits(max_connections=1)
        timeouts = Timeouts(connect=0.05, write=0.05, first_event=0.1)
        async with httpx.AsyncClient(verify=NO_TRUST, limits=limits) as client:
            first = HttpxTransport(server.url, client, session=Session())
            second = HttpxTransport(server.url, client, session=Session(), timeouts=timeouts)
            async with first.ask("Hi") as reply:
                await anext(reply)
                [broken] = await read(second)
            assert broken.reason is Reason.TIMEOUT

    with FaultServer(answers(STREAM, live("a"))) as server:
        OWN.run(main)


# ------------------------------------------------------------------------------ TLS


def test_an_untrusted_certificate_is_refused_by_every_client() -> None:
    with FaultServer(answers(object_(429, code="too_many", message="Slow down."))) as server:
        brokens = [way.ask(server.url, session=Session()) for way in WAYS]
    assert [(broken.status, broken.code, broken.detail) for [broken] in brokens] == [
        (429, "too_many", "Slow down.")
    ] * 5
