"""What real sites answered, if recordings are at hand beside the repository, and three answers of our own."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from opchat_proto import Broken, End, Event, Live, Reason
from tests.proto.asking import CHUNKED, END, HI, chunks, content_length, is_reply

CAPTURES = Path(__file__).resolve().parents[2] / "shared" / "captures"


@dataclass(frozen=True)
class Outcome:
    """What an answer comes to."""

    pieces: int
    text: str | None = ""
    """The pieces joined; None where README gives only their number, and then the reply, if there is one, is them."""
    reply: str | None = None
    """The end of an answer that is whole, unless `reason` says why there is none."""
    reason: Reason | None = None
    status: int | None = None
    code: str | None = None
    detail: str = ""
    """How the detail begins."""
    others: tuple[tuple[str, int], ...] = ()
    """How many events there are of each other kind."""
    lists: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Images, actions, shortcuts, blocks."""


@dataclass(frozen=True)
class Recording:
    """The bytes of one answer, and the reads in which they came."""

    data: bytes
    reads: tuple[int, ...]
    server_closed: bool

    @classmethod
    def load(cls, name: str) -> "Recording":
        def read(suffix: str) -> bytes:
            return (CAPTURES / f"{name}.{suffix}").read_bytes()

        reads = tuple(length for _, length in json.loads(read("chunks.json")))
        client_side = json.loads(read("meta.json"))["client_side"]
        return cls(read("response.bin"), reads, client_side == "server closed")


MOCK = "Hello from the mock model, this is plain ascii text."
OWN: dict[str, tuple[Recording, Outcome]] = {
    "own/whole": (
        Recording(CHUNKED + chunks(HI[:-2], b"\n\n", END) + b"0\r\n\r\n", (47, 37, 41, 46), server_closed=False),
        Outcome(1, "Hi", "Hi"),
    ),
    "own/cut": (
        Recording(CHUNKED + chunks(HI, HI[:-1]), (100, 28), server_closed=True),
        Outcome(1, "Hi", reason=Reason.TRUNCATED, detail="HTTP: peer closed connection without sending complete"),
    ),
    "own/refused": (
        Recording(content_length(b"<title>No</title>", status=b"403 -"), (20, 35), server_closed=False),
        Outcome(0, reason=Reason.REFUSED, status=403, detail="No"),
    ),
}
COUNTED = "s0 s1 s2 s3 s4 s5 s6 s7 s8 s9"
CUT = "the answer ended without its end event"
RECORDED: dict[str, Outcome] = {
    # Streams that work
    "3.6.2/stream_ascii": Outcome(10, MOCK, MOCK),
    "3.6.2/stream_unicode": Outcome(37, None, ""),
    "3.6.2/stream_spaces": Outcome(6, "  leading and trailing    \n   \n", "leading and trailing"),
    "3.6.2/stream_slow": Outcome(10, f"{COUNTED} ", COUNTED),
    "3.6.2/stream_bigtoken": Outcome(2, None, ""),
    "3.6.2/stream_empty": Outcome(0, "", ""),
    "3.6.2/stream_everything": Outcome(4, None, "", lists=(0, 2, 2, 1)),
    "3.6.2/stream_eventlogs_server_function": Outcome(
        8,
        "The function returned, all is well.",
        "The function returned, all is well.",
        others=(("status", 2), ("tool_call", 1), ("tool_result", 1)),
    ),
    "3.6.2/stream_eventlogs_server_function_unicode": Outcome(
        8, None, "", others=(("status", 2), ("tool_call", 1), ("unreadable", 1))
    ),
    "3.6.2/x_images_bot_stream": Outcome(0, "", "![", lists=(1, 0, 0, 0)),
    "3.6.2/old_nonce": Outcome(1, "x", "x"),
    "3.6.2/nochunked_stream": Outcome(10, f"{COUNTED} ", COUNTED),
    "3.6.2/x_expect_100": Outcome(1, "x", "x"),
    "3.6.2/keepalive_two_streams": Outcome(5, "first on this connection", "first on this connection"),
    "1.9.97/stream_ascii": Outcome(10, None, ""),
    # Streams that are odd and still right
    "3.6.2/php_bom": Outcome(3, "You said: bom", "You said: bom"),
    "3.6.2/php_leadnl": Outcome(3, "You said: leadnl", "You said: leadnl"),
    "3.6.2/php_notice_early_display_errors": Outcome(4, "You said: notice-early", "You said: notice-early"),
    "3.6.2/php_wpdb": Outcome(3, "You said: wpdb", "You said: wpdb"),
    "3.6.2/php_shutdown_text": Outcome(5, None, ""),
    "3.6.2/x_trailing_events": Outcome(4, "You said: extra-event", "You said: extra-event"),
    "3.6.2/x_end_data_false": Outcome(4, "You said: badutf8", None),
    # Streams that break
    "3.6.2/limit_reached": Outcome(0, reason=Reason.REMOTE, detail="You have reached the limit"),
    "2.9.9/unknown_bot": Outcome(0, reason=Reason.REMOTE, detail="Sorry, your query has been rejected."),
    "3.6.2/error_backend_fail_midway": Outcome(8, None, reason=Reason.REMOTE),
    "3.6.2/x_error_data_null": Outcome(0, reason=Reason.REMOTE),
    "3.6.2/php_die": Outcome(3, "You said: die", reason=Reason.TRUNCATED, detail=CUT),
    "3.6.2/php_crash": Outcome(
        3,
        "You said: crash",
        reason=Reason.TRUNCATED,
        detail="HTTP: peer closed connection without sending complete message body",
    ),
    # JSON bodies
    "3.6.2/nonstream": Outcome(0, "", "Hello, not streamed."),
    "3.6.2/stream_takeover": Outcome(0, "", "A human took over: hello."),
    "3.6.2/limit_reached_nonstream": Outcome(0, reason=Reason.REFUSED, status=500, detail="You have reached the limit"),
    "3.6.2/no_nonce": Outcome(0, reason=Reason.REFUSED, status=401, code="rest_forbidden", detail="Sorry, you are not"),
    "3.6.2/wrong_nonce": Outcome(
        0, reason=Reason.REFUSED, status=403, code="rest_cookie_invalid_nonce", detail="Cookie"
    ),
    "3.6.2/bad_json": Outcome(0, reason=Reason.REFUSED, status=400, code="rest_invalid_json", detail="Invalid JSON"),
    "3.6.2/php_fatal_early": Outcome(
        0, reason=Reason.REFUSED, status=500, code="internal_server_error", detail="There has been a critical error"
    ),
    # Answers of something else than the plugin
    "3.6.2/nginx_502": Outcome(0, reason=Reason.REFUSED, status=502, detail="502 Bad Gateway"),
    "3.6.2/proxy_403_html": Outcome(0, reason=Reason.REFUSED, status=403, detail="Just a moment"),
    "3.6.2/proxy_301": Outcome(0, reason=Reason.REFUSED, status=301, detail="redirected to http://127.0.0.1:18000/"),
    "3.6.2/plain_wp_json": Outcome(0, reason=Reason.MALFORMED, detail="a page, not an answer of the chat: "),
    "3.6.2/gzip_stream": Outcome(0, reason=Reason.MALFORMED, detail="the body is coded as gzip"),
}
# Recordings of other calls: what they answer is no submit.
OTHER_CALLS = {
    "3.6.2/api_simpleChatbotQuery",
    "3.6.2/chat_page",
    "3.6.2/file_upload",
    "3.6.2/start_session",
    "3.6.2/start_session_bad_nonce",
    "2.4.9/start_session",
}
FOUND = sorted(
    str(path.relative_to(CAPTURES)).removesuffix(".response.bin") for path in CAPTURES.glob("*/*.response.bin")
)
NAMES = [*OWN, *(name for name in FOUND if name not in OTHER_CALLS)]


def recording_of(name: str) -> tuple[Recording, Outcome]:
    return OWN[name] if name in OWN else (Recording.load(name), RECORDED[name])


def check(events: list[Event], expected: Outcome) -> None:
    assert is_reply(events)
    *lives, last = events
    kinds = Counter(event.kind for event in lives if isinstance(event, Live))
    texts = [event.text for event in lives if isinstance(event, Live) and event.kind == "content"]
    assert kinds == Counter({"content": expected.pieces, **dict(expected.others)})
    if expected.text is not None:
        assert "".join(texts) == expected.text
    if expected.reason is not None:
        assert isinstance(last, Broken)
        assert (last.reason, last.status, last.code) == (expected.reason, expected.status, expected.code)
        assert last.detail.startswith(expected.detail)
    else:
        assert isinstance(last, End)
        assert (len(last.images), len(last.actions), len(last.shortcuts), len(last.blocks)) == expected.lists
        if expected.text is None:
            assert last.reply == "".join(texts)
        elif expected.lists[0]:
            assert last.reply is not None
            assert last.reply.startswith(expected.reply or "")
        else:
            assert last.reply == expected.reply
