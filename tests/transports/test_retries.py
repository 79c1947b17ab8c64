import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator
from itertools import pairwise
from typing import Any

import anyio
import httpx
import pytest
import trio
import trio.testing

from opchat_proto import Broken, End, Event, Live, Reason, Session
from opchat_transports._common import Retries
from opchat_transports.asyncio_httpx import AsyncioTransport
from opchat_transports.blocking_sockets import BlockingTransport
from opchat_transports.trio_streams import TrioTransport

from .scenarios import SAID, Fixed, free_port, put_off, replies, says, serves
from .scripted import Peer, Scripted


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left() -> Iterator[None]:
    yield
    gc.collect()  # what was not closed is a ResourceWarning, which is an error


def on_asyncio(main: Callable[[], Any]) -> Any:
    return asyncio.run(main())


# ------------------------------------------------------------------------------------------------ the policy


LOST, PROXY, TIMEOUT = (Broken(reason) for reason in (Reason.LOST, Reason.PROXY, Reason.TIMEOUT))


@pytest.mark.parametrize(
    ("event", "made", "submit_started", "seconds"),
    [
        # nobody was reached: half way between 0.5 and a bound that doubles up to 8
        (LOST, 0, False, 0.75),
        (LOST, 1, False, 1.25),
        (LOST, 2, False, 2.25),
        (LOST, 3, False, 4.25),
        (LOST, 4, False, 4.25),
        (LOST, 1999, False, 4.25),
        (LOST, 2000, False, None),
        (PROXY, 0, False, 0.75),
        (TIMEOUT, 0, False, 0.75),
        # somebody may have been
        (LOST, 0, True, None),
        (PROXY, 0, True, None),
        (TIMEOUT, 0, True, None),
        # put off
        *(
            (Broken(Reason.REFUSED, "Later.", status, retry_after=after), made, started, seconds)
            for status in (429, 503)
            for made in (0, 1999)
            for started in (False, True)
            for after, seconds in ((0, 0), (1, 1), (30, 30), (31, 30), (86400, 30), (None, None))
        ),
        (Broken(Reason.REFUSED, "Later.", 429, retry_after=1), 2000, False, None),
        # what will not be another time
        *(
            (Broken(Reason.REFUSED, "No.", status, retry_after=1), 0, True, None)
            for status in (301, 401, 403, 500, 502)
        ),
        *(
            (Broken(reason), 0, started, None)
            for reason in (Reason.REMOTE, Reason.REFUSED, Reason.MALFORMED, Reason.TRUNCATED, Reason.TOO_LARGE)
            for started in (False, True)
        ),
        (End("a"), 0, True, None),
        (Live("a"), 0, True, None),
    ],
)
def test_what_is_repeated_and_when(event: Event, made: int, submit_started: bool, seconds: float | None) -> None:
    assert Retries(2000, Fixed(0.5)).decide([event], made, submit_started=submit_started) == seconds


def test_only_the_last_event_counts() -> None:
    assert Retries(1, Fixed(0.5)).decide([], 0, submit_started=False) is None
    assert Retries(1, Fixed(0.5)).decide([Live("a"), LOST], 0, submit_started=True) is None


def test_by_default_nothing_is_repeated() -> None:
    for transport in (BlockingTransport, TrioTransport, AsyncioTransport):
        assert transport("http://h")._retries.decide([LOST], 0, submit_started=False) is None


def test_by_default_the_random_source_is_random() -> None:
    waits = [Retries(9).decide([LOST], 5, submit_started=False) for _ in range(100)]
    assert len(set(waits)) > 1
    assert all(wait is not None and 0.5 <= wait < 8 for wait in waits)


@pytest.mark.parametrize("transport", [BlockingTransport, TrioTransport, AsyncioTransport])
def test_what_cannot_be_used_is_refused_at_once(transport: Any) -> None:
    with pytest.raises(ValueError, match="retries: expected 0 or more"):
        transport("http://h", retries=-1)
    with pytest.raises(TypeError, match="retries: expected an int"):
        transport("http://h", retries=1.5)
    with pytest.raises(TypeError, match=r"random_source: expected a random\.Random"):
        transport("http://h", random_source=7)


# ------------------------------------------------------------------------------------------------ the pause


def test_the_pauses_are_as_long_as_was_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object, **__: object) -> None:
        tries.append(trio.current_time())
        raise OSError("no")

    async def main() -> list[Event]:
        async with TrioTransport("http://h", retries=7, random_source=Fixed(1.0)) as transport:
            reply = transport.ask("Hi")
            return [event async for event in reply]

    tries: list[float] = []
    monkeypatch.setattr(trio, "open_tcp_stream", refuse)
    events = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert [type(event) for event in events] == [Broken]
    pauses = [after - before for before, after in pairwise(tries)]
    assert pauses == pytest.approx([1, 2, 4, 8, 8, 8, 8])


@pytest.mark.parametrize(
    ("kind", "run"), [(TrioTransport, trio.run), (AsyncioTransport, trio.run), (AsyncioTransport, on_asyncio)]
)
def test_cancelled_in_a_pause_it_is_closed(kind: Any, run: Callable[..., Any]) -> None:
    async def main() -> None:
        with anyio.CancelScope() as scope:
            source = Fixed(1e6, scope.cancel)
            async with kind(f"http://127.0.0.1:{free_port()}", retries=3, random_source=source) as transport:
                reply = transport.ask("Hi")
                try:
                    await anext(reply)
                finally:
                    asked.append(reply)
        assert scope.cancelled_caught
        assert [event.reason async for event in asked[0]] == [Reason.LOST]
        assert source.asked == 1

    asked: list[Any] = []
    run(main)


# ------------------------------------------------------------------------------------------------ proxies


def blocking(url: str, **options: Any) -> tuple[list[Event], int]:
    with BlockingTransport(url, **options) as transport, transport.ask("Hi") as reply:
        return list(reply), reply.retries


def awaited(kind: Any, run: Callable[[Callable[[], Awaitable[Any]]], Any]) -> Callable[..., Any]:
    def ask(url: str, **options: Any) -> Any:
        async def main() -> tuple[list[Event], int]:
            async with kind(url, **options) as transport, transport.ask("Hi") as reply:
                return [event async for event in reply], reply.retries

        return run(main)

    return ask


ways = pytest.mark.parametrize(
    "ask",
    [blocking, awaited(TrioTransport, trio.run), awaited(AsyncioTransport, on_asyncio)],
    ids=["blocking", "trio", "asyncio"],
)


def socks(code: int) -> Callable[[Peer], None]:
    def play(peer: Peer) -> None:
        peer.socket.recv(3)
        peer.send(b"\x05\x00")
        peer.socket.recv(4 + 1 + len("site.example") + 2)
        peer.send(b"\x05%c\x00\x01\x00\x00\x00\x00\x00\x00" % code)
        if code == 0:
            serves(peer)

    return play


@ways
@pytest.mark.parametrize("session", [None, Session()], ids=["none", "given"])
@pytest.mark.usefixtures("no_back_off")
def test_a_proxy_that_refuses_is_asked_again(ask: Callable[..., Any], session: Session | None) -> None:
    with Scripted(lambda _: None, socks(5), socks(0)) as proxy:
        options = {"proxy": f"socks5://127.0.0.1:{proxy.port}", "retries": 2, "random_source": Fixed(0.0)}
        assert ask("http://site.example", session=session, **options) == (SAID, 2)
    assert proxy.routes[-1:] == ["submit"]
    assert len(proxy.requests) == (2 if session is None else 1)


@ways
@pytest.mark.usefixtures("no_back_off")
def test_a_tunnel_that_is_refused_is_asked_for_again(ask: Callable[..., Any]) -> None:
    def refuse(peer: Peer) -> None:
        heads.append(peer.read_head())
        peer.send(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")

    heads: list[bytes] = []
    with Scripted(refuse) as proxy:
        options = {"proxy": proxy.url, "retries": 2, "random_source": Fixed(0.0), "session": Session()}
        [broken], retries = ask("https://site.example", **options)
    assert (broken.reason, retries) == (Reason.PROXY, 2)
    assert [head[:8] for head in heads] == [b"CONNECT "] * 3


@ways
@pytest.mark.usefixtures("no_back_off")
def test_a_proxy_that_is_not_there_is_tried_again(ask: Callable[..., Any]) -> None:
    options = {"proxy": f"http://127.0.0.1:{free_port()}", "retries": 2, "random_source": Fixed(0.0)}
    [broken], retries = ask("http://site.example", session=Session(), **options)
    assert (broken.reason, retries) == (Reason.PROXY, 2)


@ways
@pytest.mark.usefixtures("no_back_off")
def test_a_proxy_that_has_read_the_question_is_not_asked_again(ask: Callable[..., Any]) -> None:
    with Scripted(replies(put_off(407, Retry_After="0"))) as proxy:
        options = {"proxy": proxy.url, "retries": 2, "random_source": Fixed(0.0)}
        [broken], retries = ask("http://site.example", session=Session(), **options)
    assert (broken.reason, retries, len(proxy.requests)) == (Reason.PROXY, 0, 1)


# ------------------------------------------------------------------------------------------------ a client of yours


class Raising(httpx.AsyncBaseTransport):
    """Tells nothing, and fails."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.asked = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        raise self.error


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (httpx.ConnectError("no"), 3),
        (httpx.ConnectTimeout("no"), 3),
        (httpx.ProxyError("no"), 3),
        (httpx.ReadError("no"), 1),
        (httpx.WriteTimeout("no"), 1),
        (httpx.WriteError("no"), 1),
        (httpx.PoolTimeout("no"), 1),
        (httpx.RemoteProtocolError("Server disconnected without sending a response."), 1),
        (OSError("no"), 1),
    ],
)
@pytest.mark.usefixtures("no_back_off")
def test_of_what_a_client_raises_only_what_says_that_nobody_was_reached_is_repeated(
    error: Exception, asked: int
) -> None:
    async def main() -> list[Event]:
        async with httpx.AsyncClient(transport=raising) as client:
            options: dict[str, Any] = {"session": Session(), "retries": 2, "random_source": Fixed(0.0)}
            async with AsyncioTransport("http://h", client, **options) as transport, transport.ask("Hi") as reply:
                return [event async for event in reply]

    raising = Raising(error)
    [event] = asyncio.run(main())
    assert isinstance(event, Broken)
    assert raising.asked == asked


@pytest.mark.usefixtures("no_back_off")
def test_an_auth_that_has_asked_once_and_cannot_again_does_not_count_as_nobody_reached() -> None:
    class Elsewhere(httpx.Auth):
        def auth_flow(self, request: httpx.Request) -> Any:
            yield request
            request.url = request.url.copy_with(port=closed)
            yield request

    async def main() -> tuple[list[Event], int]:
        async with httpx.AsyncClient(auth=Elsewhere()) as client:
            options: dict[str, Any] = {"session": Session(), "retries": 2, "random_source": Fixed(0.0)}
            async with AsyncioTransport(server.url, client, **options) as transport, transport.ask("Hi") as reply:
                return [event async for event in reply], reply.retries

    closed = free_port()
    with Scripted(says(put_off(401))) as server:
        [broken], retries = asyncio.run(main())
    assert isinstance(broken, Broken)
    assert (broken.reason, retries, server.routes) == (Reason.LOST, 0, ["submit"])
