"""`opchat ask`: one question."""

from pathlib import Path

import click

from opchat_proto import Conversation, Submit

from .._common import new_chat_id
from ._asking import ask, site
from ._exit import EPILOG
from ._history import read_messages
from ._options import Settings, asking_options, printing_options
from ._output import Output, say
from ._printing import Printer
from ._question import whole_question
from ._state import Store
from ._watching import Trace

__all__ = ["answer", "ask_command", "begin", "keep"]


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
            answer(settings, conversation, submit, printer)
    if printer.end is not None and not no_save:
        keep(store, conversation)
    return printer.code


def begin(settings: Settings, store: Store, *, go_on: bool, history: Path | None) -> Conversation:
    """The conversation that a question belongs to: the last one, one from a file, or a new one."""
    if go_on and history is not None:
        raise click.UsageError("expected --continue or --history, not both")
    if go_on:
        try:
            conversation = store.load()
        except ValueError as error:
            raise click.UsageError(f"{error}; ask without --continue to begin a new one") from None
        if conversation is not None:
            return conversation
        say("there is no conversation to continue, so this begins one")
    messages = () if history is None else read_messages(history)
    return Conversation(messages=messages, bot_id=settings.bot, chat_id=new_chat_id())


def answer(settings: Settings, conversation: Conversation, submit: Submit, printer: Printer) -> None:
    """Ask and print. A complete answer becomes part of the conversation, a broken one does not."""
    traces = [Trace(printer.output)] if settings.verbose else []
    conversation.session = ask(settings, submit, conversation.session, printer.print, *traces) or conversation.session
    if printer.end is not None:
        conversation.record(submit, printer.end, printer.text)


def keep(store: Store, conversation: Conversation) -> None:
    """Keep the conversation; where that is not possible, a line says so, since the answer is there all the same."""
    try:
        store.save(conversation)
    except OSError as error:
        say(f"the conversation could not be kept: {error} (--no-save keeps none)")
