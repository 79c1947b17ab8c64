"""Questions that are asked and read to their end: a server's script, and the outcome on every transport."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from opchat_proto import Broken, End, Event, Limits, Live, Reason, Session
from opchat_transports import Timeouts
from opchat_transports.testing import Expect, Script, Stall, Write

from .peer import PATIENCE
from .serving import (
    BIG,
    BOTH,
    HEAD_SOON,
    HELLO,
    KEEPS_ALIVE,
    NO_ROUTE,
    PAGE,
    SAID,
    SOON,
    STALE,
    STALE_SESSION,
    Way,
    arrived,
    ended,
    read,
    serving,
    stalls,
)
from .wire import LAST, STREAM, answer, answers, chunk, end, event, live, object_


@dataclass(frozen=True)
class Answered:
    """A question that is asked and read to its end."""

    name: str
    scripts: tuple[Script, ...]
    events: list[Event]
    routes: tuple[str, ...] = BOTH
    options: Mapping[str, Any] = field(default_factory=dict)
    detail: str | None = None
    """A part of the detail, for cases that the transports word differently; otherwise the whole event is compared."""

    async def play(self, way: Way) -> None:
        with serving(*self.scripts) as server:
            async with way.opened(server.url, **self.options) as transport:
                events = await read(transport)
            arrived(server, len(self.routes))
        if self.detail is not None:
            assert isinstance(events[-1], Broken)
            assert self.detail in events[-1].detail
            events[-1] = replace(events[-1], detail="")
        assert [replace(event, raw="") if isinstance(event, Broken) else event for event in events] == self.events
        assert tuple(server.routes) == self.routes
        assert way.keeps_connections or len(server.visits) == len(self.routes)


def broken(reason: Reason, detail: str = "", status: int | None = None, code: str | None = None, **more: Any) -> Broken:
    """A fault that came after the question was sent."""
    return Broken(reason, detail, status, code, **{"asked": True, **more})


def refused(name: str, response: bytes, event: Broken) -> Answered:
    return Answered(name, (answers(response),), [event])


def timed_out(name: str, script: Script, detail: str, *events: Event) -> Answered:
    timeouts = Timeouts(first_event=SOON if not events else PATIENCE, idle=SOON)
    last = broken(Reason.TIMEOUT, detail, limit="idle" if events else "first_event")
    return Answered(name, (script,), [*events, last], ("submit",), {"timeouts": timeouts, "session": Session()})


ANSWERED = [
    # ---- complete answers
    Answered("a stream", (answers(STREAM, live("Hel"), live("lo"), end("Hello"), LAST),), SAID),
    Answered("one byte at a time", ((Write(HELLO, size=1),),), SAID),
    Answered("all in one piece", (answers(HELLO),), SAID),
    Answered(
        "two events in a chunk",
        (answers(STREAM, chunk(b'data: {"type":"live","data":"a"}\n\n' * 2), end(""), LAST),),
        [Live("a"), Live("a"), ended("")],
    ),
    Answered("a JSON object", (answers(object_(success=True, reply="Hello")),), [ended("Hello")]),
    Answered(
        "a JSON object up to the close",
        (answers(b'HTTP/1.0 200 OK\r\n\r\n{"success":true,"reply":"Hello"}'),),
        [End("Hello", '{"success":true,"reply":"Hello"}')],
    ),
    Answered("no nonce is needed", (answers(HELLO),), SAID, ("submit",), {"session": Session()}),
    Answered("a plugin without start_session", ((Expect("start_session"), *answers(NO_ROUTE)), answers(HELLO)), SAID),
    Answered(
        "interim responses",
        (answers(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n", HELLO),),
        SAID,
    ),
    Answered(
        "a mark, notices and status events",
        (
            answers(
                STREAM,
                chunk(b"\xef\xbb\xbf\n\n"),
                chunk(b"<b>Warning</b>: x\n"),
                event(type="live", data="Thinking", subtype="status"),
                chunk(b": keepalive\n\n"),
                live("a"),
                chunk(b"data: \n\n"),
                end("a"),
                LAST,
            ),
        ),
        [Live("Thinking", "status"), Live("a"), Live("", "unreadable"), ended("a")],
    ),
    Answered("a big event", (answers(STREAM, live(BIG), end("a"), LAST),), [Live(BIG), ended("a")]),
    Answered(
        "an event beyond the limit",
        (answers(STREAM, live("x" * 2000), end("a"), LAST),),
        [broken(Reason.TOO_LARGE, "more than 1024 bytes in one event (Limits.event_bytes)", limit="event_bytes")],
        options={"limits": Limits(event_bytes=1024)},
    ),
    # ---- not an answer
    Answered(
        "an error event",
        (answers(STREAM, live("a"), event(type="error", data="Overloaded"), LAST),),
        [Live("a"), broken(Reason.REMOTE, "Overloaded")],
    ),
    Answered(
        "a broken line",
        (answers(STREAM, live("a"), chunk(b"data: {oops\n\n"), LAST),),
        [Live("a"), broken(Reason.MALFORMED, "an event that is not JSON: {oops")],
    ),
    Answered(
        "no end event",
        (answers(STREAM, live("a"), LAST),),
        [Live("a"), broken(Reason.TRUNCATED, "the answer ended without its end event")],
    ),
    Answered("HTTP that cannot be read", (answers(b"ICY 200 OK\r\n\r\n"),), [broken(Reason.TRUNCATED)], detail="HTTP"),
    Answered(
        "chunks that cannot be read",
        (answers(STREAM, live("a"), b"zz\r\n"),),
        [Live("a"), broken(Reason.TRUNCATED)],
        detail="HTTP",
    ),
    # ---- refusals
    refused("an object", object_(403, success=False, message="Rejected."), broken(Reason.REFUSED, "Rejected.", 403)),
    refused("a page", answer(PAGE, 502), broken(Reason.REFUSED, "502 Bad Gateway", 502)),
    refused(
        "a page with status 200",
        answer(PAGE),
        broken(Reason.MALFORMED, "a web page, not a chat answer: 502 Bad Gateway"),
    ),
    refused(
        "a redirect",
        answer(b"", 301, Location="https://other.example/"),
        broken(Reason.REFUSED, "redirected to https://other.example/, which is not followed", 301),
    ),
    refused(
        "too many",
        answer(b"Slow down.", 429, Retry_After="1"),
        broken(Reason.REFUSED, "Slow down.", 429, retry_after=1),
    ),
    refused(
        "maintenance",
        answer(b"Later.", 503, Retry_After="Sun, 06 Nov 1994 08:49:38 GMT", Date="Sun, 06 Nov 1994 08:49:37 GMT"),
        broken(Reason.REFUSED, "Later.", 503, retry_after=1),
    ),
    Answered(
        "no session",
        ((Expect("start_session"), *answers(object_(500, success=False, message="No."))),),
        [Broken(Reason.REFUSED, "start_session: No.", 500, in_session=True)],
        ("start_session",),
    ),
    # ---- stale nonces
    *(
        Answered(
            f"a stale nonce, {status}",
            (answers(stale), answers(HELLO)),
            SAID,
            ("submit", *BOTH),
            {"session": STALE_SESSION},
        )
        for status, stale in STALE.items()
    ),
    Answered(
        "a stale nonce, and the new one too",
        (answers(STALE[403]), answers(STALE[401])),
        [broken(Reason.REFUSED, "No.", 401, "rest_forbidden")],
        ("submit", *BOTH),
        {"session": STALE_SESSION},
    ),
    Answered(
        "a stale nonce, and no new one",
        (answers(STALE[403]), (Expect("start_session"), *answers(NO_ROUTE))),
        [broken(Reason.REFUSED, "No.", 403, "rest_cookie_invalid_nonce")],
        ("submit", "start_session"),
        {"session": STALE_SESSION},
    ),
    Answered(
        "a stale nonce and no restarts",
        (answers(STALE[403]),),
        [broken(Reason.REFUSED, "No.", 403, "rest_cookie_invalid_nonce")],
        ("submit",),
        {"session": STALE_SESSION, "limits": Limits(restarts=0)},
    ),
    # ---- connections
    Answered(
        "closed before any answer",
        (answers(),),
        [broken(Reason.LOST, "the connection was closed before any answer")],
    ),
    Answered("closed after the end event", (answers(STREAM, live("Hel"), live("lo"), end("Hello")),), SAID),
    # ---- clocks
    Answered(
        "no session",
        ((Expect("start_session"), Stall()),),
        [
            Broken(
                Reason.TIMEOUT,
                limit="first_event",
                in_session=True,
            )
        ],
        ("start_session",),
        {"timeouts": HEAD_SOON},
        detail="(timeout 'first_event'), after 0 events",
    ),
    Answered(
        "no head",
        (stalls(),),
        [broken(Reason.TIMEOUT, limit="first_event")],
        ("submit",),
        {"timeouts": HEAD_SOON, "session": Session()},
        detail="(timeout 'first_event'), after 0 events",
    ),
    timed_out(
        "no event", stalls(STREAM), f"no event of the answer within {SOON} s (timeout 'first_event'), after 0 events"
    ),
    timed_out(
        "no further event",
        stalls(STREAM + live("a") + live("b")),
        f"no further event of the answer within {SOON} s (timeout 'idle'), after 2 events",
        Live("a"),
        Live("b"),
    ),
    timed_out(
        "nothing but comments",
        KEEPS_ALIVE,
        f"no further event of the answer within {SOON} s (timeout 'idle'), after 1 event",
        Live("a"),
    ),
]
