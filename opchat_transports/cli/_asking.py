"""Asking one question, by whichever transport: blocking, trio or asyncio."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import click

from opchat_proto import Endpoint, Event, Session, Submit

from .._common import Watch
from .._proxies import ENVIRONMENT
from ._options import Settings
from ._output import say

__all__ = ["ask", "site"]


@contextmanager
def site(settings: Settings) -> Iterator[Settings]:
    """The settings with a site to ask: where none is given, the built-in bot runs for as long as the block."""
    if settings.endpoint is not None:
        yield settings
        return
    from ..blocking_sockets import serve
    from ..bots import small_talk

    with serve(small_talk) as server:
        say(f"no --url, so the built-in bot answers, at {server.url}")
        proxy = None if settings.proxy == ENVIRONMENT else settings.proxy
        yield replace(settings, endpoint=Endpoint.parse(server.url), proxy=proxy)


def ask(
    settings: Settings,
    submit: Submit,
    session: Session | None,
    take: Callable[[Event], None],
    watch: Watch | None = None,
) -> Session | None:
    """Ask, and give each event to `take` as it comes. Returns the session for the next question.

    Whatever `take` raises, or Ctrl-C, closes the connection before it goes on.
    Raises `UsageError` for what cannot be sent.
    """
    match settings.via:
        case "trio":
            with _needs("trio"):
                import trio

                from ..trio_streams import TrioTransport
            # Anywhere else it could leave a coroutine of trio's behind that was never awaited.
            run = functools.partial(trio.run, restrict_keyboard_interrupt_to_checkpoints=True)
            return _run(run, TrioTransport, settings, submit, session, take, watch)
        case "asyncio":
            with _needs("asyncio"):
                import asyncio

                from ..asyncio_httpx import AsyncioTransport
            return _run(lambda main: asyncio.run(main()), AsyncioTransport, settings, submit, session, take, watch)
        case _:
            from ..blocking_sockets import BlockingTransport

            with _open(BlockingTransport, settings, session, watch) as transport, _start(transport, submit) as reply:
                for event in reply:
                    take(event)
            return _session(transport)


def _run(
    run: Callable[[Callable[[], Any]], object],
    kind: type[Any],
    settings: Settings,
    submit: Submit,
    session: Session | None,
    take: Callable[[Event], None],
    watch: Watch | None,
) -> Session | None:
    with _needs(settings.via):  # which asyncio's needs only now
        transport = _open(kind, settings, session, watch)

    async def main() -> None:
        async with transport, _start(transport, submit) as reply:
            async for event in reply:
                take(event)

    try:
        run(main)
    except BaseExceptionGroup as group:  # Ctrl-C inside of a nursery
        if group.split(KeyboardInterrupt)[0] is None:
            raise
        raise KeyboardInterrupt from None
    return _session(transport)


def _open(kind: type[Any], settings: Settings, session: Session | None, watch: Watch | None) -> Any:
    try:
        transport = kind(
            settings.endpoint,
            session=session,
            headers=settings.headers,
            limits=settings.limits,
            timeouts=settings.timeouts,
            proxy=settings.proxy,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    transport._target.watch = watch
    return transport


def _start(transport: Any, submit: Submit) -> Any:
    try:
        return transport.ask(submit)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _session(transport: Any) -> Session | None:
    session: Session | None = transport.session
    return session


@contextmanager
def _needs(extra: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("opchat"):
            raise
        raise click.UsageError(f'--via {extra} needs more packages: pip install "opchat[{extra}]"') from None
