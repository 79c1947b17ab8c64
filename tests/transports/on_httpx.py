"""Ask over `HttpxTransport`, with each client on each event loop."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import httpx
import httpx2
import pytest
import trio

from opchat_proto import Endpoint, Session
from opchat_transports import Timeouts
from opchat_transports.asyncio_httpx import HttpxTransport

from .peer import PATIENCE

NO_TRUST = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@dataclass(frozen=True)
class Way:
    """An event loop, and who owns the client."""

    loop: str
    module: ModuleType | None = None

    def run(self, main: Callable[[], Awaitable[Any]]) -> Any:
        if self.loop == "trio":
            return trio.run(main)

        async def alone() -> Any:
            asyncio.get_running_loop().slow_callback_duration = PATIENCE
            result = await main()
            assert asyncio.all_tasks() == {asyncio.current_task()}
            return result

        return asyncio.run(alone(), debug=True)

    @asynccontextmanager
    async def opened(self, url: str | Endpoint, **options: Any) -> AsyncIterator[HttpxTransport]:
        if self.module is None:
            async with HttpxTransport(url, **options) as transport:
                yield transport
        else:
            context = options.pop("ssl_context", NO_TRUST)
            # Set by early versions of CPython 3.11: a caller's client has to switch it off.
            context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
            async with self.module.AsyncClient(verify=context, trust_env=False) as client:
                async with HttpxTransport(url, client, **options) as transport:
                    yield transport
                assert not client.is_closed

    def ask(self, url: str | Endpoint, question: Any = "Hi", **options: Any) -> list[Any]:
        async def main() -> list[Any]:
            async with self.opened(url, **options) as transport:
                return await read(transport, question)

        events: list[Any] = self.run(main)
        return events


OWN = Way("asyncio")
CALLERS = [Way("asyncio", httpx), Way("asyncio", httpx2), Way("trio", httpx2)]
WAYS = [OWN, Way("trio"), *CALLERS]


def named(way: Way) -> str:
    return f"{way.loop} {way.module.__name__ if way.module else 'own'}"


ways = pytest.mark.parametrize("way", WAYS, ids=named)
owns = pytest.mark.parametrize("way", [OWN, Way("trio")], ids=named)


async def read(transport: HttpxTransport, question: Any = "Hi") -> list[Any]:
    async with transport.ask(question) as reply:
        return [event async for event in reply]


def mocked(
    handle: Callable[[Any], Any], module: ModuleType = httpx, first_event: float = PATIENCE, **options: Any
) -> list[Any]:
    """Ask with a client whose responses come from a function."""

    async def main() -> list[Any]:
        transport = module.MockTransport(handle)
        async with module.AsyncClient(transport=transport, **options) as client:
            timeouts = Timeouts(connect=0.05, write=0.05, first_event=first_event)
            return await read(HttpxTransport("http://h", client, session=Session("n"), timeouts=timeouts))

    events: list[Any] = OWN.run(main)
    return events
