"""Snapshots: a `Client` goes on in another process, with its socket; and two ways on from here are tried.

Not over TLS, whose keys stay in this process. Unpickle only what you have pickled yourself.
"""

import copy
import pickle
import socket
from collections.abc import Callable

from opchat_proto import Client, Connect, Done, Event, Reason, Receive, Send


def proceed(
    client: Client, connection: socket.socket, on_event: Callable[[Event], object], seconds: float = 120.0
) -> socket.socket:
    """To the end, or to where `on_event` says something true. Gives the connection as it is then."""
    while (step := client.next_step()) != Done():
        events: list[Event] = []
        try:
            connection.settimeout(seconds)
            match step:
                case Connect(host, port):
                    connection.close()
                    connection = socket.create_connection((host, port), seconds)
                    client.step_done()
                case Send(data):
                    connection.sendall(data)
                    client.step_done()
                case Receive():
                    data = connection.recv(65536)
                    events = client.receive_data(data) if data else client.receive_eof()
        except TimeoutError:
            events = client.receive_failure(f"nothing for {seconds} seconds", Reason.TIMEOUT)
        except OSError as error:
            events = client.receive_failure(str(error))
        if [event for event in events if on_event(event)]:  # all of them are heard: the client will not say them again
            return connection
    connection.close()
    return connection


def hand_over(channel: socket.socket, client: Client, connection: socket.socket) -> None:
    """To whoever calls `take_over` at the other end of a Unix socket."""
    state = pickle.dumps(client)
    socket.send_fds(channel, [len(state).to_bytes(8)], [connection.fileno()])
    channel.sendall(state)
    connection.close()  # the other end has it now


def take_over(channel: socket.socket) -> tuple[Client, socket.socket]:
    size, descriptors, _, _ = socket.recv_fds(channel, 8, 1)
    state = channel.recv(int.from_bytes(size), socket.MSG_WAITALL)
    return pickle.loads(state), socket.socket(fileno=descriptors[0])


def what_if(client: Client, *answers: bytes) -> list[list[Event]]:
    """What would come of each of these bytes; the client itself hears of none."""
    return [copy.deepcopy(client).receive_data(answer) for answer in answers]
