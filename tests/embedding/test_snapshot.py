"""The recipe `snapshot`: a client moves to another process in the middle of an answer, or tries two continuations."""

import socket
import threading
from contextlib import suppress
from multiprocessing import get_context

from opchat_proto import Broken, Client, End, Event, Flow, Live, Reason, Submit
from opchat_transports.testing import FaultServer
from tests.transports.peer import Peer, plays
from tests.transports.wire import end, live

from .snapshot import proceed, what_if
from .suite import PATIENCE, STREAMS, cut_after, events_of


def test_another_process_continues_with_the_client_and_its_socket() -> None:
    cut = cut_after("plain", b"seven")
    handed_over = threading.Event()
    events: list[Event] = []

    @plays
    def play(peer: Peer) -> None:
        peer.send(cut)
        assert handed_over.wait(PATIENCE)
        peer.send(STREAMS["plain"][len(cut) :])

    def hear(event: Event) -> bool:
        events.append(event)
        return event == Live(" seven")

    there = get_context("spawn")
    ours, theirs = there.Pipe(duplex=False)
    with FaultServer(play) as server, ours:
        client = Client(Flow(server.url, Submit(new_message="Hi!")))
        connection = proceed(client, socket.socket(), hear)
        other = there.Process(target=proceed, args=(client, connection, theirs.send))
        with theirs, connection:  # closed here as soon as the other process has them
            other.start()
        handed_over.set()
        with suppress(EOFError):
            while ours.poll(PATIENCE):
                events.append(ours.recv())
        other.join(PATIENCE)
    assert events == events_of(STREAMS["plain"])
    assert other.exitcode == 0


def test_one_state_can_continue_in_two_ways() -> None:
    @plays
    def play(peer: Peer) -> None:
        peer.send(cut_after("plain", b"seven"))

    with FaultServer(play) as server:
        client = Client(Flow(server.url, Submit(new_message="Hi!")))
        connection = proceed(client, socket.socket(), Live(" seven").__eq__)
        connection.close()
    more, over, fault = what_if(client, live(" more"), end("Over."), b"no chunk size\r\n")
    assert more == [Live(" more")]
    assert over == [End("Over.", '{"success": true, "reply": "Over."}')]
    assert isinstance(fault[0], Broken)
    assert fault[0].reason is Reason.TRUNCATED
    assert client.receive_data(live(" still here")) == [Live(" still here")]
