"""Answers that are cut, too large, or missing."""

from typing import Any

from opchat_proto import Broken, Client, End, Endpoint, Event, Flow, Reason, Session, Submit
from opchat_transports.testing import Close, Reset, Script, Write

from .peer import refusing_port
from .scenarios_again import Fixed
from .scenarios_answered import broken
from .serving import HELLO, Way, read, serving, without_details
from .wire import LAST, event, live


async def a_refused_connection(way: Way) -> None:
    with refusing_port() as port:
        async with way.opened(f"http://127.0.0.1:{port}") as transport:
            where = f"could not connect to 127.0.0.1:{port}"
            expected = f"start_session: {where}: Connection refused"
            assert await read(transport) == [Broken(Reason.LOST, expected, in_session=True)]
        async with way.opened(f"http://127.0.0.1:{port}", session=Session()) as transport:
            assert await read(transport) == [Broken(Reason.LOST, f"{where}: Connection refused")]


SHORT_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
SHORT = SHORT_HEAD + live("\N{LATIN SMALL LETTER E WITH ACUTE}") + event(type="end", data='{"success":true}') + LAST


def cut(data: bytes, *, reset: bool) -> Script:
    return Write(data), Reset() if reset else Close()


def judged(data: bytes, *, reset: bool) -> list[Event]:
    """The core's events, without I/O."""
    client = Client(Flow(Endpoint.parse("http://h"), Submit(new_message="Hi"), session=Session()))
    for _ in range(2):  # the Connect and the Send
        client.next_step()
        client.step_done()
    events = client.receive_data(data)
    return events + (client.step_failed("reset") if reset else client.receive_eof())


async def cut_at_every_byte(way: Way, *, reset: bool, **options: Any) -> None:
    cuts = range(len(SHORT))
    with serving(*(cut(SHORT[:at], reset=reset) for at in cuts)) as server:
        async with way.opened(server.url, session=Session(), **options) as transport:
            for at in cuts:
                expected = without_details(judged(SHORT[:at], reset=reset))
                if at < len(SHORT_HEAD) and not way.head_is_ours:
                    expected = [broken(Reason.LOST)]  # however much of the head arrived
                assert without_details(await read(transport)) == expected, f"cut at {at}"
    assert server.routes == ("submit",) * len(cuts)
    assert len(server.visits) == len(cuts)


async def cut_by_fin(way: Way) -> None:
    await cut_at_every_byte(way, reset=False)


async def cut_by_rst(way: Way) -> None:
    await cut_at_every_byte(way, reset=True, retries=9, random=Fixed(0.0))  # without effect


async def heads_beyond_the_limits(way: Way) -> None:
    """A library passes on only parsed heads; in our own HTTP every byte counts."""
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
