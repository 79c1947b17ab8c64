"""`asyncio.Protocol`: `await ask(call, print, tls)`. Leaves early if `on_event` returns true, or when cancelled."""

import asyncio
import ssl
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing

from opchat_proto import Call, Channel, Connect, Done, Event, Live, Receive, Send, StartTLS, Wait


async def ask(call: Call, on_event: Callable[[Event], object], tls: ssl.SSLContext) -> None:
    class Inbox(asyncio.Queue[object], asyncio.Protocol):
        data_received = connection_lost = asyncio.Queue.put_nowait  # type: ignore[assignment]  # methods of one queue

    with closing(call), ExitStack() as connection:
        while True:
            while event := call.next_event():
                if on_event(event) or not isinstance(event, Live):
                    return
            step, until = call.next_step((loop := asyncio.get_running_loop()).time())
            if isinstance(step, Connect | Wait | Done):
                connection.close()
            try:
                async with asyncio.timeout_at(until) as clock:
                    match step:
                        case Connect(host, port):
                            wire, inbox = await loop.create_connection(Inbox, host, port)
                            connection.callback(wire.abort)
                        case StartTLS(name):  # a new inbox: bytes in the clear did not come from inside TLS
                            wire = await loop.start_tls(wire, inbox := Inbox(), tls, server_hostname=name) or wire
                        case Send(out):
                            wire.write(out)
                        case Receive():  # bytes, then the end
                            call.receive_data(it) if isinstance(it := await inbox.get(), bytes) else call.receive_eof()
                        case Wait(signal):
                            await signal.wait()
                if isinstance(step, Connect | StartTLS | Send):
                    call.step_done()
            except (OSError, ValueError) as error:  # ValueError: not a name for DNS or TLS
                call.timed_out() if clock.expired() else call.step_failed(str(error))


if __name__ == "__main__":
    asyncio.run(ask(Channel(sys.argv[1], signal=asyncio.Event).call("Hello!"), print, ssl.create_default_context()))
