"""pygame's frame loop: `play(ask(client, print, tls, 120.0))`. What is true of `on_event` leaves early."""

import socket
import ssl
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic

import pygame

from opchat_proto import Client, Connect, Done, Event, Reason, Receive, Send, StartTLS


def ask(client: Client, on_event: Callable[[Event], object], tls: ssl.SSLContext, seconds: float) -> Generator[None]:
    run, connection = ThreadPoolExecutor(1).submit, socket.socket()  # what can wait, waits in that thread
    look, awaiting, deadline = False, client.awaiting, monotonic() + seconds
    try:
        while (step := Receive() if look else client.next_step()) != Done():
            yield
            events: list[Event] = []
            try:
                connection.settimeout(0 if step == Receive() else max(0.001, deadline - monotonic()))
                match step:
                    case Connect(host, port):
                        connection.close()
                        work: Future[socket.socket | None] = run(socket.create_connection, (host, port), seconds)
                    case StartTLS(name):
                        work = run(tls.wrap_socket, connection, server_hostname=name)
                    case Send(data):
                        work = run(connection.sendall, data)
                    case _:
                        events = client.receive_data(data) if (data := connection.recv(65536)) else client.receive_eof()
                if step != Receive():
                    while not work.done():
                        yield
                    connection = work.result() or connection
                    client.step_done()
            except (TimeoutError, BlockingIOError, ssl.SSLWantReadError):
                if step == Receive() and monotonic() < deadline:
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
    finally:
        connection.close()


def play(asking: Generator[None]) -> None:
    for _ in asking:
        if pygame.event.get(pygame.QUIT):
            asking.close()
        pygame.time.wait(16)  # or draw, and keep your own time
