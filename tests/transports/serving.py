"""Shared by the scenarios: a way of asking, and misbehaving servers."""

import json
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import replace
from typing import Any, Protocol

from opchat_proto import Broken, End, Event, Live, Session
from opchat_transports import AsyncTransport, Timeouts
from opchat_transports.testing import FaultServer, Repeat, Script, Stall

from .peer import PATIENCE
from .wire import LAST, STREAM, answers, chunk, end, live, object_

SOON = 0.2  # seconds, for a clock that must run out


class Way(Protocol):
    """One way of asking."""

    head_is_ours: bool
    """Whether our own HTTP code reads the head. A library hides some faults of heads."""
    keeps_connections: bool
    """Whether a connection may carry several requests."""

    def opened(self, url: str, **options: Any) -> AbstractAsyncContextManager[AsyncTransport]:
        """Opens a transport."""

    async def together(self, *works: Callable[[], Awaitable[Any]]) -> list[Any]:
        """Runs all of them in tasks or threads of their own, and returns their results."""

    async def wait_for(self, happened: threading.Event) -> None:
        """Lets other tasks run until the condition holds."""


async def read(transport: AsyncTransport, question: Any = "Hi") -> list[Event]:
    async with transport.ask(question) as reply:
        return [event async for event in reply]


@contextmanager
def serving(*scripts: Script, port: int = 0) -> Iterator[FaultServer]:
    """Check that each question comes once, or twice with different nonces, and that clients leave a stalled answer."""
    with FaultServer(*scripts, port=port) as server:
        yield server
    submits = [request for request in server.requests if request.route == "submit"]
    questions = [re.findall(rb'"chatId":"(.*?)"', request.body)[0] for request in submits]
    nonces = [request.nonce for request in submits]
    assert max(Counter(questions).values(), default=0) <= 2
    assert len(set(zip(questions, nonces, strict=True))) == len(submits)
    assert all(visit.left is not None for visit in server.visits if Stall() in visit.script)


def arrived(server: FaultServer, requests: int) -> None:
    """Wait until the server has read this many requests: on a busy machine, a clock may run out before it does."""
    end = time.monotonic() + PATIENCE
    while len(server.requests) < requests:
        assert time.monotonic() < end
        os.sched_yield()


def stalls(*pieces: bytes) -> Script:
    """Send that, and then nothing until the client leaves."""
    return *answers(*pieces), Stall()


KEEPS_ALIVE: Script = (*answers(STREAM, live("a")), Repeat(chunk(b": keepalive\n\n"), gap=SOON / 10))
"""Send one event, and then comments forever."""


def ended(reply: str) -> End:
    """The event that `wire.end` becomes."""
    return End(reply, json.dumps({"success": True, "reply": reply}))


HELLO = STREAM + live("Hel") + live("lo") + end("Hello") + LAST
BOTH = ("start_session", "submit")
SAID: list[Event] = [Live("Hel"), Live("lo"), ended("Hello")]
PAGE = b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"


def closing(response: bytes) -> bytes:
    """The response with `Connection: close`, for clients that would keep the connection."""
    return response.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)


STALE = {
    status: closing(object_(status, code=code, message="No.", data={"status": status}))
    for status, code in ((401, "rest_forbidden"), (403, "rest_cookie_invalid_nonce"))
}
STALE_SESSION = Session("9876543210")
NO_ROUTE = closing(object_(404, code="rest_no_route", message="No route was found.", data={"status": 404}))
BIG = "\N{PILE OF POO}x" * 400_000

# An HTTP library connects, sends and waits for the head in one step. The sum of these bounds it.
HEAD_SOON = Timeouts(connect=1, write=1, first_event=SOON)


def without_details(events: list[Event]) -> list[Event]:
    return [replace(event, detail="") if isinstance(event, Broken) else event for event in events]
