"""Threads and a queue: a thread drives each `Client` over a blocking socket, a queue brings its events to yours.

`for event in iter(Question(client, tls).events.get, None): ...`, and `leave()`, at any time, closes the connection.
"""

import contextlib
import queue
import socket
import ssl
import threading
from time import monotonic

from opchat_proto import Client, Connect, Done, Event, Reason, Receive, Send, StartTLS


class Question:
    def __init__(self, client: Client, tls: ssl.SSLContext, seconds: float = 120.0) -> None:
        self.events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()  # None: there are no more
        self.socket, self.left = socket.socket(), False
        threading.Thread(target=self.run, args=(client, tls, seconds), daemon=True).start()

    def leave(self) -> None:
        self.left = True
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # this ends a read that waits; close() does not

    def run(self, client: Client, tls: ssl.SSLContext, seconds: float) -> None:
        look, awaiting, deadline = False, client.awaiting, monotonic() + seconds
        while not self.left and (step := Receive() if look else client.next_step()) != Done():
            events: list[Event] = []
            try:
                self.socket.settimeout(0.001 if look else max(0.001, deadline - monotonic()))
                match step:
                    case Connect(host, port):
                        self.socket.close()
                        self.socket = socket.create_connection((host, port), seconds)
                    case StartTLS(name):
                        self.socket = tls.wrap_socket(self.socket, server_hostname=name)
                    case Send(data):
                        self.socket.sendall(data)
                    case Receive():
                        data = self.socket.recv(65536)
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
            for event in [] if self.left else events:
                self.events.put(event)
            look = not events and client.awaiting is not awaiting  # is it closed, before the next Send goes out?
            if look or events:
                awaiting, deadline = client.awaiting, monotonic() + seconds
        self.socket.close()
        self.events.put(None)
