"""Snapshots: a `Client` continues in another process, with its socket; or two continuations of one state are tried.
Not over TLS, whose keys stay in this process. Unpickle only what you have pickled yourself."""

import copy
import socket
import sys
from collections.abc import Callable
from multiprocessing import get_context

from opchat_proto import Client, Connect, Done, Event, Flow, Reason, Receive, Send, Submit


def proceed(client: Client, wire: socket.socket, on_event: Callable[[Event], object]) -> socket.socket:
    """Drive it to the end, or until `on_event` returns something true. Return the connection in its present state."""
    wire.settimeout(120)
    while (step := client.next_step()) != Done():
        events: list[Event] = []
        try:
            match step:
                case Connect(host, port):
                    wire.close()
                    wire = socket.create_connection((host, port), 120)
                case Send(data):
                    wire.sendall(data)
                case Receive():
                    events = client.receive_data(data) if (data := wire.recv(65536)) else client.receive_eof()
            if step != Receive():
                client.step_done()
        except OSError as error:
            events = client.step_failed(str(error), Reason.TIMEOUT if isinstance(error, TimeoutError) else Reason.LOST)
        if [event for event in events if on_event(event)]:  # take all: the client does not return them again
            return wire
    wire.close()
    return wire


def what_if(client: Client, *answers: bytes) -> list[list[Event]]:
    """The events that each of these bytes would give. The client itself does not change."""
    return [copy.deepcopy(client).receive_data(answer) for answer in answers]


if __name__ == "__main__":  # here until data arrives, then in the other process
    asked = Client(Flow(sys.argv[1], Submit(new_message="Hello!")))
    connection = proceed(asked, socket.socket(), lambda event: sys.stdout.write(f"{event}\n"))
    get_context("spawn").Process(target=proceed, args=(asked, connection, print)).start()
