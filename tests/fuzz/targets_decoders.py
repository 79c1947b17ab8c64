"""Any bytes through the decoders: `SSEDecoder`, `ReplyDecoder`, and strict JSON."""

import re
from typing import Any

from opchat_proto import Broken, Event, Limits, Live, Reason, ReplyDecoder, SSEDecoder
from tests.fuzz import reference
from tests.fuzz.drawing import draw_head, end_body, often
from tests.fuzz.oracles import (
    Again,
    Choices,
    Cut,
    check_all_ways,
    check_linear,
    check_memory,
    check_reply,
    check_verdicts,
)

# ------------------------------------------------------------------------------ SSEDecoder


def sse(data: bytes) -> None:
    """Any bytes are a stream with the events of the WHATWG text, up to the limit."""
    choices = Choices(data)
    limits = choices.limits()

    def run(cut: Cut, again: Again) -> tuple[Any, ...]:
        decoder = SSEDecoder(limits)
        events = []
        for piece in cut(choices.data):
            decoder = again(decoder)
            events += decoder.receive_data(piece)
            check_memory(decoder, 4 * min(limits.event_bytes, len(choices.data)), choices.random)
        assert decoder.receive_eof() == []
        assert decoder.receive_data(b"data: late\n\n") == []
        return (
            events,
            decoder.retry,
            decoder.last_event_id,
            decoder.overflowed,
            decoder.data_seen,
            decoder.first_ignored_line,
        )

    events, retry, last_event_id, overflowed, *_ = check_all_ways(choices, run)
    expected = reference.read_stream(choices.data)
    given = [(event.event, event.data, event.id) for event in events]
    if overflowed:
        assert given == expected.events[: len(given)]
    else:
        assert (given, retry, last_event_id) == (expected.events, expected.retry, expected.last_event_id)
    if often(choices, len(choices.data)):
        check_linear(lambda data: SSEDecoder().receive_data(data), choices.data)


# ------------------------------------------------------------------------------ ReplyDecoder

_FRAMING = {"content-encoding", "content-length", "transfer-encoding"}


def reply(data: bytes) -> None:
    """Any bytes as a body, under any head, ended in any way: one reply."""
    choices = Choices(data)
    limits = choices.limits()
    status, fields = draw_head(choices)
    ends = choices.number(3)

    def run(cut: Cut, again: Again) -> list[Event]:
        decoder = ReplyDecoder(limits)
        events = decoder.receive_head(status, fields)
        bound = 4 * min(max(limits.event_bytes, limits.refusal_bytes), len(choices.data))
        for piece in cut(choices.data):
            decoder = again(decoder)
            events += decoder.receive_data(piece)
            check_memory(decoder, bound, choices.random)
        decoder = again(decoder)
        events += end_body(decoder, ends)
        assert decoder.receive_data(b"data: late\n\n") == decoder.receive_eof() == []
        return events

    events = check_all_ways(choices, run)
    check_reply(events)
    if status != 200:
        assert isinstance(events[-1], Broken)
        assert len(events) == 1
        assert events[-1].reason in (Reason.REFUSED, Reason.TOO_LARGE, Reason.TRUNCATED), events
    elif limits == Limits() and not {name.lower() for name, _ in fields} & _FRAMING:
        check_verdicts(events, reference.read_reply(choices.data, ("", "truncated", "timeout")[ends]))
    if often(choices, len(choices.data)):
        check_linear(lambda data: _decode_reply(limits, status, data), choices.data)


def _decode_reply(limits: Limits, status: int, data: bytes) -> list[Event]:
    decoder = ReplyDecoder(limits)
    return decoder.receive_head(status, []) + decoder.receive_data(data) + decoder.receive_eof()


def json_text(data: bytes) -> None:
    """Any text as a value in an event: accepted if it is JSON within the limits, and decoded to the same value."""
    choices = Choices(data)
    text = choices.data.decode("utf-8", "replace").replace("\r", "").replace("\n", " ")
    limits = choices.limits()
    decoder = ReplyDecoder(Limits(json_depth=limits.json_depth))
    events = decoder.receive_head(200, [])
    events += decoder.receive_data(f'data: {{"type":"live","data":"x","metadata":{text}}}\n\n'.encode())
    events += decoder.receive_data(f'data: {{"type":"ping","data":{text}}}\n\n'.encode())
    try:
        value = reference.read_json(f'{{"type":"ping","data":{text}}}')
    except reference.NotJSON:
        taken = False
    except RecursionError:
        return
    else:
        keys = [key for key, _ in value]
        digits = max((len(re.sub("[^0-9]", "", number)) for number in re.findall(r"[0-9.eE+-]+", text)), default=0)
        if digits > 4300:
            return  # numbers inside strings look like numbers here
        taken = reference.depth_of(value) <= limits.json_depth and all(keys.count(it) <= 1 for it in EVENT_KEYS)
    if not taken:
        assert isinstance(events[-1], Broken), (text, events)
        assert events[-1].reason is Reason.MALFORMED
        return
    kind = dict(value)["type"]
    if kind == "ping":
        content = dict(value)["data"]
        assert events[-1] == Live(content if isinstance(content, str) else "", "unknown", events[-1].raw), (
            text,
            events,
        )


EVENT_KEYS = ("type", "data", "subtype")
