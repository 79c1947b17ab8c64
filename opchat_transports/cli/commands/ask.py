"""`opchat ask`: one question."""

from pathlib import Path

import click

from .._conversations import answer, begin, keep
from .._exits import EPILOG
from .._options import Settings, asking_options, printing_options
from .._printer import Printer
from .._stdin import whole_question
from .._store import Store
from .._terminal import Output
from .._transports import site

__all__ = ["ask_command"]


@click.command("ask", epilog=EPILOG)
@click.argument("question", nargs=-1)
@asking_options
@click.option("--continue", "go_on", is_flag=True, help="Go on with the last conversation with this bot.")
@click.option("--history", type=click.Path(path_type=Path), metavar="FILE", help="Messages before: JSON or NDJSON.")
@click.option("--no-save", is_flag=True, help="Keep nothing for --continue.")
@click.option("--no-stream", is_flag=True, help="Ask for the answer in one piece.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per event.")
@printing_options
def ask_command(
    question: tuple[str, ...],
    settings: Settings,
    go_on: bool,
    history: Path | None,
    no_save: bool,
    no_stream: bool,
    as_json: bool,
    show: str,
    markdown: bool,
    raw: bool,
) -> int:
    """Ask QUESTION and print the answer as it comes.

    Standard input, unless it is a terminal, is put behind QUESTION or takes its
    place. Beside a QUESTION, a pipe must bring its first byte within a second, or
    it is taken for one that is open by accident; "-" waits for it.
    """
    store = Store(settings.endpoint, settings.bot)
    conversation = begin(settings, store, go_on=go_on, history=history)
    text = whole_question(question, settings.limits)
    submit = conversation.ask(text, stream=not no_stream)
    output = Output(raw=raw)
    with site(settings) as settings:
        assert settings.endpoint is not None
        where = settings.endpoint.origin
        quiet = settings.verbose  # whose lines would be mixed up with it
        with Printer(output, where, kinds=show, as_json=as_json, markdown=markdown, quiet=quiet) as printer:
            is_new = answer(settings, conversation, submit, printer)
    if is_new and not no_save:
        keep(store, conversation)
    return printer.code
