"""Twisted: `await ask(call, print, trust)` of `Channel(url, signal=Inbox)`. Leaves early if `on_event` returns true."""

import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partialmethod
from typing import Any

from twisted.internet import defer, endpoints, error, interfaces, protocol, reactor, ssl, task
from zope.interface import implementer

from opchat_proto import Call, Channel, Connect, Done, Event, Live, Receive, Send, StartTLS, Wait


@implementer(interfaces.IHandshakeListener)
class Inbox(defer.DeferredQueue[Any], protocol.Protocol):
    dataReceived = connectionLost = defer.DeferredQueue.put  # type: ignore[assignment]  # methods of one queue
    handshakeCompleted = set = partialmethod(defer.DeferredQueue.put, b"")  # `set` wakes a call that waits


async def ask(call: Call, on_event: Callable[[Event], object], trust: Any, clock: Any = reactor) -> None:
    with closing(call), ExitStack() as connection:
        while not (event := call.next_event()) or (not on_event(event) and isinstance(event, Live)):
            if event:
                continue
            step, until = call.next_step(clock.seconds())
            seconds = max(0, min(until - clock.seconds(), 1e6))
            if isinstance(step, Connect | Wait | Done):
                connection.close()
            try:
                match step:
                    case Connect(host, port):
                        peer: Any = endpoints.HostnameEndpoint(clock, host, port)
                        inbox = await peer.connect(protocol.Factory.forProtocol(Inbox)).addTimeout(seconds, clock)
                        connection.callback(inbox.transport.abortConnection)
                    case StartTLS(name):
                        inbox.pending.clear()  # bytes in the clear did not come from inside TLS
                        inbox.transport.startTLS(ssl.optionsForClientTLS(name, trust))
                        await inbox.get().addTimeout(seconds, clock)
                    case Send(data):
                        inbox.transport.write(data)  # failures go to the inbox
                    case Receive():
                        call.receive_data(await inbox.get().addTimeout(seconds, clock))
                    case Wait(signal):
                        await signal.get().addTimeout(seconds, clock)
                if isinstance(step, Connect | StartTLS | Send):
                    call.step_done()
            except defer.CancelledError:
                raise
            except error.ConnectionDone:
                call.receive_eof()
            except Exception as failure:
                call.timed_out() if isinstance(failure, defer.TimeoutError) else call.step_failed(str(failure))


if __name__ == "__main__":
    asked = Channel(sys.argv[1], signal=Inbox).call("Hello!")
    task.react(lambda _: defer.ensureDeferred(ask(asked, print, None)))
