"""Open a tunnel through a proxy: CONNECT on h11, and SOCKS5. Bytes in, bytes out."""

import base64
import ipaddress
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import final
from urllib.parse import unquote

from ._events import Reason
from ._exchange import Exchange, Fault, Head
from ._http import HOST, Request
from ._limits import Limits
from ._table import Table
from ._value import Value
from ._version import __version__

__all__ = ["Proxy"]

_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_EXPECTED = (
    "expected a proxy (http://proxy.example:3128, https://..., socks5://user:password@127.0.0.1:1080, socks5h://...)"
)
# Not urlsplit: it takes what precedes "#" in a password for the port, and it accepts text next to brackets.
_URL = (
    r"(?ai)(?:(https?|socks5h?)://)?(?:([^/?#\\\x00-\x20\x7f]*)@)?"
    r"([\w.-]+|\[[0-9a-f.]*:[0-9a-f:.]*\])(?::([0-9]{1,5}))?/*"
)


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Proxy(Value):
    """A proxy. Make one with `Proxy.parse`.

    `http` and `https` (TLS to the proxy itself) open a tunnel to an https site
    (RFC 9110, 9.3.6), and get requests to an http site in absolute form (RFC 9112, 3.2.2).
    `socks5` and `socks5h` (RFC 1928, 1929) are the same here: the proxy resolves
    the host name.
    """

    scheme: str
    host: str
    port: int
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Check that no value could end a line or a field."""
        if self.scheme not in _PORTS:
            raise ValueError(f"Proxy.scheme: expected one of {', '.join(_PORTS)}, got {self.scheme!r}")
        if not HOST.fullmatch(self.host):
            raise ValueError(f"Proxy.host: expected an ASCII host name or an address, got {self.host!r}")
        if type(self.port) is not int or not 0 < self.port < 65536:
            raise ValueError(f"Proxy.port: expected 1 to 65535, got {self.port!r}")
        if (self.username is None) != (self.password is None):
            raise ValueError("Proxy: expected a username and a password, or neither")
        for text in (self.username, self.password):
            if not isinstance(text, str | None):
                raise TypeError(f"Proxy: expected a str or None as username and password, got {type(text).__name__}")
            if text is not None and not text.isprintable():
                raise ValueError("Proxy: expected a printable username and password")
            if text is not None and self.is_socks and len(text.encode()) > 255:  # RFC 1929, 2
                raise ValueError("Proxy: expected a username and a password of at most 255 bytes each")
        if self.username is not None and ":" in self.username and not self.is_socks:
            raise ValueError("Proxy.username: expected no colon, which ends it in HTTP (RFC 7617, 2)")

    @classmethod
    def parse(cls, text: str) -> "Proxy":
        """Parse a proxy's URL, or a bare host with port, which means http, as in environment variables.

        Raises `ValueError`, whose text never contains the credentials.
        """
        if not isinstance(text, str):
            raise TypeError(f"expected a str, got {type(text).__name__}")
        found = re.fullmatch(_URL, text)
        if found is None:
            strange = re.match("(?!(?:https?|socks5h?):)[a-z0-9+.-]+(?=://)", text)  # the rest may be a password
            raise ValueError(f"{_EXPECTED}, got the scheme {strange[0]!r}" if strange else _EXPECTED)
        scheme, user, host, port = found.groups()
        scheme = scheme.lower() if scheme else "http"
        username = password = None
        if user and user != ":":  # http://$USER:$PASSWORD@... with both variables empty
            username, _, password = user.partition(":")
            try:
                username, password = unquote(username, errors="strict"), unquote(password, errors="strict")
            except UnicodeDecodeError:
                raise ValueError("Proxy: expected a username and a password in UTF-8") from None
        return cls(scheme, host.strip("[]").lower(), int(port) if port else _PORTS[scheme], username, password)

    def __str__(self) -> str:
        """The URL without the credentials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def is_socks(self) -> bool:
        """Whether it speaks SOCKS5."""
        return self.scheme in ("socks5", "socks5h")

    def relays(self, scheme: str) -> bool:
        """Whether it forwards requests to a site of this scheme instead of opening a tunnel."""
        return scheme == "http" and not self.is_socks

    @property
    def authorization(self) -> tuple[tuple[str, str], ...]:
        """The Proxy-Authorization field, if there are credentials (RFC 7617)."""
        if self.username is None:
            return ()
        credentials = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        return (("Proxy-Authorization", f"Basic {credentials}"),)


UNASKED = Fault("the proxy sent bytes that nobody had asked for", Reason.PROXY)


@final
class HTTPTunnel:
    """CONNECT (RFC 9110, 9.3.6)."""

    def __init__(self, proxy: Proxy, host: str, port: int, limits: Limits) -> None:
        # The target always has a port here, a Host field only if it is not the scheme's default.
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        headers = (("Host", target), ("User-Agent", f"opchat/{__version__}"), *proxy.authorization)
        self._exchange = Exchange(limits)
        self._interim_left = limits.interim_responses
        self.out = self._exchange.send(Request("CONNECT", f"https://{target}/", headers), target)
        """What to send now; empty while an answer is awaited."""
        self.is_open = False
        """Whether the tunnel is open, so that the next bytes go to the site."""

    def sent(self) -> None:
        """`out` was sent."""
        self.out = b""

    def receive_data(self, data: bytes | bytearray | memoryview) -> Fault | None:
        """Take bytes from the proxy. Returns a `Fault` if they are wrong."""
        for item in self._exchange.receive_data(data):
            if isinstance(item, Fault):
                return Fault(f"the proxy's answer cannot be followed: {item.detail}", Reason.PROXY, item.limit)
            assert isinstance(item, Head)  # no body is read: any head except an interim one decides
            if item.status >= 300:
                return Fault(f"the proxy refused: status {item.status}", Reason.PROXY)
            if item.status >= 200:
                if self.out or self._exchange.holds_more:
                    return UNASKED
                self.is_open = True
                return None
            self._interim_left -= 1
            if self._interim_left < 0:
                return Fault(
                    "the proxy sent more 1xx responses than Limits.interim_responses", Reason.PROXY, "interim_responses"
                )
        return None


@final
class SOCKSState(StrEnum):
    """Which reply of a SOCKS5 proxy is awaited."""

    METHOD = "METHOD"
    AUTHENTICATION = "AUTHENTICATION"
    CONNECTION = "CONNECTION"
    OPEN = "OPEN"


@final
class SOCKSInput(StrEnum):
    """The replies of a SOCKS5 proxy that are not faults."""

    NO_AUTHENTICATION = "no authentication"
    PASSWORD = "username and password"
    SUCCEEDED = "succeeded"


SOCKS_TABLE: Table[SOCKSState, SOCKSInput] = Table(
    "SOCKS5",
    (SOCKSState.METHOD,),
    {
        SOCKSState.METHOD: {
            SOCKSInput.NO_AUTHENTICATION: SOCKSState.CONNECTION,
            SOCKSInput.PASSWORD: SOCKSState.AUTHENTICATION,
        },
        SOCKSState.AUTHENTICATION: {SOCKSInput.SUCCEEDED: SOCKSState.CONNECTION},
        SOCKSState.CONNECTION: {SOCKSInput.SUCCEEDED: SOCKSState.OPEN},
        SOCKSState.OPEN: {},
    },
)

_REFUSALS = {  # RFC 1928, 6
    1: "general server failure",
    2: "connection not allowed by ruleset",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "ttl expired",
    7: "command not supported",
    8: "address type not supported",
}


@final
class SOCKSTunnel:
    """CONNECT by SOCKS5 (RFC 1928, RFC 1929)."""

    def __init__(self, proxy: Proxy, host: str, port: int) -> None:
        self._proxy = proxy
        self._host = host
        self._port = port
        self._state = SOCKSState.METHOD
        self._received = bytearray()
        # Version, number of methods, methods: 0 is no authentication, 2 is username and password.
        self.out = b"\x05\x01\x00" if proxy.username is None else b"\x05\x02\x00\x02"
        """What to send now; empty while a reply is awaited."""

    @property
    def is_open(self) -> bool:
        """Whether the tunnel is open, so that the next bytes go to the site."""
        return self._state is SOCKSState.OPEN

    def sent(self) -> None:
        """`out` was sent."""
        self.out = b""

    def receive_data(self, data: bytes | bytearray | memoryview) -> Fault | None:
        """Take bytes from the proxy. Returns a `Fault` if they are wrong."""
        if self.out:
            return UNASKED
        self._received += bytes(data)  # a memoryview can have gaps
        size = self._reply_size()
        if len(self._received) < size:
            return None
        reply = bytes(self._received[:size])
        del self._received[:size]
        if fault := self._read_reply(reply):
            return Fault(f"the SOCKS proxy {fault}", Reason.PROXY)
        return UNASKED if self._received else None

    def _reply_size(self) -> int:
        if self._state is not SOCKSState.CONNECTION:
            return 2
        # RFC 1928, 6: version, reply, reserved, address type, address, port.
        if len(self._received) < 5:
            return 5
        lengths = {1: 4, 3: 1 + self._received[4], 4: 16}
        return 4 + lengths.get(self._received[3], 0) + 2

    def _read_reply(self, reply: bytes) -> str | None:
        match self._state:
            case SOCKSState.METHOD:
                if reply == b"\x05\x00":
                    given = SOCKSInput.NO_AUTHENTICATION
                    self._connect()
                elif reply == b"\x05\x02" and self._proxy.username is not None:
                    given = SOCKSInput.PASSWORD
                    credentials = self._proxy.username.encode(), (self._proxy.password or "").encode()
                    self.out = b"\x01" + b"".join(map(_with_length, credentials))  # RFC 1929, 2
                elif reply == b"\x05\xff":
                    return "accepts none of our ways to authenticate"
                else:
                    return _no_socks(reply)
            case SOCKSState.AUTHENTICATION:
                if reply[0] != 1:  # RFC 1929, 2
                    return _no_socks(reply)
                if reply[1] != 0:
                    return "refused the username and password"
                given = SOCKSInput.SUCCEEDED
                self._connect()
            case _:
                if reply[0] == 5 and reply[1] != 0:
                    return f"refused: {_REFUSALS.get(reply[1], f'reply code {reply[1]}')}"
                if reply[0] != 5 or reply[3] not in (1, 3, 4):
                    return _no_socks(reply)
                given = SOCKSInput.SUCCEEDED
        self._state = SOCKS_TABLE.next(self._state, given)
        return None

    def _connect(self) -> None:
        try:
            address = ipaddress.ip_address(self._host)
        except ValueError:
            destination = b"\x03" + _with_length(self._host.encode())  # the proxy resolves it
        else:
            destination = (b"\x01" if address.version == 4 else b"\x04") + address.packed
        self.out = b"\x05\x01\x00" + destination + self._port.to_bytes(2)


def _with_length(value: bytes) -> bytes:
    return bytes((len(value),)) + value


def _no_socks(reply: bytes) -> str:
    return f"sent a reply that is not SOCKS5: {reply[:4]!r}"  # no more: the reply may contain the credentials
