"""Slow and simple: an event stream as the WHATWG text says it, JSON as RFC 8259 says it. For the tests alone."""

from typing import Any, NamedTuple


class Stream(NamedTuple):
    """What a stream comes to: events as (type, data, last event id), then the fields of the stream."""

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
    # What follows the last line end is no line: an event that it belongs to could not be dispatched any more.

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
            if len(significant) <= 18:  # the one bound that is ours
                retry = int(significant or "0")
    return Stream(events, retry, last_event_id)


class NotJSON(ValueError):
    """The text is no JSON."""


def read_json(text: str) -> Any:
    """One JSON value by the grammar of RFC 8259, sections 2 to 7: recursive descent, nothing else.

    Numbers come as their own text, objects as lists of pairs: what to make of them is not the grammar's to say.
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
    units: list[int] = []  # of UTF-16: escapes are
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
    result = ""
    while units:
        unit = units.pop(0)
        if 0xD800 <= unit < 0xDC00 and units and 0xDC00 <= units[0] < 0xE000:
            result += chr(0x10000 + ((unit - 0xD800) << 10) + (units.pop(0) - 0xDC00))
        else:
            result += "\ufffd" if 0xD800 <= unit < 0xE000 else chr(unit)
    return result, at


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
    """How many objects and arrays are inside one another."""
    deepest = 0
    waiting = [(value, 1)]
    while waiting:
        item, level = waiting.pop()
        if isinstance(item, Number) or not isinstance(item, list | tuple):
            continue
        deepest = max(deepest, level)
        waiting += [(inner[1] if isinstance(item, list) else inner, level + 1) for inner in item]
    return deepest
