"""The conversation of a question: begin or continue it, ask, and save it for `--continue`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from opchat_proto import Conversation, Message, Observer, Submit, Upload

from .._common import new_chat_id
from ._attachments import tell_progress
from ._history import read_messages
from ._login import merge
from ._options import Settings
from ._printer import Printer
from ._store import Store
from ._terminal import say
from ._trace import Trace
from ._transports import ask

__all__ = ["answer", "begin", "keep", "new_conversation"]


def begin(settings: Settings, store: Store, *, go_on: bool, history: Path | None) -> Conversation:
    """Return the conversation of the next question: the last one, one from a file, or a new one."""
    if go_on and history is not None:
        raise click.UsageError("expected --continue or --history, not both")
    if go_on:
        try:
            conversation = store.load()
        except ValueError as error:
            raise click.UsageError(f"{error}; ask without --continue to begin a new one") from None
        if conversation is not None:
            if settings.endpoint is not None:
                merge(settings.login, settings.endpoint, conversation.session)  # raises if only its member may go on
            return conversation
        say("there is no conversation to continue, so this begins one")
    messages = () if history is None else read_messages(history)
    return new_conversation(settings, messages)


def new_conversation(settings: Settings, messages: tuple[Message, ...] = ()) -> Conversation:
    """A conversation with the bot of these settings, with these messages."""
    bot, chat_id = settings.found, new_chat_id()
    if bot is None:
        return Conversation(messages=messages, bot_id=settings.bot, chat_id=chat_id)
    of_bot: dict[str, Any] = {"bot_id": bot.bot_id, "custom_id": bot.custom_id, "context_id": bot.context_id}
    return Conversation(messages=messages, chat_id=chat_id, session=bot.session, **of_bot)


def answer(
    settings: Settings, conversation: Conversation, submit: Submit, printer: Printer, files: Sequence[Upload] = ()
) -> bool:
    """Ask, with these files, and print. A complete answer becomes part of the conversation, a broken one does not.

    Returns whether there is something to save: an answer, or the news that the provider
    has forgotten the previous one, so that the next question sends the whole history.
    """
    observers: list[Observer] = [Trace(printer.output)] if settings.verbose else []
    if files and printer.is_waiting:
        observers.append(tell_progress(printer.wait_for))
    session = ask(settings, submit, conversation.session, printer.print, *observers, files=files)
    conversation.session = session or conversation.session
    if printer.end is not None:
        conversation.record(submit, printer.end, printer.text)
        return True
    return printer.broken is not None and conversation.record_failure(submit, printer.broken)


def keep(store: Store, conversation: Conversation) -> None:
    """Save the conversation. If that fails, print a line about it: the answer was already shown."""
    try:
        if store.save(conversation):
            say("another opchat has saved this conversation meanwhile; --continue now continues this one")
    except OSError as error:
        say(f"the conversation could not be kept: {error} (--no-save keeps none)")
