"""`opchat chat`: a conversation, a line at a time."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any, final

import click

from opchat_proto import Conversation, InvalidMessages, Message

from .._conversations import answer, begin, keep
from .._exits import EPILOG, INTERRUPTED
from .._history import write_messages
from .._options import Settings, asking_options, printing_options
from .._printer import Printer
from .._store import Store, state_directory
from .._terminal import Output
from .._transports import site

__all__ = ["chat_command"]

_PROMPT = "> "
_HELP = """\
  /history     show what was said
  /save FILE   write it as JSON, for --history
  /retry       ask the last question again: it may cost another answer
  /quit        leave, as Ctrl-D does; Ctrl-C cancels a line or an answer
  //...        a question that begins with a slash
"""
_LINES_KEPT = 1000


@click.command("chat", epilog=EPILOG)
@asking_options
@click.option("--continue", "go_on", is_flag=True, help="Go on with the last conversation with this bot.")
@click.option("--history", type=click.Path(path_type=Path), metavar="FILE", help="Messages before: JSON or NDJSON.")
@click.option("--no-save", is_flag=True, help="Keep nothing: no lines, and nothing for --continue.")
@printing_options
def chat_command(
    settings: Settings, go_on: bool, history: Path | None, no_save: bool, show: str, markdown: bool, raw: bool
) -> int:
    """Hold a conversation: each line is a question, /help shows what else there is.

    A broken answer does not become part of the conversation. From a pipe, each
    line is asked without a prompt, and the exit code is that of the last answer.
    """
    store = Store(settings.endpoint, settings.bot)
    conversation = begin(settings, store, go_on=go_on, history=history)
    output = Output(raw=raw)
    with site(settings) as settings, _line_editing(keep_lines=not no_save):
        chat = _Chat(
            settings,
            conversation,
            output,
            {"kinds": show, "markdown": markdown, "quiet": settings.verbose},
            None if no_save else store,
        )
        return chat.run()


@final
class _Chat:
    def __init__(
        self,
        settings: Settings,
        conversation: Conversation,
        output: Output,
        printing: dict[str, Any],
        store: Store | None,
    ) -> None:
        self._settings = settings
        self._conversation = conversation
        self._question = ""  # the last one
        self._before: tuple[Message, ...] = ()  # what was said before it
        match conversation.messages:
            case (*before, Message("user", question), Message("assistant")):
                self._question, self._before = question, tuple(before)
        self._output = output
        self._printing = printing
        self._store = store
        self._on_terminal = sys.stdin is not None and sys.stdin.isatty()
        self._code = 0
        self._answering = False
        if isinstance(sys.stdin, TextIOWrapper):
            sys.stdin.reconfigure(errors="replace")

    def run(self) -> int:
        """Read lines to the end of the input. Returns the exit code."""
        interrupted = False
        while True:
            try:
                self._answering = False
                line = self._read()
                if line is None or line.strip() == "/quit":
                    return 0 if self._on_terminal else self._code
                interrupted = False
                self._obey(line.strip())
            except KeyboardInterrupt:
                if interrupted or not self._on_terminal:
                    return INTERRUPTED
                interrupted = not self._answering
                self._output.notice("\n(Ctrl-C again, Ctrl-D or /quit leaves)")

    def _read(self) -> str | None:
        """A line, None at the end."""
        if self._on_terminal and sys.stdout is not None and sys.stdout.isatty():
            try:
                return input(_PROMPT)
            except EOFError:
                self._output.notice("")
                return None
        if self._on_terminal and sys.stderr is not None:
            print(_PROMPT, end="", file=sys.stderr, flush=True)
        line = "" if sys.stdin is None else sys.stdin.readline()
        return line or None

    def _obey(self, line: str) -> None:
        command, _, rest = line.partition(" ")
        if not line:
            return
        if not line.startswith("/") or line.startswith("//"):
            self._before = self._conversation.messages
            self._question = line.removeprefix("/") if line.startswith("//") else line
            self._ask()
        elif command == "/retry":
            self._retry()
        elif command == "/history":
            self._show_history()
        elif command == "/save":
            self._save(rest.strip())
        elif command == "/help":
            self._output.notice(_HELP.rstrip("\n"))
        else:
            self._output.say(f"there is no {command}; /help shows what there is")

    def _ask(self) -> None:
        """Ask the question after what was said before it. Only a complete answer changes the conversation."""
        conversation, kept = self._conversation, self._conversation.messages
        conversation.messages = self._before
        try:
            submit = conversation.ask(self._question)
            assert self._settings.endpoint is not None
            with Printer(self._output, self._settings.endpoint.origin, **self._printing) as printer:
                self._answering = True
                is_new = answer(self._settings, conversation, submit, printer)
            kept = conversation.messages if printer.end is not None else kept
        except (InvalidMessages, click.UsageError) as error:  # it is too large, for one
            self._output.say(str(error))
            self._code = 2
            return
        finally:
            conversation.messages = kept
        self._code = printer.code
        if printer.broken is not None:
            self._output.notice("(this is not part of the conversation; /retry asks again)")
        if self._store is not None and is_new:
            keep(self._store, conversation)

    def _retry(self) -> None:
        if self._question:
            self._ask()
        else:
            self._output.say("there is no question to ask again")

    def _show_history(self) -> None:
        for message in self._conversation.messages:
            self._output.text(f"{message.role}: {message.content}\n")

    def _save(self, name: str) -> None:
        if not name:
            self._output.say("expected a file: /save FILE")
            return
        path = Path(name).expanduser()
        try:
            write_messages(path, self._conversation.messages)
        except OSError as error:
            self._output.say(f"{path} cannot be written: {error.strerror or error}")
        else:
            self._output.say(f"{len(self._conversation.messages)} messages are in {path}")


@contextmanager
def _line_editing(*, keep_lines: bool) -> Iterator[None]:
    """Let `input` edit its line and remember those before, where the system has readline and a terminal."""
    try:
        import readline
    except ModuleNotFoundError:
        yield
        return
    if sys.stdin is None or not sys.stdin.isatty():
        yield
        return
    readline.set_auto_history(True)
    if keep_lines:
        with suppress(OSError):
            readline.read_history_file(state_directory() / "lines")
    try:
        yield
    finally:
        if keep_lines:
            with suppress(OSError):
                path = state_directory() / "lines"
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                path.touch(mode=0o600)
                readline.set_history_length(_LINES_KEPT)
                readline.write_history_file(path)
