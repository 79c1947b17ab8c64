"""From the address of a page to the bot on it that is asked."""

from collections.abc import Iterable
from dataclasses import replace

import click

from opchat_proto import Bot, Reason

from .._broken import ReplyBroken
from ._exits import exit_code, failure_line
from ._options import Settings
from ._terminal import Output, say
from ._trace import Trace
from ._transports import visit

__all__ = ["bot_table", "find_bot"]

_HEAD = ("BOT", "MODE", "QUESTION", "FILES", "REST ROOT", "FIRST WORDS")
_WIDEST = 40  # characters of a text from the page


def find_bot(settings: Settings) -> Settings:
    """The settings with the bot of the page that --url gave: the only one, or that of --bot.

    Where there is no page, or no bot on it, they say as before where to ask, but for
    a REST root that the page names. Raises `UsageError` where there are several to
    choose from, or none of that name, and `Exit` where nothing answers.
    """
    if settings.page is None:
        return settings
    try:
        page = visit(settings, settings.page, *([Trace(Output())] if settings.verbose else []))
    except ReplyBroken as error:
        if error.broken.reason not in (Reason.TIMEOUT, Reason.PROXY):  # where the question would end as well, as late
            return settings  # it may be a site all the same
        say(failure_line(error.broken, settings.page))
        raise click.exceptions.Exit(exit_code(error.broken)) from None
    bots: dict[object, Bot] = {}
    for bot in page.bots:
        if bot.endpoint is not None:
            bots.setdefault((bot.bot_id, bot.custom_id), bot)  # a page may show one twice
    if not bots:
        for note in page.notes:
            say(note)
        return replace(settings, endpoint=page.endpoint or settings.endpoint, page=None)
    chosen = [bot for bot in bots.values() if not settings.bot_is_given or settings.bot == bot_name(bot)]
    if len(chosen) != 1:
        for line in bot_table(bots.values()).splitlines():
            say(line)
        raise click.UsageError(
            f"no bot {settings.bot!r} on this page" if settings.bot_is_given else "several bots: choose one with --bot"
        )
    (bot,) = chosen
    return replace(settings, endpoint=bot.endpoint, bot=bot_name(bot), page=page.url, found=bot)


def bot_name(bot: Bot) -> str:
    """What --bot takes."""
    name = bot.bot_id if bot.custom_id is None else bot.custom_id
    return "" if name is None else str(name)


def bot_table(bots: Iterable[Bot]) -> str:
    """The bots, one a line below the names of the columns."""
    cells = [_HEAD, *map(_row, bots)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_HEAD))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join(lines)


def _row(bot: Bot) -> tuple[str, ...]:
    longest = "" if bot.max_length is None else str(bot.max_length)
    texts = (bot_name(bot), bot.mode, longest, str(bot.max_files or ""), bot.root or "", bot.start_sentence)
    return tuple(_short(text) if place in (0, 1, 5) else text for place, text in enumerate(texts))


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 3]}..."
