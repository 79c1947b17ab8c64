"""An interrupt, such as Ctrl-C, anywhere in a question over blocking sockets, or while a server runs."""

import _thread
import concurrent.futures
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

import opchat_proto
import opchat_transports
from opchat_proto import Broken, Call, End, HTTPCall, Live, Session, Wait
from opchat_transports.blocking_server import serve
from opchat_transports.blocking_sockets import BlockingTransport
from opchat_transports.bots import small_talk
from opchat_transports.testing import FaultServer

from .asking import in_thread
from .wire import tells

TRACED = tuple(
    str(path)
    for path in (
        Path(opchat_proto.__file__).parent,
        Path(opchat_transports.__file__).parent,
        Path(concurrent.futures.__file__).parent,
        threading.__file__,
    )
)
Place = tuple[str, int, str]


def interrupt() -> None:
    raise KeyboardInterrupt


class Interrupts:
    """Runs work, and acts as a signal's handler when it first reaches a place: a line about to run, or a return."""

    def __init__(self, place: Place | None, handler: Callable[[], object] = interrupt) -> None:
        self._place = place
        self._handler = handler
        self.places: dict[Place, None] = {}

    def _trace(self, frame: Any, event: str, _: object) -> Any:
        if not frame.f_code.co_filename.startswith(TRACED):
            return None
        place = (frame.f_code.co_filename, frame.f_lineno, event)
        if place == self._place and place not in self.places:
            self.places[place] = None
            self._handler()
        self.places[place] = None
        return self._trace

    def run(self, work: Callable[[], Any]) -> Any:
        """The result of the work; None if it was interrupted."""
        before = sys.gettrace()
        sys.settrace(self._trace)
        try:
            return work()
        except KeyboardInterrupt:
            return None
        finally:
            sys.settrace(before)


class Kept(socket.socket):
    """A socket that is never collected, so that only `close` can close it."""

    made: ClassVar[list["Kept"]] = []
    owner: ClassVar[int] = 0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if _thread.get_ident() == self.owner:
            self.made.append(self)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Kept]:
    """The sockets that this thread makes."""
    monkeypatch.setattr(Kept, "made", [])
    monkeypatch.setattr(Kept, "owner", _thread.get_ident())
    monkeypatch.setattr(socket, "socket", Kept)
    return Kept.made


def named(port: int) -> Callable[..., Any]:
    """Replaces `socket.getaddrinfo`: each name has the loopback address, with this port."""

    def look_up(*_: Any, flags: int = 0, **__: Any) -> Any:
        if flags & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "no address")
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port))]

    return look_up


def no_name(*_: Any, **__: Any) -> Any:
    raise socket.gaierror(socket.EAI_NONAME, "no such name")


def interrupt_everywhere(made: list[Kept], **options: Any) -> int:
    """Ask, interrupted at each place in turn. Returns how many places there are."""

    def ask(place: Place | None) -> Interrupts:
        interrupts = Interrupts(place)
        with BlockingTransport("http://h", **options) as transport, transport.ask("Hi") as reply:
            events = interrupts.run(lambda: list(reply))
        assert not events or isinstance(events[-1], End | Broken), place
        assert [it.fileno() for it in made] == [-1] * len(made), place
        return interrupts

    places = ask(None).places
    for place in places:
        ask(place)
    return len(places)


def test_an_interrupt_at_any_line_closes_the_connection(made: list[Kept], monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultServer(tells("a")) as server, monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", named(server.port))
        made.clear()  # the server's
        assert interrupt_everywhere(made) > 100
    assert made


def test_an_interrupt_at_any_line_of_a_wait_is_the_only_exception(
    made: list[Kept], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The observer ends the wait before it begins, so that it takes no time."""

    def observe(call: Call | HTTPCall, item: object) -> None:
        if isinstance(item, Wait):
            waits.append(item)
            call.close()

    waits: list[Wait] = []
    monkeypatch.setattr(socket, "getaddrinfo", no_name)
    assert interrupt_everywhere(made, retries=1, observer=observe) > 50
    assert waits


@pytest.mark.parametrize("closes", ["reply", "transport"])
def test_a_signal_handler_may_close_at_any_line(closes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(place: Place | None) -> Interrupts:
        with BlockingTransport("http://h", session=Session()) as transport:
            reply = transport.ask("Hi")
            interrupts = Interrupts(place, (reply if closes == "reply" else transport).close)
            *pieces, last = interrupts.run(lambda: list(reply))
        assert all(isinstance(piece, Live) for piece in pieces), place
        assert isinstance(last, End) or last.detail == "closed by the caller", place
        return interrupts

    with FaultServer(tells("a")) as server:
        monkeypatch.setattr(socket, "getaddrinfo", named(server.port))
        places = ask(None).places
        for place in places:
            ask(place)
    assert len(places) > 100
    assert server.repeated == ()


def test_waiting_for_the_end_of_a_server_runs_no_code_that_an_interrupt_can_break() -> None:
    """`threading.Event.wait` is such code."""
    interrupts = Interrupts(None)
    with serve(small_talk) as server:
        join = in_thread(server.close)
        interrupts.run(server.wait)
        join()
    assert {Path(file).name for file, *_ in interrupts.places} == {"blocking_server.py", "_sockets.py"}
