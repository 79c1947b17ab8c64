"""Twisted: `await ask(client, print, platformTrust())`. What is true of `on_event` leaves early, as cancelling does."""

from collections.abc import Callable
from typing import Any

from twisted.internet import defer, error, interfaces, protocol, reactor, ssl
from twisted.internet.endpoints import HostnameEndpoint
from zope.interface import implementer

from opchat_proto import Client, Connect, Done, Event, Reason, Receive, Send, StartTLS


@implementer(interfaces.IHandshakeListener)
class Inbox(protocol.Protocol):
    def __init__(self) -> None:
        self.queue: defer.DeferredQueue[Any] = defer.DeferredQueue()
        self.dataReceived = self.connectionLost = self.queue.put  # type: ignore[method-assign, assignment]  # both just queue

    def handshakeCompleted(self) -> None:
        self.queue.put(b"")


async def ask(client: Client, on_event: Callable[[Event], object], trust: Any, seconds: float = 120.0) -> None:
    clock: Any = reactor
    inbox: Any = None
    look, awaiting, deadline = False, client.awaiting, clock.seconds() + seconds
    try:
        while (step := Receive() if look else client.next_step()) != Done():
            events: list[Event] = []
            within = 0.001 if look else max(0.001, deadline - clock.seconds())
            try:
                match step:
                    case Connect(host, port):
                        inbox = inbox and inbox.transport.abortConnection()
                        peer: Any = HostnameEndpoint(clock, host, port)
                        inbox = await peer.connect(protocol.Factory.forProtocol(Inbox)).addTimeout(within, clock)
                    case StartTLS(name):
                        inbox.transport.startTLS(ssl.optionsForClientTLS(name, trust))
                        await inbox.queue.get().addTimeout(within, clock)
                    case Send(data):
                        inbox.transport.write(data)  # what goes wrong with it comes to the inbox
                    case Receive():
                        events = client.receive_data(await inbox.queue.get().addTimeout(within, clock))
                if step != Receive():
                    client.step_done()
            except defer.TimeoutError:
                events = [] if look else client.receive_failure(f"nothing for {seconds} seconds", Reason.TIMEOUT)
            except error.ConnectionDone:
                events = client.receive_eof()
            except defer.CancelledError:
                raise
            except Exception as failure:
                events = client.receive_failure(str(failure))
            if any(map(on_event, events)):
                break
            if (look := not events and client.awaiting is not awaiting) or events:  # is it closed, before we send?
                awaiting, deadline = client.awaiting, clock.seconds() + seconds
    finally:
        if inbox:
            inbox.transport.abortConnection()
