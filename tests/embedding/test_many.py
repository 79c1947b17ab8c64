"""What some recipes can do besides: many questions at once, a race, two recipes that share nothing but the loop."""

import ssl
import threading

import trio

from opchat_proto import Client, Event, Live
from tests.transports.scripted import Peer, Scripted

from . import selectors_loop, trio_race
from .suite import LITTLE, PLENTY, STREAMS, Question, answer, answering, cut_after, events_of

MANY = 50


def test_selectors_hear_many_streams_on_one_thread_while_one_of_them_stalls() -> None:
    all_there = threading.Barrier(MANY)  # nobody goes on before all have been asked

    def play(peer: Peer) -> None:
        cut = cut_after("plain", b"seven")
        answer(peer, cut)
        all_there.wait(PLENTY)
        peer.send(STREAMS["plain"][len(cut) :])

    def stall(peer: Peer) -> None:
        answer(peer, cut_after("plain", b"seven"))
        assert peer.is_left()

    heard: list[list[Event]] = [[] for _ in range(MANY + 1)]
    tls = ssl.create_default_context()
    with Scripted(play) as server, Scripted(stall) as stalling:
        asked = [Question(server.url, events.append) for events in heard[:-1]]
        questions = [selectors_loop.ask(question.client(), question.hear, tls, PLENTY) for question in asked]
        late = selectors_loop.ask(Question(stalling.url, print).client(), heard[-1].append, tls, LITTLE)
        selectors_loop.run(late, *questions)
    assert heard[:-1] == [events_of(STREAMS["plain"])] * MANY
    assert heard[-1][:-1] == events_of(STREAMS["plain"])[:4]


def test_the_winner_of_a_race_leaves_the_others() -> None:
    left: list[bool] = []
    heard: dict[Client, list[Event]] = {}

    def slow(peer: Peer) -> None:
        answer(peer, cut_after("plain", b"seven"))
        left.append(peer.is_left())

    def hear(client: Client, event: Event) -> None:
        heard[client].append(event)
        if event == Live(" seven"):
            slow_one_is_there.set()

    def quick(peer: Peer) -> None:
        assert slow_one_is_there.wait(PLENTY)
        answering(STREAMS["plain"])(peer)

    slow_one_is_there = threading.Event()
    with Scripted(slow) as loser, Scripted(quick) as winner:
        clients = [Question(server.url, print).client() for server in (loser, winner)]
        heard |= {client: [] for client in clients}
        trio.run(trio_race.race, clients, hear, ssl.create_default_context(), PLENTY)
    assert heard[clients[0]] == events_of(STREAMS["plain"])[:4]
    assert heard[clients[1]] == events_of(STREAMS["plain"])
    assert left == [True]
