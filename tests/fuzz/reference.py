"""Slow and simple references: event streams by the WHATWG text, JSON by RFC 8259, replies. For tests only."""

from contextlib import suppress
from typing import Any, NamedTuple, TypeAlias


class Stream(NamedTuple):
    """The outcome of a stream: events as (type, data, last event id), then the fields of the stream."""

    events: list[tuple[str, str, str]]
    retry: int | None
    last_event_id: str


def read_stream(data: bytes) -> Stream:
    """WHATWG HTML 9.2.5 and 9.2.6, character by character."""
    text = data.decode("utf-8", "replace")
    at = 0
    if text[:1] == "\ufeff":  # "One leading U+FEFF BYTE ORDER MARK character must be ignored if any are present."
        at = 1
    lines = []
    line = ""
    while at < len(text):
        character = text[at]
        at += 1
        if character == "\r":
            if text[at : at + 1] == "\n":
                at += 1
        elif character != "\n":
            line += character
            continue
        lines.append(line)
        line = ""
    # Text after the last line end is not a line: its event could not be dispatched any more.

    events: list[tuple[str, str, str]] = []
    data_buffer = type_buffer = id_buffer = last_event_id = ""
    retry: int | None = None
    for line in lines:
        if line == "":
            last_event_id = id_buffer
            if data_buffer == "":
                type_buffer = ""
                continue
            if data_buffer[-1] == "\n":
                data_buffer = data_buffer[:-1]
            events.append((type_buffer if type_buffer != "" else "message", data_buffer, last_event_id))
            data_buffer = type_buffer = ""
            continue
        if line[0] == ":":
            continue
        if ":" in line:
            place = line.index(":")
            field, value = line[:place], line[place + 1 :]
            if value[:1] == " ":
                value = value[1:]
        else:
            field, value = line, ""
        if field == "event":
            type_buffer = value
        elif field == "data":
            data_buffer += value + "\n"
        elif field == "id":
            if "\0" not in value:
                id_buffer = value
        elif field == "retry" and value != "" and all(digit in "0123456789" for digit in value):
            significant = value.lstrip("0")
            if len(significant) <= 18:  # the only limit of our own
                retry = int(significant or "0")
    return Stream(events, retry, last_event_id)


class NotJSON(ValueError):
    """The text is not JSON."""


def read_json(text: str) -> Any:
    """One JSON value by the grammar of RFC 8259, sections 2 to 7: recursive descent, nothing else.

    Numbers are returned as text and objects as lists of pairs, since the grammar does not interpret them.
    """
    value, at = _value(text, _blank(text, 0))
    if _blank(text, at) != len(text):
        raise NotJSON(f"something follows at {at}")
    return value


def _blank(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\n\r":
        at += 1
    return at


def _value(text: str, at: int) -> tuple[Any, int]:
    if at >= len(text):
        raise NotJSON("the end where a value should be")
    for word, value in (("true", True), ("false", False), ("null", None)):
        if text.startswith(word, at):
            return value, at + len(word)
    if text[at] == "{":
        return _object(text, at + 1)
    if text[at] == "[":
        return _array(text, at + 1)
    if text[at] == '"':
        return _string(text, at + 1)
    return _number(text, at)


def _object(text: str, at: int) -> tuple[list[tuple[str, Any]], int]:
    pairs: list[tuple[str, Any]] = []
    at = _blank(text, at)
    if text[at : at + 1] == "}":
        return pairs, at + 1
    while True:
        if text[at : at + 1] != '"':
            raise NotJSON(f"no key at {at}")
        key, at = _string(text, at + 1)
        at = _blank(text, at)
        if text[at : at + 1] != ":":
            raise NotJSON(f"no colon at {at}")
        value, at = _value(text, _blank(text, at + 1))
        pairs.append((key, value))
        at = _blank(text, at)
        if text[at : at + 1] == "}":
            return pairs, at + 1
        if text[at : at + 1] != ",":
            raise NotJSON(f"no comma at {at}")
        at = _blank(text, at + 1)


def _array(text: str, at: int) -> tuple[tuple[Any, ...], int]:
    items: list[Any] = []
    at = _blank(text, at)
    if text[at : at + 1] == "]":
        return (), at + 1
    while True:
        value, at = _value(text, _blank(text, at))
        items.append(value)
        at = _blank(text, at)
        if text[at : at + 1] == "]":
            return tuple(items), at + 1
        if text[at : at + 1] != ",":
            raise NotJSON(f"no comma at {at}")
        at += 1


_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def _string(text: str, at: int) -> tuple[str, int]:
    units: list[int] = []  # of UTF-16: escapes are code units
    while True:
        if at >= len(text):
            raise NotJSON("the end inside a string")
        character = text[at]
        at += 1
        if character == '"':
            break
        if character < " ":
            raise NotJSON(f"a control character at {at - 1}")
        if character != "\\":
            encoded = character.encode("utf-16-be", "surrogatepass")
            units += [int.from_bytes(encoded[place : place + 2], "big") for place in range(0, len(encoded), 2)]
            continue
        escape = text[at : at + 1]
        at += 1
        if escape in _ESCAPES and escape:
            units.append(ord(_ESCAPES[escape]))
        elif escape == "u":
            digits = text[at : at + 4]
            if len(digits) != 4 or any(digit not in "0123456789abcdefABCDEF" for digit in digits):
                raise NotJSON(f"no escape at {at}")
            units.append(int(digits, 16))
            at += 4
        else:
            raise NotJSON(f"no escape at {at}")
    result = []
    units.reverse()
    while units:
        unit = units.pop()
        if 0xD800 <= unit < 0xDC00 and units and 0xDC00 <= units[-1] < 0xE000:
            result.append(chr(0x10000 + ((unit - 0xD800) << 10) + (units.pop() - 0xDC00)))
        else:
            result.append("\ufffd" if 0xD800 <= unit < 0xE000 else chr(unit))
    return "".join(result), at


def _number(text: str, at: int) -> tuple["Number", int]:
    start = at
    if text[at : at + 1] == "-":
        at += 1
    if text[at : at + 1] == "0":
        at += 1
    else:
        at = _digits(text, at)
    if text[at : at + 1] == ".":
        at = _digits(text, at + 1)
    if text[at : at + 1] in ("e", "E"):
        at += 1
        if text[at : at + 1] in ("+", "-"):
            at += 1
        at = _digits(text, at)
    return Number(text[start:at]), at


def _digits(text: str, at: int) -> int:
    start = at
    while text[at : at + 1] and text[at] in "0123456789":
        at += 1
    if at == start:
        raise NotJSON(f"no digit at {at}")
    return at


class Number(NamedTuple):
    """A number as it was written."""

    text: str


def depth_of(value: Any) -> int:
    """The nesting depth of objects and arrays."""
    deepest = 0
    waiting = [(value, 1)]
    while waiting:
        item, level = waiting.pop()
        if isinstance(item, Number) or not isinstance(item, list | tuple):
            continue
        deepest = max(deepest, level)
        waiting += [(inner[1] if isinstance(item, list) else inner, level + 1) for inner in item]
    return deepest


# ---------------------------------------------------------------- replies

Verdict: TypeAlias = tuple[str, str | None, str]
"""("live", text, kind), ("end", reply, "") or ("broken", None, reason)."""

_BLANK_BYTES = (b" ", b"\t", b"\n", b"\r", b"\x0b", b"\x0c")
_PLUGIN_EVENT = 'data: {"type":"'
_DEPTH = 64
_DIGITS = 4300


def read_reply(body: bytes, failure: str, kept: int = 64 * 1024) -> list[Verdict]:
    """The outcome of a body with status 200. `failure` is the reason if it was cut, and "" if it ended well.

    An unreadable object has the reason "malformed or unfinished", since a grammar does not distinguish them.
    """
    while body[:3] == b"\xef\xbb\xbf" or body[:1] in _BLANK_BYTES:
        body = body[3:] if body[:1] == b"\xef" else body[1:]
    if body[:1] == b"{":
        return [_read_object_body(body.decode("utf-8", "replace"))]
    text = body[:kept].decode("utf-8", "replace")
    if body[:1] == b"<" and len(body) >= kept and not _has_data_line(text):
        body, failure = body[:kept], ""
    verdicts, is_over = _read_events(body.decode("utf-8", "replace"))
    if is_over:
        return verdicts
    broken = ("broken", None, failure or "truncated")
    if _has_data_line(body.decode("utf-8", "replace")):
        return [*verdicts, broken]
    if found := _last_object(text):
        return [*verdicts, _read_payload(found)]
    begins_one = body in (b"\xef", b"\xef\xbb") or text in ("d", "da", "dat", "data")  # a mark or a data line
    if text and not failure and not begins_one:
        return [*verdicts, ("broken", None, "malformed")]
    return [*verdicts, broken]


def _object_at(text: str, start: int) -> tuple[list[tuple[str, Any]], int]:
    """The object that begins here, within our limits, and where it ends."""
    try:
        value, end = _value(text, start)
    except RecursionError:
        raise NotJSON("nested too deeply") from None
    if not isinstance(value, list) or depth_of(value) > _DEPTH:
        raise NotJSON("no object")
    waiting: list[Any] = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Number):
            if sum(map(str.isdigit, item.text)) > _DIGITS:
                raise NotJSON("too many digits")
        elif isinstance(item, list):
            waiting += [inner for _, inner in item]
        elif isinstance(item, tuple):
            waiting += item
    return value, end


def _whole_object(text: str) -> list[tuple[str, Any]]:
    value, end = _object_at(text, _blank(text, 0))
    if _blank(text, end) != len(text):
        raise NotJSON("something follows")
    return value


def _lines(text: str) -> list[str]:
    """The lines. The last one has no line end."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _is_field(line: str) -> bool:
    return line.partition(":")[0] in ("data", "event", "id", "retry", "") and line != ""


def _mended(line: str) -> str:
    if line == "" or _is_field(line):
        return line
    bare = line
    while bare[:1] == "\ufeff":
        bare = bare[1:]
    if _is_field(bare):
        return bare
    for at in range(len(line)):
        if line[at:].startswith(_PLUGIN_EVENT):
            return line[at:]
    return "?"


def _has_data_line(text: str) -> bool:
    return any(_mended(line).startswith("data:") for line in _lines(text))


def _read_events(text: str) -> tuple[list[Verdict], bool]:
    verdicts: list[Verdict] = []
    data: list[str] = []
    is_waiting = False  # for the message of an error
    for line in _lines(text)[:-1]:
        field, _, value = _mended(line).partition(":")
        if line == "" and data:
            verdict = _read_event("\n".join(data))
            if verdict is None:
                is_waiting = True
            else:
                verdicts.append(verdict)
                if verdict[0] != "live":
                    return verdicts, True
        if line == "":
            data = []
        elif field == "data":
            data.append(value[1:] if value[:1] == " " else value)
    if is_waiting:
        verdicts.append(("broken", None, "remote"))
    return verdicts, is_waiting


def _read_event(text: str) -> Verdict | None:
    malformed = ("broken", None, "malformed")
    if text.replace("\n", "") == "":
        return "live", "", "unreadable"
    try:
        event = _whole_object(text)
    except NotJSON:
        return malformed
    keys = [key for key, _ in event]
    if any(keys.count(key) > 1 for key in ("type", "data", "subtype")):
        return malformed
    values = dict(event)
    kind, content, subtype = values.get("type"), values.get("data"), values.get("subtype")
    if not isinstance(kind, str):
        return malformed
    if kind == "live":
        if not isinstance(content, str):
            return malformed
        if subtype is None or subtype == "":
            return "live", content, "content"
        return "live", content, subtype if isinstance(subtype, str) else "unknown"
    if kind == "error":
        return None if content is None or content is False or content == "" else ("broken", None, "remote")
    if kind != "end":
        return "live", content if isinstance(content, str) else "", "unknown"
    if content is False or (content is None and "data" in values):
        return "end", None, ""
    if isinstance(content, str):
        try:
            content = _whole_object(content)
        except NotJSON:
            return malformed
    return _read_payload(content) if isinstance(content, list) else malformed


def _read_payload(pairs: list[tuple[str, Any]]) -> Verdict:
    payload = dict(pairs)
    success, reply = payload.get("success"), payload.get("reply")
    if success is True:
        return "end", reply if isinstance(reply, str) else None, ""
    return "broken", None, "remote" if success is False else "malformed"


def _read_object_body(text: str) -> Verdict:
    try:
        return _read_payload(_object_at(text, 0)[0])
    except NotJSON:
        return "broken", None, "malformed or unfinished"


def _last_object(text: str) -> list[tuple[str, Any]] | None:
    found, end = None, 0
    for start in range(len(text)):
        if start < end or text[start] != "{":
            continue
        at = _blank(text, start + 1)
        key = next((key for key in ('"success"', '"code"') if text.startswith(key, at)), None)
        if key is None or not text.startswith(":", _blank(text, at + len(key))):
            continue
        with suppress(NotJSON):
            found, end = _object_at(text, start)
    return found
