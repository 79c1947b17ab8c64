"""Ask one question, or visit one page, over the chosen transport."""

import ssl
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from typing import Any

import click

from opchat_proto import Call, Endpoint, Event, HTTPCall, Observer, Page, Query, Session, Submit, Upload

from .._proxies import ENVIRONMENT
from ._login import merge
from ._options import Settings
from ._terminal import say

__all__ = ["ask", "call_method", "download", "gives_nonce", "site", "trusting", "visit"]

_TRANSPORTS = {
    "blocking": ("blocking_sockets", "BlockingTransport"),
    "trio": ("trio_streams", "TrioTransport"),
    "asyncio": ("asyncio_streams", "AsyncioTransport"),
    "httpx": ("asyncio_httpx", "HttpxTransport"),
}


@contextmanager
def site(settings: Settings) -> Iterator[Settings]:
    """The settings with a site: without one, the built-in bot runs during the block."""
    if settings.endpoint is not None:
        yield settings
        return
    from tempfile import TemporaryDirectory

    from ..blocking_server import serve
    from ..bots import small_talk
    from ..file_store import FileStore

    with TemporaryDirectory() as directory, serve(small_talk, files=FileStore(directory)) as server:
        say(f"no --url, so the built-in bot answers, at {server.url}")
        proxy = None if settings.proxy == ENVIRONMENT else settings.proxy
        yield replace(settings, endpoint=Endpoint.parse(server.url), proxy=proxy)


def ask(
    settings: Settings,
    question: Submit | Query,
    session: Session | None,
    take: Callable[[Event], None],
    *observers: Observer,
    files: Sequence[Upload] = (),
) -> Session | None:
    """Ask, and pass each event to `take` as it comes. Returns the session for the next question.

    The files are uploaded first. An exception from `take`, or Ctrl-C, closes the
    connection before it propagates. Raises `UsageError` for a question that cannot be sent.
    """
    transport = _open_site(settings, session, observers)
    try:
        reply = transport.ask(question, files=files)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if settings.via == "blocking":
        with transport, reply:
            for event in reply:
                take(event)
    else:

        async def main() -> None:
            async with transport, reply:
                async for event in reply:
                    take(event)

        _run(settings.via, main)
    asked_with: Session | None = transport.session
    return asked_with


def visit(settings: Settings, url: str, *observers: Observer) -> Page:
    """Visit the page at this address. Raises `ReplyBroken` if that fails, `UsageError` for wrong options."""
    page: Page
    page, _ = call_method(settings, None, observers, "visit", url)
    return page


def download(settings: Settings, url: str) -> bytes:
    """Download the file at this address. Raises as `visit` does, and `ValueError` for anything but an address."""
    content: bytes
    content, _ = call_method(settings, None, (), "download", url)
    return content


def call_method(
    settings: Settings,
    session: Session | None,
    observers: Sequence[Observer],
    method: str,
    *arguments: Any,
    **options: Any,
) -> tuple[Any, Session | None]:
    """The result of this method of a transport, and the session for the next one.

    Raises the method's exceptions, and `UsageError` for wrong options.
    """
    transport = _open_site(settings, session, observers)
    call = getattr(transport, method)
    if settings.via == "blocking":
        with transport:
            return call(*arguments, **options), transport.session
    found: list[Any] = []

    async def main() -> None:
        async with transport:
            found.append(await call(*arguments, **options))

    _run(settings.via, main)
    return found[0], transport.session


def _open_site(settings: Settings, session: Session | None, observers: Sequence[Observer]) -> Any:
    """Open the transport to the site of these settings. Raises `UsageError` for unusable settings."""

    def observe(call: Call | HTTPCall, item: Any) -> None:
        for observer in observers:
            observer(call, item)

    assert settings.endpoint is not None
    try:
        return _open(
            settings.via,
            settings.endpoint,
            session=merge(settings.login, settings.endpoint, session),
            page=settings.page if gives_nonce(settings) else None,
            headers=settings.headers,
            limits=settings.limits,
            timeouts=settings.timeouts,
            proxy=settings.proxy,
            observer=observe if observers else None,
            **({} if settings.cacert is None else {"ssl_context": trusting(settings.cacert)}),
        )
    except OSError as error:  # from a file that the TLS library was told to use
        raise click.UsageError(f"{error.filename}: {error.strerror}") from None
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def gives_nonce(settings: Settings) -> bool:
    """Whether the bot's page has a nonce for whoever asks."""
    bot = settings.found
    return bot is not None and bot.nonce is not None and (settings.login is None or bot.is_member)


def trusting(cacert: str) -> ssl.SSLContext:
    """A context that trusts the system's certificates and those in a file. Raises `UsageError`."""
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(cacert)
    except ssl.SSLError:
        raise click.UsageError(f"--cacert {cacert}: expected certificates in PEM") from None
    except OSError as error:
        raise click.UsageError(f"--cacert {cacert}: {error.strerror}") from None
    return context


def _open(via: str, *arguments: Any, **options: Any) -> Any:
    """Open the transport with this name. Raises `UsageError` if its library is missing."""
    module, name = _TRANSPORTS[via]
    try:
        return getattr(import_module(f"opchat_transports.{module}"), name)(*arguments, **options)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("opchat"):
            raise
        raise click.UsageError(f'--via {via} needs more packages: pip install "opchat[{via}]"') from None


def _run(via: str, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    try:
        if via == "trio":
            import trio

            # Elsewhere it could leave one of trio's coroutines behind that was never awaited.
            trio.run(main, restrict_keyboard_interrupt_to_checkpoints=True)
        else:
            import asyncio

            asyncio.run(main())
    except BaseExceptionGroup as group:  # Ctrl-C inside a nursery
        if group.split(KeyboardInterrupt)[0] is None:
            raise
        raise KeyboardInterrupt from None
