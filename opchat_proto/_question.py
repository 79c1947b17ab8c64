"""A question to a site, and the encoder of its answer, in the plugin's spelling (WIRE 5 and 6)."""

from dataclasses import dataclass, field
from typing import Any, TypeAlias, final

from ._events import Broken, End, Event, Live
from ._json import encode_as_php
from ._messages import Submit
from ._sse import encode_event
from ._value import Value

__all__ = ["Question", "Response"]

Fields: TypeAlias = tuple[tuple[str, str], ...]
_KEEP_ALIVE = b": keepalive\n\n"
_COLLAPSED = ("thinking", "mcp_discovery", "status")  # WIRE 5.4
_HIDDEN = ("tool_args", "debug", "heartbeat")


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Response(Value):
    """One HTTP response, for any HTTP library.

    From `Site.receive_request` it is complete; from `Question.response` it is the
    beginning. If the request was HEAD, send it without its body.
    """

    status: int
    headers: Fields = field(repr=False)  # they contain the nonce and the session id
    body: bytes = field(default=b"", repr=False)
    file_bytes: int = field(default=0, repr=False)
    """How many bytes of a file follow the body; above 0 only from `OutgoingFile.found`."""


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Question(Value):
    """A question that passed all checks of WIRE 4.7, and the encoder of its answer.

    The application answers with events: any number of `Live`, then one `End` or
    `Broken`. Call `response` with each event until it returns a response: the head,
    and the body so far. Then call `encode` with each event, for the next bytes of the
    body. The last event ends the body.
    """

    submit: Submit
    session_id: str = field(repr=False)
    """Who asks: 1 to 256 characters of printable ASCII. The client chooses it, so use
    it for statistics and limits, not for authentication (WIRE 1.2)."""
    new_token: str | None = field(default=None, repr=False)
    """A new nonce for the client, if its own is in the second tick (WIRE 3.4)."""
    headers: Fields = field(default=(), repr=False)
    """Header fields of the answer: X-WP-Nonce and perhaps Set-Cookie."""
    _held: list[str] = field(default_factory=list, init=False, repr=False, compare=False)  # at most one lone surrogate

    def response(self, event: Event | None, *, now: float | None = None) -> Response | None:
        """Return the response that begins with this event: the head, and the event's bytes as the body so far.

        None if the event has no bytes: a `Live` or comment without a stream. Raises the
        same exceptions as `encode`.
        """
        body = self.encode(event, now=now)
        if self.submit.stream:
            # WIRE 5.1: the status is 200 whatever the events are.
            stream = ("Content-Type", "text/event-stream;charset=UTF-8"), ("Cache-Control", "no-cache")
            return Response(200, (*stream, ("X-Accel-Buffering", "no"), *self.headers), body)
        if not body:
            return None
        return json_response(200 if isinstance(event, End) else 500, body, self.headers)

    def encode(self, event: Event | None, *, now: float | None = None) -> bytes:
        """Encode this event as bytes of the body, in the plugin's spelling: ASCII, safe for any text.

        None is encoded as the comment `: keepalive` (WIRE 5.2), which keeps proxies from
        closing the connection while the application thinks; without a stream it gives
        no bytes.

        In a stream, an event is one server-sent event (WIRE 5.2 to 5.6); `now`, in Unix
        seconds, is the timestamp of a `Live` that is not a piece of the answer. A lone
        high surrogate at the end of a piece is held back for the next piece or the last
        event, so a pair that was cut stays one character. Without a stream, a `Live`
        gives no bytes, and the last event gives the whole JSON object (WIRE 6.1, 6.2).

        If `End.raw` has a payload, all its keys are sent except `reply` and the nonce,
        which are this event's and this site's. `End(None)` without `raw` is a reply that
        could not be encoded, streamed as `data: false` (WIRE 5.7). Only the detail of a
        `Broken` is sent.

        Raises `TypeError` for anything but an event, `ValueError` if `now` is not a time.
        """
        if not isinstance(event, Live | End | Broken | None):
            raise TypeError(f"expected Live, End or Broken, got {type(event).__name__}")
        if now is not None:
            check_now(now)
        if self.submit.stream:
            if event is None:
                return _KEEP_ALIVE
            if isinstance(event, Live) and event.kind == "content":  # nearly all events
                text = event.text
                if self._held or "\ud800" <= text[-1:] <= "\udbff":
                    text = "".join(self._held) + text
                    self._held[:] = [text[-1]] if "\ud800" <= text[-1] <= "\udbff" else []
                    text = text.removesuffix("".join(self._held))
                    if not text:
                        return b""
                return _piece(text)
            body = encode_event(encode_as_php(self._stream_object(event, now)))
            if self._held and not isinstance(event, Live):
                body = _piece(self._held.pop()) + body  # the other half did not come
            return body
        match event:
            case Live() | None:
                return b""
            case End():
                return self._payload(event).encode()
            case _:
                return failure(event.detail, self.new_token)

    def _stream_object(self, event: Event, now: float | None) -> dict[str, Any]:
        match event:
            case Live(text, kind):
                kind = kind or "unknown"  # an empty subtype would make it a piece of the answer
                visibility = "collapsed" if kind in _COLLAPSED else "hidden" if kind in _HIDDEN else "visible"
                timestamp = {} if now is None else {"timestamp": float(now)}
                return {"type": "live", "data": text, **timestamp, "subtype": kind, "visibility": visibility}
            case End(None, ""):
                return {"type": "end", "data": False}
            case End():
                return {"type": "end", "data": self._payload(event)}
            case _:
                return {"type": "error", "data": event.detail}

    def _payload(self, event: End) -> str:
        try:
            return encode_as_php(self._payload_with(event.reply, event.payload()))
        except (ValueError, RecursionError):
            # `raw` is not a JSON object, or too deep to be encoded again.
            return encode_as_php(self._payload_with(event.reply, {}))

    def _payload_with(self, reply: str | None, given: dict[str, Any]) -> dict[str, Any]:
        """The payload of WIRE 5.5, keys in its order."""
        payload: dict[str, Any] = {"success": True, "reply": reply, "images": given.get("images")}
        payload |= {key: given.get(key, []) for key in ("actions", "shortcuts", "blocks")}
        payload["usage"] = given.get("usage")
        if given.get("responseId") is not None:
            payload["responseId"] = given["responseId"]
        if self.new_token is not None:  # this site's, never another site's whose payload is passed on
            payload["new_token"] = self.new_token
        return payload


def check_now(now: float) -> None:
    if not isinstance(now, int | float):
        raise TypeError(f"now: expected Unix seconds, got {type(now).__name__}")
    if not 0 <= now < 2**32:  # the session id has eight hex digits for the seconds
        raise ValueError(f"now: expected Unix seconds from 0 to 2**32, got {now}")


def _piece(text: str) -> bytes:
    return encode_event(f'{{"type":"live","data":{encode_as_php(text)}}}')


def json_response(status: int, body: bytes, headers: Fields = ()) -> Response:
    own = (
        ("Content-Type", "application/json; charset=UTF-8"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
    )
    return Response(status, (*own, *headers), body)


def failure(message: str, new_token: str | None) -> bytes:
    """The plugin's form of a failure (WIRE 6.2)."""
    token = {} if new_token is None else {"new_token": new_token}
    return encode_as_php({"success": False, "message": message, **token}).encode()
