"""`opchat bots`: the bots of a page."""

from dataclasses import asdict
from typing import Any

import click

from opchat_proto import Bot, Reason

from ..._broken import ReplyBroken
from .._exits import EPILOG, EXIT_CODES, exit_code, failure_line
from .._login import login_options
from .._options import AskingCommand, Settings, visiting_options
from .._page_bots import bot_table
from .._terminal import Output
from .._trace import Trace
from .._transports import visit

__all__ = ["bots_command"]

_EXAMPLES = """\b
Examples:
  opchat bots https://site.example/contact/
  opchat bots --json site.example | jq .bot_id
"""
_SECRET = ("nonce", "session_id", "raw_system", "raw_params")


@click.command("bots", cls=AskingCommand, epilog=f"{_EXAMPLES}\n{EPILOG}")
@visiting_options
@login_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per bot.")
def bots_command(url: str, settings: Settings, as_json: bool) -> int:
    """Print the bots of the page at URL.

    BOT is the name for --bot, QUESTION the most characters of a question, FILES the
    most files with one. Without a bot the exit code is 5, and a line says what the
    page contains instead.
    """
    output = Output()
    if settings.login is not None and settings.login.user is not None:
        output.say("an application password does not sign in on a page, so these are the bots for guests")
    try:
        page = visit(settings, url, *([Trace(output)] if settings.verbose else []))
    except ReplyBroken as error:
        output.say(failure_line(error.broken, url))
        return exit_code(error.broken)
    for note in page.notes:
        output.say(note)
    if as_json:
        for bot in page.bots:
            output.json(_fields(bot))
    elif page.bots:
        output.text(bot_table(page.bots))
        output.end_line()
    if not page.bots:
        output.say(f"no bot on this page{f'; its REST root is {page.root}' if page.root else ''} (at {page.url})")
        return EXIT_CODES[Reason.MALFORMED]
    return 0


def _fields(bot: Bot) -> dict[str, Any]:
    shown = {name: value for name, value in asdict(bot).items() if name not in _SECRET}
    return {**shown, "actions": bot.actions, "blocks": bot.blocks, "shortcuts": bot.shortcuts}
