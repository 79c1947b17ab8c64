"""Scripts and servers without sockets, threads or waiting."""

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import Any, Protocol, TypeAlias, cast, final

from opchat_proto import (
    Answer,
    Connect,
    Done,
    Event,
    Find,
    Keep,
    Kept,
    Live,
    Reason,
    Receive,
    Send,
    SendFile,
    Server,
    Site,
    StartTLS,
    Wait,
)

from .._bot_events import BlockingBot, events_of
from ._journal import Action, Journal
from ._scripts import Close, Delay, Reset, Run, Script, Stall, Write

__all__ = ["CallLike", "ClientLike", "Cut", "MemoryServer", "ServerLike", "pair"]


class CallLike(Protocol):
    """The methods of `Call` that a driver uses; also of a wrapper or another implementation."""

    def next_event(self) -> Event | None:
        """See `Call.next_event`."""

    def next_step(self, now: float, /) -> tuple[Connect | StartTLS | Send | Receive | Wait | Done, float]:
        """See `Call.next_step`."""

    def step_done(self) -> None:
        """See `Call.step_done`."""

    def step_failed(self, detail: str, reason: Reason = Reason.LOST, /) -> None:
        """See `Call.step_failed`."""

    def receive_data(self, data: bytes, /) -> None:
        """See `Call.receive_data`."""

    def receive_eof(self) -> None:
        """See `Call.receive_eof`."""

    def close(self) -> None:
        """See `Call.close`."""


class ClientLike(Protocol):
    """The methods of `Client` that a driver uses: a call without a clock."""

    def next_step(self) -> Connect | StartTLS | Send | Receive | Done:
        """See `Client.next_step`."""

    def step_done(self) -> None:
        """See `Client.step_done`."""

    def step_failed(self, detail: str, reason: Reason = Reason.LOST, /) -> list[Event]:
        """See `Client.step_failed`."""

    def receive_data(self, data: bytes, /) -> list[Event]:
        """See `Client.receive_data`."""

    def receive_eof(self) -> list[Event]:
        """See `Client.receive_eof`."""

    def close(self) -> list[Event]:
        """See `Client.close`."""


class _Untimed:
    """Makes a `Client` look like a call without clocks."""

    def __init__(self, client: ClientLike) -> None:
        self._client = client
        self._events: deque[Event] = deque()
        self.step_done = client.step_done

    def next_event(self) -> Event | None:
        return self._events.popleft() if self._events else None

    def next_step(self, now: float) -> tuple[Connect | StartTLS | Send | Receive | Done, float]:
        return self._client.next_step(), math.inf

    def step_failed(self, detail: str, reason: Reason = Reason.LOST) -> None:
        self._events += self._client.step_failed(detail, reason)

    def receive_data(self, data: bytes) -> None:
        self._events += self._client.receive_data(data)

    def receive_eof(self) -> None:
        self._events += self._client.receive_eof()

    def close(self) -> None:
        self._events += self._client.close()


class ServerLike(Protocol):
    """The methods of `Server` that a driver uses."""

    def next_step(self) -> Receive | Send | Answer | Keep | Kept | Find | SendFile | Done:
        """See `Server.next_step`."""

    def step_done(self) -> None:
        """See `Server.step_done`."""

    def receive_data(self, data: bytes, /, *, now: float) -> None:
        """See `Server.receive_data`."""

    def receive_eof(self) -> None:
        """See `Server.receive_eof`."""

    def send(self, event: Event, /, *, now: float | None = None) -> None:
        """See `Server.send`."""


Cut: TypeAlias = Callable[[bytes], Iterable[bytes]]
"""A function that cuts bytes into the pieces that arrive."""


def _whole(data: bytes) -> Iterable[bytes]:
    return (data,)


@final
class MemoryServer(Journal):
    """Plays scripts against calls without sockets, threads or waiting. The outcome is always the same.

        server = MemoryServer(stalled(300))
        events = list(server.run(Channel("http://h", timeouts=Timeouts(idle=5)).call("Hi")))

    Scripts work as with `FaultServer`. Time is virtual: when all calls wait, the clock
    jumps to the next event, such as the end of a delay or a call's deadline; `left` of
    its visits is in this time. If nothing can happen any more, because all clocks are
    off, the calls that read end with `Broken(TIMEOUT)`.
    """

    def __init__(self, *scripts: Script, cut: Cut = _whole) -> None:
        """`cut` cuts each write into smaller pieces. Raises `ValueError` for `Run`, which needs a socket."""
        super().__init__(scripts)
        if any(isinstance(step, Run) for script in scripts for step in script):
            raise ValueError("Run needs a socket: use FaultServer")
        self._world = _World(self._begin, cut)

    @property
    def now(self) -> float:
        """The virtual seconds that have passed in all runs."""
        return self._world.now

    def run(self, call: CallLike | ClientLike) -> Generator[Event]:
        """Drive this call and yield its events; close it at the end, or when you stop iterating.

        A `Client` is driven as a call without clocks. Raises `RuntimeError` if the call
        reads from a connection that has ended, or waits without a deadline for the
        session of a call that is not being played.
        """
        return self._world.run(call)

    def play(self, *calls: CallLike | ClientLike) -> list[list[Event]]:
        """Drive these calls side by side, one step of each in turn, and return their events. Raises as `run` does.

        server.play(*[channel.call("Hi") for _ in range(100)])
        """
        players = [_Player(self._world, call) for call in calls]
        for _ in self._world.go_on(players):
            pass
        return [list(iter(player.call.next_event, None)) for player in players]


class _Peer(Protocol):
    """The other side of one connection."""

    sent: int
    left: float | None
    actions: Generator["Action"]

    def receive_data(self, data: bytes) -> None: ...

    def end(self) -> None: ...


class _World:
    """A virtual clock, and a factory of connections."""

    def __init__(self, connect: Callable[[], _Peer], cut: Cut) -> None:
        self.connect = connect
        self.cut = cut
        self.now = 0.0

    def run(self, call: CallLike | ClientLike) -> Generator[Event]:
        player = _Player(self, call)
        for _ in self.go_on([player]):
            while (event := player.call.next_event()) is not None:
                yield event

    def go_on(self, players: list["_Player"]) -> Generator[None]:
        """Drive the players to their ends, one step of each at a time."""
        try:
            while players:
                come_again = min([player.go_on() for player in players])
                players = [player for player in players if not player.is_over]
                yield
                if come_again < math.inf:
                    self.now = max(self.now, come_again)
                elif readers := [player for player in players if player.peer is not None]:
                    for player in readers:
                        player.call.step_failed("nothing more will come", Reason.TIMEOUT)
                else:
                    raise RuntimeError("the call waits for another one, which is not being played")
        finally:
            for player in players:
                player.call.close()
                player.disconnect()


class _Player:
    """One call, with its connection."""

    def __init__(self, world: _World, call: CallLike | ClientLike) -> None:
        self.call: CallLike = cast(CallLike, call) if hasattr(call, "next_event") else _Untimed(call)
        self.peer: _Peer | None = None
        self.is_over = False
        self._world = world
        self._began = self._resume_at = 0.0
        self._signal: Any = None
        self._until = 0.0  # when the wait for the signal ends

    def go_on(self) -> float:
        """Do everything possible now. Returns when to continue: now, later, or infinity if it waits for other calls."""
        now, call = self._world.now, self.call
        if self._signal is not None and not self._signal.is_set() and now < self._until:
            return self._until
        step, until = call.next_step(now)
        self._signal = None
        match step:
            case Connect():
                self.disconnect()
                self.peer = self._world.connect()
                self._began = self._resume_at = now
                call.step_done()
            case StartTLS():
                call.step_done()
            case Send(data):
                assert self.peer is not None
                self.peer.receive_data(data)
                call.step_done()
            case Receive() if self._resume_at > now:
                return min(self._resume_at, until)
            case Receive():
                return self._receive(until)
            case Wait(signal):
                self.disconnect()
                self._signal, self._until = signal, until
                return until
            case Done():
                self.disconnect()
                self.is_over = True
        return now

    def disconnect(self) -> None:
        if self.peer is not None:
            self.peer.left = self._world.now - self._began
            self.peer.actions.close()
            self.peer = None

    def _receive(self, until: float) -> float:
        peer, now = self.peer, self._world.now
        action = None if peer is None else next(peer.actions, None)
        if peer is None or action is None:
            raise RuntimeError("the client wants to read from a connection that has ended")
        match action:
            case Write(data):
                peer.sent += len(data)
                for piece in self._world.cut(data):
                    self.call.receive_data(piece)
            case Delay(seconds):
                self._resume_at = now + seconds
            case Stall():
                return until
            case Close():
                peer.end()
                peer.actions.close()
                self.call.receive_eof()
            case Reset():
                peer.end()
                self.disconnect()
                peer.left = None
                self.call.step_failed("Connection reset by peer")
        return now


def _new_server() -> ServerLike:
    return Server(Site(b"for tests"))


def pair(
    client: CallLike | ClientLike,
    bot: BlockingBot,
    *,
    server: Callable[[], ServerLike] = _new_server,
    now: float = 0.0,
    cut: Cut = _whole,
) -> Generator[Event]:
    """Connect a client or call to a server and bot in memory, and yield its events.

        events = list(pair(Client(Flow("http://h", question)), my_bot))

    `server` makes a server for each connection; `now` is its time in Unix seconds;
    `cut` cuts the bytes of both directions. The bot's exceptions propagate; its iterator
    is closed when the client is done or you stop iterating. Raises `RuntimeError` if
    each side waits for the other, and for a file, which nobody keeps here.
    """
    return _World(lambda: _Served(server(), bot, now, cut), cut).run(client)


class _Served:
    """One connection to a server with a bot."""

    sent = 0
    left: float | None = None

    def __init__(self, server: ServerLike, bot: BlockingBot, now: float, cut: Cut) -> None:
        self._server = server
        self._bot = bot
        self._now = now
        self._cut = cut
        self.actions = self._play()

    def receive_data(self, data: bytes) -> None:
        for piece in self._cut(data):
            self._server.receive_data(piece, now=self._now)

    def _play(self) -> Generator[Action]:
        server = self._server
        answer: Generator[Event] | None = None
        try:
            while True:
                match server.next_step():
                    case Send(data):
                        server.step_done()
                        yield Write(data)
                    case Answer(submit):
                        answer = answer or events_of(self._bot, submit)
                        event = next(answer)
                        server.send(event, now=self._now)
                        if not isinstance(event, Live):
                            answer.close()
                            answer = None
                    case Done():
                        yield Close()
                    case Keep() | Kept() | Find() | SendFile():
                        raise RuntimeError("the site of this server takes uploads, and nothing stores them here")
                    case Receive():
                        raise RuntimeError("client and server both wait for the other")
        finally:
            server.receive_eof()
            if answer is not None:
                answer.close()

    def end(self) -> None:
        """Record nothing: there is no journal."""
