"""An answer on the screen or in a pipe, as it comes."""

import sys
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, final

import click

from opchat_proto import Broken, End, Event, Live

from ._exits import exit_code, failure_line
from ._terminal import Output, is_lively

if TYPE_CHECKING:
    from ._markdown import GrowingMarkdown

__all__ = ["Printer", "event_fields"]

_SECRETS = ("new_token", "restNonce")  # of a payload


def event_fields(event: Event) -> dict[str, Any]:
    """An event as a JSON object, as README describes it."""
    match event:
        case Live(text, kind, raw):
            return {"type": "live", "kind": kind, "text": text} | ({"raw": raw} if raw else {})
        case End(reply):
            payload = {key: value for key, value in event.payload().items() if key not in _SECRETS}
            return {"type": "end", "reply": reply, "payload": payload}
        case Broken(reason, detail, status, code, retry_after):
            known = {"status": status, "code": code, "retry_after": retry_after}
            return {"type": "broken", "reason": reason.value, "detail": detail, **known, "exit_code": exit_code(event)}


@final
class Printer:
    """Prints one answer, event by event; `code` is then the exit code. A context manager: on a terminal it animates.

    `kinds` are those to show beside the answer ("all": every one). `where` is the
    site, for the line that says what went wrong. `quiet` is without animation.
    """

    def __init__(
        self,
        output: Output,
        where: str,
        *,
        kinds: str = "",
        as_json: bool = False,
        markdown: bool = False,
        quiet: bool = False,
    ):
        self.code = 0
        self.broken: Broken | None = None
        """The terminal event, if it is one."""
        self.end: End | None = None
        self.text = ""
        """The pieces of the answer so far."""
        self.output = output
        """Where it goes."""
        self._where = where
        self._kinds = frozenset(kind.strip() for kind in kinds.split(","))
        self._as_json = as_json
        self._spinner = _spinner() if not (as_json or quiet) and is_lively(sys.stderr) else None
        self._markdown: GrowingMarkdown | None = None
        if markdown and not as_json and is_lively(sys.stdout):
            self._markdown = _growing_markdown()

    def __enter__(self) -> Self:
        """Say that we wait."""
        if self._spinner is not None:
            self._spinner.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Leave the terminal as it was."""
        self._stop_waiting()
        if self._markdown is not None:
            self._markdown.close()
        if kind is not None and issubclass(kind, KeyboardInterrupt) and is_lively(sys.stdout):
            self.output.end_line()

    def print(self, event: Event) -> None:
        """Print it now. Raises `OutputClosedError`."""
        match event:
            case Live(text, kind="content"):
                self.text += text
            case End():
                self.end = event
            case Broken():
                self.broken, self.code = event, exit_code(event)
        if self._as_json:
            self.output.json(event_fields(event))
        else:
            self._print(event)
        if isinstance(event, Broken):
            self.output.say(failure_line(event, self._where))

    def _print(self, event: Event) -> None:
        match event:
            case Live(text, kind="content"):
                if text:
                    self._put(text)
            case Live(text, kind):
                if "all" in self._kinds or kind in self._kinds:
                    self._stop_waiting()
                    self.output.aside(kind, text)
            case End(reply):
                if not self.text and reply:
                    self._put(reply)
                self._finish(needs_line=not self.text and not reply)
                if self.text and reply and _words(reply) not in _words(self.text):
                    self.output.say(f"a piece was lost or the site changed its answer; the final text is: {reply}")
            case Broken():
                self._finish()

    def _put(self, text: str) -> None:
        self._stop_waiting()
        if self._markdown is None:
            self.output.text(text)
        else:
            self._markdown.add(text)

    def _finish(self, *, needs_line: bool = False) -> None:
        self._stop_waiting()
        if self._markdown is not None:
            self._markdown.close()
        elif needs_line:
            self.output.text("\n")
        else:
            self.output.end_line()

    def _stop_waiting(self) -> None:
        if self._spinner is not None:
            self._spinner.stop()
            self._spinner = None


def _words(text: str) -> str:
    """The text without white space, in which pieces and final text differ anyhow (WIRE 13)."""
    return "".join(text.split())


def _needs_rich(make: Callable[[], Any]) -> Callable[[], Any]:
    def checked() -> Any:
        try:
            return make()
        except ModuleNotFoundError as error:
            if error.name != "rich":
                raise
            raise click.UsageError('this needs one more package: pip install "opchat[cli]"') from None

    return checked


@_needs_rich
def _spinner() -> Any:
    from rich.console import Console

    return Console(file=sys.stderr).status("waiting for the answer", spinner="line")


@_needs_rich
def _growing_markdown() -> Any:
    from ._markdown import GrowingMarkdown

    return GrowingMarkdown()
