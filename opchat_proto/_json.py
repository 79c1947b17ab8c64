"""Strict JSON (RFC 8259) from hostile text: every fault is a `ValueError`.

Python's scanner does the work. This module refuses what the scanner accepts but
this protocol must not: NaN and Infinity, numbers long enough to be an attack,
deep nesting, repeated keys, lone surrogates. A `RecursionError` is no fault of the
text: the caller's own stack is nearly full.
"""

import json
import re
import sys
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from typing import Any

__all__: list[str] = []

DEEPEST = 512
"""The deepest nesting that may be allowed. Decoding it needs about half of the interpreter's stack."""

MOST_DIGITS = 4300
"""The most digits of one number: CPython's default for `int` (sys.int_info), here
also applied to fractions, and independent of the interpreter's settings."""

_LARGEST = sys.float_info.max
# A string that the end of the text cuts is one token too, so each character is examined once.
_STRING_OR_BRACKET = re.compile(r'"[^"\\]*+(?:(?>\\.[^"\\]*+))*+(?:"|\\?\Z)|[\[{]|[\]}]', re.DOTALL)
# A run of JSON tokens. All quotes inside its strings are escaped, so no object begins there.
_TOKENS = re.compile(
    r'(?:(?>[\[\]{}:,]++|\s++|[-+.0-9eE]++|true|false|null|"[^"\\]*+(?:(?>\\.[^"\\]*+))*+"(?=\s*+[\]}:,])))*+',
    re.DOTALL,
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_CUT_LITERAL = r"-?|t|tr|tru|f|fa|fal|fals|n|nu|nul"
_CUT_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.|(?:\.[0-9]+)?[eE][+-]?)")
_CUT_ESCAPE = r"u[0-9a-fA-F]{0,4}"
_ESCAPED_ASCII = r"\\u00[2-7]"


class Unfinished(ValueError):
    """The text is the valid beginning of a JSON value."""


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
    # RFC 8259, 6 lets us set the range. Without infinities, every value that was read can be written again.
    return max(-_LARGEST, min(float(number), _LARGEST))


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=_int, parse_float=_float)

# The scanners in C behind `raw_decode`. A stream has many short texts, so calling them directly is worth it.
_scan: Callable[[str, int], tuple[Any, int]] = _DECODER.scan_once  # type: ignore[attr-defined]  # typeshed leaves it out
scan_string: Callable[[str, int], tuple[str, int]] = json.decoder.scanstring  # type: ignore[attr-defined]  # likewise
"""The string whose opening quote is just before this index, and the index of its end. Lone surrogates stay in it.

Raises `ValueError`."""

_SHORT = 640  # characters, hence digits: the lowest limit for an int that an interpreter can have
_SHORT_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)  # without our own parsers of numbers
_scan_short: Callable[[str, int], tuple[Any, int]] = _SHORT_DECODER.scan_once  # type: ignore[attr-defined]  # likewise


def skip_short(text: str, start: int, depth: int) -> int:
    """Return where the JSON value that starts here in a short text ends, without building the value.

    Return -1 if it is not valid or may be nested deeper than `depth`: then `decode` must judge.
    """
    # A text of at most `depth` characters cannot be nested deeper.
    if len(text) > _SHORT or (len(text) - start > depth and text.count("[", start) + text.count("{", start) > depth):
        return -1
    try:
        return _scan_short(text, start)[1]
    except (ValueError, StopIteration):
        return -1


def decode(text: str, depth: int, *, unique: Collection[str] = ()) -> Any:
    """The value of `text`, which must be one JSON value and nothing else.

    `depth` bounds the nesting, and is at most `DEEPEST`; the keys in `unique` may occur
    at most once in the outermost object (elsewhere the last of equal keys wins). Strings
    in the result always encode to UTF-8. Raises `ValueError`.
    """
    _check_depth(text, depth)
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        end = -1
    if end != len(text):
        value = _DECODER.decode(text)  # blanks around the value, or a fault, which this raises
    if unique and _may_repeat(text, unique):
        _check_unique(text, unique)
    return _clean(value, text)


def decode_prefix(text: str, depth: int) -> tuple[Any, str]:
    """Return the JSON value at the beginning of `text`, and its own text; the rest is ignored.

    Raises `Unfinished` if the text ends before the value does, `ValueError` for
    any other fault.
    """
    _check_depth(text, depth)
    try:
        value, end = _DECODER.raw_decode(text)
    except json.JSONDecodeError as error:
        if _is_unfinished(error):
            raise Unfinished("the JSON breaks off") from None
        raise
    text = text[:end]
    return _clean(value, text), text


def _is_unfinished(error: json.JSONDecodeError) -> bool:
    # The scanner stops at the first character that fits nothing. The text is unfinished if it stopped at the end, or at
    # a string, an escape, a literal or a number that the end cuts.
    rest = error.doc[error.pos :]
    if error.msg.startswith("Unterminated string") or not rest:
        return True
    if error.msg.startswith("Expecting value"):
        return re.fullmatch(_CUT_LITERAL, rest) is not None
    if error.msg.startswith("Expecting ',' delimiter"):
        start = len(error.doc[: error.pos].rstrip("0123456789.eE+-"))
        return _CUT_NUMBER.fullmatch(error.doc, start) is not None
    return error.msg.startswith("Invalid \\uXXXX escape") and re.fullmatch(_CUT_ESCAPE, rest) is not None


def find_last(text: str, begins: re.Pattern[str], depth: int) -> tuple[Any, str] | None:
    """Return the last complete JSON object that begins like this, and its own text.

    Objects inside another one do not count. None if there is no such object, or only
    ones nested deeper than `depth`. Linear: each character is read a few times at most,
    however many unfinished objects there are.
    """
    found: tuple[Any, str] | None = None
    match = begins.search(text)
    while match:
        run = _TOKENS.match(text, match.start())
        assert run is not None
        opened: list[tuple[int, int]] = []  # the index of each open bracket, and how deeply it is nested so far
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
                    with suppress(ValueError, StopIteration):
                        found = _clean(_scan(own, 0)[0], own), own
        match = begins.search(text, run.end())
    return found


def _check_depth(text: str, depth: int) -> None:
    # Checked before decoding: Python's recursion limit depends on the caller's stack. What follows the outermost
    # bracket's end is ignored.
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
    # `find` skips many characters at once, and large texts usually have few brackets.
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
    # Cheap, and right when it returns False: a key can be repeated only if its quoted form is, or if a character is
    # written as an escape.
    for key in keys:
        if text.count(f'"{key}"') > 1:
            return True
    return "\\u00" in text and re.search(_ESCAPED_ASCII, text) is not None


def _check_unique(text: str, keys: Collection[str]) -> None:
    outermost: list[tuple[str, Any]] = []

    def keep(pairs: list[tuple[str, Any]]) -> None:
        outermost[:] = pairs  # called for inner objects first, so the outermost comes last

    json.JSONDecoder(object_pairs_hook=keep).decode(text)
    names = [name for name, _ in outermost]
    for key in keys:
        if names.count(key) > 1:
            raise ValueError(f"the key {key!r} is there more than once")


def _clean(value: Any, text: str) -> Any:
    # A lone surrogate can only come from an escape: bytes were decoded with replacement before.
    if "\\" not in text or ("\\ud" not in text and "\\uD" not in text):
        return value
    outermost = [value]
    waiting: list[list[Any] | dict[str, Any]] = [outermost]  # not recursive: two frames per level would be too many
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
    """`text` with U+FFFD in place of each lone surrogate, so that it can be encoded as UTF-8."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def encode_as_php(value: Any) -> str:
    """JSON as PHP writes it by default (WIRE 5.2): ASCII, no spaces, each "/" escaped."""
    return _PHP.encode(value).replace("/", "\\/")  # "/" occurs only in strings


_PHP = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
