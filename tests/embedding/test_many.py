"""Extra abilities of some recipes: many questions at once on one session, and a race."""

import ssl
import threading

import trio

from opchat_proto import End, Event, Live
from opchat_transports.testing import FaultServer
from tests.transports.peer import Peer, plays

from . import selectors_loop, trio_streams
from .suite import LITTLE, PATIENCE, STREAMS, Question, cut_after, events_of

MANY = 50


def test_selectors_reads_many_streams_on_one_thread_while_one_of_them_stalls() -> None:
    """One of them starts the session that all of them use."""
    all_there = threading.Barrier(MANY)  # all have asked before any continues

    @plays
    def play(peer: Peer) -> None:
        cut = cut_after("plain", b"seven")
        peer.send(cut)
        all_there.wait(PATIENCE)
        peer.send(STREAMS["plain"][len(cut) :])

    @plays
    def stall(peer: Peer) -> None:
        peer.send(cut_after("plain", b"seven"))
        assert peer.is_left()

    heard: list[list[Event]] = [[] for _ in range(MANY + 1)]
    tls = ssl.create_default_context()
    with FaultServer(play) as server, FaultServer(stall) as stalling:
        channel = Question(server.url, print).channel()
        questions = [selectors_loop.ask(channel.call("Hi!"), events.append, tls) for events in heard[:-1]]
        late = selectors_loop.ask(Question(stalling.url, print, timeouts=LITTLE).call(), heard[-1].append, tls)
        selectors_loop.run(late, *questions)
    assert heard[:-1] == [events_of(STREAMS["plain"])] * MANY
    assert heard[-1][:-1] == events_of(STREAMS["plain"])[:4]
    assert server.routes == ("start_session", *["submit"] * MANY)


def test_the_first_complete_answer_cancels_the_others() -> None:
    left: list[bool] = []
    heard: list[list[Event]] = [[], []]
    slow_one_is_there = threading.Event()

    @plays
    def slow(peer: Peer) -> None:
        peer.send(cut_after("plain", b"seven"))
        left.append(peer.is_left())

    @plays
    def quick(peer: Peer) -> None:
        assert slow_one_is_there.wait(PATIENCE)
        peer.send(STREAMS["plain"])

    async def race(*urls: str) -> None:
        async with trio.open_nursery() as nursery:
            for url, events in zip(urls, heard, strict=True):

                def hear(event: Event, events: list[Event] = events) -> None:
                    events.append(event)
                    if event == Live(" seven"):
                        slow_one_is_there.set()
                    if isinstance(event, End):
                        nursery.cancel_scope.cancel()

                call = Question(url, print).call(trio.Event)
                nursery.start_soon(trio_streams.ask, call, hear, ssl.create_default_context())

    with FaultServer(slow) as loser, FaultServer(quick) as winner:
        trio.run(race, loser.url, winner.url)
    assert heard == [events_of(STREAMS["plain"])[:4], events_of(STREAMS["plain"])]
    assert left == [True]
