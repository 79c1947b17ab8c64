"""What is particular to httpx and httpcore: the progress of a request, exceptions, and leftovers."""

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

__all__ = ["Progress", "end", "ending_tls", "give_whole", "own_client", "unused_context"]

_NOT_SENT = {"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError"}
_SENDING = "the request could not be sent"
_NO_ANSWER = "Server disconnected without sending a response."  # httpcore, for a close before the end of the head
_PIECES_HELD = 16 * 1024  # more than a client can buffer, even if each byte is a chunk


def own_client(channel: Channel, context: ssl.SSLContext) -> Any:
    """An `httpx.AsyncClient` that ignores the environment and keeps no connections."""
    try:
        import httpx  # imported here: not needed with a client of httpx2
    except ModuleNotFoundError as error:
        raise missing(error, "httpx") from None

    through, proxy = channel.proxy, None
    if through is not None:
        url = str(through).replace("socks5h:", "socks5:")  # which also lets the proxy resolve names
        auth = None if through.username is None else (through.username, through.password or "")
        proxy = httpx.Proxy(url, auth=auth, ssl_context=context if through.scheme == "https" else None)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    return httpx.AsyncClient(verify=context, proxy=proxy, limits=limits, trust_env=False)


def unused_context() -> ssl.SSLContext:
    """The cheapest context, for unencrypted sites: with None httpx would load a trust store."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@final
class Progress:
    """The progress of a request, from httpcore's extension "trace"; other transports of httpx report nothing."""

    def __init__(self, channel: Channel, host: str = "") -> None:
        self._proxy = channel.proxy
        self._timeouts = channel.timeouts
        self.extensions = {
            "timeout": {"connect": self._timeouts.connect, "write": self._timeouts.write, "read": None, "pool": None},
            "trace": self._watch,
            "sni_hostname": host.removesuffix("."),
        }
        self._where = "could not connect"
        self._at_proxy = False  # the proxy has not opened the tunnel yet
        self._is_sent = False  # or partly sent
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
            case ["receive_response_headers" | "setup_socks5_connection", "complete"]:  # a proxy's comes first
                self._at_proxy = False
            case ["connect_tcp" | "connect_unix_socket" | "start_tls" as phase, "complete"]:
                if phase != "start_tls":
                    self._opened = info["return_value"]
                if phase == "connect_tcp" and (opened := self._opened.get_extra_info("socket")) is not None:
                    tune(opened)
                # A connection that is cancelled between its opening and first write stays in the pool forever.
                await anyio.lowlevel.checkpoint()  # so be cancelled here: httpcore forgets it, and `close` closes it

    async def close(self) -> None:
        """Close the connection if the request was not sent: httpcore forgets it when cancelled."""
        opened, self._opened = self._opened, None
        if opened is not None:
            with anyio.CancelScope(shield=True), suppress(Exception):
                await opened.aclose()

    def explain(self, error: Exception) -> tuple[str, Reason, bool, str | None]:
        """An exception's detail and reason, whether the request may have been sent, and the clock that ran out.

        The classes are known by their names, which httpx and httpx2 share.
        """
        names, said = {base.__name__ for base in type(error).__mro__}, words(error)
        connect, write = (f"within {seconds} s (timeout" for seconds in (self._timeouts.connect, self._timeouts.write))
        # The text after a status is the proxy's, and may contain the password.
        refused = f"refused: status {said[:3]}" if re.match("[0-9]{3} ", said) else f"failed: {said}"
        rows: list[tuple[str, str, Reason, str | None]] = [
            ("ConnectTimeout", f"{self._where}: no connection {connect} 'connect')", Reason.TIMEOUT, "connect"),
            ("WriteTimeout", f"{_SENDING}: not all of it was taken {write} 'write')", Reason.TIMEOUT, "write"),
            ("TimeoutException", f"the client gave up: {said}", Reason.TIMEOUT, None),  # we set no other timeout
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
    """Give a request its body without a generator, which would leak if sending is cancelled."""
    kind = type(request.stream)
    request.stream = type("Body", (kind,), {"__aiter__": lambda _: _Once(body)})(body)


class _Once:
    """Iterates over a single piece."""

    def __init__(self, piece: bytes) -> None:
        self._pieces = [piece]

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._pieces:
            raise StopAsyncIteration
        return self._pieces.pop()


def ending_tls(response: Any) -> ssl.SSLObject | None:
    """The TLS whose close_notify ends the response's body; None if its framing does, or without TLS."""
    is_framed = not response.http_version.startswith("HTTP/1") or response.status_code in (204, 304)
    stream = response.extensions.get("network_stream")  # only httpcore's transports have it
    if is_framed or stream is None or response.headers.keys() & {"content-length", "transfer-encoding"}:
        return None
    tls: ssl.SSLObject | None = stream.get_extra_info("ssl_object")
    return tls


async def end(body: AsyncIterator[bytes]) -> None:
    """End the generators of a body.

    Closing a generator leaves the generators inside it to the garbage collector (httpx
    nests five). So this cancels the innermost one, which ends them all, and closes the
    connection unless the body was complete.
    """
    with anyio.CancelScope() as scope, suppress(Exception):
        scope.cancel()
        for _ in range(_PIECES_HELD):
            if await anext(body, None) is None:
                return
