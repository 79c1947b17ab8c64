"""The recipe `snapshot`: a client in the middle of an answer goes to another process, or is asked what would be if."""

import socket
import subprocess
import sys
import threading

from opchat_proto import Broken, Client, End, Event, Flow, Live, Reason, Submit
from tests.transports.scripted import Peer, Scripted, end, live

from .snapshot import hand_over, proceed, what_if
from .suite import PATIENCE, STREAMS, answer, cut_after, events_of

OTHER_PROCESS = """
import socket, sys
from tests.embedding.snapshot import proceed, take_over

with socket.socket(fileno=int(sys.argv[1])) as channel:
    client, connection = take_over(channel)
print("taken over", flush=True)
proceed(client, connection, lambda event: print(repr(event), flush=True))
"""


def test_another_process_goes_on_with_the_client_and_its_socket() -> None:
    cut = cut_after("plain", b"seven")
    taken_over = threading.Event()
    events: list[Event] = []

    def play(peer: Peer) -> None:
        answer(peer, cut)
        assert taken_over.wait(PATIENCE)
        peer.send(STREAMS["plain"][len(cut) :])

    def hear(event: Event) -> bool:
        events.append(event)
        return event == Live(" seven")

    ours, theirs = socket.socketpair()
    with Scripted(play) as server, ours, theirs:
        client = Client(Flow(server.url, Submit(new_message="Hi!")))
        connection = proceed(client, socket.socket(), hear)
        command = [sys.executable, "-c", OTHER_PROCESS, str(theirs.fileno())]
        with subprocess.Popen(command, pass_fds=[theirs.fileno()], stdout=subprocess.PIPE, text=True) as other:
            hand_over(ours, client, connection)
            assert other.stdout is not None
            assert other.stdout.readline() == "taken over\n"
            taken_over.set()
            said = other.stdout.read().splitlines()
    assert [*map(repr, events), *said] == [*map(repr, events_of(STREAMS["plain"]))]


def test_two_ways_on_from_one_state() -> None:
    def play(peer: Peer) -> None:
        answer(peer, cut_after("plain", b"seven"))

    with Scripted(play) as server:
        client = Client(Flow(server.url, Submit(new_message="Hi!")))
        connection = proceed(client, socket.socket(), Live(" seven").__eq__)
        connection.close()
    more, over, fault = what_if(client, live(" more"), end("Over."), b"no chunk size\r\n")
    assert more == [Live(" more")]
    assert over == [End("Over.", '{"success": true, "reply": "Over."}')]
    assert isinstance(fault[0], Broken)
    assert fault[0].reason is Reason.TRUNCATED
    assert client.receive_data(live(" still here")) == [Live(" still here")]
