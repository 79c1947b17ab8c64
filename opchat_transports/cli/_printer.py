"""Print an answer as it arrives, on a terminal or into a pipe."""

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, final

import click

from opchat_proto import Broken, End, Event, Live

from ._escaping import escape_line
from ._exits import exit_code, failure_line
from ._terminal import Output, is_lively

if TYPE_CHECKING:
    from ._markdown import GrowingMarkdown

__all__ = ["Printer", "event_fields"]

_SECRETS = ("new_token", "restNonce")  # keys of a payload
_LONGEST_URL = 2048  # characters; longer data: URLs are cut
_SHOWN = 60


def event_fields(event: Event) -> dict[str, Any]:
    """An event as a JSON object, as cli/README.md describes it."""
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
    """Prints one answer, event by event; afterwards `code` is the exit code. A context manager, for its animation.

    `kinds` are the kinds of events to show besides the answer ("all": every kind).
    `where` is the site, for the line about a failure. `quiet` switches animation off.
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
        self.output = output
        """The output."""
        self._where = where
        self._pieces: list[str] = []
        self._kinds = frozenset(kind.strip() for kind in kinds.split(","))
        self._as_json = as_json
        self._spinner = None if as_json or quiet or not is_lively(sys.stderr) else _spinner()
        self._markdown: GrowingMarkdown | None = None
        if markdown and not as_json and is_lively(sys.stdout):
            self._markdown = _growing_markdown()

    def __enter__(self) -> Self:
        """Show that an answer is awaited."""
        if self._spinner is not None:
            self._spinner.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Restore the terminal."""
        self._stop_waiting()
        if self._markdown is not None:
            self._markdown.close()
        if kind is not None and issubclass(kind, KeyboardInterrupt) and is_lively(sys.stdout):
            self.output.end_line()

    @property
    def text(self) -> str:
        """The pieces of the answer so far, joined."""
        return "".join(self._pieces)

    @property
    def is_waiting(self) -> bool:
        """Whether the waiting line is shown."""
        return self._spinner is not None

    def wait_for(self, what: str) -> None:
        """Show in the waiting line, if there is one, what is awaited."""
        if self._spinner is not None:
            from rich.text import Text

            self._spinner.update(Text(escape_line(what, terminal=True)))

    def print(self, event: Event) -> None:
        """Print an event now. Raises `OutputClosedError`."""
        match event:
            case Live(text, kind="content"):
                self._pieces.append(text)
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
                self._print_end(event, self.text, reply or "")
            case Broken():
                self._finish()

    def _print_end(self, end: End, text: str, reply: str) -> None:
        if not text and reply:
            self._put(reply)
        self._finish(needs_line=not text and not reply)
        if not text.strip() and not reply.strip():
            self.output.say(f"the answer has no text{_what_else(end)}")
        for image in end.images:
            self.output.say(f"image: {image if len(image) <= _LONGEST_URL else image[:_SHOWN] + '...'}")
        if text and reply and _words(reply) not in _words(text):
            self.output.say(f"a piece was lost or the site changed its answer; the final text is: {reply}")

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


def _what_else(end: End) -> str:
    """Describe in words what an answer has besides its text."""
    found = []
    if names := ", ".join(_name(action) for action in end.actions):
        found.append(f"it asks the site's page to call {names}")
    for what in ("images", "blocks", "shortcuts"):
        if items := getattr(end, what):
            found.append(f"it has {what} ({len(items)})")
    return "".join(f"; {item}" for item in found)


def _name(action: dict[str, Any]) -> str:
    """The name of the function that an action calls (WIRE 7.1), or its kind."""
    data = action.get("data")
    name = (data if isinstance(data, dict) else action).get("name", action.get("type"))
    return name if isinstance(name, str) else "something without a name"


def _words(text: str) -> str:
    """The text without white space, which may differ between pieces and final text (WIRE 13)."""
    return "".join(text.split())


def _spinner() -> Any:
    """The spinner that shows the wait; None without rich."""
    try:
        from rich.console import Console
    except ModuleNotFoundError:
        return None
    return Console(file=sys.stderr).status("waiting for the answer", spinner="line")


def _growing_markdown() -> "GrowingMarkdown":
    try:
        from ._markdown import GrowingMarkdown
    except ModuleNotFoundError as error:
        raise click.UsageError(f'--markdown needs {error.name}: pip install "opchat[cli]"') from None
    return GrowingMarkdown()
