"""`selectors`, many on one thread: `run(ask(client, print, tls), ...)`. What is true of `on_event` leaves early."""

import selectors
import socket
import ssl
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
                    data = connection.recv(65536)
                    events = client.receive_data(data) if data else client.receive_eof()
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
        look = not events and client.awaiting is not awaiting  # is it closed, before the next Send goes out?
        if look or events:
            awaiting, deadline = client.awaiting, monotonic() + seconds
    connection.close()


def run(*questions: Question) -> None:
    selector, due = selectors.DefaultSelector(), list(questions)
    while (keys := selector.get_map().values()) or due:
        for question in due:
            if wait := next(question, None):
                selector.register(wait[0], selectors.EVENT_READ, (wait[1], question))
        ready = {key for key, _ in selector.select(min([key.data[0] for key in keys], default=0.0) - monotonic())}
        ready.update([key for key in keys if key.data[0] <= monotonic()])
        due = [selector.unregister(key.fileobj).data[1] for key in ready]
