"""Find the bot to ask from the address of a page."""

from collections.abc import Iterable
from dataclasses import replace

import click

from opchat_proto import Bot, Endpoint, Reason

from .._broken import ReplyBroken, broken_line
from ._exits import exit_code, failure_line
from ._options import Settings
from ._terminal import Output, say
from ._trace import Trace
from ._transports import visit

__all__ = ["bot_name", "bot_table", "find_bot", "named"]

_HEAD = ("BOT", "MODE", "QUESTION", "FILES", "REST ROOT", "FIRST WORDS")
_FOR_ANY_SITE = ("accept", "accept-language", "user-agent")  # header fields that a visit sends to other sites too
_WIDEST = 40  # characters of a text from the page


def find_bot(settings: Settings) -> Settings:
    """Return the settings with the bot of the page in --url: the only bot, or the one that --bot names.

    Without a page, or without a bot on it, the settings stay the same, except for a
    REST root that the page names. Raises `UsageError` for several bots without --bot,
    or an unknown name, and `Exit` if nothing answers.
    """
    if settings.page is None:
        return settings
    try:
        page = visit(settings, settings.page, *([Trace(Output())] if settings.verbose else []))
    except ReplyBroken as error:
        is_elsewhere = settings.login is not None and 300 <= (error.broken.status or 0) < 400
        if error.broken.reason not in (Reason.TIMEOUT, Reason.PROXY) and not is_elsewhere:
            # A code is a REST API's. If the connection was lost, the question would fail in the same way.
            if error.broken.code is None and error.broken.reason is not Reason.LOST:
                say(f"no page at {settings.page} ({broken_line(error.broken)}), so a site is looked for there")
            return settings
        say(failure_line(error.broken, settings.page))
        raise click.exceptions.Exit(exit_code(error.broken)) from None
    bots: dict[object, Bot] = {}
    for bot in page.bots:
        if bot.endpoint is not None:
            bots.setdefault((bot.bot_id, bot.custom_id), bot)  # a page may show a bot twice
    if not bots:
        for note in page.notes or ("no bot on this page",):
            say(note)
        return replace(_at(page.endpoint, settings), page=None)
    chosen = named(bots.values(), settings.bot if settings.bot_is_given else None)
    if len(chosen) != 1:
        for line in bot_table(bots.values()).splitlines():
            say(line)
        raise click.UsageError(
            "several bots: choose one with --bot" if chosen else f"no bot {settings.bot!r} on this page"
        )
    (bot,) = chosen
    return replace(_at(bot.endpoint, settings), bot=bot_name(bot), page=page.url, found=bot)


def _at(endpoint: Endpoint | None, settings: Settings) -> Settings:
    """The settings for the chat at this endpoint. At another origin than --url's it gets no secrets from --header."""
    assert settings.endpoint is not None
    if endpoint is None or endpoint.origin == settings.endpoint.origin:
        return replace(settings, endpoint=endpoint or settings.endpoint)
    headers = tuple(field for field in settings.headers if field[0].lower() in _FOR_ANY_SITE)
    if headers != settings.headers:
        say(f"the chat is at {endpoint.origin}, where --header is not sent: use that address as --url")
    if (settings.endpoint.scheme, endpoint.scheme) == ("https", "http"):
        say(f"the page has https, but its chat is at {endpoint.origin}: what you ask can be read on the way")
    return replace(settings, endpoint=endpoint, headers=headers)


def bot_name(bot: Bot) -> str:
    """The bot's name for --bot."""
    name = bot.bot_id if bot.custom_id is None else bot.custom_id
    return "" if name is None else str(name)


def named(bots: Iterable[Bot], name: str | None) -> list[Bot]:
    """The bots with this name, else those with this id. None returns all."""
    bots = list(bots)
    if name is None:
        return bots
    own = [bot for bot in bots if bot_name(bot) == name]
    return own or [bot for bot in bots if bot.bot_id is not None and str(bot.bot_id) == name]


def bot_table(bots: Iterable[Bot]) -> str:
    """A table of the bots, one a line, with column names."""
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
