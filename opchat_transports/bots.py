"""A small bot for trying things out: no language model, no network, and always the same answers."""

import re
from collections.abc import Iterator, Sequence

from opchat_proto import Submit

from .file_store import StoredFile

__all__ = ["small_talk"]

_SHOWN = 80  # characters of a quoted text
_WORD = re.compile(r"\s*\S+\s?")


def small_talk(submit: Submit, files: Sequence[StoredFile] = ()) -> Iterator[str]:
    """Answer from the question and the history, a word at a time.

    It greets, says who it is, names the files of the question, and on request quotes the
    previous question or counts words. Otherwise it repeats the question. It numbers the
    questions.
    """
    question = submit.new_message.strip()
    before = [message.content.strip() for message in submit.messages if message.role == "user"]
    for file in files:
        yield f"I have {_cut(file.name)} ({file.size} bytes). "
    yield from _WORD.findall(" ".join(_sentences(question, before)))


def _sentences(question: str, before: list[str]) -> Iterator[str]:
    words = set(re.findall(r"\w+", question.lower()))
    greeted = bool(words & {"hello", "hi", "hey"})
    if greeted:
        yield "Hello again!" if before else "Hello!"
    if {"who", "you"} <= words or {"your", "name"} <= words:
        yield "I am the small bot that comes with opchat: a few rules, no language model."
    elif before and words & {"before", "earlier", "history", "remember", "previous", "last"}:
        yield f'Before this you said "{_cut(before[-1])}".'
    elif {"how", "many"} <= words and words & {"question", "questions", "words", "letters"}:
        yield f"Your question has {len(question.split())} words and {len(question)} characters."
    elif not (greeted and len(words) < 3):
        yield f'You said "{_cut(question)}".'
    yield f"This is question {len(before) + 1} of our conversation."


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
