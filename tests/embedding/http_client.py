"""`http.client` of the standard library: `ask(call, print, tls)`. Leaves early if `on_event` returns true."""

import ssl
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from time import monotonic

from opchat_proto import Channel, Event, HTTPCall, Live, Receive, Request, Wait


def ask(call: HTTPCall, on_event: Callable[[Event], object], tls: ssl.SSLContext) -> None:
    secure, site = call.channel.endpoint.scheme == "https", call.channel.endpoint.authority
    with closing(call), ExitStack() as opened:
        while not (event := call.next_event()) or (not on_event(event) and isinstance(event, Live)):
            if event:
                continue
            step, until = call.next_step(monotonic())
            within = max(0.001, min(until - monotonic(), 1e6))  # for each read; the clock is checked between reads
            if not isinstance(step, Receive):
                opened.close()
            try:
                match step:
                    case Request(method, _, headers, body):
                        sent, http = False, HTTPSConnection(site, context=tls) if secure else HTTPConnection(site)
                        opened.callback(http.close)
                        http.timeout = within
                        http.connect()
                        sent, sock = True, http.sock
                        http.request(method, step.target, body, {**dict(headers), "Connection": "close"})
                        response = opened.enter_context(http.getresponse())
                        call.receive_head(response.status, response.getheaders())
                    case Receive():
                        sock.settimeout(within)
                        call.receive_data(data) if (data := response.read1(65536)) else call.receive_eof()
                    case Wait(signal):
                        signal.wait(within)
            except (OSError, ValueError, HTTPException) as error:  # ValueError: not a name for DNS or TLS
                call.timed_out() if monotonic() >= until else call.step_failed(str(error) or repr(error), sent=sent)


if __name__ == "__main__":
    ask(Channel(sys.argv[1], signal=threading.Event).http_call("Hello!"), print, ssl.create_default_context())
