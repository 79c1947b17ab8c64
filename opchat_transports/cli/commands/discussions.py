"""`opchat discussions`: the conversations that a site keeps for a signed-in member."""

import functools
import sys
from collections.abc import Callable, Iterator, Sized
from pathlib import Path
from typing import Any, final

import click

from opchat_proto import Broken, Discussion, DiscussionPage, Reason, Session

from ..._broken import ReplyBroken
from ..._files import write_private
from .._exits import EPILOG, exit_code, failure_line
from .._login import login_options
from .._options import AskingCommand, Settings, asking_options
from .._page_bots import find_bot
from .._stdin import utf8_text
from .._terminal import Output, is_terminal, json_line, say
from .._trace import Trace
from .._transports import call_method

__all__ = ["discussions_command"]

_AT_ONCE = 50  # discussions in one answer, each with all its messages
_MOST_ANSWERS = 1000  # from one site, which may always claim to have more
_WIDEST = 60  # characters of a title in the table
_GUEST = "You need to be connected."


@click.group("discussions", epilog=EPILOG, short_help="Manage the conversations that a site keeps for you.")
def discussions_command() -> None:
    """List, show, export or delete the conversations that a site keeps for you.

    A site keeps them for its signed-in members only.
    """


def _on_site(command: Callable[..., int]) -> Callable[..., int]:
    """Call a command with `site=` instead of the settings, and report its failures."""

    @functools.wraps(command)
    def with_site(settings: Settings, **values: Any) -> int:
        if settings.endpoint is None:
            raise click.UsageError("expected --url, since the built-in bot keeps no discussions")
        site = _Site(find_bot(settings))
        try:
            return command(site=site, **values)
        except ReplyBroken as error:
            site.output.say(failure_line(error.broken, site.settings.where))
            if error.broken.reason is Reason.REMOTE and error.broken.detail == _GUEST:
                site.output.say("a site keeps discussions for its members only: --user or --cookie-file signs you in")
            return exit_code(error.broken)

    return with_site


@final
class _Site:
    """The site, and the session to ask with."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.output = Output()
        self._session: Session | None = None
        self._traces = [Trace(self.output)] if settings.verbose else []

    def page(self, offset: int, limit: int) -> DiscussionPage:
        """One page of the discussions with the bot of the settings. Raises `ReplyBroken`."""
        found = self.settings.found
        bot: dict[str, Any] = {"bot_id": self.settings.bot}
        if found is not None:
            bot = {"bot_id": found.bot_id, "custom_id": found.custom_id}
        page: DiscussionPage = self._do("discussions", **bot, offset=offset, limit=limit)
        return page

    def all(self) -> Iterator[Discussion]:
        """All discussions with it, the most recently changed first. Raises `ReplyBroken`, also for an endless list."""
        seen: set[str] = set()
        for _ in range(_MOST_ANSWERS):
            page = self.page(len(seen), _AT_ONCE)
            new = {discussion.chat_id: discussion for discussion in page if discussion.chat_id not in seen}
            yield from new.values()
            seen |= new.keys()
            if not new or len(seen) >= page.total:
                return
        raise ReplyBroken(Broken(Reason.TOO_LARGE, f"{len(seen)} discussions read, and the site claims to have more"))

    def chosen(self, chat_ids: tuple[str, ...]) -> list[Discussion]:
        """The discussions with these ids. Raises `ReplyBroken`, and `UsageError` if one is missing."""
        missing, found = set(chat_ids), {}
        for discussion in self.all():
            if discussion.chat_id in missing:
                missing.remove(discussion.chat_id)
                found[discussion.chat_id] = discussion
            if not missing:
                break
        if missing:
            raise click.UsageError(f"no discussion {min(missing)!r} with this bot")
        return [found[chat_id] for chat_id in dict.fromkeys(chat_ids)]

    def delete(self, chat_ids: tuple[str, ...]) -> None:
        """Delete these discussions. Raises `ReplyBroken`."""
        self._do("delete_discussions", *chat_ids)

    def _do(self, method: str, *arguments: Any, **options: Any) -> Any:
        result, self._session = call_method(self.settings, self._session, self._traces, method, *arguments, **options)
        return result


_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object per discussion.")


@discussions_command.command("list", cls=AskingCommand, epilog=EPILOG)
@asking_options
@login_options
@click.option("--max", "count", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many to list.")
@click.option("--offset", type=click.IntRange(0, 10**6), default=0, help="How many to skip.")
@_json_option
@_on_site
def _list(site: _Site, count: int, offset: int, as_json: bool) -> int:
    """List your discussions, the most recently changed first."""
    page = site.page(offset, count)
    listed = page.discussions[:count]  # a site may send more
    for discussion in listed:
        if as_json:
            site.output.json({**_head(discussion), "messages": len(discussion.messages)})
        else:
            site.output.text(_row(discussion))
    if not as_json:
        site.output.say(f"{len(listed)} of {page.total} discussions")
    return 0


@discussions_command.command("show", cls=AskingCommand, epilog=EPILOG)
@asking_options
@login_options
@click.argument("chat_id")
@_json_option
@_on_site
def _show(site: _Site, chat_id: str, as_json: bool) -> int:
    """Show all messages of the discussion CHAT_ID."""
    [discussion] = site.chosen((chat_id,))
    if as_json:
        site.output.json(_whole(discussion))
        return 0
    for message in discussion.messages:
        site.output.text(f"{_line(message.role)}: {message.content}\n")
    return 0


@discussions_command.command("export", cls=AskingCommand, epilog=EPILOG, short_help="Write discussions to FILE.")
@asking_options
@login_options
@click.argument("file", type=click.Path(allow_dash=True, path_type=Path))
@click.argument("chat_ids", nargs=-1)
@_on_site
def _export(site: _Site, file: Path, chat_ids: tuple[str, ...]) -> int:
    """Write your discussions to FILE, all or those named, as one JSON object a line.

    FILE is private, and - is standard output. An object has the fields of
    `Conversation.to_dict` without the session, and also title and times.
    """
    discussions = site.chosen(chat_ids) if chat_ids else site.all()
    if str(file) == "-":
        for discussion in discussions:
            site.output.json(_whole(discussion))
        return 0
    lines, room = list[str](), site.settings.limits.reply_bytes
    for discussion in discussions:
        lines.append(json_line(_whole(discussion)))
        room -= len(lines[-1])
        if room < 0:
            text = f"more than {site.settings.limits.reply_bytes} bytes in all discussions (Limits.reply_bytes)"
            raise ReplyBroken(Broken(Reason.TOO_LARGE, text, limit="reply_bytes"))
    try:
        write_private(file, "".join(lines))
    except OSError as error:
        raise click.UsageError(f"{file}: {error.strerror}") from None
    say(f"wrote {_counted(lines)} to {file}")
    return 0


@discussions_command.command("delete", cls=AskingCommand, epilog=EPILOG)
@asking_options
@login_options
@click.argument("chat_ids", nargs=-1, required=True)
@click.option("--yes", "confirmed", is_flag=True, help="Delete without confirmation.")
@_on_site
def _delete(site: _Site, chat_ids: tuple[str, ...], confirmed: bool) -> int:
    """Delete the discussions CHAT_IDS, for good."""
    chat_ids = tuple(utf8_text(chat_id) for chat_id in chat_ids)
    if "" in chat_ids:
        raise click.UsageError("expected the ids of discussions, got ''")
    if not confirmed:
        text = f"This deletes {_counted(chat_ids)} for good."
        if not is_terminal(sys.stdin):
            raise click.UsageError(f"{text} --yes says so")
        click.confirm(text, abort=True, err=True)
    site.delete(chat_ids)
    return 0


def _head(discussion: Discussion) -> dict[str, Any]:
    names = ("chat_id", "bot_id", "title", "created", "updated")
    return {name: getattr(discussion, name) for name in names}


def _whole(discussion: Discussion) -> dict[str, Any]:
    values = discussion.conversation().to_dict()
    del values["session"]
    return {**_head(discussion), **values}


def _row(discussion: Discussion) -> str:
    title = discussion.title or next((turn.content for turn in discussion.messages if turn.role == "user"), "")
    return f"{_line(discussion.chat_id)}  {_line(discussion.updated)}  {len(discussion.messages):4}  {_line(title)}\n"


def _counted(discussions: Sized) -> str:
    count = len(discussions)
    return f"{count} discussion{'s' * (count != 1)}"


def _line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 3]}..."
