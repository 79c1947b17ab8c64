"""`opchat batch --compare`: the differences between two result files."""

from collections.abc import Iterator, Mapping
from difflib import unified_diff

from opchat_proto import Broken

from .._broken import broken_line
from ..many import QuestionId, Result

__all__ = ["changes"]

_EXPECTATION = {True: "met", False: "not met", None: "not judged"}


def changes(
    old: Mapping[QuestionId, Result | str], new: Mapping[QuestionId, Result | str]
) -> Iterator[tuple[QuestionId, list[str]]]:
    """Yield each id whose answer has changed, in the order of the new file, with lines that show how."""
    for name, after in new.items():
        if name not in old:
            yield name, ["only in the new file"]
        elif lines := _differences(old[name], after):
            yield name, lines
    for name in old:
        if name not in new:
            yield name, ["only in the old file"]


def _differences(old: Result | str, new: Result | str) -> list[str]:
    lines = []
    if (before := _outcome(old)) != (after := _outcome(new)):
        lines.append(f"{after}, was {before}")
    if isinstance(old, Result) and isinstance(new, Result):
        if old.expect_held != new.expect_held:
            lines.append(f"expectation {_EXPECTATION[new.expect_held]}, was {_EXPECTATION[old.expect_held]}")
        # Without the three lines of the diff's header.
        lines += list(unified_diff(old.reply.splitlines(), new.reply.splitlines(), n=1, lineterm=""))[3:]
    return lines


def _outcome(result: Result | str) -> str:
    if isinstance(result, str):
        return "asked, without an outcome"
    if isinstance(result.last, Broken):
        return f"broken ({broken_line(result.last)})"
    return result.outcome
