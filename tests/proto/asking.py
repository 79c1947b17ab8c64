"""A `Client` that has asked, and the events for the bytes that answer it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from opchat_proto import (
    Broken,
    Client,
    Connect,
    Done,
    End,
    Endpoint,
    Event,
    Flow,
    Limits,
    Live,
    Proxy,
    Receive,
    Send,
    Session,
    StartTLS,
    Submit,
    __version__,
)
from opchat_proto._table import G, S, Table  # the base of all machines is not public

ENDPOINT = Endpoint.parse("http://site.example")
QUESTION = Submit(new_message="Hi?")
NO_RESTART = Limits(restarts=0)
NO_SESSION_NEEDED = Session()

HI = b'data: {"type":"live","data":"Hi"}\n\n'
END = b'data: {"type":"end","data":"{\\"success\\":true,\\"reply\\":\\"Hi\\"}"}\n\n'
ANSWER = HI + END
ANSWERED: list[Event] = [Live("Hi"), End("Hi", '{"success":true,"reply":"Hi"}')]


def client(
    *,
    session: Session | None = NO_SESSION_NEEDED,
    limits: Limits = NO_RESTART,
    endpoint: Endpoint = ENDPOINT,
    proxy: Proxy | None = None,
) -> Client:
    return Client(Flow(endpoint, QUESTION, session=session, limits=limits), proxy=proxy)


def asked(*, session: Session | None = NO_SESSION_NEEDED, limits: Limits = NO_RESTART) -> Client:
    """A client at the step Receive."""
    asking = client(session=session, limits=limits)
    ask(asking)
    return asking


def ask(asking: Client) -> list[Connect | StartTLS | Send]:
    """Perform all steps correctly, up to Receive."""
    steps = []
    while not isinstance(step := asking.next_step(), Receive | Done):
        steps.append(step)
        asking.step_done()
    return steps


def answered(pieces: Iterable[bytes], *, limits: Limits = NO_RESTART, close: bool = True) -> list[Event]:
    """The events of an answer that comes in these pieces, followed by a close."""
    asking = asked(limits=limits)
    events = [event for piece in pieces for event in asking.receive_data(piece)]
    return events + asking.receive_eof() if close else events


def is_reply(events: list[Event]) -> bool:
    """Whether the events match `Live* (End | Broken)`."""
    return bool(events) and isinstance(events[-1], End | Broken) and all(isinstance(e, Live) for e in events[:-1])


def content_length(body: bytes, *fields: bytes, status: bytes = b"200 OK") -> bytes:
    head = [b"HTTP/1.1 " + status, *fields, b"Content-Length: %d" % len(body)]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def chunks(*pieces: bytes) -> bytes:
    """A chunked body with these chunks, without the last chunk."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Recorder(Table[S, G]):
    """A table that records which moves were made."""

    def __init__(self, table: Table[S, G]) -> None:
        super().__init__(table.name, table.start, table.rows)
        self.taken: set[tuple[S, G]] = set()

    def next(self, state: S, given: G) -> S:
        self.taken.add((state, given))
        return super().next(state, given)

    @property
    def untaken(self) -> set[tuple[S, G]]:
        return {(state, given) for state, row in self.rows.items() for given in row} - self.taken


# ------------------------------------------------------------------------------------------------ through proxies

Step: TypeAlias = Connect | StartTLS | Send | Receive | Done


@dataclass(frozen=True)
class Way:
    """A way through a proxy (or none) to a site: the steps that lead there, and the bytes that the proxy replies."""

    proxy: str
    site: str
    script: tuple[Step | bytes, ...]

    def client(self, *, session: Session | None = NO_SESSION_NEEDED, limits: Limits = NO_RESTART) -> Client:
        proxy = Proxy.parse(self.proxy) if self.proxy else None
        return client(session=session, limits=limits, endpoint=Endpoint.parse(self.site), proxy=proxy)

    @property
    def replies(self) -> list[int]:
        """The positions in the script at which the proxy speaks."""
        return [place for place, item in enumerate(self.script) if isinstance(item, bytes)]


def connect(target: bytes, credentials: bytes = b"") -> Send:
    """The CONNECT request to an HTTP proxy."""
    return Send(
        b"CONNECT %b HTTP/1.1\r\nHost: %b\r\nUser-Agent: opchat/%b\r\n" % (target, target, __version__.encode())
        + (b"Proxy-Authorization: Basic %b\r\n" % credentials if credentials else b"")
        + b"\r\n"
    )


ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
CREDENTIALS = b"dXMzcjpzM2NyM3Q="  # us3r:s3cr3t
PROXY = Connect("proxy.example", 3128)
NO_PASSWORD, PASSWORD_TOO = Send(b"\x05\x01\x00"), Send(b"\x05\x02\x00\x02")
LOGIN = Send(b"\x01\x04us3r\x06s3cr3t")
SITE_80 = Send(b"\x05\x01\x00\x03\x0csite.example\x00\x50")
SITE_443 = Send(b"\x05\x01\x00\x03\x0csite.example\x01\xbb")
BOUND_V4 = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x04\x38"
BOUND_V6 = b"\x05\x00\x00\x04" + 15 * b"\x00" + b"\x01\x04\x38"
BOUND_NAME = b"\x05\x00\x00\x03\x0dproxy.example\x04\x38"

WAYS = {
    "http to http": Way("http://us3r:s3cr3t@proxy.example:3128", "http://site.example", (PROXY,)),
    "http to https": Way(
        "http://us3r:s3cr3t@proxy.example:3128",
        "https://site.example",
        (PROXY, connect(b"site.example:443", CREDENTIALS), ESTABLISHED, StartTLS("site.example")),
    ),
    "http to https at an address": Way(
        "http://[::1]",
        "https://[2001:db8::1]:8443",
        (
            Connect("::1", 80),
            connect(b"[2001:db8::1]:8443"),
            b"HTTP/1.0 102 -\r\n\r\nHTTP/1.0 299 -\r\nContent-Length: 9\r\n\r\n",  # a length means nothing there
            StartTLS("2001:db8::1"),
        ),
    ),
    "https to http": Way(
        "https://us3r:s3cr3t@proxy.example",
        "http://site.example",
        (Connect("proxy.example", 443), StartTLS("proxy.example")),
    ),
    "https to https": Way(
        "https://us3r:s3cr3t@proxy.example:3128",
        "https://site.example:80",
        (
            PROXY,
            StartTLS("proxy.example"),
            connect(b"site.example:80", CREDENTIALS),
            ESTABLISHED,
            StartTLS("site.example"),
        ),
    ),
    "socks5 to http": Way(
        "socks5://proxy.example:3128", "http://site.example", (PROXY, NO_PASSWORD, b"\x05\x00", SITE_80, BOUND_V4)
    ),
    "socks5 to https with a password": Way(
        "socks5://us3r:s3cr3t@proxy.example:3128",
        "https://site.example",
        (PROXY, PASSWORD_TOO, b"\x05\x02", LOGIN, b"\x01\x00", SITE_443, BOUND_V6, StartTLS("site.example")),
    ),
    "socks5h to http with a password": Way(
        "socks5h://us3r:s3cr3t@proxy.example:3128",
        "http://site.example",
        (PROXY, PASSWORD_TOO, b"\x05\x02", LOGIN, b"\x01\x00", SITE_80, BOUND_NAME),
    ),
    "socks5h to https with a password that is not wanted": Way(
        "socks5h://us3r:s3cr3t@proxy.example:3128",
        "https://site.example",
        (PROXY, PASSWORD_TOO, b"\x05\x00", SITE_443, BOUND_V4, StartTLS("site.example")),
    ),
    "socks5 to http at an IPv4 address": Way(
        "socks5://127.0.0.1",
        "http://192.0.2.7:8000",
        (
            Connect("127.0.0.1", 1080),
            NO_PASSWORD,
            b"\x05\x00",
            Send(b"\x05\x01\x00\x01\xc0\x00\x02\x07\x1f\x40"),
            b"\x05\x00\xff\x03\x00\x00\x00",  # an empty name, and a reserved byte that is not zero
        ),
    ),
    "socks5h to https at an IPv6 address": Way(
        "socks5h://proxy.example:3128",
        "https://[2001:db8::1]",
        (
            PROXY,
            NO_PASSWORD,
            b"\x05\x00",
            Send(b"\x05\x01\x00\x04\x20\x01\x0d\xb8" + 11 * b"\x00" + b"\x01\x01\xbb"),
            b"\x05\x00\x00\x03\xff" + 255 * b"\xff" + b"\x00\x00",  # any name will do
            StartTLS("2001:db8::1"),
        ),
    ),
}

Cut: TypeAlias = Callable[[bytes], Iterable[bytes]]


def whole(data: bytes) -> list[bytes]:
    return [data]


def follow(asking: Client, script: Iterable[Step | bytes], cut: Cut = whole) -> list[Event]:
    """Check that these steps come next, perform them, and report the replies in pieces."""
    events: list[Event] = []
    for item in script:
        if isinstance(item, bytes):
            for piece in cut(item):
                assert asking.next_step() == Receive()
                events += asking.receive_data(piece)
        else:
            assert asking.next_step() == item
            asking.step_done()
    return events
