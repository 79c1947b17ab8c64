"""Connects public conformance suites to this library. `.ci/run` uses it if the suites are available."""

from collections.abc import Callable
from typing import Any

from opchat_proto import (
    Broken,
    Client,
    End,
    Endpoint,
    Event,
    Flow,
    Limits,
    Live,
    Reason,
    Receive,
    ReplyDecoder,
    Session,
    SSEDecoder,
    Submit,
)

CLASSES = {
    Reason.REMOTE: "server_error",
    Reason.REFUSED: "http_status",
    Reason.MALFORMED: "malformed",
    Reason.TRUNCATED: "truncated",
    Reason.TOO_LARGE: "too_large",
}


def parse_sse(chunks: list[bytes]) -> list[list[str]]:
    decoder = SSEDecoder()
    events = [event for chunk in chunks for event in decoder.receive_data(chunk)] + decoder.receive_eof()
    return [[event.event, event.data, event.id] for event in events]


def parse_sse_state(chunks: list[bytes]) -> dict[str, Any]:
    decoder = SSEDecoder()
    for chunk in chunks:
        decoder.receive_data(chunk)
    decoder.receive_eof()
    return {"retry": decoder.retry, "last_event_id": decoder.last_event_id}


def decode_reply(chunks: list[bytes], eof: bool = True, content_type: str = "text/event-stream") -> list[list[Any]]:
    decoder = ReplyDecoder()
    events = decoder.receive_head(200, [("Content-Type", content_type)])
    for chunk in chunks:
        events += decoder.receive_data(chunk)
    if eof:
        events += decoder.receive_eof()
    outcomes: list[list[Any]] = []
    for event in events:
        match event:
            case Live(text, kind="content"):
                outcomes.append(["live", text])
            case Live():
                pass
            case End(reply):
                outcomes.append(["end", reply])
            case Broken(reason):
                outcomes.append(["broken", CLASSES[reason]])
    return outcomes


def parse_json(data: bytes) -> None:
    """A body is strict JSON if a live event that contains it stays valid. (Its line ends make it several lines.)"""
    text = data.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\ndata: ")
    body = f'data: {{"type":"live","data":"x","metadata":{text}}}\n\n'.encode()
    if decode_reply([body], eof=False) != [["live", "x"]]:
        raise ValueError("not strict JSON")


class Response:
    """What `Client` reads from one HTTP response, observed between its two rings: the body is not judged."""

    def __init__(self) -> None:
        self.flow = Flow(
            Endpoint.parse("http://site.example"),
            Submit(new_message="?"),
            session=Session(),
            limits=Limits(restarts=0),
        )
        self.body = b""
        self.verdict: str | None = None
        self.at_end = False
        self._spy("receive_head", lambda events: self._refuse() if events else None)
        self._replace("receive_data", self._receive_body)
        self._replace("receive_eof", self._complete)
        self._spy("receive_failure", lambda events: self._refuse())

    def _replace(self, name: str, method: Callable[..., list[Event]]) -> None:
        setattr(self.flow, name, method)

    def _spy(self, name: str, then: Callable[[list[Event]], None]) -> None:
        original: Callable[..., list[Event]] = getattr(self.flow, name)

        def method(*args: Any, **options: Any) -> list[Event]:
            events = original(*args, **options)
            then(events)
            return events

        setattr(self.flow, name, method)

    def _receive_body(self, data: bytes) -> list[Event]:
        self.body += data
        return []

    def _complete(self) -> list[Event]:
        self.verdict = self.verdict or "complete"
        return self.flow.receive_failure("read to its end")

    def _refuse(self) -> None:
        self.verdict = self.verdict or ("truncated" if self.at_end else "refused")


def read_http(chunks: list[bytes], eof: bool) -> list[Any]:
    response = Response()
    client = Client(response.flow)
    while client.next_step() != Receive():
        client.step_done()
    for chunk in chunks:
        client.receive_data(chunk)
    response.at_end = True
    if eof:
        client.receive_eof()
    return [response.verdict or "truncated", response.body]
