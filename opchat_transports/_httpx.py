"""What is particular about httpx and httpcore: how far a request is, what they raise, what they leave behind."""

import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any, Self, final

import anyio
import anyio.lowlevel

from opchat_proto import Channel, Reason

from ._common import tune, words
from ._extras import missing

__all__ = ["Progress", "end", "give_whole", "own_client", "unused_context"]

_NOT_SENT = {"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError"}
_SENDING = "the request could not be sent"
_NO_ANSWER = "Server disconnected without sending a response."  # httpcore's words for a close before the whole head
_PIECES_HELD = 16 * 1024  # more than a client can have read and not given, at a piece for each chunk of a byte


def own_client(channel: Channel, context: ssl.SSLContext) -> Any:
    """An `httpx.AsyncClient` that takes nothing from the environment and keeps no connection."""
    try:
        import httpx  # here, since who has a client of httpx2 need not have it
    except ModuleNotFoundError as error:
        raise missing(error, "httpx") from None

    through, proxy = channel.proxy, None
    if through is not None:
        url = str(through).replace("socks5h:", "socks5:")  # which leaves names to the proxy as well
        auth = None if through.username is None else (through.username, through.password or "")
        proxy = httpx.Proxy(url, auth=auth, ssl_context=context if through.scheme == "https" else None)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    return httpx.AsyncClient(verify=context, proxy=proxy, limits=limits, trust_env=False)


def unused_context() -> ssl.SSLContext:
    """The cheapest one, where nothing is encrypted: for None httpx would load a trust store."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@final
class Progress:
    """How far a request is, as httpcore tells through its extension "trace"; other transports tell nothing."""

    def __init__(self, channel: Channel, host: str = "") -> None:
        self._proxy = channel.proxy
        self._timeouts = channel.timeouts
        self.extensions = {
            "timeout": {"connect": self._timeouts.connect, "write": self._timeouts.write, "read": None, "pool": None},
            "trace": self._watch,
            "sni_hostname": host.removesuffix("."),
        }
        self._where = "could not connect"
        self._at_proxy = False  # which has not let the request through yet
        self._is_sent = False  # or has begun to be
        self._opened: Any = None  # the connection, until the request is sent

    async def _watch(self, name: str, info: Mapping[str, Any]) -> None:
        match name.split(".")[-2:]:  # of "connection.start_tls.started"
            case ["connect_tcp", "started"]:
                host = f"[{info['host']}]" if ":" in info["host"] else info["host"]
                self._where = "could not connect" + ("" if self._proxy else f" to {host}:{info['port']}")
                self._at_proxy = self._proxy is not None
            case ["start_tls", "started"]:
                self._where = "TLS failed" if self._at_proxy else f"TLS with {info['server_hostname']} failed"
            case ["send_request_headers", "started"] if info["request"].method != b"CONNECT":
                self._at_proxy, self._is_sent, self._opened = False, True, None
            case ["receive_response_headers" | "setup_socks5_connection", "complete"]:  # by a proxy first
                self._at_proxy = False
            case ["connect_tcp" | "connect_unix_socket" | "start_tls" as phase, "complete"]:
                if phase != "start_tls":
                    self._opened = info["return_value"]
                if phase == "connect_tcp" and (opened := self._opened.get_extra_info("socket")) is not None:
                    tune(opened)
                # A connection that is cancelled between its opening and its first write stays in the pool for ever.
                await anyio.lowlevel.checkpoint()  # so rather here, where httpcore forgets it and `close` closes it

    async def close(self) -> None:
        """Close the connection if the request did not come so far as to be sent: httpcore, cancelled, forgets it."""
        opened, self._opened = self._opened, None
        if opened is not None:
            with anyio.CancelScope(shield=True), suppress(Exception):
                await opened.aclose()

    def explain(self, error: Exception) -> tuple[str, Reason, bool, str | None]:
        """What an exception says, what it means, whether the request may have been sent, and the clock that ran out.

        Its classes are known by their names, which httpx and httpx2 share.
        """
        names, said = {base.__name__ for base in type(error).__mro__}, words(error)
        connect, write = (f"within {seconds} s (timeout" for seconds in (self._timeouts.connect, self._timeouts.write))
        # What follows a status are words of the proxy's, and it knows the password.
        refused = f"refused: status {said[:3]}" if re.match("[0-9]{3} ", said) else f"failed: {said}"
        rows: list[tuple[str, str, Reason, str | None]] = [
            ("ConnectTimeout", f"{self._where}: no connection {connect} 'connect')", Reason.TIMEOUT, "connect"),
            ("WriteTimeout", f"{_SENDING}: not all of it was taken {write} 'write')", Reason.TIMEOUT, "write"),
            ("TimeoutException", f"the client gave up: {said}", Reason.TIMEOUT, None),  # we asked for no other
            ("ProxyError", f"the proxy {refused}", Reason.PROXY, None),
            ("ConnectError", f"{self._where}: {said}", Reason.LOST, None),
            ("RemoteProtocolError", f"HTTP: {said}", Reason.TRUNCATED, None),
            ("NetworkError", f"the connection failed: {said}", Reason.LOST, None),
            ("OSError", f"the connection failed: {said}", Reason.LOST, None),
            ("Exception", f"the client failed: {type(error).__name__}: {error}", Reason.LOST, None),
        ]
        _, detail, reason, limit = next(row for row in rows if row[0] in names)
        if said == _NO_ANSWER:
            detail, reason = "the connection was closed before any answer", Reason.LOST
        if self._at_proxy and reason is not Reason.PROXY:
            detail = f"the proxy {self._proxy}: {detail}"
            reason = reason if reason is Reason.TIMEOUT else Reason.PROXY
        return detail, reason, self._is_sent or not (self._at_proxy or names & _NOT_SENT), limit


def give_whole(request: Any, body: bytes) -> None:
    """Let a request give its body without a generator, which would be left behind where sending is cancelled."""
    kind = type(request.stream)
    request.stream = type("Body", (kind,), {"__aiter__": lambda _: _Once(body)})(body)


class _Once:
    """Iterates over one piece."""

    def __init__(self, piece: bytes) -> None:
        self._pieces = [piece]

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._pieces:
            raise StopAsyncIteration
        return self._pieces.pop()


async def end(body: AsyncIterator[bytes]) -> None:
    """End the generators of a body.

    A generator that is closed leaves those it reads from to the garbage collector
    (httpx has five, one inside the other). So the innermost is cancelled, which
    ends them all, and closes the connection unless the body was at its end.
    """
    with anyio.CancelScope() as scope, suppress(Exception):
        scope.cancel()
        for _ in range(_PIECES_HELD):
            if await anext(body, None) is None:
                return
