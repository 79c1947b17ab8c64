"""Snapshots: a `Client` goes on in another process, with its socket; and two ways on from here are tried.

Not over TLS, whose keys stay in this process. Unpickle only what you have pickled yourself.
"""

import copy
import pickle
import socket
import sys
from collections.abc import Callable

from opchat_proto import Client, Connect, Done, Event, Flow, Reason, Receive, Send, Submit


def proceed(client: Client, wire: socket.socket, on_event: Callable[[Event], object]) -> socket.socket:
    """To the end, or to where `on_event` says something true. Gives the connection as it is then."""
    wire.settimeout(120)
    while (step := client.next_step()) != Done():
        events: list[Event] = []
        try:
            match step:
                case Connect(host, port):
                    wire.close()
                    wire = socket.create_connection((host, port), 120)
                    client.step_done()
                case Send(data):
                    wire.sendall(data)
                    client.step_done()
                case Receive():
                    data = wire.recv(65536)
                    events = client.receive_data(data) if data else client.receive_eof()
        except OSError as error:
            reason = Reason.TIMEOUT if isinstance(error, TimeoutError) else Reason.LOST
            events = client.step_failed(str(error), reason)
        if [event for event in events if on_event(event)]:  # all are heard: the client will not say them again
            return wire
    wire.close()
    return wire


def hand_over(channel: socket.socket, client: Client, wire: socket.socket) -> None:
    """To whoever calls `take_over` at the other end of a Unix socket."""
    state = pickle.dumps(client)
    socket.send_fds(channel, [len(state).to_bytes(8)], [wire.fileno()])
    channel.sendall(state)
    wire.close()  # the other end has it now


def take_over(channel: socket.socket) -> tuple[Client, socket.socket]:
    size, descriptors, _, _ = socket.recv_fds(channel, 8, 1)
    state = channel.recv(int.from_bytes(size), socket.MSG_WAITALL)
    return pickle.loads(state), socket.socket(fileno=descriptors[0])


def what_if(client: Client, *answers: bytes) -> list[list[Event]]:
    """What would come of each of these bytes; the client itself hears of none."""
    return [copy.deepcopy(client).receive_data(answer) for answer in answers]


if __name__ == "__main__":
    proceed(Client(Flow(sys.argv[1], Submit(new_message="Hello!"))), socket.socket(), print)
