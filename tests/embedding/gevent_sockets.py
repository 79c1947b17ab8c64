"""gevent, without monkey-patching: `gevent.spawn(ask, client, print, gevent.ssl.create_default_context())`.

What is true of `on_event` leaves early, as does killing the greenlet.
"""

from collections.abc import Callable
from time import monotonic

from gevent import socket, ssl

from opchat_proto import Client, Connect, Done, Event, Reason, Receive, Send, StartTLS


def ask(client: Client, on_event: Callable[[Event], object], tls: ssl.SSLContext, seconds: float = 120.0) -> None:
    connection, look, awaiting, deadline = socket.socket(), False, client.awaiting, monotonic() + seconds
    try:
        while (step := Receive() if look else client.next_step()) != Done():
            events: list[Event] = []
            try:
                connection.settimeout(0.001 if look else max(0.001, deadline - monotonic()))
                match step:
                    case Connect(host, port):
                        connection.close()
                        connection = socket.create_connection((host, port), seconds)
                    case StartTLS(name):
                        connection = tls.wrap_socket(connection, server_hostname=name)
                    case Send(data):
                        connection.sendall(data)
                    case Receive():
                        data = connection.recv(65536)
                        events = client.receive_data(data) if data else client.receive_eof()
                if step != Receive():
                    client.step_done()
            except (OSError, UnicodeError) as error:  # UnicodeError: a name that the DNS cannot have
                if isinstance(step, Send):
                    client.send_failed()  # there may be an answer all the same
                elif not isinstance(error, TimeoutError):
                    events = client.receive_failure(str(error))
                elif not look:
                    events = client.receive_failure(f"nothing for {seconds} seconds", Reason.TIMEOUT)
            if any(map(on_event, events)):
                break
            look = not events and client.awaiting is not awaiting  # is it closed, before the next Send goes out?
            if look or events:
                awaiting, deadline = client.awaiting, monotonic() + seconds
    finally:
        connection.close()
