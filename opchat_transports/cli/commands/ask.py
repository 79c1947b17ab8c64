"""`opchat ask`: asks one question."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from .._attachments import attach
from .._attachments import save_images as save_all
from .._conversations import answer, begin, keep
from .._exits import EPILOG, NOT_SAVED
from .._login import login_options
from .._options import AskingCommand, Settings, asking_options, history_options, printing_options
from .._owner import ask_officially, check_official
from .._page_bots import find_bot
from .._printer import Printer
from .._stdin import stdin_option, whole_question
from .._store import Store
from .._terminal import Output, say
from .._transports import site

__all__ = ["ask_command"]

_EXAMPLES = """\b
Examples:
  opchat ask --url https://site.example "What are your opening hours?"
  opchat ask --url https://site.example --continue "And in winter?"
  opchat ask --url https://site.example --file cat.png "What is this?"
  git diff | opchat ask --url https://site.example "Review this change:"
"""


@click.command("ask", cls=AskingCommand, epilog=f"{_EXAMPLES}\n{EPILOG}")
@click.argument("question", nargs=-1)
@asking_options
@login_options
@history_options
@click.option(
    "--file",
    "files",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="PATH",
    help="Send this file with the question. Can be repeated.",
)
@click.option(
    "--save-images",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Save the answer's images in this directory. Exit code 7 if one fails.",
)
@click.option("--no-save", is_flag=True, help="Save nothing for --continue.")
@stdin_option
@click.option("--no-stream", is_flag=True, help="Ask for the answer in one piece.")
@click.option("--official", is_flag=True, help="Ask as the owner, by the official REST API: token in OPCHAT_TOKEN.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per event.")
@printing_options
def ask_command(
    question: tuple[str, ...],
    settings: Settings,
    go_on: bool,
    history: Path | None,
    files: tuple[Path, ...],
    save_images: Path | None,
    no_save: bool,
    no_stdin: bool,
    no_stream: bool,
    official: bool,
    as_json: bool,
    show: str,
    markdown: bool,
    raw: bool,
) -> int:
    """Ask QUESTION and print the answer as it comes.

    Standard input, unless it is a terminal, is appended to QUESTION or replaces it.
    A pipe is read to its end; --no-stdin or </dev/null does not wait.
    """
    text = whole_question(question, settings.limits, no_stdin=no_stdin, has_files=bool(files))
    quiet = settings.verbose  # its lines would mix with the animation
    printing: dict[str, Any] = {"kinds": show, "as_json": as_json, "markdown": markdown, "quiet": quiet}
    if official:
        settings, session = check_official(settings, alone=not (go_on or history or files or save_images))
        with Printer(Output(raw=raw), settings.where, **printing) as printer:
            ask_officially(settings, text, session, printer)
        return printer.code
    settings = find_bot(settings)
    uploads = attach(settings, files)
    store = Store(settings.endpoint, settings.bot)
    with ExitStack() as stack:
        if go_on and not no_save:
            stack.enter_context(store.locked(_say_that_it_is_busy))
        conversation = begin(settings, store, go_on=go_on, history=history)
        submit = conversation.ask(text, stream=not no_stream)
        settings = stack.enter_context(site(settings))
        with Printer(Output(raw=raw), settings.where, **printing) as printer:
            changed = answer(settings, conversation, submit, printer, uploads)
        if changed and not no_save:
            keep(store, conversation)
        images = () if printer.end is None else printer.end.images
        if save_images is not None and save_all(settings, images, save_images):
            return NOT_SAVED
    return printer.code


def _say_that_it_is_busy() -> None:
    say("another opchat is continuing this conversation; waiting for its answer")
