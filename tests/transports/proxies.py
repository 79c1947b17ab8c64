"""Small proxies that keep a journal, as scripts. They connect to this machine, whatever the site's name."""

import base64
import re
import selectors
import socket
import ssl
import struct
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Protocol

from opchat_transports.testing import FaultServer, Script

from .peer import PATIENCE, Peer, body_size, takes
from .tls import NAME

ROUTES = ["direct", "http", "https", "socks5", "socks5h"]
PROXIES = ROUTES[1:]
SITES = ["http", "https"]
CREDENTIALS = "ulla:s3cret:@ü"
USERINFO = "ulla:s3cret%3A%40%C3%BC@"
TUNNEL = b"HTTP/1.1 200 Connection established\r\n\r\n"
BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"


@dataclass
class Journal:
    """The requests that reached a proxy, in order."""

    targets: list[str] = field(default_factory=list)
    """host:port of each requested connection."""
    credentials: list[str] = field(default_factory=list)
    """The credentials of each request; "" if it had none."""
    heads: list[bytes] = field(default_factory=list)
    """The head of each HTTP request."""
    received: bytearray = field(default_factory=bytearray)
    """The bytes that a hostile proxy received after its replies."""


class Net:
    """A site that plays a script, and a proxy in front of it."""

    def __init__(
        self,
        stack: ExitStack,
        certificates: dict[str, ssl.SSLContext],
        route: str,
        scheme: str,
        script: Script,
        kind: str = "good",
        credentials: str = "",
        userinfo: str = "",
    ) -> None:
        """Start both. `kind` selects the site's certificate; the proxy requires `credentials`."""
        self.journal = Journal()
        self.site = stack.enter_context(
            FaultServer(script, ssl_context=certificates[kind] if scheme == "https" else None)
        )
        host = "localhost" if route == "direct" else NAME
        self.url = f"{scheme}://{host}:{self.site.port}"
        self.target = f"{NAME}:{self.site.port}"
        self.proxy: str | None = None
        if route != "direct":
            tls = certificates["good"] if route == "https" else None
            proxy = FaultServer(proxy_of(route, self.journal, credentials), ssl_context=tls)
            self.proxy = f"{route}://{userinfo}localhost:{stack.enter_context(proxy).port}"


class Nets(Protocol):
    """Start a site and a proxy."""

    def __call__(
        self,
        route: str,
        scheme: str,
        script: Script,
        kind: str = "good",
        credentials: str = "",
        userinfo: str = "",
    ) -> Net: ...


# ------------------------------------------------------------------------------------------------ honest


def proxy_of(route: str, journal: Journal, credentials: str = "") -> Script:
    """A proxy of this scheme."""
    return (socks_proxy if route.startswith("socks") else http_proxy)(journal, credentials)


def http_proxy(journal: Journal, credentials: str = "") -> Script:
    """CONNECT and absolute-form requests. If credentials are required, others get 407."""

    @takes
    def play(peer: Peer) -> None:
        relay = _Relay(journal)
        while b"\r\n\r\n" not in relay.received:
            relay.received += take(peer, 1)
        head = bytes(relay.received)
        method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
        if method == "CONNECT":
            relay.received.clear()
            journal.heads.append(head)
        else:
            target = target.split("/")[2]
        given = _basic(head)
        journal.credentials.append(given)
        if given != credentials:
            # The response contains everything that the proxy knows. None of it may be shown.
            peer.send(b"HTTP/1.1 407 %b\r\nContent-Length: 0\r\n\r\n" % head.replace(b"\r\n", b" "))
            record(peer, Journal())
            return
        journal.targets.append(target)
        try:
            site = _connect(target)
        except ConnectionRefusedError:
            peer.send(BAD_GATEWAY)
            record(peer, Journal())
            return
        with site:
            if method == "CONNECT":
                peer.send(TUNNEL)
                pump(peer.socket, site)
            else:
                site.sendall(relay.give(pending(peer.socket)))
                pump(peer.socket, site, relay.give)

    return play


class _Relay:
    """Pass on requests in absolute form, rewritten as a site expects them."""

    def __init__(self, journal: Journal) -> None:
        self.received = bytearray()
        self._journal = journal

    def give(self, data: bytes) -> bytes:
        self.received += data
        given = b""
        while (found := re.match(rb"(?s)(\w+) http://[^/]+(/.*?)\r\n\r\n", self.received)) is not None:
            head = found[0]
            size = found.end() + body_size(head)
            if len(self.received) < size:
                break
            self._journal.heads.append(head)
            kept = re.sub(rb"(?i)\r\nproxy-[^\r]*", b"", found[1] + b" " + found[2])
            given += kept + b"\r\n\r\n" + self.received[found.end() : size]
            del self.received[:size]
        return given


def socks_proxy(journal: Journal, credentials: str = "") -> Script:
    """SOCKS5. If credentials are required, no other method is accepted."""

    @takes
    def play(peer: Peer) -> None:
        version, count = take(peer, 2)
        assert version == 5
        methods = take(peer, count)
        if credentials:
            if 2 not in methods:
                peer.send(b"\x05\xff")
                assert peer.is_left()
                return
            peer.send(b"\x05\x02")
            version, size = take(peer, 2)
            assert version == 1
            given = (take(peer, size) + b":" + take(peer, take(peer, 1)[0])).decode()
            peer.send(b"\x01\x00" if given == credentials else b"\x01\x01")
            journal.credentials.append(given)
            if given != credentials:
                assert peer.is_left()
                return
        else:
            assert 0 in methods
            peer.send(b"\x05\x00")
            journal.credentials.append("")
        assert take(peer, 3) == b"\x05\x01\x00"
        match take(peer, 1):
            case b"\x01":
                host = socket.inet_ntop(socket.AF_INET, take(peer, 4))
            case b"\x03":
                host = take(peer, take(peer, 1)[0]).decode()
            case _:
                host = f"[{socket.inet_ntop(socket.AF_INET6, take(peer, 16))}]"
        target = f"{host}:{struct.unpack('>H', take(peer, 2))[0]}"
        journal.targets.append(target)
        try:
            site = _connect(target)
        except ConnectionRefusedError:
            peer.send(b"\x05\x05\x00\x01\0\0\0\0\0\0")
            return
        with site:
            peer.send(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50")
            pump(peer.socket, site)

    return play


def _basic(head: bytes) -> str:
    found = re.search(rb"(?i)\r\nproxy-authorization: Basic (\S+)", head)
    return base64.b64decode(found[1]).decode() if found else ""


def _connect(target: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(target.rpartition(":")[2])), timeout=PATIENCE)


def take(peer: Peer, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = peer.socket.recv(count - len(data))
        if not piece:
            raise ConnectionError("the client left")
        data += piece
    return data


def pending(connection: socket.socket) -> bytes:
    """Decrypted bytes that were not read yet; a selector does not report them."""
    data = b""
    while isinstance(connection, ssl.SSLSocket) and connection.pending():
        data += connection.recv(65536)
    return data


def pump(client: socket.socket, site: socket.socket, change: Callable[[bytes], bytes] = bytes) -> None:
    """Relay both directions until both have ended. One thread, since a TLS connection is not thread-safe."""
    for each in (client, site):
        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with selectors.DefaultSelector() as selector, suppress(OSError):  # a peer that leaves
        selector.register(client, selectors.EVENT_READ, site)
        selector.register(site, selectors.EVENT_READ, client)
        while selector.get_map():
            for key, _ in selector.select(PATIENCE):
                source, other = key.fileobj, key.data
                assert isinstance(source, socket.socket)
                data = source.recv(65536)
                data += pending(source)
                if data:
                    other.sendall(change(data) if source is client else data)
                else:
                    selector.unregister(source)
                    socket.socket.shutdown(other, socket.SHUT_WR)  # TLS ended without close_notify


# ------------------------------------------------------------------------------------------------ hostile


def talks(journal: Journal, *pieces: bytes, split: bool = False) -> Script:
    """Each piece answers something that the client sends. Whatever it sends afterwards is recorded.

    With `split` the pieces are sent in single bytes, and the first bytes after them end the connection.
    """

    @takes
    def play(peer: Peer) -> None:
        with suppress(ConnectionError):  # a client need not read all of it
            for piece in pieces:
                if not peer.socket.recv(65536):
                    return
                for part in (piece[at : at + 1] for at in range(len(piece))) if split else (piece,):
                    peer.send(part)
            if split:
                journal.received += peer.socket.recv(65536)
                return
        record(peer, journal)

    return play


def record(peer: Peer, journal: Journal) -> None:
    with suppress(OSError):
        while data := peer.socket.recv(65536):
            journal.received += data


def cuts(replies: list[bytes]) -> list[Script]:
    """The same dialogue repeatedly, each time cut after one more byte; never whole."""

    def cut(left: int) -> Script:
        @takes
        def play(peer: Peer) -> None:
            rest = left
            with suppress(ConnectionError):
                for reply in replies:
                    peer.socket.recv(65536)
                    if rest < len(reply):
                        peer.send_and_close(reply[:rest])
                        return
                    peer.send(reply)
                    rest -= len(reply)

        return play

    return [cut(left) for left in range(sum(map(len, replies)))]
