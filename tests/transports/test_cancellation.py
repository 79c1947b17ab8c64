"""A question on its way through a proxy, cancelled at every await and in every way."""

import asyncio
import gc
import inspect
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from types import ModuleType
from typing import Any

import anyio
import pytest
import trio

import opchat_transports
from opchat_proto import End, Live
from opchat_transports import asyncio_httpx, asyncio_streams, provider, trio_streams
from opchat_transports.asyncio_httpx import HttpxTransport
from opchat_transports.asyncio_streams import AsyncioTransport
from opchat_transports.testing import FaultServer
from opchat_transports.trio_streams import TrioTransport

from .asking import CancelledAt, on_asyncio, open_files
from .proxies import CREDENTIALS, USERINFO, Journal, proxy_of
from .tls import NAME
from .wire import LAST, STREAM, answers, end, live

Work = Coroutine[Any, Any, None]
Cancelled = Callable[[Work, int], Awaitable[bool]]
"""Cancel some work at its nth wait. Returns whether it got that far."""


async def by_scope(work: Work, nth: int) -> bool:
    with anyio.CancelScope() as scope:
        await CancelledAt(work, nth, scope.cancel)
    return scope.cancelled_caught


async def natively(work: Work, nth: int, steps_later: int = 0) -> bool:
    loop = asyncio.get_running_loop()
    task: asyncio.Task[Any]

    def cancel(left: int = steps_later) -> None:
        if left:
            loop.call_soon(cancel, left - 1)
        else:
            task.cancel()

    async def run() -> None:
        await CancelledAt(work, nth, cancel)

    task = asyncio.create_task(run())
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
    return task.cancelled()


async def natively_a_step_later(work: Work, nth: int) -> bool:
    """At a moment when the awaited data may have arrived unnoticed."""
    return await natively(work, nth, 1)


WAYS: dict[str, tuple[Any, Any, Cancelled]] = {
    "trio": (trio.run, TrioTransport, by_scope),
    "asyncio, natively": (on_asyncio, AsyncioTransport, natively),
    "asyncio, natively, a step later": (on_asyncio, AsyncioTransport, natively_a_step_later),
    "asyncio, by anyio": (on_asyncio, AsyncioTransport, by_scope),
    "httpx, natively": (on_asyncio, HttpxTransport, natively),
    "httpx, natively, a step later": (on_asyncio, HttpxTransport, natively_a_step_later),
    "httpx, by anyio": (on_asyncio, HttpxTransport, by_scope),
    "httpx on trio": (trio.run, HttpxTransport, by_scope),
}
# The schemes of proxy and site: CONNECT and TLS, TLS in TLS, absolute form in TLS, SOCKS with and without TLS.
ROUTES = [("http", "https"), ("https", "https"), ("https", "http"), ("socks5", "https"), ("socks5", "http")]


@pytest.mark.parametrize(("proxied", "scheme"), ROUTES)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_cancelled_at_any_await_on_the_way_through_a_proxy(
    way: tuple[Any, Any, Cancelled],
    proxied: str,
    scheme: str,
    certificates: dict[str, ssl.SSLContext],
    trust: ssl.SSLContext,
    thorough: bool,
) -> None:
    run, kind, cancelled = way
    stride = 1 if thorough else 8
    tls = certificates["good"]

    async def cut(nth: int) -> bool:
        events: list[Any] = []

        async def follow() -> None:
            async with transport.ask(f"question {nth}") as reply:
                async for event in reply:
                    events.append(event)

        options: dict[str, Any] = {
            "proxy": f"{proxied}://{USERINFO}localhost:{proxy.port}",
            "ssl_context": trust,
        }
        async with kind(f"{scheme}://{NAME}:{site.port}", **options) as transport:
            was_cut = await cancelled(follow(), nth)
            if not was_cut:
                assert [type(event) for event in events] == [Live, Live, End]
            async with transport.ask("again") as reply:
                events = [event async for event in reply]
                assert [type(event) for event in events] == [Live, Live, End], events
        return was_cut

    site_script = answers(STREAM, live("Hel"), live("lo"), end("Hello"), LAST)
    proxy_script = proxy_of(proxied, Journal(), CREDENTIALS)
    gc.collect()
    descriptors = open_files()
    with (
        FaultServer(site_script, ssl_context=tls if scheme == "https" else None) as site,
        FaultServer(proxy_script, ssl_context=tls if proxied == "https" else None) as proxy,
    ):
        nth = 1 + ROUTES.index((proxied, scheme)) % stride  # the samples of different routes differ
        count = 1
        while run(lambda: cut(nth)):  # noqa: B023  # it is called at once
            nth += stride
            count += 1
            assert nth < 500
    gc.collect()  # a leak raises ResourceWarning, which is an error here
    assert nth > 10
    assert open_files() == descriptors
    asked = [question.new_message for question in site.questions]
    questions = set(asked) - {"again"}
    assert all(asked.count(question) == 1 for question in questions)
    assert asked.count("again") == count


@pytest.mark.parametrize("module", [opchat_transports, asyncio_httpx, asyncio_streams, trio_streams, provider])
def test_each_public_coroutine_documents_what_its_cancellation_leaves(module: ModuleType) -> None:
    public = [getattr(module, name) for name in module.__all__]
    named = [pair for each in public if inspect.isclass(each) for pair in inspect.getmembers(each)]
    methods = [method for name, method in named if is_public(name)]
    coroutines = {each for each in (*public, *methods) if is_asynchronous(each)}
    assert coroutines
    silent = [each.__qualname__ for each in coroutines if "ancel" not in (each.__doc__ or "")]
    assert silent == []


def is_asynchronous(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def is_public(name: str) -> bool:
    return not name.startswith("_") or name.endswith("__")
