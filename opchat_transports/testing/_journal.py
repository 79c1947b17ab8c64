"""The requests that a scripted server received, and its responses. No I/O."""

import json
import threading
from collections.abc import Generator
from dataclasses import dataclass, field
from itertools import chain, cycle
from typing import TypeAlias, final

import h11

from opchat_proto import Submit

from ._scripts import (
    CONTINUE,
    EVENTS,
    Accept,
    Close,
    Delay,
    Expect,
    Repeat,
    Reset,
    Run,
    Script,
    Stall,
    Write,
    answer,
    awaited_route,
    check_scripts,
    json_object,
    session_answer,
    split,
)

__all__ = ["Connection", "Journal", "Received"]

_MOST_KEPT = 16 * 1024 * 1024
_USUAL = answer(*EVENTS, keep_alive=True)
_NO_ROUTE = json_object(
    status=404,
    keep_alive=True,
    code="rest_no_route",
    message="No route was found matching the URL and request method.",
    data={"status": 404},
)
_UNREADABLE = json_object(status=400, code="bad_request", message="The request cannot be read.", data={"status": 400})


@final
@dataclass(frozen=True, slots=True)
class Received:
    """A complete request."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    """Names in lower case."""
    body: bytes
    raw: bytes = field(repr=False)
    """Every byte of the request, with its head."""

    @property
    def route(self) -> str:
        """The last segment of the route: "submit", "start_session" or another."""
        return self.target.rpartition("/")[2]

    @property
    def nonce(self) -> str | None:
        """The X-WP-Nonce field."""
        return next((value for name, value in self.headers if name == "x-wp-nonce"), None)

    @property
    def submit(self) -> Submit | None:
        """The question in the body, or None."""
        if self.route != "submit":
            return None
        try:
            return Submit.from_dict(json.loads(self.body))
        except (ValueError, TypeError, RecursionError):
            return None


@final
@dataclass(frozen=True, slots=True)
class Connection:
    """A snapshot of one connection."""

    script: Script = ()
    """The script, or the part of one, that this connection took; () if it has taken none."""
    requests: tuple[Received, ...] = ()
    rest: bytes = b""
    """Received bytes that are not a complete request, up to 16 MiB; with TLS, the decrypted bytes."""
    sent: int = 0
    """How many bytes the server sent. The client may have read fewer."""
    finished: bool = False
    """Whether the server played `script` to its end before the client left. False for () or an endless script."""
    left: float | None = None
    """When the client closed its side, in seconds since the connect. None if it has not, or if the server ended the
    connection first: with a `Reset`, or at the end of the `with` block."""


class Journal:
    """The requests to a scripted server. Every property is a snapshot and stays readable after the server closes."""

    def __init__(self, scripts: tuple[Script, ...]) -> None:
        """Made by the servers."""
        *first, last = map(split, check_scripts(scripts))
        self._parts = chain(*first, cycle(last))
        self._part = next(self._parts)  # the next one to take
        self._lock = threading.Lock()
        self._talks: list[Talk] = []
        self._came: list[Received] = []
        self._sessions = 0

    @property
    def visits(self) -> tuple[Connection, ...]:
        """The connections, in the order in which they were opened."""
        with self._lock:
            return tuple(talk.visit() for talk in self._talks)

    @property
    def requests(self) -> tuple[Received, ...]:
        """The requests of all connections, in the order in which they were complete."""
        with self._lock:
            return tuple(self._came)

    @property
    def routes(self) -> tuple[str, ...]:
        """The routes of `requests`: ("start_session", "submit") for a client's first question."""
        return tuple(request.route for request in self.requests)

    @property
    def questions(self) -> tuple[Submit, ...]:
        """The questions in `requests`."""
        return tuple(submit for request in self.requests if (submit := request.submit) is not None)

    @property
    def repeated(self) -> tuple[Submit, ...]:
        """The questions that came more than once, for any reason: `assert server.repeated == ()`.

        Equal submits are one question, since a transport gives each its own chat id.
        After a refused nonce one repeat is correct (WIRE 3.5).
        """
        questions = self.questions
        return tuple(question for index, question in enumerate(questions) if question in questions[:index])

    def _begin(self) -> "Talk":
        with self._lock:
            talk = Talk(self)
            self._talks.append(talk)
        return talk

    def _take(self, route: str | None) -> Script | None:
        """Return the next part if it waits for a request to this route (None: for a new connection)."""
        if route != awaited_route(self._part):
            return None
        part, self._part = self._part, next(self._parts)
        return part

    def _usual_answer(self, route: str) -> bytes:
        if route == "start_session":
            self._sessions += 1
            return session_answer(self._sessions)
        return _USUAL if route == "submit" else _NO_ROUTE


Action: TypeAlias = Write | Delay | Stall | Run | Close | Reset


class Talk:
    """One connection: its received bytes, and the script that answers them. No I/O."""

    def __init__(self, journal: Journal) -> None:
        self.script = journal._take(None)
        self.sent = 0
        self.finished = False
        self.left: float | None = None
        self.is_unreadable = False
        self.actions = self._play()
        """The actions to perform, up to `Close` or `Reset`. At a Stall, wait for more bytes."""
        self._journal = journal
        self._requests: list[Received] = []
        self._answered = 0  # requests answered
        self._last: int | None = None  # the number of the client's last request here (RFC 9112, 9.6)
        self._expect_request(b"")

    def _expect_request(self, data: bytes) -> None:
        self._raw = bytearray()  # of the request being received
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=_MOST_KEPT)
        self._head: h11.Request | None = None
        self._body = bytearray()
        self._continued = False
        if data:
            self._read(data)

    def visit(self) -> Connection:
        return Connection(
            self.script or (), tuple(self._requests), bytes(self._raw), self.sent, self.finished, self.left
        )

    def receive_data(self, data: bytes) -> None:
        with self._journal._lock:
            self._read(data)

    def _read(self, data: bytes) -> None:
        self._raw += data
        if len(self._raw) > _MOST_KEPT:
            del self._raw[_MOST_KEPT:]
            self.is_unreadable = True
        if self.is_unreadable:
            return
        try:
            self._h11.receive_data(data)
            while True:
                match self._h11.next_event():
                    case h11.Request() as request:
                        self._head = request
                    case h11.Data(data=piece):
                        self._body += piece
                    case h11.EndOfMessage():
                        self._keep()
                        return
                    case _:
                        return
        except h11.RemoteProtocolError:
            self.is_unreadable = True

    def _keep(self) -> None:
        assert self._head is not None
        after, _ = self._h11.trailing_data
        raw = bytes(self._raw[: len(self._raw) - len(after)])
        headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in self._head.headers)
        method, target = self._head.method.decode("latin-1"), self._head.target.decode("latin-1")
        request = Received(method, target, headers, bytes(self._body), raw)
        self._requests.append(request)
        self._journal._came.append(request)
        if self._last is None and self._h11.their_state is h11.MUST_CLOSE:
            self._last = len(self._requests)
        self._expect_request(after)

    def end(self) -> None:
        """The last action was performed."""
        self.finished = self.script is not None and not self.is_unreadable

    def _play(self) -> Generator["Action"]:
        while self.script is None:
            route = yield from self._next_route()
            self.script = self._journal._take(route)
            if self.script is None:
                yield from self._answer(route)
        for index, step in enumerate(self.script):
            match step:
                case Expect(route) if index:
                    while (other := (yield from self._next_route())) != route:
                        yield from self._answer(other)
                case Accept() | Expect():  # this step took the connection
                    pass
                case Write(data, size, gap):
                    for start in range(0, len(data), size or len(data) or 1):
                        if start and gap:
                            yield Delay(gap)
                        yield Write(data[start : start + size] if size else data)
                case Repeat(data, times, gap):
                    count = 0
                    while times is None or count < times:
                        count += 1
                        yield Write(data)
                        if gap:
                            yield Delay(gap)
                case Stall():
                    while True:
                        yield step
                case _:
                    yield step
        yield Close()

    def _next_route(self) -> Generator["Action", None, str]:
        """Wait for the next request, and return its route."""
        while self._answered == len(self._requests):
            if self.is_unreadable:
                yield Write(_UNREADABLE)
                yield Close()
            if self._h11.they_are_waiting_for_100_continue and not self._continued:
                self._continued = True
                yield Write(CONTINUE)
            yield Stall()
        self._answered += 1
        return self._requests[self._answered - 1].route

    def _answer(self, route: str) -> Generator["Action"]:
        yield Write(self._journal._usual_answer(route))
        if self._answered == self._last:
            yield Close()
