"""TLS over any connection, even over TLS with a proxy."""

import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ._common import READ

__all__ = ["TLSStream"]


class TLSStream:
    """The client side of TLS over another stream. Raises `ssl.SSLError` for faults and truncation.

    asyncio's own TLS reports a truncation as an end, although only an end has a
    close_notify (RFC 8446, 6.1), and takes bytes from before TLS for decrypted ones. And
    a socket can be wrapped only once.
    """

    def __init__(self, outer: Any, context: ssl.SSLContext, server_hostname: str) -> None:
        self._outer = outer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)

    async def do_handshake(self) -> None:
        await self._run(self._tls.do_handshake)

    @property
    def certificate(self) -> dict[str, Any] | None:
        """The peer's certificate, as from `ssl.SSLSocket.getpeercert`."""
        return self._tls.getpeercert()

    @property
    def has_data(self) -> bool:
        """Whether bytes have arrived that were not read yet."""
        return self._tls.pending() > 0 or self._incoming.pending > 0

    async def receive_some(self) -> bytes:
        data: bytes = await self._run(self._tls.read, READ)
        return data

    async def send_all(self, data: bytes) -> None:
        for start in range(0, len(data), READ):  # in pieces, so that each is sent before the rest is encrypted
            await self._run(self._tls.write, memoryview(data)[start : start + READ])

    def abort(self) -> None:
        self._outer.abort()

    async def _run(self, call: Callable[..., Any], *arguments: Any) -> Any:
        while True:
            try:
                result = call(*arguments)
            except ssl.SSLWantReadError:
                await self._flush()
            except ssl.SSLError:
                with suppress(Exception):  # trio has its own
                    await self._flush()  # sends an alert
                raise
            else:
                await self._flush()
                return result
            data = await self._outer.receive_some()
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()  # a truncation, unless the peer sent close_notify

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await self._outer.send_all(self._outgoing.read())
