"""Tkinter, file handlers and `after`: `run(root, ask(client, print, tls))`. What is true of `on_event` leaves early."""

import socket
import ssl
import tkinter
from collections.abc import Callable, Generator
from time import monotonic

from opchat_proto import Client, Connect, Done, Event, Reason, Receive, Send, StartTLS

Question = Generator[tuple[socket.socket, float], None, None]  # what is to be read from, and until when


def ask(client: Client, on_event: Callable[[Event], object], tls: ssl.SSLContext, seconds: float = 120.0) -> Question:
    connection, look, awaiting, deadline = socket.socket(), False, client.awaiting, monotonic() + seconds
    while (step := Receive() if look else client.next_step()) != Done():
        events: list[Event] = []
        try:
            connection.settimeout(0 if step == Receive() else max(0.001, deadline - monotonic()))
            match step:
                case Connect(host, port):
                    connection.close()
                    connection = socket.create_connection((host, port), seconds)  # it waits, as getaddrinfo always does
                case StartTLS(name):
                    connection = tls.wrap_socket(connection, server_hostname=name)
                case Send(data):
                    connection.sendall(data)
                case Receive():
                    events = client.receive_data(data) if (data := connection.recv(65536)) else client.receive_eof()
            if step != Receive():
                client.step_done()
        except (TimeoutError, BlockingIOError, ssl.SSLWantReadError):
            if step == Receive() and monotonic() < deadline:
                yield connection, 0.0 if look else deadline
                look = False
                continue
            events = client.receive_failure(f"nothing for {seconds} seconds", Reason.TIMEOUT)
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that the DNS cannot have
            if isinstance(step, Send):
                client.send_failed()  # there may be an answer all the same
            else:
                events = client.receive_failure(str(error))
        if any(map(on_event, events)):
            break
        if (look := not events and client.awaiting is not awaiting) or events:  # is it closed, before we send?
            awaiting, deadline = client.awaiting, monotonic() + seconds
    connection.close()


def run(root: tkinter.Tk, question: Question) -> None:
    def proceed(*_: object) -> None:
        root.deletefilehandler(connection)
        root.after_cancel(clock)
        run(root, question)

    if wait := next(question, None):
        connection, deadline = wait
        root.createfilehandler(connection, tkinter.READABLE, proceed)
        clock = root.after(max(0, round((deadline - monotonic()) * 1000)), proceed)
