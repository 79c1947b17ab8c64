"""`opchat chat`: a conversation, a question at a time."""

import copy
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import click

from opchat_proto import Conversation, InvalidMessages, Message, Upload

from ..._common import new_chat_id
from .._attachments import attach
from .._conversations import answer, begin, keep
from .._exits import EPILOG, INTERRUPTED
from .._history import write_messages
from .._line_editing import LineReader, goes_on
from .._login import login_options
from .._options import AskingCommand, Settings, asking_options, history_options, printing_options
from .._page_bots import find_bot
from .._printer import Printer
from .._signals import ending_signal
from .._stdin import input_lines
from .._store import Store
from .._terminal import Output, is_terminal
from .._transports import site

__all__ = ["chat_command"]

_SHOWN = 60  # characters of a quoted question


@click.command("chat", cls=AskingCommand, epilog=EPILOG, short_help="Hold a conversation, a question a line.")
@asking_options
@login_options
@history_options
@click.option("--no-save", is_flag=True, help="Save nothing: no history, and nothing for --continue.")
@printing_options
def chat_command(
    settings: Settings, go_on: bool, history: Path | None, no_save: bool, show: str, markdown: bool, raw: bool
) -> int:
    r"""Hold a conversation: each line is a question, and /help lists the commands.

    Pasted lines are one question, and a line that ends with \ continues in the
    next one. A broken answer does not become part of the conversation. From a pipe,
    each line is asked without a prompt, and the exit code is the last answer's.
    """
    settings = find_bot(settings)
    store = Store(settings.endpoint, settings.bot)
    conversation = begin(settings, store, go_on=go_on, history=history)
    output = Output(raw=raw)
    printing = {"kinds": show, "markdown": markdown, "quiet": settings.verbose}
    with site(settings) as settings:
        return _Chat(settings, conversation, output, printing, None if no_save else store).run()


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
        self._question = ""  # the last question
        self._is_answered = False  # whether it is answered, and the last one in the conversation
        self._files: list[Upload] = []  # for the next question
        self._files_of_question: list[Upload] = []
        match conversation.messages:
            case (*_, Message("user", question), Message("assistant")):
                self._question, self._is_answered = question, True
        self._output = output
        self._printing = printing
        self._store = store
        self._code = 0
        self._answering = False

    def run(self) -> int:
        """Read questions to the end of the input. Return the exit code."""
        if is_terminal(sys.stdin):
            return self._run_on_terminal()
        if sys.stdin is not None:
            for line in _joined(input_lines(self._settings.limits.request_bytes)):
                if line.strip() == "/quit":
                    break
                self._obey(line)
        return self._code

    def _run_on_terminal(self) -> int:
        with LineReader([name.split()[0] for name in _COMMANDS], keep=self._store is not None) as reader:
            self._greet(reader.how)
            leaves = False
            while True:
                self._answering = False
                try:
                    line = reader.read()
                    if line is None:
                        self._output.notice("")
                        return 0
                    if line.strip() == "/quit":
                        return 0
                    leaves = False
                    self._obey(line)
                except KeyboardInterrupt:
                    if leaves or ending_signal() is not None:
                        return INTERRUPTED
                    leaves = not self._answering
                    if leaves:
                        self._output.notice("\n(Ctrl-C again, Ctrl-D or /quit leaves)")
                    else:
                        self._output.notice("\n(the answer was cancelled and is not part of the conversation; /retry)")

    def _greet(self, how: str) -> None:
        endpoint = self._settings.endpoint
        assert endpoint is not None
        self._output.say(f"the bot {self._settings.bot!r} of {self._settings.where} answers; /help shows the commands")
        if self._conversation.messages:
            count = len(self._conversation.messages)
            last = f', the last question: "{_cut(self._question)}"' if self._question else ""
            self._output.say(f"this continues after {count} messages{last}")
        self._output.notice(how)

    def _obey(self, line: str) -> None:
        text = line.strip()
        command, _, rest = text.partition(" ")
        if not text:
            return
        if not text.startswith("/") or text.startswith("//"):
            self._ask(text.removeprefix("/") if text.startswith("//") else text)
            return
        for name, (act, _) in _COMMANDS.items():
            if name.split()[0] == command:
                act(self, rest.strip())
                return
        self._output.say(f"there is no {command}; /help lists the commands")

    def _ask(self, question: str, *, again: bool = False) -> None:
        """Ask. With `again`, the question replaces the last answered one.

        Only a complete answer changes the conversation.
        """
        conversation = copy.copy(self._conversation)
        if again and self._is_answered:
            conversation.undo()
        else:
            self._is_answered = False
        self._question = question
        if not again:
            self._files_of_question, self._files = self._files, []
        try:
            submit = conversation.ask(question)
            with Printer(self._output, self._settings.where, **self._printing) as printer:
                self._answering = True
                changed = answer(self._settings, conversation, submit, printer, self._files_of_question)
        except (InvalidMessages, click.UsageError) as error:  # for example, it is too large
            self._output.say(str(error))
            self._code = 2
            if not again:
                self._files = self._files_of_question  # for the next attempt
            return
        finally:
            self._conversation.session = conversation.session
        self._code = printer.code
        if printer.broken is None:
            self._conversation, self._is_answered = conversation, True
        else:
            self._output.notice("(this is not part of the conversation; /retry asks again)")
            self._conversation.record_failure(submit, printer.broken)
        if changed and self._store is not None:
            keep(self._store, self._conversation)

    # ---------------------------------------------------------------- commands

    def _help(self, _: str) -> None:
        lines = [f"  {name:<12} {what}" for name, (_, what) in _COMMANDS.items()]
        self._output.notice("\n".join([*lines, *_MORE_HELP]))

    def _show_history(self, _: str) -> None:
        for message in self._conversation.messages:
            self._output.text(f"{message.role}: {message.content}".replace("\n", "\n  "))
            self._output.end_line()

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

    def _attach(self, name: str) -> None:
        if not name:
            self._output.say("expected a file: /file PATH")
            return
        try:
            self._files += attach(self._settings, [Path(name).expanduser()], before=len(self._files))
        except click.UsageError as error:
            self._output.say(str(error))
        else:
            names = ", ".join(file.name for file in self._files)
            self._output.say(f"{names} {'go' if len(self._files) > 1 else 'goes'} with the next question")

    def _retry(self, _: str) -> None:
        if self._question:
            self._ask(self._question, again=True)
        else:
            self._output.say("there is no question to ask again")

    def _edit(self, _: str) -> None:
        try:
            edited = click.edit(self._question, extension=".md")
        except click.ClickException as error:
            self._output.say(f"{error.format_message()} (the variable EDITOR names another editor)")
            return
        if edited is None or not edited.strip():
            self._output.say("nothing was saved, so nothing is asked")
        else:
            self._ask(edited.strip("\n"), again=True)

    def _begin_anew(self, _: str) -> None:
        self._conversation = replace(self._conversation, messages=(), chat_id=new_chat_id(), previous_response_id=None)
        self._question, self._is_answered = "", False
        self._output.say("this is a new conversation")

    def _quit(self, _: str) -> None:
        """Do nothing: `run` handles it."""


_COMMANDS: dict[str, tuple[Callable[[_Chat, str], None], str]] = {
    "/history": (_Chat._show_history, "show what was said"),
    "/file PATH": (_Chat._attach, "send a file with the next question"),
    "/save FILE": (_Chat._save, "write it as JSON, for --history"),
    "/retry": (_Chat._retry, "ask the last question again: it may cost another answer"),
    "/edit": (_Chat._edit, "change the last question in $EDITOR, and ask that in its place"),
    "/new": (_Chat._begin_anew, "begin a new conversation"),
    "/help": (_Chat._help, "show this"),
    "/quit": (_Chat._quit, "leave, as Ctrl-D does; Ctrl-C cancels a line or an answer"),
}
_MORE_HELP = ("  //...        a question that begins with a slash", "  ...\\         continues in the next line")


def _joined(lines: Iterator[str]) -> Iterator[str]:
    """Join lines that belong together."""
    for line in lines:
        while goes_on(line):
            following = next(lines, None)
            if following is None:
                break
            line = f"{line[:-1]}\n{following}"
        yield line


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
