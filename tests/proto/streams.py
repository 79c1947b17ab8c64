"""The events of a stream, checked under every cut."""

from collections.abc import Iterable
from dataclasses import dataclass

from hypothesis import strategies as st

from opchat_proto import Limits, ServerSentEvent, SSEDecoder
from tests.proto.cuts import every_cut

BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Outcome:
    """The whole state of a decoder whose stream has ended."""

    events: tuple[ServerSentEvent, ...]
    retry: int | None
    last_event_id: str
    overflowed: bool
    data_seen: bool
    first_ignored_line: str | None


def outcome(pieces: Iterable[bytes], limit: int | None = None) -> Outcome:
    decoder = SSEDecoder() if limit is None else SSEDecoder(Limits(event_bytes=limit))
    events = [event for piece in pieces for event in decoder.receive_data(piece)]
    assert decoder.receive_eof() == []
    return Outcome(
        tuple(events),
        decoder.retry,
        decoder.last_event_id,
        decoder.overflowed,
        decoder.data_seen,
        decoder.first_ignored_line,
    )


def under_every_cut(stream: bytes, limit: int | None = None) -> Outcome:
    """The outcome of the stream, after checking that it is the same for every cut."""
    whole = outcome([stream], limit)
    for pieces in every_cut(stream):
        assert outcome(pieces, limit) == whole, pieces
    return whole


def data(*texts: str) -> tuple[ServerSentEvent, ...]:
    return tuple(ServerSentEvent(data=text) for text in texts)


RULES: dict[str, tuple[bytes, tuple[ServerSentEvent, ...]]] = {
    # dispatch
    "nothing": (b"", ()),
    "one event": (b"data: a\n\n", data("a")),
    "two events": (b"data: a\n\ndata: b\n\n", data("a", "b")),
    "blank lines around": (b"\n\n\ndata: a\n\n\n\ndata: b\n\n\n", data("a", "b")),
    "an unfinished event is dropped": (b"data: a\n\ndata: b\n", data("a")),
    "an unfinished line is dropped": (b"data: a\n\ndata: b", data("a")),
    "an event without data is dropped": (b"event: x\n\ndata: a\n\n", data("a")),
    "empty data are data": (b"data:\n\n", data("")),
    "two empty data lines": (b"data:\ndata:\n\n", data("\n")),
    "data without a colon": (b"data\n\n", data("")),
    "two data without a colon": (b"data\ndata\n\n", data("\n")),
    "several data lines": (b"data: a\ndata:\ndata: b\n\n", data("a\n\nb")),
    "data lines with others between": (b"data: a\n: c\nx\nevent:\ndata: b\n\n", data("a\nb")),
    # line ends
    "LF": (b"data: a\ndata: b\n\ndata: c\n\n", data("a\nb", "c")),
    "CR": (b"data: a\rdata: b\r\rdata: c\r\r", data("a\nb", "c")),
    "CRLF": (b"data: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n", data("a\nb", "c")),
    "mixed line ends": (b"data: a\r\ndata: b\rdata: c\n\r\ndata: d\n\rdata: e\r\n\n", data("a\nb\nc", "d", "e")),
    "CR CR LF is two line ends": (b"data: a\r\r\ndata: b\r\r\n", data("a", "b")),
    "LF CR is two line ends": (b"data: a\n\rdata: b\n\r", data("a", "b")),
    "CRLF is one line end": (b"data: a\r\ndata: b\r\n\n", data("a\nb")),
    "CR at the very end": (b"data: a\n\r", data("a")),
    "only line ends": (b"\r\n\r\r\n\n\n\r", ()),
    "no other character splits": (
        "data: a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg\x1dh\x1ei\x00j\n\n".encode(),
        data("a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg\x1dh\x1ei\x00j"),
    ),
    "no other character ends an event": (b"data: a\n\x0c\n\x85\n\xe2\x80\xa8\ndata: b\n\n", data("a\nb")),
    # the byte order mark
    "BOM": (BOM + b"data: a\n\n", data("a")),
    "only a BOM": (BOM, ()),
    "a second BOM belongs to its line": (BOM + BOM + b"data: a\n\ndata: b\n\n", data("b")),
    "a BOM before a blank line": (BOM + b"\ndata: a\n\n", data("a")),
    "a BOM before a CRLF": (BOM + b"\r\ndata: a\r\n\r\n", data("a")),
    "a later BOM belongs to its line": (b"\n" + BOM + b"data: a\ndata: b\n\n", data("b")),
    "a BOM within data": (b"data: " + BOM + b"a\n\n", data("\ufeffa")),
    "the beginning of a BOM": (BOM[:2] + b"\ndata: a\n\n", data("a")),
    "one byte of a BOM": (BOM[:1] + b"data: a\n\ndata: b\n\n", data("b")),
    "the end of a BOM": (BOM[1:] + b"data: a\n\ndata: b\n\n", data("b")),
    "a BOM of UTF-16": (b"\xff\xfedata: a\n\ndata: b\n\n", data("b")),
    # fields
    "comments": (b": a\n:\ndata: b\n:data: c\n\n:\n\n", data("b")),
    "a comment alone is no event": (b": keepalive\n\n", ()),
    "one leading space is dropped": (b"data:  a \n\n", data(" a ")),
    "no leading space": (b"data:a\n\n", data("a")),
    "only a space": (b"data: \n\n", data("")),
    "two spaces": (b"data:  \n\n", data(" ")),
    "a tab is no space": (b"data:\ta\n\n", data("\ta")),
    "a colon in the value": (b"data: a: b:\n\n", data("a: b:")),
    "a colon first in the value": (b"data::a\n\n", data(":a")),
    "names are exact": (b"Data: a\nDATA: a\n data: a\ndata : a\ndatas: a\ndat: a\nxdata: a\ndata\t: a\n\n", ()),
    "an unknown field": (b"foo: a\ndata: b\nfoo\n\n", data("b")),
    "a name cut by NUL": (b"da\0ta: a\n\0data: a\ndata\0: a\ndata: b\n\n", data("b")),
    "a NUL in data stays": (b"data: a\0b\n\n", data("a\0b")),
    # event
    "a name": (b"event: x\ndata: a\n\n", (ServerSentEvent("x", "a"),)),
    "a name after the data": (b"data: a\nevent: x\n\n", (ServerSentEvent("x", "a"),)),
    "a name lasts for one event": (b"event: x\ndata: a\n\ndata: b\n\n", (ServerSentEvent("x", "a"), *data("b"))),
    "a name lasts for one event without data": (b"event: x\n\ndata: b\n\n", data("b")),
    "the last name counts": (b"event: x\nevent: y\ndata: a\n\n", (ServerSentEvent("y", "a"),)),
    "an empty name is message": (b"event: x\nevent:\ndata: a\n\n", data("a")),
    "a name without a colon": (b"event: x\nevent\ndata: a\n\n", data("a")),
    "a name of one space more": (b"event:  x \ndata: a\n\n", (ServerSentEvent(" x ", "a"),)),
    # id
    "an id stays": (
        b"id: 1\ndata: a\n\ndata: b\n\nid: 2\ndata: c\n\n",
        tuple(ServerSentEvent(data=text, id=number) for text, number in ("a1", "b1", "c2")),
    ),
    "an id after the data": (b"data: a\nid: 1\n\n", (ServerSentEvent(data="a", id="1"),)),
    "an empty id resets": (b"id: 1\ndata: a\n\nid\ndata: b\n\n", (ServerSentEvent(data="a", id="1"), *data("b"))),
    "an id with NUL is ignored": (b"id: 1\nid: 2\0\nid:\0\ndata: a\n\n", (ServerSentEvent(data="a", id="1"),)),
    "an id of an event without data": (b"id: 1\n\ndata: a\n\n", (ServerSentEvent(data="a", id="1"),)),
    "an id is any text": ("id:  é ♥\ndata: a\n\n".encode(), (ServerSentEvent(data="a", id=" é ♥"),)),
    # UTF-8
    "all lengths of UTF-8": ("data: aé€🚉\n\n".encode(), data("aé€🚉")),
    "bytes that are none": (b"data: \xff\xfe\xc0\xc1\xf5\n\n", data("\ufffd" * 5)),
    "continuations alone": (b"data: \x80\xbf\x80a\n\n", data("\ufffd\ufffd\ufffda")),
    "a cut character before ASCII": (b"data: \xe2\x82a\xf0\x9f\x9ab\xc3c\n\n", data("\ufffda\ufffdb\ufffdc")),
    "a cut character before the line's end": (b"data: \xe2\x82\ndata: \xf0\x9f\x9a\r\n\n", data("\ufffd\n\ufffd")),
    "a cut character before another": (b"data: \xf0\x9f\xf0\x9f\x9a\x89\n\n", data("\ufffd🚉")),
    "overlong forms": (b"data: \xc0\x80\ndata:\xe0\x80\x80\n\n", data("\ufffd" * 2 + "\n" + "\ufffd" * 3)),
    "a longer overlong form": (b"data: \xf0\x80\x80\x80\n\n", data("\ufffd" * 4)),
    "surrogates": (b"data: \xed\xa0\x80\xed\xbf\xbf\n\n", data("\ufffd" * 6)),
    "beyond U+10FFFF": (b"data: \xf4\x90\x80\x80 \xf4\x8f\xbf\xbf\n\n", data("\ufffd" * 4 + " \U0010ffff")),
    "a maximal subpart is one replacement": (b"data: \xf1\x80\x80\xe1\x80\xc2\n\n", data("\ufffd" * 3)),
    "an overlong line end is not a line end": (b"data: a\xc0\x8ab\n\n", data("a\ufffd\ufffdb")),
    "bad bytes in names of fields": (b"d\xffata: a\ndata\xff: a\n\xff\ndata: b\n\n", data("b")),
    "bad bytes in event and id": (b"event: \xff\nid: \xe2\ndata: a\n\n", (ServerSentEvent("\ufffd", "a", "\ufffd"),)),
}  # fmt: skip


def slow_utf8(stream: bytes) -> str:
    """The UTF-8 decoder of the Encoding Standard, byte by byte."""
    text: list[str] = []
    code_point = needed = seen = 0
    lower, upper = 0x80, 0xBF
    for byte in stream:
        if needed and not lower <= byte <= upper:
            needed = seen = 0
            lower, upper = 0x80, 0xBF
            text.append("\ufffd")  # the same byte is decoded again below
        if needed:
            lower, upper = 0x80, 0xBF
            code_point = code_point << 6 | byte & 0x3F
            seen += 1
            if seen == needed:
                text.append(chr(code_point))
                needed = seen = 0
        elif byte <= 0x7F:
            text.append(chr(byte))
        elif 0xC2 <= byte <= 0xDF:
            needed, code_point = 1, byte & 0x1F
        elif 0xE0 <= byte <= 0xEF:
            lower, upper = (0xA0 if byte == 0xE0 else 0x80), (0x9F if byte == 0xED else 0xBF)
            needed, code_point = 2, byte & 0xF
        elif 0xF0 <= byte <= 0xF4:
            lower, upper = (0x90 if byte == 0xF0 else 0x80), (0x8F if byte == 0xF4 else 0xBF)
            needed, code_point = 3, byte & 0x7
        else:
            text.append("\ufffd")
    return "".join(text) + ("\ufffd" if needed else "")


def slow_overflow(stream: bytes, limit: int) -> int | None:
    """The offset of the first byte beyond the limit. The unfinished line and the data lines of its event count."""
    offset = len(BOM) if stream.startswith(BOM) else 0
    if not offset and BOM.startswith(stream):
        return None  # it may still become a data line
    line, size = b"", 0
    for index in range(offset, len(stream)):
        byte = stream[index : index + 1]
        if byte == b"\n" and stream[offset:index].endswith(b"\r"):
            continue
        if byte not in b"\r\n":
            line += byte
            if size + len(line) > limit:
                return index
            continue
        if line == b"":
            size = 0
        elif line.split(b":")[0] == b"data":
            size += len(line) + 1
        line = b""
    return None


PIECES = [
    *(b"\n", b"\n", b"\n\n", b"\r", b"\r\n", b"\r\n\r\n", b":", b" ", b"", b"a", b"0", b"12", b"+", b"\0", b"x" * 20),
    *(b"data", b"data:", b"data: ", b"data: a\n", b"data: b\n\n", b"data\n", b"\rdata:c\r\r", b"dat", b"Data:"),
    *(b"event", b"event:", b"event: x\n", b"id", b"id:", b"id: 1\n", b"id: \0\n", b"retry", b"retry: ", b"retry:5\n"),
    *(BOM, BOM[:1], BOM[:2], BOM[1:], BOM[2:], b"\xff", b"\xc0", b"\x80", b"\xed\xa0\x80", b"\xf4\x90", b"\xe0\x80"),
    *(text.encode() for text in "é€🚉\u2028\u2029\u0085\u0663\x0b\x0c\x1e"),
    *("🚉".encode()[:3], "🚉".encode()[:2], "🚉".encode()[1:], "€".encode()[:2], "€".encode()[2:]),
]
STREAMS = st.lists(st.sampled_from(PIECES) | st.binary(max_size=3), max_size=30).map(b"".join)
