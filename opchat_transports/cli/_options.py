"""The options shared by the commands that ask a site, and their sections in the help."""

import functools
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import click

from opchat_proto import Bot, Endpoint, Limits, Timeouts, Visit

from .._proxies import ENVIRONMENT, ProxyLike
from ._login import Login, login_of
from ._stdin import utf8_text
from ._terminal import say

__all__ = [
    "AskingCommand",
    "Settings",
    "asking_options",
    "examining_options",
    "history_options",
    "is_rest_root",
    "printing_options",
    "visiting_options",
]

_VIA = ["blocking", "trio", "asyncio", "httpx"]
_CLOCKS = {
    "connect": "Longest wait for a connection.",
    "write": "Longest time to send one request.",
    "first_event": "Longest wait for the first piece.",
    "idle": "Longest wait between two pieces.",
}
_LIMITS = {
    "head_bytes": "Most bytes in the head of an answer.",
    "headers": "Most header fields in an answer.",
    "interim_responses": "Most 1xx responses before an answer.",
    "event_bytes": "Most bytes in one event.",
    "reply_bytes": "Most bytes in the whole answer.",
    "refusal_bytes": "Most bytes that are read of a refusal.",
    "page_bytes": "Most bytes in a page.",
    "request_bytes": "Most bytes in a question.",
    "upload_bytes": "Most bytes in a file.",
    "json_depth": "Deepest nesting of JSON.",
    "restarts": "Questions repeated for a stale nonce, 0 or 1.",
}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The values of the shared options."""

    endpoint: Endpoint | None
    """The site; None means the built-in bot."""
    page: str | None
    """The address in --url, if it may be a page and not the site itself: see `_page_bots`."""
    bot: str
    bot_is_given: bool
    found: Bot | None = None
    """The bot of the page, if one was found."""
    login: Login | None
    """The credentials of a member."""
    headers: tuple[tuple[str, str], ...]
    proxy: ProxyLike
    timeouts: Timeouts
    first_event_is_given: bool
    """Whether an option sets the first_event clock."""
    limits: Limits
    cacert: str | None
    """A file of certificates to trust in addition to the system's."""
    via: str
    verbose: bool

    @property
    def where(self) -> str:
        """The site, for a person: its address, or its REST root if that has an unusual form."""
        assert self.endpoint is not None
        return self.endpoint.origin + self.endpoint.root.removesuffix("/wp-json")


_SECTIONS = {
    "Many questions": [
        "output",
        "resuming",
        "again",
        "concurrency",
        "rate",
        "repeat",
        "retries",
        "stop_after",
        "most",
        "yes",
        "compare",
        "report",
        "dask",
    ],
    "Site": ["url", "bot", "user", "cookie_file", "official", "header", "proxy", "cacert", "via"],
    "Conversation": ["go_on", "history", "no_save"],
    "Question and answer": [
        "files",
        "save_images",
        "no_stdin",
        "no_stream",
        "as_json",
        "show",
        "markdown",
        "raw",
        "secrets",
        "with_question",
        "verbose",
    ],
    "Timeouts, in seconds, or none": ["timeout", *(f"timeout_{name}" for name in _CLOCKS)],
    "Limits, as a number, also with KiB or MiB": [f"limit_{name}" for name in _LIMITS],
}


@final
class AskingCommand(click.Command):
    """A command whose help lists its options in sections. Its arguments are only in the usage line."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """See `click.Command`."""
        records = {str(option.name): option.get_help_record(ctx) for option in self.get_params(ctx)}
        listed = [name for names in _SECTIONS.values() for name in names]
        sections = {**_SECTIONS, "Others": [name for name in records if name not in listed]}
        for title, names in sections.items():
            rows = [record for name in names if (record := records.get(name)) and record[1]]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


def _seconds(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value == "none":
        return None
    try:
        return Timeouts(connect=float(value)).connect
    except ValueError:
        raise click.BadParameter(f"{value!r}: expected seconds, above 0 and at most 1000000, or none") from None


def _size(value: str) -> int:
    match = re.fullmatch(r"([0-9]{1,18})(?:([KM])(?:iB)?)?", value)
    if match is None:
        raise click.BadParameter(f"{value!r}: expected a number, with or without KiB or MiB")
    return int(match[1]) * {None: 1, "K": 1024, "M": 1024 * 1024}[match[2]]


def _header(value: str) -> tuple[str, str]:
    name, colon, text = value.partition(":")
    if not colon:
        raise click.BadParameter("expected 'NAME: VALUE'")  # not quoted: it may be a token
    return name.strip(), text.strip()


_UNSET = object()  # not None, which switches a clock off


def asking_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options of `Settings`, and call it with `settings=`."""

    @functools.wraps(command)
    def with_settings(*arguments: Any, **values: Any) -> int:
        return command(*arguments, settings=_settings(values), **values)

    for option in reversed(_options()):
        with_settings = option(with_settings)
    return with_settings


def visiting_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the argument URL of a page, and call it with `url=` and the `settings=` for that page's site."""
    return _with_url(command, _options()[2:], lambda url: {"url": Visit(url).origin, "bot": "default"})


def examining_options(command: Callable[..., int]) -> Callable[..., int]:
    """Like `visiting_options`, for a page, a site or a REST root, with --bot."""
    return _with_url(command, _options()[1:], lambda url: {"url": url})


def _with_url(
    command: Callable[..., int], options: list[Any], values_of: Callable[[str], dict[str, Any]]
) -> Callable[..., int]:
    @functools.wraps(command)
    def with_settings(url: str, *arguments: Any, **values: Any) -> int:
        try:
            url = _whole_url(url)
            if "://" not in url:
                with suppress(ValueError):
                    url = f"{Endpoint.parse(url).origin}/"  # of a host with port
            Visit(url)
        except ValueError as error:
            raise click.BadParameter(str(error).removeprefix("url: "), param_hint="URL") from None
        values |= values_of(url)
        return command(*arguments, url=url, settings=_settings(values), **values)

    for option in reversed(options):
        with_settings = option(with_settings)
    return click.argument("url")(with_settings)


def printing_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options for printing an answer: `show`, `markdown` and `raw`."""
    for option in (
        click.option("--raw", is_flag=True, help="Do not escape the control characters in an answer."),
        click.option("--markdown", is_flag=True, help="On a terminal, render the answer's Markdown as it grows."),
        click.option(
            "--show",
            metavar="KINDS",
            default="",
            help="Show what is not part of the answer, dim on standard error: thinking,status,... or all.",
        ),
    ):
        command = option(command)
    return command


def history_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options for the history: `go_on` and `history`."""
    command = click.option(
        "--history", type=click.Path(path_type=Path), metavar="FILE", help="Earlier messages: JSON or NDJSON."
    )(command)
    return click.option("--continue", "go_on", is_flag=True, help="Continue the last conversation with this bot.")(
        command
    )


def _options() -> list[Callable[[Callable[..., int]], Callable[..., int]]]:
    option = click.option
    seconds: Any = {"type": _seconds, "metavar": "SECONDS", "default": _UNSET}
    return [
        option(
            "--url",
            envvar="OPCHAT_URL",
            show_envvar=True,
            help="The site, or a page with its chat. Without it: a small built-in bot.",
        ),
        option("--bot", default="default", show_default=True, metavar="ID", help="The bot to ask."),
        option("--header", type=_header, multiple=True, metavar="'NAME: VALUE'", help="Send this with each request."),
        option("--proxy", metavar="URL", help="http, https, socks5, socks5h, or none. By default http_proxy etc."),
        option("--cacert", type=click.Path(), metavar="FILE", help="Also trust the certificates in FILE."),
        option("--via", type=click.Choice(_VIA), default=_VIA[0], show_default=True, help="The transport that asks."),
        option("--timeout", **seconds, help="All of these at once; none: no limit."),
        *(
            option(f"--timeout-{name.replace('_', '-')}", **seconds, help=f"{what}  [default: {default:g}]")
            for name, what in _CLOCKS.items()
            if (default := getattr(Timeouts(), name))
        ),
        *(
            option(f"--limit-{name.replace('_', '-')}", type=_size, metavar="N", help=f"{what}  [default: {default}]")
            for name, what in _LIMITS.items()
            if (default := _shown(getattr(Limits(), name)))
        ),
        option("-v", "--verbose", is_flag=True, help="Show the exchange on standard error, without secrets."),
    ]


def _shown(value: int) -> str:
    for unit, size in (("MiB", 1024 * 1024), ("KiB", 1024)):
        if value % size == 0:
            return f"{value // size}{unit}"
    return str(value)


def _settings(values: dict[str, Any]) -> Settings:
    """Remove the shared options from these values, and return them as `Settings`."""
    url, proxy, every = values.pop("url"), values.pop("proxy"), values.pop("timeout")
    clocks = {clock: values.pop(f"timeout_{clock}") for clock in _CLOCKS}
    clocks = {clock: every if value is _UNSET else value for clock, value in clocks.items()}
    limits = {name: values.pop(f"limit_{name}") for name in _LIMITS}
    endpoint, page = None, None
    try:
        if url is not None:
            url = _whole_url(url)
            page = _page(url)
            endpoint = _site(url, page)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--url") from None
    headers = values.pop("header")
    _check_headers(headers)
    login = login_of(values, endpoint)
    bot = click.get_current_context().get_parameter_source("bot")
    try:
        return Settings(
            endpoint=endpoint,
            page=page,
            bot_is_given=bot is not click.core.ParameterSource.DEFAULT,
            bot=utf8_text(values.pop("bot")),
            login=login,
            headers=headers,
            proxy=ENVIRONMENT if proxy is None else None if proxy == "none" else _with_ascii_host(proxy),
            timeouts=Timeouts(**{clock: value for clock, value in clocks.items() if value is not _UNSET}),
            first_event_is_given=clocks["first_event"] is not _UNSET,
            limits=Limits(**{name: value for name, value in limits.items() if value is not None}),
            cacert=values.pop("cacert"),
            via=values.pop("via"),
            verbose=values.pop("verbose"),
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _check_headers(headers: tuple[tuple[str, str], ...]) -> None:
    """Point out the login options to someone who signs in with --header. Raises `UsageError` for cookies."""
    names = [name.lower() for name, _ in headers]
    if "cookie" in names:
        raise click.UsageError("--header cannot set Cookie; sign in with --cookie-file FILE or --user NAME")
    if "authorization" in names:
        say("--header Authorization may not sign a member in; --user and --cookie-file do")


def _site(url: str, page: str | None) -> Endpoint:
    try:
        return Endpoint.parse(url)
    except ValueError as error:
        try:  # a page's address may have a query and a fragment
            return Endpoint.parse(Visit(page or "").origin)
        except ValueError:
            raise error from None


def _page(url: str) -> str | None:
    """The address if it may be a page: neither a host nor a REST root; else None."""
    path, _, query = _path_and_query(url)
    return None if is_rest_root(url) or not (path.strip("/") or query) else url


def is_rest_root(url: str) -> bool:
    """Whether an address is a site's REST root, so that it is not a page."""
    path, _, query = _path_and_query(url)
    return path.rstrip("/").endswith("wp-json") or re.search("(?:^|&)rest_route=/?$", query) is not None


def _path_and_query(url: str) -> tuple[str, str, str]:
    return url.partition("#")[0].partition("://")[2].partition("/")[2].partition("?")


def _whole_url(url: str) -> str:
    """An address as people type it, completed for `Endpoint.parse`: "site.example" means https. Raises `ValueError`."""
    url = _with_ascii_host(utf8_text(url))
    if url.startswith("//"):
        return f"https:{url}"
    host = re.match(r"(\[[0-9a-fA-F:.]+\]|[^:/?#@]+)(:[0-9]+)?(.*)", url)
    if host is None or "://" in url or (host[2] and not host[3]):
        return url
    if "." not in host[1] and ":" not in host[1] and (host[1] != "localhost" or not host[2]):
        return url  # a word
    return f"{'http' if host[2] not in (None, ':443') else 'https'}://{url}"


def _with_ascii_host(url: str) -> str:
    """The URL with its host name in ASCII (IDNA 2008 with UTS 46 mapping). Raises `ValueError`."""
    parts = re.fullmatch(r"((?:[a-zA-Z0-9]+:)?(?://)?(?:[^/?#@]*@)?)([^/?#@:]+)(.*)", url, re.DOTALL)
    if parts is None or parts[2].isascii():
        return url
    try:
        import idna
    except ModuleNotFoundError:
        raise ValueError('this host name needs one more package: pip install "opchat[cli]"') from None
    try:
        return f"{parts[1]}{idna.encode(parts[2], uts46=True).decode()}{parts[3]}"
    except idna.IDNAError as error:
        raise ValueError(f"{parts[2]!r} is not a host name: {error}") from None
