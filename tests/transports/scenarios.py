"""The contract of all transports, once: what a server does, and what must come out of any of them.

`ANSWERED` are questions asked and read to their end; `PLAYED` is all the rest. They
are written for the async shape. A way of asking (test_contract.py) opens a
transport of that shape; the blocking one's coroutines just never wait.
"""

import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias

import pytest

from opchat_proto import Broken, Client, End, Endpoint, Event, Flow, Limits, Live, Reason, Session, Submit
from opchat_transports import AsyncReply, AsyncTransport, Timeouts

from .scripted import LAST, PATIENCE, STREAM, Peer, Script, Scripted, answer, chunk, end, event, live, object_

SOON = 0.2  # seconds of a clock that is to run out


class Way(Protocol):
    """One way of asking."""

    head_is_ours: bool
    """Whether our own HTTP reads the head of a response, and not a library that says little about its faults."""
    keeps_connections: bool
    """Whether a connection may carry several requests."""

    def opened(self, url: str, **options: Any) -> AbstractAsyncContextManager[AsyncTransport]:
        """A transport."""

    async def together(self, *works: Callable[[], Awaitable[Any]]) -> list[Any]:
        """The results of all of them, in tasks or threads of their own."""

    async def wait_for(self, happened: threading.Event) -> None:
        """Let others run until it has happened."""


async def read(transport: AsyncTransport, question: Any = "Hi") -> list[Event]:
    async with transport.ask(question) as reply:
        return [event async for event in reply]


@contextmanager
def serving(*scripts: Script, port: int = 0, session: bool = True) -> Iterator[Scripted]:
    """A scripted server, whose journal must show each question once, and twice only with another nonce."""
    with Scripted(*scripts, port=port, session=session) as server:
        yield server
    submits = [request for request in server.requests if b"/submit HTTP" in request]
    questions = [re.findall(rb'"chatId":"(.*?)"', request)[0] for request in submits]
    nonces = [re.findall(rb"(?i)\r\nx-wp-nonce: (.*)\r\n", request) for request in submits]
    assert max(Counter(questions).values(), default=0) <= 2
    assert len({(question, *nonce) for question, nonce in zip(questions, nonces, strict=True)}) == len(submits)


# ------------------------------------------------------------------------------------------------ what a server does


def says(*pieces: bytes) -> Script:
    """Answers the submit with these bytes."""

    def play(peer: Peer) -> None:
        peer.read()
        with suppress(ConnectionError):  # who has the end event leaves; the pieces after it may find nobody
            peer.send(*pieces)

    return play


def serves(peer: Peer) -> None:
    """Answers all questions of a connection."""
    with suppress(ConnectionError):  # the client has left
        while True:
            peer.read()
            peer.send(HELLO)


def drips(data: bytes) -> Script:
    def play(peer: Peer) -> None:
        peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        says(*(data[i : i + 1] for i in range(len(data))))(peer)

    return play


def stalls(*pieces: bytes) -> Script:
    """Sends that and then nothing more until the client leaves."""

    def play(peer: Peer) -> None:
        says(*pieces)(peer)
        assert peer.is_left()

    return play


def stalls_at_once(peer: Peer) -> None:
    peer.read()
    assert peer.is_left()


def keeps_alive(peer: Peer) -> None:
    """Sends one event, and then comments for ever."""
    says(STREAM, live("a"))(peer)
    with suppress(ConnectionError):
        while not peer.is_left(SOON / 10):
            peer.send(chunk(b": keepalive\n\n"))


def hangs_up(peer: Peer) -> None:
    """Reads the submit, and closes."""
    says()(peer)


def ended(reply: str) -> End:
    """What `scripted.end` becomes."""
    return End(reply, json.dumps({"success": True, "reply": reply}))


HELLO = STREAM + live("Hel") + live("lo") + end("Hello") + LAST
BOTH = ("start_session", "submit")
SAID: list[Event] = [Live("Hel"), Live("lo"), ended("Hello")]
PAGE = b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"


def closing(response: bytes) -> bytes:
    """The response with the words that the connection will be closed, for clients that would keep it."""
    return response.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)


STALE = {
    status: closing(object_(status, code=code, message="No.", data={"status": status}))
    for status, code in ((401, "rest_forbidden"), (403, "rest_cookie_invalid_nonce"))
}
STALE_SESSION = Session("9876543210")
NO_ROUTE = closing(object_(404, code="rest_no_route", message="No route was found.", data={"status": 404}))
BIG = "\N{PILE OF POO}x" * 400_000


@dataclass(frozen=True)
class Answered:
    """A question asked and read to its end."""

    name: str
    scripts: tuple[Script, ...]
    events: list[Event]
    routes: tuple[str, ...] = BOTH
    options: Mapping[str, Any] = field(default_factory=dict)
    session: bool = True
    """Whether the server answers start_session by itself; else the scripts do."""
    detail: str | None = None
    """What the detail holds, where not all transports have the same words; else it is that of the event."""

    async def play(self, way: Way) -> None:
        with serving(*self.scripts, session=self.session) as server:
            async with way.opened(server.url, **self.options) as transport:
                events = await read(transport)
        if self.detail is not None:
            assert isinstance(events[-1], Broken)
            assert self.detail in events[-1].detail
            events[-1] = replace(events[-1], detail="")
        assert [replace(event, raw="") if isinstance(event, Broken) else event for event in events] == self.events
        assert tuple(server.routes) == self.routes
        assert way.keeps_connections or server.connections == len(self.routes)


def broken(reason: Reason, detail: str = "", status: int | None = None, code: str | None = None, **more: Any) -> Broken:
    """One that came after the question was sent."""
    return Broken(reason, detail, status, code, **{"asked": True, **more})


def refused(name: str, response: bytes, event: Broken) -> Answered:
    return Answered(name, (says(response),), [event])


# An HTTP library connects, sends and waits for the head in one step, which these bound together.
HEAD_SOON = Timeouts(connect=1, write=1, first_event=SOON)


def timed_out(name: str, script: Script, detail: str, *events: Event) -> Answered:
    timeouts = Timeouts(first_event=SOON if not events else PATIENCE, idle=SOON)
    last = broken(Reason.TIMEOUT, detail, limit="idle" if events else "first_event")
    return Answered(name, (script,), [*events, last], BOTH, {"timeouts": timeouts})


ANSWERED = [
    # ---- an answer, however it comes
    Answered("a stream", (says(STREAM, live("Hel"), live("lo"), end("Hello"), LAST),), SAID),
    Answered("one byte at a time", (drips(HELLO),), SAID),
    Answered("all in one piece", (says(HELLO),), SAID),
    Answered(
        "two events in a chunk",
        (says(STREAM, chunk(b'data: {"type":"live","data":"a"}\n\n' * 2), end(""), LAST),),
        [Live("a"), Live("a"), ended("")],
    ),
    Answered("a JSON object", (says(object_(success=True, reply="Hello")),), [ended("Hello")]),
    Answered(
        "a JSON object up to the close",
        (says(b'HTTP/1.0 200 OK\r\n\r\n{"success":true,"reply":"Hello"}'),),
        [End("Hello", '{"success":true,"reply":"Hello"}')],
    ),
    Answered("no nonce is needed", (says(HELLO),), SAID, ("submit",), {"session": Session()}),
    Answered("a plugin without start_session", (says(NO_ROUTE), says(HELLO)), SAID, session=False),
    Answered(
        "interim responses",
        (says(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n", HELLO),),
        SAID,
    ),
    Answered(
        "a mark, notices and status events",
        (
            says(
                STREAM,
                chunk(b"\xef\xbb\xbf\n\n"),
                chunk(b"<b>Warning</b>: x\n"),
                event(type="live", data="Thinking", subtype="status"),
                chunk(b": keepalive\n\n"),
                live("a"),
                chunk(b"data: \n\n"),
                end("a"),
                LAST,
            ),
        ),
        [Live("Thinking", "status"), Live("a"), Live("", "unreadable"), ended("a")],
    ),
    Answered("a big event", (says(STREAM, live(BIG), end("a"), LAST),), [Live(BIG), ended("a")]),
    Answered(
        "an event beyond the limit",
        (says(STREAM, live("x" * 2000), end("a"), LAST),),
        [broken(Reason.TOO_LARGE, "more than 1024 bytes in one event (Limits.event_bytes)", limit="event_bytes")],
        options={"limits": Limits(event_bytes=1024)},
    ),
    # ---- an answer that is none
    Answered(
        "an error event",
        (says(STREAM, live("a"), event(type="error", data="Overloaded"), LAST),),
        [Live("a"), broken(Reason.REMOTE, "Overloaded")],
    ),
    Answered(
        "a broken line",
        (says(STREAM, live("a"), chunk(b"data: {oops\n\n"), LAST),),
        [Live("a"), broken(Reason.MALFORMED, "an event that is not JSON: {oops")],
    ),
    Answered(
        "no end event",
        (says(STREAM, live("a"), LAST),),
        [Live("a"), broken(Reason.TRUNCATED, "the answer ended without its end event")],
    ),
    Answered("HTTP that cannot be read", (says(b"ICY 200 OK\r\n\r\n"),), [broken(Reason.TRUNCATED)], detail="HTTP"),
    Answered(
        "chunks that cannot be read",
        (says(STREAM, live("a"), b"zz\r\n"),),
        [Live("a"), broken(Reason.TRUNCATED)],
        detail="HTTP",
    ),
    # ---- refusals
    refused("an object", object_(403, success=False, message="Rejected."), broken(Reason.REFUSED, "Rejected.", 403)),
    refused("a page", answer(PAGE, 502), broken(Reason.REFUSED, "502 Bad Gateway", 502)),
    refused(
        "a page with status 200",
        answer(PAGE),
        broken(Reason.MALFORMED, "a web page, not a chat answer: 502 Bad Gateway"),
    ),
    refused(
        "a redirect",
        answer(b"", 301, Location="https://other.example/"),
        broken(Reason.REFUSED, "redirected to https://other.example/, which is not followed", 301),
    ),
    refused(
        "too many",
        answer(b"Slow down.", 429, Retry_After="1"),
        broken(Reason.REFUSED, "Slow down.", 429, retry_after=1),
    ),
    refused(
        "maintenance",
        answer(b"Later.", 503, Retry_After="Sun, 06 Nov 1994 08:49:38 GMT", Date="Sun, 06 Nov 1994 08:49:37 GMT"),
        broken(Reason.REFUSED, "Later.", 503, retry_after=1),
    ),
    Answered(
        "no session",
        (says(object_(500, success=False, message="No.")),),
        [Broken(Reason.REFUSED, "start_session: No.", 500, in_session=True)],
        ("start_session",),
        session=False,
    ),
    # ---- stale nonces
    *(
        Answered(
            f"a stale nonce, {status}",
            (says(stale), says(HELLO)),
            SAID,
            ("submit", *BOTH),
            {"session": STALE_SESSION},
        )
        for status, stale in STALE.items()
    ),
    Answered(
        "a stale nonce, and the new one too",
        (says(STALE[403]), says(STALE[401])),
        [broken(Reason.REFUSED, "No.", 401, "rest_forbidden")],
        ("submit", *BOTH),
        {"session": STALE_SESSION},
    ),
    Answered(
        "a stale nonce, and no new one",
        (says(STALE[403]), says(NO_ROUTE)),
        [broken(Reason.REFUSED, "No.", 403, "rest_cookie_invalid_nonce")],
        ("submit", "start_session"),
        {"session": STALE_SESSION},
        session=False,
    ),
    Answered(
        "a stale nonce and no restarts",
        (says(STALE[403]),),
        [broken(Reason.REFUSED, "No.", 403, "rest_cookie_invalid_nonce")],
        ("submit",),
        {"session": STALE_SESSION, "limits": Limits(restarts=0)},
    ),
    # ---- connections
    Answered(
        "closed before any answer",
        (hangs_up,),
        [broken(Reason.LOST, "the connection was closed before any answer")],
    ),
    Answered("closed after the end event", (says(STREAM, live("Hel"), live("lo"), end("Hello")),), SAID),
    # ---- clocks
    Answered(
        "no session",
        (stalls_at_once,),
        [
            Broken(
                Reason.TIMEOUT,
                limit="first_event",
                in_session=True,
            )
        ],
        ("start_session",),
        {"timeouts": HEAD_SOON},
        session=False,
        detail="(timeout 'first_event'), after 0 events",
    ),
    Answered(
        "no head",
        (stalls(),),
        [broken(Reason.TIMEOUT, limit="first_event")],
        options={"timeouts": HEAD_SOON},
        detail="(timeout 'first_event'), after 0 events",
    ),
    timed_out(
        "no event", stalls(STREAM), f"no event of the answer within {SOON} s (timeout 'first_event'), after 0 events"
    ),
    timed_out(
        "no further event",
        stalls(STREAM, live("a"), live("b")),
        f"no further event of the answer within {SOON} s (timeout 'idle'), after 2 events",
        Live("a"),
        Live("b"),
    ),
    timed_out(
        "nothing but comments",
        keeps_alive,
        f"no further event of the answer within {SOON} s (timeout 'idle'), after 1 event",
        Live("a"),
    ),
]


# ------------------------------------------------------------------------------------------------ all the rest


async def a_refused_connection(way: Way) -> None:
    port = free_port()
    async with way.opened(f"http://127.0.0.1:{port}") as transport:
        where = f"could not connect to 127.0.0.1:{port}"
        expected = f"start_session: {where}: Connection refused"
        assert await read(transport) == [Broken(Reason.LOST, expected, in_session=True)]
    async with way.opened(f"http://127.0.0.1:{port}", session=Session()) as transport:
        assert await read(transport) == [Broken(Reason.LOST, f"{where}: Connection refused")]


SHORT_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
SHORT = SHORT_HEAD + live("\N{LATIN SMALL LETTER E WITH ACUTE}") + event(type="end", data='{"success":true}') + LAST


def cut(data: bytes, *, reset: bool) -> Script:
    def play(peer: Peer) -> None:
        peer.read()
        if reset:
            peer.send(data)
            peer.reset()
        else:
            peer.send_and_close(data)

    return play


def judged(data: bytes, *, reset: bool) -> list[Event]:
    """What the core says, without any I/O."""
    client = Client(Flow(Endpoint.parse("http://h"), Submit(new_message="Hi"), session=Session()))
    for _ in range(2):  # the connect, and the sending
        client.next_step()
        client.step_done()
    events = client.receive_data(data)
    return events + (client.step_failed("reset") if reset else client.receive_eof())


def without_details(events: list[Event]) -> list[Event]:
    return [replace(event, detail="") if isinstance(event, Broken) else event for event in events]


async def cut_at_every_byte(way: Way, *, reset: bool, **options: Any) -> None:
    cuts = range(len(SHORT))
    with serving(*(cut(SHORT[:at], reset=reset) for at in cuts)) as server:
        async with way.opened(server.url, session=Session(), **options) as transport:
            for at in cuts:
                expected = without_details(judged(SHORT[:at], reset=reset))
                if at < len(SHORT_HEAD) and not way.head_is_ours:
                    expected = [broken(Reason.LOST)]  # whatever came of the head
                assert without_details(await read(transport)) == expected, f"cut at {at}"
    assert server.routes == ["submit"] * len(cuts)
    assert server.connections == len(cuts)


async def cut_by_fin(way: Way) -> None:
    await cut_at_every_byte(way, reset=False)


async def cut_by_rst(way: Way) -> None:
    await cut_at_every_byte(way, reset=True, retries=9, random=Fixed(0.0))  # which changes nothing


async def heads_beyond_the_limits(way: Way) -> None:
    """Of a library's heads we see what it gives us; of our own every byte counts."""
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n"
    answers = [
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 129 + b"\r\n",
        interim * 9 + HELLO,
        interim * 8 + HELLO,
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + LAST,
        b"HTTP/2 200\r\n\r\n",
    ]
    with serving(*(cut(answer, reset=False) for answer in answers)) as server:
        async with way.opened(server.url, session=Session()) as transport:
            for answer in answers:
                events = await read(transport)
                if way.head_is_ours:
                    assert events == judged(answer, reset=False)
                assert isinstance(events[-1], Broken | End)


async def each_piece_comes_before_the_next_is_sent(way: Way) -> None:
    seen = threading.Event()

    def play(peer: Peer) -> None:
        peer.read()
        peer.send(STREAM, live("first"))
        assert seen.wait(PATIENCE)
        peer.send(end("first"), LAST)

    with serving(play) as server:
        async with way.opened(server.url, session=Session()) as transport, transport.ask("Hi") as reply:
            assert await anext(reply) == Live("first")
            seen.set()
            assert [event async for event in reply] == [ended("first")]
            with pytest.raises(StopAsyncIteration):
                await anext(reply)


async def left_early(way: Way, leave: Callable[[AsyncTransport, AsyncReply], Awaitable[None]]) -> None:
    left = threading.Event()

    def play(peer: Peer) -> None:
        says(STREAM, live("a"), live("b"))(peer)
        assert peer.is_left()
        left.set()

    with serving(play, says(HELLO)) as server:
        async with way.opened(server.url) as transport:
            await leave(transport, transport.ask("Hi"))
            assert left.wait(PATIENCE)  # without letting any task run
            assert await read(transport) == SAID
    assert server.routes == [*BOTH, "submit"]


async def left_by_break(way: Way) -> None:
    async def leave(_: AsyncTransport, reply: AsyncReply) -> None:
        async with reply:
            async for got in reply:
                assert got == Live("a")
                break

    await left_early(way, leave)


async def left_by_exception(way: Way) -> None:
    async def leave(_: AsyncTransport, reply: AsyncReply) -> None:
        async def fail() -> None:
            async with reply:
                async for _event in reply:
                    raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()

    await left_early(way, leave)


async def left_by_close(way: Way) -> None:
    async def leave(_: AsyncTransport, reply: AsyncReply) -> None:
        await anext(reply)
        await reply.aclose()
        await reply.aclose()  # no harm
        rest = [event async for event in reply]
        assert isinstance(rest[-1], Broken)
        assert rest[-1].reason is Reason.TRUNCATED
        assert all(isinstance(event, Live) for event in rest[:-1])
        with pytest.raises(StopAsyncIteration):
            await anext(reply)

    await left_early(way, leave)


async def closed_while_it_waits(way: Way) -> None:
    begun = threading.Event()

    with serving(stalls(STREAM, live("a"))) as server:
        async with way.opened(server.url) as transport:

            async def wait() -> list[Event]:
                async with transport.ask("Hi") as reply:
                    assert await anext(reply) == Live("a")
                    begun.set()
                    return [event async for event in reply]

            async def close() -> None:
                await way.wait_for(begun)
                await transport.aclose()

            events, _ = await way.together(wait, close)
            assert without_details(events) == [broken(Reason.TRUNCATED)]
            await transport.aclose()
            with pytest.raises(RuntimeError, match="closed"):
                transport.ask("Hi")
    assert server.routes == list(BOTH)


async def closed_unread(way: Way) -> None:
    with serving(says(HELLO)) as server:
        async with way.opened(server.url) as transport:
            reply = transport.ask("Hi")
            await reply.aclose()
            assert without_details([event async for event in reply]) == [Broken(Reason.LOST, in_session=True)]
            assert server.connections == 0
            assert await read(transport) == SAID


async def a_slow_reader(way: Way) -> None:
    """Holds the server back: what it sends stays in the buffers of TCP."""
    full = threading.Event()
    sent = 0
    pieces = 256
    data = memoryview(live("x" * 65536) * pieces)

    def pour(peer: Peer) -> None:
        nonlocal sent
        says(STREAM)(peer)
        peer.socket.settimeout(0.3)
        with suppress(TimeoutError):
            while sent < len(data):
                sent += peer.socket.send(data[sent : sent + 65536])
        held.append(sent)
        full.set()
        peer.socket.settimeout(PATIENCE)
        peer.send(bytes(data[sent:]), end(""), LAST)

    held: list[int] = []
    with serving(pour) as server:
        async with way.opened(server.url) as transport, transport.ask("Hi") as reply:
            await anext(reply)
            await way.wait_for(full)
            events = [event async for event in reply]
    assert held[0] < len(data) / 2
    assert [type(event) for event in events] == [Live] * (pieces - 1) + [End]


async def a_hundred_at_once(way: Way) -> None:
    with serving(serves) as server:
        async with way.opened(server.url) as transport:
            results = await way.together(*[lambda: read(transport)] * 100)
    assert results == [SAID] * 100
    assert sorted(server.routes) == ["start_session"] + ["submit"] * 100


def refuses_the_expired(peer: Peer) -> None:
    """Answers all questions of a connection, but no nonce that has expired."""
    with suppress(ConnectionError):  # the client has left
        while True:
            is_expired = b"9876543210" in peer.read()
            peer.send(STALE[403] if is_expired else HELLO)


async def a_hundred_at_once_with_an_expired_nonce(way: Way) -> None:
    with serving(refuses_the_expired) as server:
        async with way.opened(server.url, session=STALE_SESSION) as transport:
            results = await way.together(*[lambda: read(transport)] * 100)
    assert results == [SAID] * 100
    submits = [request for request in server.requests if b"/submit HTTP" in request]
    assert len(server.requests) - len(submits) == 1
    # Who begins after the session was renewed is not refused first.
    refused = sum(b"9876543210" in request for request in submits)
    assert 1 <= refused <= 100
    assert len(submits) - refused == 100


async def two_in_turns(way: Way) -> None:
    with serving(says(HELLO)) as server:
        async with (
            way.opened(server.url, session=Session()) as transport,
            transport.ask("one") as one,
            transport.ask("two") as two,
        ):
            both = [(await anext(one), await anext(two)) for _ in SAID]
    assert both == [(event, event) for event in SAID]


async def one_after_the_other(way: Way) -> None:
    with serving(serves) as server:
        async with way.opened(server.url) as transport:
            assert transport.session is None
            for _ in range(3):
                assert await read(transport) == SAID
            assert transport.session == Session("0123456789", "64f1c0ffee123")
    assert server.routes == ["start_session", *["submit"] * 3]


# ------------------------------------------------------------------------------------------------ retries


@dataclass
class Fixed:
    """A random number, what happens when it is asked for, and how often it was."""

    number: float
    then: Callable[[], object] = lambda: None
    asked: int = 0

    def random(self) -> float:
        self.asked += 1
        self.then()
        return self.number


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


async def read_counted(transport: AsyncTransport) -> tuple[list[Event], int]:
    async with transport.ask("Hi") as reply:
        return [event async for event in reply], reply.retries


async def a_site_that_comes_up_late(way: Way) -> None:
    port = free_port()
    with ExitStack() as stack:

        def come_up() -> None:
            servers.append(stack.enter_context(serving(serves, port=port)))

        servers: list[Scripted] = []
        async with way.opened(f"http://127.0.0.1:{port}", retries=3, random=Fixed(0.0, come_up)) as transport:
            assert await read_counted(transport) == (SAID, 1)
    assert [server.routes for server in servers] == [list(BOTH)]


def put_off(status: int, **headers: str) -> bytes:
    return answer(b"Later.", status, Connection="close", **headers)


async def a_site_that_says_when(way: Way) -> None:
    # Not `serving`: the server says itself that it has not taken the question.
    with Scripted(says(put_off(429, Retry_After="1")), says(HELLO)) as server:
        async with way.opened(server.url, retries=3) as transport:
            began = time.monotonic()
            assert await read_counted(transport) == (SAID, 1)
            assert time.monotonic() - began >= 1
    assert server.routes == [*BOTH, "submit"]


async def never_repeated(way: Way) -> None:
    """Whatever the server may have acted on, and whatever it will refuse again."""
    faults: list[Script] = [
        hangs_up,
        says(HELLO[:20]),
        says(STREAM),
        says(STREAM, live("a")),
        says(STREAM, event(type="error", data="429")),
        says(put_off(429)),
        says(put_off(503)),
        says(put_off(500, Retry_After="0")),
        says(put_off(403, Retry_After="0")),
        stalls(),
    ]
    for fault in faults:
        with serving(fault) as server:
            options = {"retries": 9, "random": Fixed(0.0), "timeouts": HEAD_SOON}
            async with way.opened(server.url, session=Session(), **options) as transport:
                events, retries = await read_counted(transport)
        assert isinstance(events[-1], Broken)
        assert (server.routes, server.connections, retries) == (["submit"], 1, 0)


async def closed_while_it_pauses(way: Way) -> None:
    pausing = threading.Event()
    source = Fixed(1e6, pausing.set)
    async with way.opened(f"http://127.0.0.1:{free_port()}", retries=3, random=source) as transport:

        async def close() -> None:
            await way.wait_for(pausing)
            await transport.aclose()

        (events, retries), _ = await way.together(lambda: read_counted(transport), close)
    assert without_details(events) == [Broken(Reason.LOST, in_session=True)]
    assert events[0].detail.endswith("Connection refused")
    assert (source.asked, retries) == (1, 0)


Played: TypeAlias = Callable[[Way], Awaitable[None]]
PLAYED: list[Played] = [
    a_refused_connection,
    cut_by_fin,
    cut_by_rst,
    heads_beyond_the_limits,
    each_piece_comes_before_the_next_is_sent,
    left_by_break,
    left_by_exception,
    left_by_close,
    closed_while_it_waits,
    closed_unread,
    a_slow_reader,
    a_hundred_at_once,
    a_hundred_at_once_with_an_expired_nonce,
    two_in_turns,
    one_after_the_other,
    a_site_that_comes_up_late,
    a_site_that_says_when,
    never_repeated,
    closed_while_it_pauses,
]
SCENARIOS: dict[str, Played] = {f"answered: {each.name}": each.play for each in ANSWERED} | {
    each.__name__: each for each in PLAYED
}
