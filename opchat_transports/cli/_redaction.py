"""Replace secrets in recorded bytes: nonces, session ids, cookies, credentials. All lengths stay the same.

Secrets are found by their places (header fields, JSON keys, attributes and scripts
of a page), and then everywhere else. The search covers the body without its chunk
lines, so it also finds a secret that is cut by a chunk or a read. A compressed body
cannot be searched, and is replaced completely.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import final

import h11

from ._recording_format import Happening

__all__ = ["replace_secrets"]

_BLOCK = 4 * 1024  # bytes given to h11 at once: it copies what follows a chunk, to find its end
_ENDLESS = 1 << 62
_SHORTEST = 6  # bytes of a value that is searched for everywhere; shorter values also occur by chance

_NAMES = rb"rest_?nonce|new_token|nonce|token|session_?id|session"
_VALUE = rb"[^\r\n]*(?:\r?\n[ \t]+[^\r\n]*)*"  # also a folded value (RFC 9112, 5.2)
_COOKIES = re.compile(rb"(?im)^((?:set-)?cookie)[ \t]*:[ \t]*(%s)" % _VALUE)
_COOKIE_VALUE = re.compile(rb"=([^;]*)")
# A proxy or library may have joined several cookies into one field. A comma inside a date does not begin a name.
_SET_COOKIE_VALUE = re.compile(rb"(?:\A|,)\s*[^=;,\s]+=((?:[^;,]|,(?!\s*[^=;,\s]+=))*)")
_FIELD = rb"(?im)^(?:x-wp-nonce|authorization|proxy-authorization|x-api-key%s)[ \t]*:[ \t]*(%s)"
# In JSON, also inside a JSON string (one or three backslashes before a quote), in an HTML attribute, or cut off at the
# end of the bytes.
_KEYED = re.compile(
    rb"""(?i)(?P<quote>\\{0,7}"|&quot;|&\#0*34;)(?:%s)(?P=quote)"""
    rb"""\s*:\s*(?:(?P=quote)(?P<text>.*?)(?:(?<!\\)(?P=quote)|\Z)|(?P<number>[0-9]+))""" % _NAMES,
    re.DOTALL,
)
# WordPress gives a member a nonce as the whole answer.
_ALONE = re.compile(rb"\A(?:\xef\xbb\xbf)?\s*([0-9a-f]{10})\s*\Z")
# In the scripts of WordPress's pages, and in URLs: in links, Location fields and requests.
_IN_PAGES = re.compile(rb"""createNonceMiddleware\(\s*["']([0-9A-Za-z]+)""")
_IN_ADDRESSES = re.compile(
    rb"""(?i)(?:_wpnonce|_ajax_nonce|(?:[?&;]|%%3f|%%26)(?:%s))(?:=|%%3d)([0-9A-Za-z_.~-]+)|://([^/@\s"'<>]+)@"""
    % _NAMES
)
_NO_SECRETS = (b"", b"N/A")


@final
@dataclass(slots=True)
class _Stream:
    """The bytes of one direction of a connection."""

    happenings: list[Happening]
    is_request: bool
    data: bytearray = field(init=False)
    bodies: list[tuple[int, int]] = field(init=False)
    """The ranges of body bytes in `data`, in order."""
    coded: list[tuple[int, int]] = field(default_factory=list)
    """The ranges of compressed bodies."""
    _positions: list[int] = field(init=False)
    """The offset of each range in the joined body."""

    def __post_init__(self) -> None:
        self.data = bytearray().join(happening.data for happening in self.happenings)
        if self.is_request:
            self.bodies = list(_bodies_of_requests(self.happenings))
        else:
            self.bodies = list(_bodies_of_answers(self.data, self.coded))
        self._positions = list(accumulate((end - start for start, end in self.bodies), initial=0))

    def body(self) -> bytes:
        return b"".join(bytes(self.data[start:end]) for start, end in self.bodies)

    def heads(self) -> bytes:
        """The data with blanks in place of the bodies."""
        heads = bytearray(self.data)
        for start, end in self.bodies:
            heads[start:end] = b" " * (end - start)
        return bytes(heads)

    def hide(self, start: int, end: int) -> None:
        """Replace the bytes between these offsets in `data`."""
        self.data[start:end] = _cover(bytes(self.data[start:end]))

    def hide_in_body(self, start: int, end: int, secret: bytes) -> None:
        """Replace `secret`, which is between these offsets of the joined body."""
        cover = _cover(secret)
        place = bisect_right(self._positions, start) - 1
        while start < end:
            first, last = self.bodies[place]
            begin = first + start - self._positions[place]
            length = min(end - start, last - begin)
            self.data[begin : begin + length], cover = cover[:length], cover[length:]
            start += length
            place += 1

    def put_back(self) -> None:
        position = 0
        for happening in self.happenings:
            length = len(happening.data)
            happening.data = bytes(self.data[position : position + length])
            position += length


def _cover(secret: bytes) -> bytes:
    if secret.isdigit():
        return b"1" * len(secret)  # a JSON number stays a number
    return re.sub(rb"[^\r\n]", b"x", secret)  # a head keeps its lines


def replace_secrets(happenings: Iterable[Happening], names: Iterable[str] = (), values: Iterable[str] = ()) -> None:
    """Replace secrets in place. `names` are further header fields with secrets, `values` are known secrets."""
    streams: dict[tuple[int, str], list[Happening]] = {}
    for happening in happenings:
        if happening.event in ("sent", "received"):
            streams.setdefault((happening.connection, happening.event), []).append(happening)
    fields = re.compile(_FIELD % (b"".join(b"|" + re.escape(name.encode()) for name in names), _VALUE))
    known = {value.encode() for value in values}
    all_streams = [_Stream(items, event == "sent") for (_, event), items in streams.items()]
    for stream in all_streams:
        known |= _hide_by_place(stream, fields)
    known = {value for value in known if len(value) >= _SHORTEST}
    if known:
        for stream in all_streams:
            body, heads = stream.body(), stream.heads()
            for start, end in _occurrences(known, body):
                stream.hide_in_body(start, end, body[start:end])
            for start, end in _occurrences(known, heads):
                stream.hide(start, end)
    for stream in all_streams:
        stream.put_back()


def _occurrences(values: set[bytes], data: bytes) -> Iterator[tuple[int, int]]:
    """Find these values, the longest at each place. The time does not depend on their number."""
    lengths: dict[bytes, set[int]] = {}  # the lengths of the values with the same beginning
    for value in values:
        lengths.setdefault(value[:_SHORTEST], set()).add(len(value))
    longest_first = {begin: sorted(sizes, reverse=True) for begin, sizes in lengths.items()}
    columns = (b"".join(b"\\x%02x" % byte for byte in set(column)) for column in zip(*lengths, strict=True))
    candidate = re.compile(b"(?=%s)" % b"".join(b"[%s]" % column for column in columns))
    at = 0
    while match := candidate.search(data, at):
        at = match.start()
        for length in longest_first.get(data[at : at + _SHORTEST], ()):
            if data[at : at + length] in values:
                yield at, at + length
                at += length
                break
        else:
            at += 1


def _hide_by_place(stream: _Stream, fields: re.Pattern[bytes]) -> set[bytes]:
    """Replace the values at the places of secrets, and return these values."""
    found = set()
    # Header fields are searched everywhere, because bytes that h11 cannot parse have heads too.
    data, body = bytes(stream.data), stream.body()
    for line in _COOKIES.finditer(data):
        values = _SET_COOKIE_VALUE if line[1].lower() == b"set-cookie" else _COOKIE_VALUE
        for value in values.finditer(line[2]):
            found.add(value[1])
            stream.hide(line.start(2) + value.start(1), line.start(2) + value.end(1))
    for match in fields.finditer(data):
        found.add(match[1])
        stream.hide(*match.span(1))
    for match in _KEYED.finditer(body):
        group = "number" if match["text"] is None else "text"
        if match[group] not in _NO_SECRETS:
            found.add(match[group])
            stream.hide_in_body(*match.span(group), match[group])
    for pattern in (_ALONE, _IN_PAGES, _IN_ADDRESSES):
        for match in pattern.finditer(body):
            place = match.lastindex or 0
            found.add(match[place])
            stream.hide_in_body(*match.span(place), match[place])
    for match in _IN_ADDRESSES.finditer(stream.heads()):
        found.add(match[match.lastindex or 0])
        stream.hide(*match.span(match.lastindex or 0))
    for start, end in stream.coded:
        stream.hide(start, end)
    return found


def _bodies_of_requests(happenings: Iterable[Happening]) -> Iterator[tuple[int, int]]:
    position = 0
    for happening in happenings:  # each is one request of the client
        end = position + len(happening.data)
        head = happening.data.find(b"\r\n\r\n")
        yield (end if head < 0 else position + head + 4), end
        position = end


def _bodies_of_answers(data: bytearray, coded: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The ranges where h11 finds bodies, also in `coded` if compressed. The rest after a fault counts as a body."""
    position = 0
    is_coded = False
    while position < len(data):
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_ENDLESS)
        connection.send(h11.Request(method="POST", target="/", headers=[("Host", "host")]))
        connection.send(h11.EndOfMessage())
        fed = position
        while True:
            try:
                event = connection.next_event()
            except h11.RemoteProtocolError:
                yield position, len(data)
                return
            consumed = fed - len(connection.trailing_data[0])
            if isinstance(event, h11.Response):
                is_coded = any(
                    name == b"content-encoding" and value.lower() not in (b"", b"identity")
                    for name, value in event.headers
                )
            if isinstance(event, h11.Data):
                if is_coded:
                    coded.append((consumed - len(event.data), consumed))
                yield consumed - len(event.data), consumed
            position = consumed
            if isinstance(event, h11.EndOfMessage):
                break  # and another answer may follow
            if event is h11.NEED_DATA:
                if fed == len(data):
                    return
                connection.receive_data(bytes(data[fed : fed + _BLOCK]))
                fed = min(fed + _BLOCK, len(data))
