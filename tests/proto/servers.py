"""A server's connection in memory: requests, answers, and a driver."""

import json
from collections.abc import Callable, Iterable
from dataclasses import replace

from opchat_proto import Answer, Done, End, Event, Keep, Kept, Limits, Live, Receive, Response, Send, Server, Submit
from opchat_proto._server import State  # the table is not public, and this test walks it
from tests.proto.sites import (
    DATE,
    NONCE,
    NOW,
    QUESTION,
    SITE,
    START,
    STREAMED,
    SUBMIT,
    UNSTREAMED,
    begun,
    json_response,
    response_of,
    start,
)
from tests.proto.uploads import FORM


def request(target: str, *headers: str, body: bytes = b"", method: str = "POST", version: str = "1.1") -> bytes:
    lines = [f"{method} {target} HTTP/{version}", "Host: site.example", *headers]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def http(response: Response, *headers: str, reason: str = "OK", body: bytes | None = None) -> bytes:
    """The response on the wire."""
    lines = [f"HTTP/1.1 {response.status} {reason}", f"Date: {DATE}"]
    lines += [f"{name}: {value}" for name, value in response.headers]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + (response.body if body is None else body)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
CLOSE = "Connection: close"
WITH_NONCE = f"X-WP-Nonce: {NONCE}"
START_REQUEST = request(START)
SUBMIT_REQUEST = request(SUBMIT, WITH_NONCE, body=QUESTION)
UNSTREAMED_REQUEST = request(SUBMIT, WITH_NONCE, body=b'{"botId":"default","newMessage":"hi"}')
EVENTS: list[Event] = [Live("a"), Live("b", "status"), End("ab")]


def streamed(*events: Event) -> bytes:
    """A streamed answer on the wire, in chunks."""
    head = http(begun(STREAMED, events[0]), "Transfer-Encoding: chunked", body=b"")
    return head + b"".join(chunk(STREAMED.encode(event)) for event in events) + LAST_CHUNK


STARTED = http(response_of(start()))
ANSWERED = streamed(*EVENTS)
ANSWERED_WHOLE = http(begun(UNSTREAMED, End("ab")))


def refused(status: int, code: str, message: str, reason: str) -> bytes:
    body = json.dumps({"code": code, "message": message, "data": {"status": status}}, separators=(",", ":")).encode()
    return http(json_response(status, body), CLOSE, reason=reason)


def bad_request(message: str) -> bytes:
    return refused(400, "bad_request", message, "Bad Request")


def converse(
    server: Server,
    pieces: Iterable[bytes],
    events: Iterable[Event] = EVENTS,
    between: Callable[[Server], Server] = lambda server: server,
) -> tuple[bytes, list[Submit]]:
    """Drive the server until it is done, with one answer to each question. Returns what it sent, and the questions."""
    sent = bytearray()
    questions: list[Submit] = []
    pieces = iter(pieces)
    answer: list[Event] = []
    while True:
        server = between(server)
        match server.next_step():
            case Receive():
                piece = next(pieces, None)
                if piece is None:
                    server.receive_eof()
                else:
                    server.receive_data(piece, now=NOW)
            case Send(data):
                sent += data
                server.step_done()
            case Answer(submit):
                if not answer:
                    questions.append(submit)
                    answer = list(events)
                server.send(answer.pop(0))
            case Keep() | Kept():
                raise AssertionError("this site takes no files")
            case Done():
                return bytes(sent), questions


HI = Submit(new_message="hi", stream=True)
HI_WHOLE = Submit(new_message="hi", stream=False)
CHUNKED = request(SUBMIT, WITH_NONCE, "Content-Type: application/json", "Transfer-Encoding: chunked")
IN_CHUNKS = CHUNKED + chunk(QUESTION[:20]) + b"1f;ext=1\r\n" + QUESTION[20:] + b"\r\n0\r\nTrailer: x\r\n\r\n"
LONG_HEAD = request(START, "X: " + "x" * 100)
SMALL = Limits(head_bytes=len(LONG_HEAD), headers=3, request_bytes=len(QUESTION))


def closing(response: bytes) -> bytes:
    """The response with "Connection: close" at the end of its head."""
    head, end, body = response.partition(b"\r\n\r\n")
    return head + b"\r\n" + CLOSE.encode() + end + body


TOO_LARGE = refused(413, "content_too_large", f"The body is larger than {len(QUESTION)} bytes.", "Content Too Large")

EXPECTING = request(SUBMIT, WITH_NONCE, "Expect: 100-continue", body=QUESTION)
HEAD_SIZE = len(EXPECTING) - len(QUESTION)


def after(*data: bytes) -> Server:
    server = Server(SITE)
    for piece in data:
        server.receive_data(piece, now=NOW)
    return server


def sending() -> Server:
    server = after(SUBMIT_REQUEST)
    server.send(Live("a"))
    return server


def done() -> Server:
    server = after()
    server.receive_eof()
    return server


WITH_FILES = replace(SITE, upload_types=("png",))
FORM_HEAD = 'Content-Type: multipart/form-data; boundary="edge"', f"Content-Length: {len(FORM)}"
UPLOAD = request("/wp-json/mwai-ui/v1/files/upload", WITH_NONCE, *FORM_HEAD) + FORM


def uploading(data: bytes, *, kept: bool = False) -> Server:
    server = Server(WITH_FILES)
    server.receive_data(data, now=NOW)
    if kept:
        server.step_done()
    return server


MAKE: dict[State, Callable[[], Server]] = {
    State.RECEIVING: lambda: after(SUBMIT_REQUEST[:-9]),
    State.CONTINUING: lambda: after(EXPECTING[:HEAD_SIZE]),
    State.KEEPING: lambda: uploading(UPLOAD[:-3]),
    State.RESPONDING: lambda: uploading(UPLOAD, kept=True),
    State.ANSWERING: lambda: after(SUBMIT_REQUEST),
    State.SENDING: sending,
    State.FINISHING: lambda: after(START_REQUEST),
    State.CLOSING: lambda: after(b" "),
    State.DONE: done,
}
