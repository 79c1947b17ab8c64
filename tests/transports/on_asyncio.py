"""Ask over `AsyncioTransport`, and the points at which to cancel."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from opchat_transports.asyncio_streams import AsyncioTransport

from .peer import PATIENCE

Main = Callable[[], Coroutine[Any, Any, Any]]
Run = Callable[[Main], Any]

secured = pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])


async def read(transport: AsyncioTransport, question: Any = "Hi") -> list[Any]:
    async with transport.ask(question) as reply:
        return [event async for event in reply]


async def wait_for(happened: threading.Event) -> None:
    assert await asyncio.to_thread(happened.wait, PATIENCE)
