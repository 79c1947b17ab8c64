"""The server side, over sockets: one HTTP/1.1 connection of a site.

bytes <-> [ Server: Receive, Send, Answer, Done  |  HTTP/1.1 on h11 ]             sockets, trio, your own loop
                |  method, target, headers, body   ^  Response
HTTP  <-> [ Site: nonces, routes, checks  |  Question: events -> response ]       an ASGI application
"""

import re
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import final

import h11

from ._events import Event, Live
from ._http import format_date
from ._incoming import IncomingFile
from ._messages import Submit
from ._outgoing import OutgoingFile
from ._question import Question, Response, check_now
from ._site import PHRASES, Site, http_error, too_large
from ._steps import Done, Receive, Send
from ._table import Table
from ._value import Value

__all__ = ["Answer", "Find", "Keep", "Kept", "SendFile", "Server"]


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Answer(Value):
    """Ask the application for the next event of its answer to this question. Then `send(event)`."""

    submit: Submit
    session_id: str = field(repr=False)
    """See `Question.session_id`."""


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Keep(Value):
    """Write these bytes of an uploaded file. Then `step_done()`."""

    file: IncomingFile
    data: bytes = field(repr=False)


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Kept(Value):
    """The file is complete. Store it, and `respond(file.kept(file_id))`, or `respond(file.failed(why))`."""

    file: IncomingFile


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Find(Value):
    """Find an uploaded file that the client asks for, and `respond(file.found(...))`, or `respond(file.failed())`."""

    file: OutgoingFile


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class SendFile(Value):
    """Send this data, then the `size` bytes of the file that was found. Then `step_done()`."""

    data: bytes = field(repr=False)
    size: int


@final
class State(StrEnum):
    """The state of a `Server`."""

    RECEIVING = "RECEIVING"
    CONTINUING = "CONTINUING"
    """Telling a client to send the body that it announced."""
    KEEPING = "KEEPING"
    """Writing a part of a file."""
    RESPONDING = "RESPONDING"
    """The application makes the response about a file that is complete or requested."""
    ANSWERING = "ANSWERING"
    SENDING = "SENDING"
    """Sending a part of an answer."""
    FINISHING = "FINISHING"
    """Sending the last bytes of a response; the connection stays open."""
    CLOSING = "CLOSING"
    """Sending the last bytes of the connection."""
    DONE = "DONE"


@final
class Input(StrEnum):
    """What a driver reports, and the consequences of a report."""

    RECEIVE_DATA = "receive_data"
    RECEIVE_EOF = "receive_eof"
    STEP_FAILED = "step_failed"
    STEP_DONE = "step_done"
    SEND = "send"
    RESPOND = "respond"
    EXPECTATION = "expectation"
    QUESTION = "question"
    FILE_PART = "part of a file"
    FILE = "file"
    PART = "part"
    RESPONSE = "response"
    LAST_RESPONSE = "last response"
    FLOOD = "flood"


_GONE = {Input.RECEIVE_EOF: State.DONE, Input.STEP_FAILED: State.DONE}
_CUT = {Input.FLOOD: State.DONE, **_GONE}

TABLE: Table[State, Input] = Table(
    "Server",
    (State.RECEIVING,),
    {
        State.RECEIVING: {
            Input.RECEIVE_DATA: State.RECEIVING,
            Input.EXPECTATION: State.CONTINUING,
            Input.QUESTION: State.ANSWERING,
            Input.FILE_PART: State.KEEPING,
            Input.FILE: State.RESPONDING,
            Input.RESPONSE: State.FINISHING,
            Input.LAST_RESPONSE: State.CLOSING,
            **_GONE,
        },
        State.CONTINUING: {
            Input.RECEIVE_DATA: State.CONTINUING,
            Input.STEP_DONE: State.RECEIVING,
            **_CUT,
        },
        State.KEEPING: {
            Input.RECEIVE_DATA: State.KEEPING,
            Input.STEP_DONE: State.RECEIVING,
            **_CUT,
        },
        State.RESPONDING: {
            Input.RECEIVE_DATA: State.RESPONDING,
            Input.RESPOND: State.FINISHING,
            Input.LAST_RESPONSE: State.CLOSING,
            **_CUT,
        },
        State.ANSWERING: {
            Input.RECEIVE_DATA: State.ANSWERING,
            Input.SEND: State.ANSWERING,
            Input.PART: State.SENDING,
            Input.RESPONSE: State.FINISHING,
            Input.LAST_RESPONSE: State.CLOSING,
            **_CUT,
        },
        State.SENDING: {
            Input.RECEIVE_DATA: State.SENDING,
            Input.STEP_DONE: State.ANSWERING,
            **_CUT,
        },
        State.FINISHING: {
            Input.RECEIVE_DATA: State.FINISHING,
            Input.STEP_DONE: State.RECEIVING,
            **_CUT,
        },
        State.CLOSING: {Input.STEP_DONE: State.DONE, **_GONE},
        State.DONE: {},
    },
)

_HEAD_END = re.compile(rb"\n\r?\n")  # as h11 finds it
_PIECE = 4096  # bytes of a body passed to h11 at once, so that little is read twice if requests are pipelined


class _Refused(Exception):
    """The request cannot be read any further. The connection ends with this response."""

    def __init__(self, response: Response) -> None:
        self.response = response


@final
class Server:
    """One HTTP/1.1 connection, seen from the server.

    `next_step()` says what to do next. It changes nothing, and returns the same
    step until you report on it. A driver is this loop:

        while True:
            match server.next_step():
                case Receive():
                    data = connection.recv(65536)
                    server.receive_data(data, now=time.time()) if data else server.receive_eof()
                case Send(data):
                    connection.sendall(data)
                    server.step_done()
                case Answer(submit, session_id):
                    server.send(next event of the application)
                case Keep(file, data):  # if the site takes uploads; any other step but Receive ends the file
                    ...
                    server.step_done()
                case Kept(file):
                    server.respond(file.kept(file_id))
                case Find(file):
                    server.respond(file.found(name, content_type, size))
                case SendFile(data, size):
                    ...
                    server.step_done()
                case Done():
                    break

    Anything that a client sends is answered or ends the connection. A call that
    the state does not allow raises `LocalProtocolError` and changes nothing. You
    may report at any time that the client has left: the next step is then `Done`,
    and late events are ignored.

    Bytes may be reported before they are asked for, for example by a driver that
    watches for a client that leaves. They wait for their turn. A client that sends
    more ahead than one request may have is disconnected.

    Raises `TypeError` if `site` is not a `Site`.
    """

    def __init__(self, site: Site) -> None:
        if not isinstance(site, Site):
            raise TypeError(f"site: expected a Site, got {type(site).__name__}")
        self._site = site
        self._limits = site.limits
        self._state = State.RECEIVING
        self._now = 0.0  # when the last bytes came
        self._received = bytearray()  # not read yet
        self._out = b""  # the data of `Send`
        self._file_bytes = 0  # of a file, to be sent after it
        self.request: tuple[str, str] | None = None
        """The newest request for a log: method and target. None before the first or if its head is unreadable."""
        self.status: int | None = None
        """The status of the response to `request`, None until the response begins."""
        self._expect_request()

    def _expect_request(self) -> None:
        # A new connection object for each request: h11 would keep the bytes after a request without counting them.
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=self._limits.head_bytes)
        self._searched = 0  # bytes of `_received` searched for the end of the head
        self._head: tuple[str, str, tuple[tuple[bytes, bytes], ...]] | None = None  # method, target, header fields
        self._body = bytearray()
        self._taken = 0  # bytes of `_received` that were passed to h11
        self._is_whole = False  # whether the body is
        self._file: IncomingFile | None = None  # the file that the request uploads
        self._part = bytearray()  # bytes of the file that are not written yet
        self._wanted: OutgoingFile | None = None
        self._question: Question | None = None

    def __repr__(self) -> str:
        """The state, and the number of unread bytes."""
        return f"<Server {self._state}, {len(self._received)} bytes unread>"

    @property
    def held(self) -> int:
        """How many bytes of requests are held: a body and unread bytes, without a partial line of chunked framing."""
        return len(self._body) + len(self._received) + len(self._part)

    def next_step(self) -> Receive | Send | Answer | Keep | Kept | Find | SendFile | Done:
        """What to do next."""
        if self._state is State.RECEIVING:
            return Receive()
        if self._state is State.DONE:
            return Done()
        if self._state is State.ANSWERING:
            assert self._question is not None
            return Answer(self._question.submit, self._question.session_id)
        if self._state in (State.KEEPING, State.RESPONDING):
            if self._wanted is not None:
                return Find(self._wanted)
            assert self._file is not None
            return Keep(self._file, bytes(self._part)) if self._state is State.KEEPING else Kept(self._file)
        return SendFile(self._out, self._file_bytes) if self._file_bytes else Send(self._out)

    def receive_data(self, data: bytes | bytearray | memoryview, *, now: float) -> None:
        """Take bytes that arrived at `now`, in Unix seconds. Always legal; no bytes change nothing.

        Raises `TypeError` if `data` is not bytes-like, `ValueError` if `now` is not a time.
        """
        data = bytes(memoryview(data))
        check_now(now)
        if self._state in (State.CLOSING, State.DONE) or not data:
            return  # nothing more is read
        self._move(Input.RECEIVE_DATA)
        self._now = now
        self._received += data
        if self._state is State.RECEIVING:
            self._read()
        elif len(self._received) > self._limits.head_bytes + self._limits.request_bytes:
            self._move(Input.FLOOD)

    def receive_eof(self) -> None:
        """The client has closed its side. This ends the connection, even during an answer. Always legal."""
        if self._state is not State.DONE:
            self._move(Input.RECEIVE_EOF)

    def step_failed(self, detail: str) -> None:
        """The step failed or timed out. This ends the connection. Always legal.

        `detail` is unused; it makes the signature that of `Client.step_failed`.
        """
        if not isinstance(detail, str):
            raise TypeError(f"detail: expected a str, got {type(detail).__name__}")
        if self._state is not State.DONE:
            self._move(Input.STEP_FAILED)

    def step_done(self) -> None:
        """`Send`, `SendFile` or `Keep` is done. Raises `LocalProtocolError` at any other step."""
        self._move(Input.STEP_DONE)
        self._out, self._file_bytes = b"", 0
        self._part.clear()
        if self._state is State.RECEIVING:
            self._read()  # the next request may have arrived already

    def send(self, event: Event | None, *, now: float | None = None) -> None:
        """Take the next event of the application's answer. `Question.encode` explains its encoding, and `now`.

        None sends a keep-alive comment while the application thinks. The next step is
        `Send`, then `Answer` again, until the last event, `End` or `Broken`, was sent.
        There is no `Send` for a `Live` or None without a stream, or for a piece that
        `Question.encode` holds back. After the end of the connection this does
        nothing. Raises `LocalProtocolError` if no question waits, `TypeError` for
        anything but an event, `ValueError` if `now` is not a time.
        """
        if self._state is State.DONE:
            return
        self._move(Input.SEND)  # does not change the state, so the next lines may still raise
        assert self._question is not None
        if self._h11.our_state is h11.SEND_BODY:
            body = self._question.encode(event, now=now)
            data = b""
        elif response := self._question.response(event, now=now):
            body = response.body
            data = self._write_head(response, self._now if now is None else now)
        else:
            return
        data += self._h11.send(h11.Data(body))
        if not data:
            return  # a lone surrogate, which waits for its other half
        if isinstance(event, Live | None):
            self._out = data
            self._move(Input.PART)
        else:
            self._finish(data)

    def respond(self, response: Response) -> None:
        """Take the answer for the file of `Kept` or `Find`, made by that file's methods.

        After the end of the connection this does nothing. Raises `LocalProtocolError`
        if no file waits, `TypeError` for anything but a response.
        """
        if not isinstance(response, Response):
            raise TypeError(f"expected a Response, got {type(response).__name__}")
        if self._state is not State.DONE:
            TABLE.next(self._state, Input.RESPOND)
            self._respond(response)

    def _move(self, given: Input) -> None:
        self._state = TABLE.next(self._state, given)

    # reading

    def _read(self) -> None:
        """Read the received bytes up to the end of one request."""
        try:
            if self._read_head() and self._read_body():
                self._answer()
        except _Refused as refused:
            headers = *refused.response.headers, ("Connection", "close")
            self._respond(replace(refused.response, headers=headers))

    def _read_head(self) -> bool:
        """Read the head, and return whether it is complete."""
        if self._head is not None:
            return True
        received, limits = self._received, self._limits
        while received.startswith(b"\r\n"):  # old clients send a line end after a body (RFC 9112, 2.2)
            del received[:2]
        if received == b"\r":
            return False  # half of such a line end, or a fault
        if received and received[0] <= 0x20:
            # Refused at once: TLS, for example, may never send a line end.
            raise _Refused(http_error(400, "The request is not HTTP: expected a method."))
        end = _HEAD_END.search(received, self._searched, limits.head_bytes)
        if end is None:
            if len(received) >= limits.head_bytes:
                raise _Refused(self._site.refuse(431))
            self._searched = max(0, len(received) - 2)
            return False
        head = bytes(received[: end.end()])
        del received[: end.end()]
        self._h11.receive_data(head)
        try:
            request = self._h11.next_event()
        except h11.RemoteProtocolError as error:
            status = 501 if error.error_status_hint == 501 else 400  # 501: a transfer coding that is not chunked
            raise _Refused(http_error(status, f"The request cannot be read: {str(error)[:100]}.")) from None
        assert isinstance(request, h11.Request)  # the head is complete
        self.request = method, target = request.method.decode(), request.target.decode()
        self.status = None
        self._head = method, target, tuple(request.headers)
        self._file = self._site.receive_upload(method, target, request.headers, now=self._now)
        version, is_file = request.http_version.decode(), self._file is not None
        refusal = self._site.check_head(request.headers, version=version, raw=head, upload=is_file)
        if refusal is not None:
            raise _Refused(refusal)
        return True

    def _read_body(self) -> bool:
        """Read the body, and return whether it is complete."""
        if self._is_whole:
            return True
        limits = self._limits
        try:
            while type(event := self._h11.next_event()) is not h11.EndOfMessage:
                if isinstance(event, h11.Data) and self._file is not None:
                    self._part += b"".join(self._file.receive_data(event.data))
                    refusal = self._file.receive_eof() if self._file.is_over else None
                    if refusal is not None:
                        raise _Refused(refusal)
                    continue
                if isinstance(event, h11.Data):
                    self._body += event.data
                    if len(self._body) > limits.request_bytes:
                        raise _Refused(too_large(limits.request_bytes))
                    continue
                # h11 now holds a partial line of chunked framing, or partial trailers.
                held = len(self._h11.trailing_data[0])
                if held == limits.head_bytes:
                    raise _Refused(http_error(400, f"The chunked framing has a line of more than {held} bytes."))
                del self._received[: self._taken]
                piece = bytes(self._received[: min(_PIECE, limits.head_bytes - held)])
                self._taken = len(piece)
                if not piece:
                    if self._part:
                        self._move(Input.FILE_PART)
                    elif self._h11.they_are_waiting_for_100_continue:
                        interim = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
                        self._out = self._h11.send(interim)
                        self._move(Input.EXPECTATION)
                    return False
                self._h11.receive_data(piece)
        except h11.RemoteProtocolError:
            # Not h11's words, which depend on the cuts.
            raise _Refused(http_error(400, "The chunked framing cannot be read.")) from None
        del self._received[: self._taken - len(self._h11.trailing_data[0])]
        self._is_whole = True
        if self._part:
            self._move(Input.FILE_PART)
        return not self._part

    def _answer(self) -> None:
        assert self._head is not None
        outcome: Response | Question | OutgoingFile | None
        if self._file is not None:
            outcome = self._file.receive_eof()
            if outcome is None:
                self._move(Input.FILE)
                return
        else:
            outcome = self._site.receive_request(*self._head, bytes(self._body), now=self._now)
        if isinstance(outcome, Response):
            self._respond(outcome)
        elif isinstance(outcome, OutgoingFile):
            self._wanted = outcome
            self._move(Input.FILE)
        else:
            self._question = outcome
            self._move(Input.QUESTION)

    # writing

    def _respond(self, response: Response) -> None:
        data = self._write_head(response, self._now)
        if self._head is None or self._head[0] != "HEAD":
            data += self._h11.send(h11.Data(response.body))
            self._file_bytes = response.file_bytes
            # h11 only counts these bytes, which the driver sends.
            self._h11.send_with_data_passthrough(h11.Data(range(response.file_bytes)))  # type: ignore[arg-type]  # a size
        self._finish(data)

    def _write_head(self, response: Response, now: float) -> bytes:
        # An origin server with a clock sends Date (RFC 9110, 6.6.1).
        headers = [("Date", format_date(now)), *response.headers]
        self.status, reason = response.status, PHRASES[response.status]
        if self._head is None:
            self.request = None
        return self._h11.send(h11.Response(status_code=response.status, reason=reason, headers=headers))

    def _finish(self, data: bytes) -> None:
        self._out = data + self._h11.send(h11.EndOfMessage())
        if self._h11.their_state is h11.DONE:  # the request is whole, and neither side wants to close
            self._expect_request()
            self._move(Input.RESPOND if self._state is State.RESPONDING else Input.RESPONSE)
        else:
            self._move(Input.LAST_RESPONSE)
