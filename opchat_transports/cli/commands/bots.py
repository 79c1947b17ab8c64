"""`opchat bots`: the bots of a page."""

from dataclasses import asdict
from typing import Any

import click

from opchat_proto import Bot, Reason

from ..._common import ReplyBroken
from .._exits import EPILOG, EXIT_CODES, exit_code, failure_line
from .._options import AskingCommand, Settings, visiting_options
from .._terminal import Output
from .._trace import Trace
from .._transports import visit

__all__ = ["bots_command"]

_EXAMPLES = """\b
Examples:
  opchat bots https://site.example/contact/
  opchat bots --json site.example | jq .bot_id
"""
_HEAD = ("BOT", "MODE", "QUESTION", "FILES", "REST ROOT", "FIRST WORDS")
_WIDEST = 40  # characters of a text from the page
_SECRET = ("nonce", "session_id", "raw_system", "raw_params")


@click.command("bots", cls=AskingCommand, epilog=f"{_EXAMPLES}\n{EPILOG}")
@visiting_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per bot.")
def bots_command(url: str, settings: Settings, as_json: bool) -> int:
    """Print the bots of the page at URL.

    BOT is what --bot takes, QUESTION the most characters of one, FILES how many may
    come with it. Without a bot the exit code is 5, and a line says what the page
    holds instead.
    """
    output = Output()
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
        output.text(_table([_HEAD, *map(_row, page.bots)]))
        output.end_line()
    if not page.bots:
        output.say(f"no bot on this page{f'; its REST root is {page.root}' if page.root else ''} (at {page.url})")
        return EXIT_CODES[Reason.MALFORMED]
    return 0


def _fields(bot: Bot) -> dict[str, Any]:
    shown = {name: value for name, value in asdict(bot).items() if name not in _SECRET}
    return {**shown, "actions": bot.actions, "blocks": bot.blocks, "shortcuts": bot.shortcuts}


def _row(bot: Bot) -> tuple[str, ...]:
    name = bot.bot_id if bot.custom_id is None else bot.custom_id
    longest = "" if bot.max_length is None else str(bot.max_length)
    texts = ("" if name is None else str(name), bot.mode, longest, str(bot.max_files or ""), bot.root or "")
    return (*texts, _short(bot.start_sentence))


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 3]}..."


def _table(rows: list[tuple[str, ...]]) -> str:
    cells = [[" ".join(cell.split()) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_HEAD))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join(lines)
