"""requests: `with requests.Session() as http: ask(call, print, http)`. Leaves early if `on_event` returns true.
A stalled read ends at the deadline of its request, since requests has one timeout for all reads."""

import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from time import monotonic

import requests
from urllib3.exceptions import HTTPError, NewConnectionError, TimeoutError

from opchat_proto import Channel, Event, HTTPCall, Live, Receive, Request, Wait


def ask(call: HTTPCall, on_event: Callable[[Event], object], http: requests.Session) -> None:
    with closing(call), ExitStack() as opened:
        while not (event := call.next_event()) or (not on_event(event) and isinstance(event, Live)):
            if event:
                continue
            step, until = call.next_step(monotonic())
            within = max(0.001, min(until - monotonic(), 1e6))
            if not isinstance(step, Receive):
                opened.close()
            try:
                match step:
                    case Request(method, url, headers, body):
                        opened.callback(http.close)  # a kept connection may be closed by the next request
                        request = http.prepare_request(requests.Request(method, url, dict(headers), data=body))
                        response = http.send(request, stream=True, timeout=within, allow_redirects=False)
                        opened.callback(response.close)
                        call.receive_head(response.status_code, response.raw.headers.items())
                    case Receive():
                        data = response.raw.read1(65536, decode_content=False)
                        call.receive_data(data) if data else call.receive_eof()
                    case Wait(signal):
                        signal.wait(within)
            except (requests.RequestException, HTTPError) as error:
                sent = not isinstance(getattr(error.__context__, "reason", None), NewConnectionError)
                late = isinstance(error, requests.Timeout | TimeoutError)
                call.timed_out() if late else call.step_failed(str(error), sent=sent)


if __name__ == "__main__":
    ask(Channel(sys.argv[1], signal=threading.Event).http_call("Hello!"), print, requests.Session())
