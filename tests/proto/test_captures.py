"""What real sites answered: the outcome that the recordings' README states, however the bytes are cut."""

import json
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from opchat_proto import Broken, Client, Done, End, Event, Live, Reason
from tests.proto.asking import CHUNKED, END, HI, answered, asked, chunks, content_length, is_reply
from tests.proto.cuts import byte_by_byte, cut_at

CAPTURES = Path(__file__).resolve().parents[3] / "shared" / "captures"


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
    "3.6.2/php_wpdb": Outcome(2, "You wpdb", "You said: wpdb"),
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
        0, reason=Reason.REFUSED, status=500, code="internal_server_error", detail="<p>There has been a critical error"
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


def cuttings(recording: Recording) -> list[list[bytes]]:
    data, dice = recording.data, random.Random(len(recording.data))
    reads = [sum(recording.reads[:count]) for count in range(1, len(recording.reads))]
    return [
        [data],
        cut_at(data, reads),
        byte_by_byte(data),
        *(cut_at(data, [dice.randrange(len(data) + 1) for _ in range(dice.choice((1, 2, 5, 40)))]) for _ in range(20)),
    ]


def feed(asking: Client, pieces: list[bytes]) -> list[Event]:
    return [event for piece in pieces for event in asking.receive_data(piece)]


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_has_its_outcome_under_every_cut(name: str) -> None:
    recording, expected = recording_of(name)
    assert sum(recording.reads) == len(recording.data)
    first: list[Event] | None = None
    for pieces in cuttings(recording):
        asking = asked()
        events = feed(asking, pieces)
        if recording.server_closed:
            events += asking.receive_eof()
        assert first is None or events == first
        first = events
        assert asking.next_step() == Done()
    assert first is not None
    check(first, expected)


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


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_that_is_cut_and_closed_is_a_reply_all_the_same(name: str) -> None:
    recording, _ = recording_of(name)
    dice = random.Random(0)
    for _ in range(30):
        pieces = cut_at(recording.data, [dice.randrange(len(recording.data)) for _ in range(2)])[:2]
        events = answered(pieces)
        assert is_reply(events)
        assert answered([b"".join(pieces)]) == events


BLANK_LINE_APART = CHUNKED + chunks(HI, END[:-2], b"\n\n") + b"0\r\n\r\n"
RECORDED_ENDING = [name for name in ("3.6.2/stream_ascii",) if name in NAMES]


@pytest.mark.parametrize(
    "data", [OWN["own/whole"][0].data, BLANK_LINE_APART, *(Recording.load(name).data for name in RECORDED_ENDING)]
)
def test_a_cut_at_every_byte_is_an_end_only_if_the_end_events_blank_line_came(data: bytes) -> None:
    blank_line = data.index(b"\r\n0\r\n\r\n")
    assert data[:blank_line].endswith(b"\n\n")
    for count in range(len(data) + 1):
        events = answered([data[:count]])
        assert is_reply(events)
        assert isinstance(events[-1], End) == (count >= blank_line), count


@pytest.mark.parametrize("name", ["own/whole", *(name for name in ("3.6.2/stream_slow",) if name in NAMES)])
def test_an_event_is_given_with_the_read_that_brings_its_blank_line(name: str) -> None:
    recording, _ = recording_of(name)
    asking, given, position = asked(), 0, 0
    for length in recording.reads:
        position += length
        given += len(asking.receive_data(recording.data[position - length : position]))
        body = recording.data[:position].partition(b"\r\n\r\n")[2]
        # Chunks are of whole events, or of a blank line.
        assert given == body.count(b"}\n\n") + body.count(b"}\r\n2\r\n\n\n")
    assert given == len(answered([recording.data]))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (OWN["own/whole"][0].data, OWN["own/refused"][0].data),
        *(
            (Recording.load(name).data[:1157], Recording.load(name).data[1157:])
            for name in ("3.6.2/keepalive_two_streams",)
            if name in NAMES
        ),
    ],
)
def test_the_second_answer_of_a_connection_is_not_part_of_the_first(first: bytes, second: bytes) -> None:
    for pieces in ([first], [first + second], byte_by_byte(first + second)):
        asking = asked()
        events = feed(asking, pieces)
        assert events == feed(asked(), [first])
        assert asking.next_step() == Done()
    last = feed(asked(), [second])[-1]
    assert last == feed(asked(), byte_by_byte(second))[-1]
    if isinstance(last, End):
        assert last.reply == "second on this connection"


@pytest.mark.parametrize("name", NAMES)
def test_what_else_the_end_of_a_recording_holds(name: str) -> None:
    recording, expected = recording_of(name)
    asking = asked()
    last = feed(asking, [recording.data])[-1] if expected.reason is None else None
    assert isinstance(last, End) == (expected.reason is None)
    if not isinstance(last, End):
        return
    assert asking.session is not None
    match name:
        case "3.6.2/stream_unicode":
            assert len(last.reply or "") == 299
        case "3.6.2/old_nonce":
            assert last.new_token == asking.session.nonce is not None
        case "3.6.2/x_images_bot_stream":
            assert (last.reply or "").endswith("\n")
        case "3.6.2/stream_takeover":
            assert last.usage is None
        case "1.9.97/stream_ascii":
            assert last.response_id is None
        case "3.6.2/stream_ascii":
            assert last.response_id == "resp_labb5deac5c5caedb68"


def test_every_recording_that_was_found_has_an_outcome_in_the_table() -> None:
    assert {name for name in NAMES if name not in OWN} <= set(RECORDED)
    assert not set(RECORDED) & OTHER_CALLS
