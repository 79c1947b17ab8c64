"""`ask --official`: ask through the site's official REST API, with the owner's token."""

import os

import click

from opchat_proto import Query, Session

from ._options import Settings
from ._page_bots import find_bot
from ._printer import Printer
from ._terminal import say
from ._trace import Trace
from ._transports import ask

__all__ = ["ask_officially", "check_official"]

_TOKEN = "OPCHAT_TOKEN"
_AS_ADMINISTRATOR = "asked with the owner's token, the question runs as the site's first administrator"
_ADVICE = {
    (401, "rest_forbidden"): f"check {_TOKEN}: it is the token in the settings of AI Engine",
    (404, "rest_no_route"): "the site's owner has to switch on the official API in the settings of AI Engine",
}


def check_official(settings: Settings, *, alone: bool) -> tuple[Settings, Session]:
    """The settings with the bot of the page, and the owner's session. Raises `UsageError`.

    `alone` means that no option needs more than a single question and answer.
    """
    if not alone:
        raise click.UsageError("--official: expected no --continue, --history, --file and --save-images")
    if settings.endpoint is None:
        raise click.UsageError("--official: expected --url, since the built-in bot has no official API")
    if settings.login is not None:
        raise click.UsageError("--official: expected no --user and --cookie-file, since it asks as the owner")
    token = os.environ.get(_TOKEN)
    if not token:
        raise click.UsageError(f"--official: expected the site's token in the variable {_TOKEN}")
    try:
        session = Session.from_token(token)
    except ValueError as error:
        raise click.UsageError(f"{_TOKEN}: {error}") from None
    found = find_bot(settings)
    assert found.endpoint is not None
    if found.endpoint.origin != settings.endpoint.origin:
        raise click.UsageError(
            f"the chat is at {found.endpoint.origin}, and {_TOKEN} is for {settings.endpoint.origin}: "
            "use the former as --url"
        )
    say(_AS_ADMINISTRATOR)
    return found, session


def ask_officially(settings: Settings, text: str, session: Session, printer: Printer) -> None:
    """Ask and print. Raises `UsageError` for a question that cannot be sent, or a site that must not get the token."""
    found = None if settings.found is None else settings.found.bot_id
    query = Query(text, settings.bot if settings.bot_is_given else found)
    ask(settings, query, session, printer.print, *([Trace(printer.output)] if settings.verbose else []))
    broken = printer.broken
    if broken is not None and (advice := _ADVICE.get((broken.status or 0, broken.code or ""))):
        printer.output.say(advice)
