"""What is particular to `HttpxTransport`: clients of httpx and httpx2, on asyncio and trio."""

import gzip
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from types import ModuleType
from typing import Any

import httpx
import httpx2
import pytest

from opchat_proto import End, Reason, Session
from opchat_transports import AsyncTransport, asyncio_httpx
from opchat_transports.asyncio_httpx import HttpxTransport
from opchat_transports.testing import Expect, FaultServer, Run

from .on_httpx import CALLERS, NO_TRUST, OWN, Way, mocked, named, owns, read, ways
from .peer import PATIENCE, Peer, plays
from .wire import LAST, SESSION, STREAM, answer, answers, chunk, end, live, serves, tells

pytestmark = pytest.mark.usefixtures("asyncio_is_silent")

callers = pytest.mark.parametrize("way", CALLERS, ids=named)

TOLD = b'data: {"type":"end","data":"{\\"success\\":true,\\"reply\\":\\"a\\"}"}\n\n'


def telling(request: Any) -> Any:
    return httpx.Response(200, content=TOLD)


# ------------------------------------------------------------------------------ questions


@owns
def test_its_own_client_opens_a_connection_for_each_request_and_says_so(way: Way) -> None:
    with FaultServer(tells("Hel", "lo")) as server:
        assert way.ask(server.url)[-1].reply == "Hello"
    assert (server.routes, len(server.visits)) == (("start_session", "submit"), 2)
    assert [request.raw.count(b"\r\nConnection: close\r\n") for request in server.requests] == [1, 1]
    assert all(request.raw.lower().count(b"\r\nconnection:") == 1 for request in server.requests)


@callers
def test_a_callers_client_keeps_its_connection(way: Way) -> None:
    async def main() -> None:
        async with way.opened(server.url) as transport:
            for _ in range(3):
                assert (await read(transport))[-1].reply == "a"

    with FaultServer(serves(STREAM, live("a"), end("a"), LAST)) as server:
        way.run(main)
    assert (server.routes, len(server.visits)) == (("start_session", *["submit"] * 3), 1)


def test_plain_permalinks_are_sent_unchanged() -> None:
    with FaultServer(tells("a")) as server:
        OWN.ask(f"{server.url}/blog/?rest_route=/", session=Session())
    assert server.requests[0].target == "/blog/?rest_route=/mwai-ui/v1/chats/submit"


def test_its_own_client_follows_no_redirect_and_keeps_no_cookie() -> None:
    fields = b"\r\nSet-Cookie: a=b; Path=/\r\nSet-Cookie: mwai_session_id=me\r\n"
    session = (Expect("start_session"), *answers(SESSION.replace(b"\r\n", fields, 1)))
    with FaultServer(session, answers(answer(b"", 302, Location="http://elsewhere.example/"))) as server:
        [broken] = OWN.ask(server.url)
    assert (broken.reason, broken.status, len(server.visits)) == (Reason.REFUSED, 302, 2)
    assert "http://elsewhere.example/" in broken.detail
    assert b"\r\nCookie: mwai_session_id=me\r\n" in server.requests[1].raw


def test_its_own_client_ignores_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultServer(tells("a")) as server:
        transport = HttpxTransport(server.url, proxy=None, session=Session())
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")

        async def main() -> list[Any]:
            async with transport:
                return await read(transport)

        assert OWN.run(main)[-1].reply == "a"


def test_it_implements_the_protocol_with_clients_of_both_libraries() -> None:
    transports: list[AsyncTransport] = [
        HttpxTransport("http://h"),
        HttpxTransport("http://h", httpx.AsyncClient(verify=NO_TRUST)),
        HttpxTransport("http://h", httpx2.AsyncClient(verify=NO_TRUST)),
    ]
    assert [transport.session for transport in transports] == [None] * 3


def test_an_unusable_client_is_refused_at_once() -> None:
    client = httpx.AsyncClient(verify=NO_TRUST)
    with pytest.raises(TypeError, match="client: expected an AsyncClient, got Client"):
        HttpxTransport("http://h", httpx.Client(verify=NO_TRUST))
    with pytest.raises(ValueError, match="ssl_context: expected none, since the client has its own"):
        HttpxTransport("http://h", client, ssl_context=NO_TRUST)
    with pytest.raises(ValueError, match="proxy: expected none, since the client has its own"):
        HttpxTransport("http://h", client, proxy=None)
    assert repr(HttpxTransport("http://h").ask("x")) == "<HttpxReply of <HTTPCall to http://h SESSION after 0 events>>"


def test_the_trust_store_is_loaded_only_if_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[ssl.SSLContext] = []

    def make(*arguments: Any, **options: Any) -> ssl.SSLContext:
        made.append(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        return made[-1]

    client = httpx.AsyncClient(verify=NO_TRUST)
    monkeypatch.setattr(ssl, "create_default_context", make)
    HttpxTransport("http://h")
    HttpxTransport("https://h", client)
    assert made == []
    HttpxTransport("https://h")
    assert len(made) == 1


# ------------------------------------------------------------------------------ the caller's client


def test_the_callers_hooks_auth_headers_and_mounts_apply() -> None:
    asked: list[Any] = []
    answered: list[int] = []

    async def before(request: Any) -> None:
        request.headers["X-Hook"] = "1"

    async def after(response: Any) -> None:
        answered.append(response.status_code)
        await response.aread()  # as hooks that log bodies do

    def handle(request: Any) -> Any:
        asked.append(request)
        return telling(request)

    def unused(request: Any) -> Any:
        raise AssertionError("the mount should have been used")

    hooks = {"request": [before], "response": [after]}
    mounts = {"http://h": httpx.MockTransport(handle)}
    events = mocked(unused, auth=("me", "secret"), headers={"X-Mine": "2"}, event_hooks=hooks, mounts=mounts)
    assert events[-1].reply == "a"
    [request] = asked
    assert (request.headers["X-Hook"], request.headers["X-Mine"]) == ("1", "2")
    assert request.headers["Authorization"].startswith("Basic ")
    assert (request.headers["X-WP-Nonce"], request.headers["Accept-Encoding"]) == ("n", "identity")
    assert request.headers["Connection"] == "keep-alive"
    assert answered == [200]


def test_a_hook_that_reads_and_inflates_the_body_is_harmless() -> None:
    async def hook(response: Any) -> None:
        await response.aread()

    class Compressed(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield gzip.compress(TOLD)

    def handle(request: Any) -> Any:
        return httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=Compressed())

    assert mocked(handle, event_hooks={"response": [hook]})[-1].reply == "a"
    assert mocked(handle)[-1].reason is Reason.MALFORMED  # not requested


@pytest.mark.parametrize("module", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_a_hook_that_raises_for_the_status_does_not_hide_the_refusal(module: ModuleType) -> None:
    async def hook(response: Any) -> None:
        response.raise_for_status()

    def handle(request: Any) -> Any:
        return module.Response(429, headers={"Retry-After": "7"})

    [broken] = mocked(handle, module, event_hooks={"response": [hook]})
    assert (broken.reason, broken.status, broken.retry_after) == (Reason.REFUSED, 429, 7)


def test_the_callers_cookies_are_not_sent() -> None:
    asked: list[Any] = []

    def handle(request: Any) -> Any:
        asked.append(request)
        return telling(request)

    assert mocked(handle, cookies={"wordpress_logged_in": "me"})[-1].reply == "a"
    assert "Cookie" not in asked[0].headers


@callers
def test_the_rest_after_the_last_event_is_read_so_that_the_connection_can_be_reused(way: Way) -> None:
    ended = threading.Event()

    def wait(_: socket.socket) -> None:
        assert ended.wait(PATIENCE)
        ended.clear()

    once = (Expect(), *answers(STREAM, end("a")), Run(wait), *answers(chunk(b": bye\n\n"), LAST))

    async def main() -> None:
        async with way.opened(server.url, session=Session()) as transport:
            for _ in range(2):
                async with transport.ask("Hi") as reply:
                    async for event in reply:
                        assert isinstance(event, End)
                        ended.set()

    with FaultServer(once * 2) as server:
        way.run(main)
    assert len(server.visits) == 1


@ways
@pytest.mark.parametrize("rest", [b"", chunk(b"x" * 65536)], ids=["silence", "endless"])
def test_the_rest_is_not_awaited(way: Way, rest: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    # With its own client it is not read at all.
    monkeypatch.setattr(asyncio_httpx, "_REST_WITHIN", 0.05 if not rest and way.module else PATIENCE)

    @plays
    def play(peer: Peer) -> None:
        with suppress(OSError):
            peer.send(STREAM, end("a"))
            while rest:
                peer.send(rest)
        assert peer.is_left(PATIENCE / 2)

    with FaultServer(play) as server:
        assert way.ask(server.url, session=Session())[-1].reply == "a"
