"""Call each recipe, so that one suite can test them all."""

import asyncio
import gc
import threading
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import gevent
import gevent.event
import gevent.ssl
import httpx
import httpx2
import requests
import trio
from twisted.internet import reactor, ssl
from twisted.internet.defer import ensureDeferred
from twisted.internet.threads import blockingCallFromThread

from . import (
    anyio_streams,
    asyncio_protocol,
    asyncio_streams,
    gevent_sockets,
    http_aiohttp,
    http_client,
    http_httpx,
    http_httpx_async,
    http_requests,
    http_urllib3,
    selectors_loop,
    threads_queue,
    tornado_iostream,
    trio_streams,
    twisted_protocol,
)
from .suite import Question, Recipe


def of_selectors(question: Question) -> None:
    selectors_loop.run(selectors_loop.ask(question.call(), question.hear, question.tls))


def of_asyncio_protocol(question: Question) -> None:
    asyncio.run(asyncio_protocol.ask(question.call(asyncio.Event), question.hear, question.tls))


def of_asyncio_streams(question: Question) -> None:
    asyncio.run(asyncio_streams.ask(question.call(asyncio.Event), question.hear, question.tls))


def of_threads(question: Question) -> None:
    asking = threading.Thread(
        target=threads_queue.ask, args=(question.call(threading.Event), question.hear, question.tls)
    )
    asking.start()
    asking.join()


def of_twisted(question: Question) -> None:
    """The reactor runs in its own thread until these tests end, because it cannot be restarted."""
    loop: Any = reactor
    if not loop.running:
        threading.Thread(target=loop.run, kwargs={"installSignalHandlers": False}, daemon=True).start()
    tls: Any = ssl  # no type stubs
    trust = tls.platformTrust()
    if question.cafile is not None:
        trust = tls.trustRootFromCertificates([tls.Certificate.loadPEM(Path(question.cafile).read_bytes())])
    asking = twisted_protocol.ask(question.call(twisted_protocol.Inbox), question.hear, trust)
    deferred: Any = ensureDeferred
    blockingCallFromThread(loop, deferred, asking)


def stop_twisted() -> None:
    loop: Any = reactor
    if loop.running:
        blockingCallFromThread(loop, loop.stop)


def of_tornado(question: Question) -> None:
    asyncio.run(tornado_iostream.ask(question.call(asyncio.Event), question.hear, question.tls))


def of_gevent(question: Question) -> None:
    tls = gevent.ssl.create_default_context(cafile=question.cafile)
    gevent.spawn(gevent_sockets.ask, question.call(gevent.event.Event), question.hear, tls).get()


def of_trio(question: Question) -> None:
    trio.run(trio_streams.ask, question.call(trio.Event), question.hear, question.tls)


def of_anyio(question: Question) -> None:
    anyio.run(anyio_streams.ask, question.call(anyio.Event), question.hear, question.tls)


def of_anyio_on_trio(question: Question) -> None:
    anyio.run(anyio_streams.ask, question.call(anyio.Event), question.hear, question.tls, backend="trio")


def of_aiohttp(question: Question) -> None:
    asyncio.run(http_aiohttp.ask(question.http_call(asyncio.Event), question.hear, question.tls))


def of_requests(question: Question) -> None:
    with requests.Session() as http:
        http.verify, http.trust_env = question.cafile or True, False
        http_requests.ask(question.http_call(threading.Event), question.hear, http)
    gc.collect()  # its pools are garbage, kept alive by an exception


def of_urllib3(question: Question) -> None:
    http_urllib3.ask(question.http_call(threading.Event), question.hear, question.tls)


def of_http_client(question: Question) -> None:
    http_client.ask(question.http_call(threading.Event), question.hear, question.tls)


KEEP_NOTHING = {"max_keepalive_connections": 0}


def with_httpx2(recipe: ModuleType) -> Any:
    """The recipe with httpx replaced by httpx2, as its docstring says."""
    assert recipe.__file__ is not None
    text = Path(recipe.__file__).read_text()
    module = ModuleType(f"{recipe.__name__} for httpx2")
    assert "\nimport httpx\n" in text
    exec(compile(text.replace("\nimport httpx\n", "\nimport httpx2 as httpx\n"), module.__name__, "exec"), vars(module))
    return module


def of_httpx_sync(recipe: Any, library: Any) -> Recipe:
    def run(question: Question) -> None:
        with library.Client(verify=question.tls, trust_env=False, limits=library.Limits(**KEEP_NOTHING)) as http:
            recipe.ask(question.http_call(threading.Event), question.hear, http)

    return run


def of_httpx_async(recipe: Any, library: Any) -> Recipe:
    async def ask(question: Question) -> None:
        http = library.AsyncClient(verify=question.tls, trust_env=False, limits=library.Limits(**KEEP_NOTHING))
        await recipe.ask(question.http_call(asyncio.Event), question.hear, http)

    return lambda question: asyncio.run(ask(question))


RUNNERS: dict[str, Recipe] = {
    "selectors_loop": of_selectors,
    "asyncio_protocol": of_asyncio_protocol,
    "asyncio_streams": of_asyncio_streams,
    "threads_queue": of_threads,
    "twisted_protocol": of_twisted,
    "tornado_iostream": of_tornado,
    "gevent_sockets": of_gevent,
    "trio_streams": of_trio,
    "anyio_streams": of_anyio,
    "anyio_streams on trio": of_anyio_on_trio,
    "http_aiohttp": of_aiohttp,
    "http_requests": of_requests,
    "http_urllib3": of_urllib3,
    "http_client": of_http_client,
    "http_httpx": of_httpx_sync(http_httpx, httpx),
    "http_httpx with httpx2": of_httpx_sync(with_httpx2(http_httpx), httpx2),
    "http_httpx_async": of_httpx_async(http_httpx_async, httpx),
    "http_httpx_async with httpx2": of_httpx_async(with_httpx2(http_httpx_async), httpx2),
}

# The packages of the extra `gui` are large, so plain `pytest` runs without them. .ci/run installs them.
if find_spec("PySide6") is not None:
    from .gui_runners import GUI_RUNNERS

    RUNNERS |= GUI_RUNNERS
