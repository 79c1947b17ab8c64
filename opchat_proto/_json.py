"""Strict JSON (RFC 8259) from hostile text: every fault is a `ValueError`.

Python's scanner does the work. What it lets through or raises that this
protocol must not is added here: NaN and Infinity, numbers long enough to be
an attack, nesting, repeated keys, half surrogate pairs, `RecursionError`.
"""

import json
import re
import sys
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from typing import Any

__all__: list[str] = []

MOST_DIGITS = 4300
"""Digits of one number. CPython's own default for `int` (sys.int_info), made
independent of the interpreter's settings and extended to fractions."""

_LARGEST = sys.float_info.max
# A string may be cut by the end of the text: then it is one token too, so that each character is looked at once.
_STRING_OR_BRACKET = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[{]|[\]}]', re.DOTALL)
# A run of tokens that JSON may consist of. A string in it has no quote that is not escaped, so no object begins there.
_TOKENS = re.compile(
    r'(?:[\[\]{}:,]++|\s++|[-+.0-9eE]++|true|false|null|"[^"\\]*+(?:\\.[^"\\]*+)*+"(?=\s*+[\]}:,]))*+', re.DOTALL
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_CUT_LITERAL = re.compile(r"-?|t|tr|tru|f|fa|fal|fals|n|nu|nul")
_CUT_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.|(?:\.[0-9]+)?[eE][+-]?)")
_CUT_ESCAPE = re.compile(r"u[0-9a-fA-F]{0,4}")
_ESCAPED_ASCII = re.compile(r"\\u00[2-7]")


class Unfinished(ValueError):
    """The text is the beginning of JSON, and what is there is right."""


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _check_digits(number: str) -> None:
    if len(number) > MOST_DIGITS and sum(map(str.isdigit, number)) > MOST_DIGITS:
        raise ValueError(f"a number of more than {MOST_DIGITS} digits")


def _int(number: str) -> int:
    _check_digits(number)
    return int(number)


def _float(number: str) -> float:
    _check_digits(number)
    # RFC 8259, 6 lets us set the range. Without infinities whatever was read can be written again.
    return max(-_LARGEST, min(float(number), _LARGEST))


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=_int, parse_float=_float)

# What `raw_decode` calls: the scanners that are written in C. Short texts, of which a stream has many, are worth it.
_scan: Callable[[str, int], tuple[Any, int]] = _DECODER.scan_once  # type: ignore[attr-defined]  # typeshed leaves it out
scan_string: Callable[[str, int], tuple[str, int]] = json.decoder.scanstring  # type: ignore[attr-defined]  # likewise
"""The string whose opening quote stands before this place, and where it ends. Half surrogate pairs stay in it.

Raises `ValueError`."""

_SHORT = 640  # characters, and so digits: the least that an interpreter can be told to refuse as an int
_SHORT_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)  # without our own parsers of numbers
_scan_short: Callable[[str, int], tuple[Any, int]] = _SHORT_DECODER.scan_once  # type: ignore[attr-defined]  # likewise


def skip_short(text: str, start: int, depth: int) -> int:
    """Where the JSON value that starts here in a short text ends, of which nobody wants to know more.

    -1 if it is none, or may be nested deeper than `depth`: then `decode` has to say.
    """
    # What is no longer than that is no deeper either.
    if len(text) > _SHORT or (len(text) - start > depth and text.count("[", start) + text.count("{", start) > depth):
        return -1
    try:
        return _scan_short(text, start)[1]
    except (ValueError, StopIteration, RecursionError):
        return -1


def decode(text: str, depth: int, *, unique: Collection[str] = ()) -> Any:
    """The value of `text`, which must be one JSON value and nothing else.

    `depth` bounds the nesting; the keys in `unique` may stand at most once in
    the outermost object (elsewhere the last of equal keys wins). Strings in the
    result always encode to UTF-8. Raises `ValueError`.
    """
    try:
        _check_depth(text, depth)
        try:
            value, end = _scan(text, 0)
        except StopIteration:
            end = -1
        if end != len(text):
            value = _DECODER.decode(text)  # there are blanks around the value, or it raises what is wrong
        if unique and _may_repeat(text, unique):
            _check_unique(text, unique)
        return _clean(value, text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def decode_prefix(text: str, depth: int) -> tuple[Any, str]:
    """The JSON value that `text` begins with, and its own text; what follows it is ignored.

    Raises `Unfinished` if the text ends before the value does, `ValueError` for
    any other fault.
    """
    try:
        _check_depth(text, depth)
        value, end = _DECODER.raw_decode(text)
        text = text[:end]
        return _clean(value, text), text
    except json.JSONDecodeError as error:
        if _is_unfinished(error):
            raise Unfinished("the JSON breaks off") from None
        raise
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _is_unfinished(error: json.JSONDecodeError) -> bool:
    # The scanner stops at the first character that fits nothing. The text is unfinished if it stopped at the end, or at
    # a string, an escape, a literal or a number that the end cuts.
    rest = error.doc[error.pos :]
    if error.msg.startswith("Unterminated string") or not rest:
        return True
    if error.msg.startswith("Expecting value"):
        return _CUT_LITERAL.fullmatch(rest) is not None
    if error.msg.startswith("Expecting ',' delimiter"):
        start = len(error.doc[: error.pos].rstrip("0123456789.eE+-"))
        return _CUT_NUMBER.fullmatch(error.doc, start) is not None
    return error.msg.startswith("Invalid \\uXXXX escape") and _CUT_ESCAPE.fullmatch(rest) is not None


def find_last(text: str, begins: re.Pattern[str], depth: int) -> tuple[Any, str] | None:
    """The last whole JSON object that begins like this, and its own text; what is inside one that counts does not.

    None if there is no such object, or none that is nested no deeper than `depth`.
    Each character is read a few times at most, however many objects begin and do
    not end.
    """
    found: tuple[Any, str] | None = None
    match = begins.search(text)
    while match:
        run = _TOKENS.match(text, match.start())
        assert run is not None
        opened: list[tuple[int, int]] = []  # where each open bracket stands, and how deep it is nested so far
        for token in _STRING_OR_BRACKET.finditer(text, run.start(), run.end()):
            first = text[token.start()]
            if first in "[{":
                opened.append((token.start(), 1))
            elif first in "]}" and opened:
                start, levels = opened.pop()
                if opened:
                    outer, most = opened.pop()
                    opened.append((outer, max(most, levels + 1)))
                if levels <= depth and begins.match(text, start):
                    own = text[start : token.end()]
                    with suppress(ValueError, StopIteration, RecursionError):
                        found = _clean(_scan(own, 0)[0], own), own
        match = begins.search(text, run.end())
    return found


def _check_depth(text: str, depth: int) -> None:
    # Before it is decoded, so that nesting does not meet Python's recursion limit, which depends on who called. What
    # follows the outermost bracket's end is not looked at.
    if depth >= len(text) or not _has_more_brackets(text, depth):
        return
    level = 0
    for token in _STRING_OR_BRACKET.finditer(text):
        first = text[token.start()]
        if first in "[{":
            level += 1
            if level > depth:
                raise ValueError(f"nested deeper than {depth}")
        elif first in "]}":
            level -= 1
            if level <= 0:
                return


def _has_more_brackets(text: str, most: int) -> bool:
    # Found one by one: what is large has mostly few of them, and between them this looks at many characters at once.
    found = 0
    for bracket in "[{":
        place = text.find(bracket)
        while place >= 0:
            found += 1
            if found > most:
                return True
            place = text.find(bracket, place + 1)
    return False


def _may_repeat(text: str, keys: Collection[str]) -> bool:
    # Cheap and never wrong in saying no: a key can only be there twice if its quoted form is, or if a character of it
    # is written as an escape.
    for key in keys:
        if text.count(f'"{key}"') > 1:
            return True
    return "\\u00" in text and _ESCAPED_ASCII.search(text) is not None


def _check_unique(text: str, keys: Collection[str]) -> None:
    outermost: list[tuple[str, Any]] = []

    def keep(pairs: list[tuple[str, Any]]) -> None:
        outermost[:] = pairs  # called from the inside out, so the outermost object comes last

    json.JSONDecoder(object_pairs_hook=keep, parse_int=str, parse_float=str).decode(text)
    names = [name for name, _ in outermost]
    for key in keys:
        if names.count(key) > 1:
            raise ValueError(f"the key {key!r} is there more than once")


def _clean(value: Any, text: str) -> Any:
    # Half a surrogate pair can only come from an escape: bytes were decoded with replacement before.
    if "\\" not in text or ("\\ud" not in text and "\\uD" not in text):
        return value
    outermost = [value]
    waiting: list[list[Any] | dict[str, Any]] = [outermost]  # no recursion: depth times two frames would be too many
    while waiting:
        container = waiting.pop()
        items: Iterable[Any] = container
        if isinstance(container, dict):
            pairs = [(_without_surrogates(key), _without_surrogates(item)) for key, item in container.items()]
            container.clear()
            container.update(pairs)
            items = container.values()
        else:
            container[:] = map(_without_surrogates, container)
        waiting += [item for item in items if isinstance(item, list | dict)]
    return outermost[0]


def _without_surrogates(value: Any) -> Any:
    return encodable(value) if isinstance(value, str) else value


def encodable(text: str) -> str:
    """`text` with U+FFFD for each half of a surrogate pair, so that it encodes to UTF-8."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def encode_as_php(value: Any) -> str:
    """JSON as PHP writes it by default (WIRE 5.2): ASCII, no spaces, each "/" escaped."""
    return _PHP.encode(value).replace("/", "\\/")  # "/" stands only in strings


_PHP = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
