"""How each recipe is called, so that one suite can run them all."""

import asyncio
import threading
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import gevent
import gevent.ssl
import httpx
import httpx2
import requests
import trio
import urllib3
from twisted.internet import reactor, ssl
from twisted.internet.defer import ensureDeferred
from twisted.internet.threads import blockingCallFromThread

from opchat_proto import Client, Event

from . import (
    anyio_streams,
    asyncio_protocol,
    asyncio_streams,
    flow_aiohttp,
    flow_http_client,
    flow_httpx,
    flow_httpx_async,
    flow_requests,
    flow_urllib3,
    gevent_sockets,
    selectors_loop,
    threads_queue,
    tornado_iostream,
    trio_race,
    twisted_protocol,
)
from .suite import Question, Recipe


def of_selectors(question: Question) -> None:
    selectors_loop.run(selectors_loop.ask(question.client(), question.hear, question.tls, question.seconds))


def of_asyncio_protocol(question: Question) -> None:
    asyncio.run(asyncio_protocol.ask(question.client(), question.hear, question.tls, question.seconds))


def of_asyncio_streams(question: Question) -> None:
    asyncio.run(asyncio_streams.ask(question.client(), question.hear, question.tls, question.seconds))


def of_threads(question: Question) -> None:
    asked = threads_queue.Question(question.client(), question.tls, question.seconds)
    while (event := asked.events.get()) is not None:
        if question.hear(event):
            asked.leave()
            break
    while event is not None:  # the thread puts None when it has closed the connection
        event = asked.events.get()


def of_twisted(question: Question) -> None:
    """The reactor runs in a thread of its own until these tests are over: it cannot run twice."""
    loop: Any = reactor
    if not loop.running:
        threading.Thread(target=loop.run, kwargs={"installSignalHandlers": False}, daemon=True).start()
    tls: Any = ssl  # which has no types
    trust = tls.platformTrust()
    if question.cafile is not None:
        trust = tls.trustRootFromCertificates([tls.Certificate.loadPEM(Path(question.cafile).read_bytes())])
    asking = twisted_protocol.ask(question.client(), question.hear, trust, question.seconds)
    deferred: Any = ensureDeferred
    blockingCallFromThread(loop, deferred, asking)


def stop_twisted() -> None:
    loop: Any = reactor
    if loop.running:
        blockingCallFromThread(loop, loop.stop)


def of_tornado(question: Question) -> None:
    asyncio.run(tornado_iostream.ask(question.client(), question.hear, question.tls, question.seconds))


def of_gevent(question: Question) -> None:
    tls = gevent.ssl.create_default_context(cafile=question.cafile)
    gevent.spawn(gevent_sockets.ask, question.client(), question.hear, tls, question.seconds).get()


def of_trio(question: Question) -> None:
    def hear(_: Client, event: Event) -> object:
        return question.hear(event)

    trio.run(trio_race.race, [question.client()], hear, question.tls, question.seconds)


def of_anyio(question: Question) -> None:
    anyio.run(anyio_streams.ask, question.client(), question.hear, question.tls, question.seconds)


def of_anyio_on_trio(question: Question) -> None:
    anyio.run(anyio_streams.ask, question.client(), question.hear, question.tls, question.seconds, backend="trio")


def of_aiohttp(question: Question) -> None:
    asyncio.run(flow_aiohttp.ask(question.flow(), question.hear, question.tls, question.seconds))


def of_requests(question: Question) -> None:
    with requests.Session() as http:
        http.verify, http.trust_env = question.cafile or True, False
        flow_requests.ask(question.flow(), question.hear, http, question.seconds)


def of_urllib3(question: Question) -> None:
    with urllib3.PoolManager(ca_certs=question.cafile) as pool:
        flow_urllib3.ask(question.flow(), question.hear, pool, question.seconds)


def of_http_client(question: Question) -> None:
    flow_http_client.ask(question.flow(), question.hear, question.tls, question.seconds)


def with_httpx2(recipe: ModuleType) -> Any:
    """The recipe as its docstring says that it is for httpx2."""
    assert recipe.__file__ is not None
    text = Path(recipe.__file__).read_text()
    module = ModuleType(f"{recipe.__name__} for httpx2")
    assert "\nimport httpx\n" in text
    exec(compile(text.replace("\nimport httpx\n", "\nimport httpx2 as httpx\n"), module.__name__, "exec"), vars(module))
    return module


def of_httpx_sync(recipe: Any, library: Any) -> Recipe:
    def run(question: Question) -> None:
        with library.Client(verify=question.tls, trust_env=False) as http:
            recipe.ask(question.flow(), question.hear, http, question.seconds)

    return run


def of_httpx_async(recipe: Any, library: Any) -> Recipe:
    async def ask(question: Question) -> None:
        async with library.AsyncClient(verify=question.tls, trust_env=False) as http:
            await recipe.ask(question.flow(), question.hear, http, question.seconds)

    return lambda question: asyncio.run(ask(question))


RUNNERS: dict[str, Recipe] = {
    "selectors_loop": of_selectors,
    "asyncio_protocol": of_asyncio_protocol,
    "asyncio_streams": of_asyncio_streams,
    "threads_queue": of_threads,
    "twisted_protocol": of_twisted,
    "tornado_iostream": of_tornado,
    "gevent_sockets": of_gevent,
    "trio_race": of_trio,
    "anyio_streams": of_anyio,
    "anyio_streams on trio": of_anyio_on_trio,
    "flow_aiohttp": of_aiohttp,
    "flow_requests": of_requests,
    "flow_urllib3": of_urllib3,
    "flow_http_client": of_http_client,
    "flow_httpx": of_httpx_sync(flow_httpx, httpx),
    "flow_httpx with httpx2": of_httpx_sync(with_httpx2(flow_httpx), httpx2),
    "flow_httpx_async": of_httpx_async(flow_httpx_async, httpx),
    "flow_httpx_async with httpx2": of_httpx_async(with_httpx2(flow_httpx_async), httpx2),
}

# The packages of the extra `gui` are large, so that plain `pytest` goes without them; .ci/run installs them.
if find_spec("PySide6") is not None:
    from .gui_runners import GUI_RUNNERS

    RUNNERS |= GUI_RUNNERS
