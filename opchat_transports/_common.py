"""What the transports share: options, TLS contexts, and messages for exceptions of libraries."""

import os
import random
import re
import secrets
import socket
import ssl
import string
from collections.abc import Callable, Iterable, Mapping
from threading import RLock
from typing import Any, TypedDict

from opchat_proto import (
    Channel,
    Endpoint,
    Limits,
    Observer,
    RandomSource,
    Session,
    Signal,
    Timeouts,
)

from ._logging import with_log
from ._proxies import ENVIRONMENT, ProxyLike, choose_proxy

__all__ = [
    "NOT_TRUSTED",
    "NO_TLS",
    "READ",
    "Options",
    "first_cause",
    "load_trust_store",
    "make_channel",
    "make_ssl_context",
    "new_chat_id",
    "tune",
    "words",
]

READ = 64 * 1024  # the most bytes of one read
# OpenSSL's errors for bytes that are not TLS, and servers' errors for TLS on a plain port.
NO_TLS = re.compile(r"wrong version number|record layer failure|packet length too long|unknown protocol", re.I)
NOT_TRUSTED = "the certificate is not trusted"
_CHAT_ID_LENGTH = 10  # characters in base 36, as in browsers (WIRE 4.6)
_BASE_36 = bytes((string.digits + string.ascii_lowercase).encode()[byte % 36] for byte in range(256))


class Options(TypedDict, total=False):
    """The keyword arguments of every transport; see `opchat_proto.Channel`."""

    session: Session | None
    """An earlier `transport.session`. By default the first question starts one."""
    page: str | None
    """The address of the page with the session's nonce. It is visited again if the nonce is refused, and for a member
    with cookies and no nonce. Without it, such a member's nonces come from WordPress's admin-ajax.php."""
    headers: Mapping[str, str] | Iterable[tuple[str, str]]
    """Header fields for each request to the site."""
    limits: Limits
    timeouts: Timeouts
    """The clocks. By default `Timeouts()`."""
    timeout: float | Timeouts | None
    """The same under its name in other libraries. A number of seconds sets each clock."""
    proxy: ProxyLike
    """A `Proxy` or its URL; None for no proxy. By default from the environment variables, read once."""
    retries: int
    """How often to repeat a question that did not reach the server, or that the server postponed. By default 0."""
    longest_wait: float
    """The longest `Retry-After` to wait for, in seconds. By default 30."""
    random: RandomSource | Callable[[], float]
    """Draws the pause before a retry. By default Python's `random`."""
    observer: Observer | None
    """Called as `observer(call, item)` with each step, report and event."""


# What users of other libraries look for.
_ELSEWHERE = {
    "api_key": "session=Session.from_token(token)",
    "auth": "session=Session.from_application_password(name, password)",
    "base_url": "the first argument",
    "bot_id": "ask(..., bot_id=)",
    "cert": "ssl_context",
    "cookies": "session=Session.from_cookies(...)",
    "max_retries": "retries",
    "model": "ask(..., bot_id=)",
    "nonce": "session=Session(nonce)",
    "proxies": "proxy",
    "verify": "ssl_context",
}


def make_channel(
    endpoint: Endpoint | str,
    options: Options,
    *,
    signal: Callable[[], Signal],
) -> Channel:
    """Make the channel of a transport. Raises the exceptions of `Channel`, and `TypeError` for an unknown option."""
    if isinstance(endpoint, str):
        endpoint = Endpoint.parse(endpoint)
    if not isinstance(endpoint, Endpoint):
        raise TypeError(f"endpoint: expected an Endpoint or a str, got {type(endpoint).__name__}")
    given: dict[str, Any] = {"random": random, **options}
    if unknown := options.keys() - Options.__annotations__.keys():
        name = min(unknown)
        instead = _ELSEWHERE.get(name, f"one of {', '.join(Options.__annotations__)}, ssl_context")
        raise TypeError(f"{name}: a transport has no such option; expected {instead}")
    if "timeout" in given:
        if "timeouts" in given:
            raise TypeError("timeout: expected this or timeouts, not both")
        clocks = given.pop("timeout")
        if not isinstance(clocks, Timeouts):
            clocks = Timeouts(connect=clocks, write=clocks, first_event=clocks, idle=clocks)
        given["timeouts"] = clocks
    given["proxy"] = choose_proxy(endpoint, options.get("proxy", ENVIRONMENT))
    given["observer"] = with_log(options.get("observer"))
    # An uncontended lock is cheaper than `nullcontext`, which is written in Python.
    return Channel(endpoint, **given, signal=signal, lock=RLock())


def make_ssl_context(channel: Channel, ssl_context: ssl.SSLContext | None) -> ssl.SSLContext | None:
    """The caller's context, or one with the system's trust store; None if no question is encrypted.

    Raises the exceptions of `load_trust_store`, and `TypeError` for anything but a context.
    """
    if not isinstance(ssl_context, ssl.SSLContext | None):
        raise TypeError(f"ssl_context: expected an ssl.SSLContext or None, got {type(ssl_context).__name__}")
    if ssl_context is not None:
        return tell_truncation(ssl_context)
    if "https" not in (channel.endpoint.scheme, channel.proxy and channel.proxy.scheme):
        return None  # loading the trust store takes longer than many requests
    return load_trust_store()


def tell_truncation(context: ssl.SSLContext) -> ssl.SSLContext:
    """The same context, set to distinguish a truncation from an end (RFC 8446, 6.1).

    Early versions of CPython 3.11 set an option against that in each context.
    """
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    return context


def load_trust_store() -> ssl.SSLContext:
    """A context with the system's trust store.

    Raises `OSError`, which names the file, if OpenSSL is configured to use a file that
    cannot be read or written (SSL_CERT_FILE, SSLKEYLOGFILE).
    """
    for variable in ("SSL_CERT_FILE", "SSLKEYLOGFILE"):
        path = os.environ.get(variable)
        if path:
            try:
                with open(path, "a" if variable == "SSLKEYLOGFILE" else "r"):
                    pass
            except OSError as error:
                raise OSError(error.errno, f"{error.strerror} ({variable})", path) from None
    return tell_truncation(ssl.create_default_context())


def new_chat_id() -> str:
    """A name for a new conversation."""
    return secrets.token_bytes(_CHAT_ID_LENGTH).translate(_BASE_36).decode()


def first_cause(error: BaseException) -> BaseException:
    """The first exception of a chain."""
    while True:
        cause = error.__cause__
        if cause is None and error.args and isinstance(error.args[0], BaseException):
            cause = error.args[0]  # httpcore breaks the chain, but keeps the cause here
        if isinstance(error, BaseExceptionGroup):  # of attempts to connect: take the last one
            cause = error.exceptions[-1]
        if cause is None:
            return error
        error = cause


def words(error: BaseException) -> str:
    """The message of the first exception of a chain, for a person."""
    error = first_cause(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{NOT_TRUSTED}: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and (no_tls := NO_TLS.search(str(error))):
        return f"{no_tls[0]}: this port does not speak TLS, so its address may begin with http://"
    if isinstance(error, ConnectionError) and error.errno is not None:
        return os.strerror(error.errno)  # asyncio has its own words
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).partition(": bytearray(")[0]  # h11's quotation may contain a cookie, or a proxy's text


# TCP_KEEPALIVE is macOS's name for TCP_KEEPIDLE.
_KEEP_ALIVE = (("TCP_KEEPIDLE", 60), ("TCP_KEEPALIVE", 60), ("TCP_KEEPINTVL", 60), ("TCP_KEEPCNT", 5))
_OPTIONS = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *((socket.IPPROTO_TCP, getattr(socket, name), value) for name, value in _KEEP_ALIVE if hasattr(socket, name)),
]


def tune(connection: Any) -> None:
    """Switch off Nagle's algorithm and switch on TCP keep-alive. `connection` has `setsockopt`, like a socket."""
    for level, name, value in _OPTIONS:
        connection.setsockopt(level, name, value)
