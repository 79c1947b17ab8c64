"""What the transports share and what needs no I/O: clocks, questions, and the words for what went wrong."""

import math
import os
import random
import secrets
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, TypeAlias, final

from opchat_proto import (
    Awaiting,
    Broken,
    Client,
    Endpoint,
    Event,
    Flow,
    Limits,
    Message,
    Reason,
    Session,
    Submit,
)

from ._proxies import ProxyLike, choose_proxy

__all__ = [
    "Clocks",
    "QuestionLike",
    "RanOut",
    "RandomSource",
    "ReplyBroken",
    "Retries",
    "SharedSession",
    "Target",
    "Timeouts",
    "Watch",
    "broken_line",
    "first_cause",
    "tcp_options",
    "to_submit",
    "where",
    "words",
]

QuestionLike: TypeAlias = Submit | str | Iterable[Message | Mapping[str, Any]]
"""What can be asked: a text, a list of messages that ends with the user's, or a whole `Submit`."""

_CHAT_ID_ALPHABET = string.digits + string.ascii_lowercase
_CHAT_ID_LENGTH = 10  # as browsers draw it (WIRE 4.6)
_EVENT = Awaiting.EVENT  # which is looked up much faster than the member of an enum
_LONGEST = 1_000_000  # seconds, eleven days: poll() counts milliseconds in 32 bits, which would be 24 days


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long to wait for the peer, in seconds. None switches a clock off.

    The clocks measure the network and the server, never the caller: a reply that
    nobody reads does not time out. One that runs out ends the reply with
    `Broken(TIMEOUT)`, whose detail names it.

    Raises `TypeError` for a value that is no number, `ValueError` for one that is
    not above 0 and at most a million.
    """

    connect: float | None = 10
    """For a connection, again for the replies of a proxy, and for TLS. The system's lookup of a name is not bounded."""
    write: float | None = 30
    """For sending one request whole."""
    first_event: float | None = 300
    """For the answer of start_session, and then for the first event: a model may think for long."""
    idle: float | None = 120
    """Between two events of an answer. Comments that keep a connection alive are no events."""

    def __post_init__(self) -> None:
        """Check each field."""
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"Timeouts.{field.name}: expected seconds or None, got {type(value).__name__}")
            if not 0 < value <= _LONGEST:
                raise ValueError(f"Timeouts.{field.name}: expected above 0 and at most {_LONGEST} seconds, got {value}")


@final
class Clocks:
    """The clocks of one reply, which read no time themselves: `now` is any monotonic number of seconds.

    A deadline is an instant. It is forgotten when `awaiting` changes or an
    input returned events, and set anew when the next read begins: so comments do
    not move it, and neither a caller who takes long between two events nor a
    slow connect uses it up.
    """

    __slots__ = ("_awaiting", "_deadline", "events", "timeouts")

    def __init__(self, timeouts: Timeouts) -> None:
        self.timeouts = timeouts
        self.events = 0
        """How many events the reply has brought."""
        self._awaiting: Awaiting | None = None
        self._deadline: float | None = None

    def deadline(self, awaiting: Awaiting | None, now: float) -> float:
        """When a read that begins now is to be given up; infinity if the clock is off."""
        if self._deadline is None or awaiting is not self._awaiting:
            self._awaiting = awaiting
            if awaiting is _EVENT:
                limit = self.timeouts.idle
            elif awaiting is Awaiting.PROXY:
                limit = self.timeouts.connect
            else:
                limit = self.timeouts.first_event
            self._deadline = math.inf if limit is None else now + limit
        return self._deadline

    def count(self, events: Sequence[Event]) -> None:
        """An input returned these events."""
        if events:
            self.events += len(events)
            self.forget()

    def forget(self) -> None:
        """Let the next read begin with a deadline of its own."""
        self._deadline = None

    # The words for a clock that ran out: which one, in which phase, after how many events. (The phase of
    # start_session is named by the flow, which begins the detail with it.)

    def no_connection(self, to: str) -> str:
        """The words for `connect`."""
        return self._words(f"no connection to {to}", "connect", self.timeouts.connect)

    def not_sent(self) -> str:
        """The words for `write`."""
        return self._words("the request could not be sent", "write", self.timeouts.write)

    def no_event(self) -> str:
        """The words for the clock that `deadline` set last."""
        match self._awaiting:
            case Awaiting.EVENT:
                return self._words("no further event of the answer", "idle", self.timeouts.idle)
            case Awaiting.PROXY:
                return self._words("no reply of the proxy", "connect", self.timeouts.connect)
            case Awaiting.FIRST_EVENT:
                return self._words("no event of the answer", "first_event", self.timeouts.first_event)
            case _:
                return self._words("no answer", "first_event", self.timeouts.first_event)

    def no_session(self) -> str:
        """The words for `first_event` where another question was to start the session."""
        return self._words("no session from the question before", "first_event", self.timeouts.first_event)

    def _words(self, what: str, clock: str, seconds: float | None) -> str:
        events = f"{self.events} event{'' if self.events == 1 else 's'}"
        return f"{what} within {seconds:g} s (timeout {clock!r}), after {events}"


class RanOut(Exception):
    """A read was not over in time. No `TimeoutError`, which is an OSError and so looks like a broken connection."""


class RandomSource(Protocol):
    """`random.Random`, or anything that can be asked as one."""

    def random(self) -> float:
        """At least 0, below 1."""


_SHORTEST_BACK_OFF = 0.5  # seconds
_LONGEST_BACK_OFF = 8.0
_LONGEST_RETRY_AFTER = 30.0
_NO_CONNECTION = (Reason.LOST, Reason.PROXY, Reason.TIMEOUT)


@final
class Retries:
    """Whether a question that failed is asked again, and after how long. The transport does the waiting.

    Each submit may cost the site's owner money. So again only if nobody can have
    acted on a byte of it, or if the server said itself when to come back.

    Raises `ValueError` for a negative number, `TypeError` for what is no number or
    no source of random numbers.
    """

    def __init__(self, most: int, random_source: RandomSource | None = None) -> None:
        if not isinstance(most, int) or isinstance(most, bool):
            raise TypeError(f"retries: expected an int, got {type(most).__name__}")
        if most < 0:
            raise ValueError(f"retries: expected 0 or more, got {most}")
        if random_source is not None and not callable(getattr(random_source, "random", None)):
            raise TypeError(f"random_source: expected a random.Random, got {type(random_source).__name__}")
        self._most = most
        self._random: RandomSource = random.Random() if random_source is None else random_source

    def decide(self, events: Sequence[Event], made: int, *, submit_started: bool) -> float | None:
        """Seconds to wait before it is asked again, after these events and as many retries; None: it is not."""
        if not events or made >= self._most:
            return None
        match events[-1]:
            case Broken(Reason.REFUSED, status=429 | 503, retry_after=int(seconds)):
                return min(seconds, _LONGEST_RETRY_AFTER)
            case Broken(reason) if reason in _NO_CONNECTION and not submit_started:
                # Anything up to a bound that doubles, so that those who failed together do not come back together.
                bound = min(2.0 ** min(made, 10), _LONGEST_BACK_OFF)
                return _SHORTEST_BACK_OFF + self._random.random() * (bound - _SHORTEST_BACK_OFF)
            case _:
                return None


class Watch(Protocol):
    """Somebody who looks at what is exchanged: puts something with the same interface around what a reply drives."""

    def client(self, client: Client) -> Client:
        """What to drive in place of this client."""

    def flow(self, flow: Flow) -> Flow:
        """What to drive in place of this flow."""


@final
class Target:
    """Where a transport asks, and how: what it was given, checked once.

    Raises `ValueError` for an address, headers, a session or a proxy that cannot
    be used, `TypeError` for values of wrong types.
    """

    def __init__(
        self,
        endpoint: Endpoint | str,
        session: Session | None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]],
        limits: Limits,
        timeouts: Timeouts,
        proxy: ProxyLike = None,
    ) -> None:
        if not isinstance(timeouts, Timeouts):
            raise TypeError(f"timeouts: expected Timeouts, got {type(timeouts).__name__}")
        self.endpoint = Endpoint.parse(endpoint) if isinstance(endpoint, str) else endpoint
        self.timeouts = timeouts
        self.proxy = choose_proxy(self.endpoint, proxy)
        self._headers = tuple(headers.items() if isinstance(headers, Mapping) else headers)
        self.limits = limits
        self.watch: Watch | None = None
        self.client(Submit(new_message="?"), session)  # raises now what would be raised with each question

    def flow(self, submit: Submit, session: Session | None) -> Flow:
        """One question. Raises `ValueError` if it is too large."""
        flow = self._flow(submit, session)
        return flow if self.watch is None else self.watch.flow(flow)

    def client(self, submit: Submit, session: Session | None) -> Client:
        """One question, through the proxy if there is one. Raises `ValueError` if it is too large."""
        client = Client(self._flow(submit, session), proxy=self.proxy)
        return client if self.watch is None else self.watch.client(client)

    def _flow(self, submit: Submit, session: Session | None) -> Flow:
        return Flow(self.endpoint, submit, session=session, headers=self._headers, limits=self.limits)

    @property
    def is_relayed(self) -> bool:
        """Whether a proxy reads the requests, instead of opening a tunnel."""
        return self.proxy is not None and not self.proxy.is_socks and self.endpoint.scheme == "http"

    @property
    def uses_tls(self) -> bool:
        """Whether there is anything to trust: the trust store takes longer to load than a request to be answered."""
        return "https" in (self.endpoint.scheme, self.proxy and self.proxy.scheme)


class Settled(Protocol):
    """`trio.Event` or `anyio.Event`."""

    def set(self) -> None:
        """Let those go on that wait."""

    async def wait(self) -> object:
        """Wait for it."""


@final
class SharedSession:
    """The session that the replies of an async transport share. One of them starts it, the others wait for that.

    All of it happens between two awaits, so it needs no lock.
    """

    def __init__(self, session: Session | None, new_event: Callable[[], Settled]) -> None:
        self.current = session
        """None until a reply has started one."""
        self._new_event = new_event
        self._starter: object = None
        self._settled: Settled | None = None  # there is one while there is a starter

    def in_the_way(self) -> Settled | None:
        """What a reply has to wait for, and then to ask again, before it can begin; None if it can."""
        return self._settled if self.current is None else None

    def begin(self, reply: object) -> Session | None:
        """What this reply begins with. If that is None, the others wait until `settle`."""
        if self.current is None:
            self._starter = reply
            self._settled = self._new_event()
        return self.current

    def replace(self, old: Session | None, new: Session | None) -> Session | None:
        """A reply that had the session `old` has `new` now. Returns what it has."""
        if new is None or new == old:
            return old
        if self.current == old:  # else another reply's is newer than what this one began with
            self.current = new
        return new

    def settle(self, reply: object) -> None:
        """This reply starts no session any more, whether it has got one or not."""
        if self._settled is not None and self._starter is reply:
            self._settled.set()
            self._starter = self._settled = None


def to_submit(question: QuestionLike) -> Submit:
    """The submit for a question. One without a chat id gets a random one.

    Raises `InvalidMessages` for messages that cannot be sent.
    """
    if isinstance(question, str):
        question = Submit(new_message=question)
    elif not isinstance(question, Submit):
        question = Submit.from_messages(question)
    if question.chat_id is not None:
        return question
    return replace(question, chat_id="".join(secrets.choice(_CHAT_ID_ALPHABET) for _ in range(_CHAT_ID_LENGTH)))


def where(host: str, port: int) -> str:
    """The other end of a connection, for a person."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def first_cause(error: BaseException) -> BaseException:
    """The exception that a chain of them began with."""
    while True:
        cause = error.__cause__
        if cause is None and error.args and isinstance(error.args[0], BaseException):
            cause = error.args[0]  # httpcore breaks the chain, but keeps it here
        if isinstance(error, BaseExceptionGroup):  # of the attempts to connect: the last
            cause = error.exceptions[-1]
        if cause is None:
            return error
        error = cause


def words(error: BaseException) -> str:
    """What has happened, for a person: the words of the exception that it began with."""
    error = first_cause(error)
    if isinstance(error, ConnectionError) and error.errno is not None:
        return os.strerror(error.errno)  # asyncio has words of its own
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).partition(": bytearray(")[0]  # what h11 quotes may hold a cookie, or what a proxy sends back


_KEEP_ALIVE = (("TCP_KEEPIDLE", 60), ("TCP_KEEPALIVE", 60), ("TCP_KEEPINTVL", 60), ("TCP_KEEPCNT", 5))  # the 2nd: macOS


def tcp_options(module: Any) -> list[tuple[int, int, int]]:
    """Level, name and value of a connection's options, from a module that has the names of `socket`."""
    return [
        (module.IPPROTO_TCP, module.TCP_NODELAY, 1),
        (module.SOL_SOCKET, module.SO_KEEPALIVE, 1),
        *((module.IPPROTO_TCP, getattr(module, name), value) for name, value in _KEEP_ALIVE if hasattr(module, name)),
    ]


_WHAT_HAPPENED = {
    Reason.REMOTE: "the server reported an error",
    Reason.REFUSED: "the server refused",
    Reason.MALFORMED: "this is no answer of the chat",
    Reason.TRUNCATED: "the answer broke off",
    Reason.TOO_LARGE: "the answer is too large",
    Reason.LOST: "no answer",
    Reason.TIMEOUT: "timed out",
    Reason.PROXY: "the proxy failed",
}


def broken_line(broken: Broken) -> str:
    """What happened, as one line for a person. It holds the server's words: untrusted text."""
    known = [f"status {broken.status}"] if broken.status is not None else []
    if broken.code:
        known.append(broken.code)
    if broken.retry_after is not None:
        known.append(f"try again in {broken.retry_after} s")
    line = _WHAT_HAPPENED[broken.reason]
    if known:
        line += f" ({', '.join(known)})"
    if broken.detail:
        line += f": {broken.detail}"
    return " ".join(line.split())  # whatever str.splitlines takes for a line end is blank for split


@final
class ReplyBroken(RuntimeError):
    """A whole answer was wanted and the reply is broken. Pickles.

    Its text is one line that says what happened.
    """

    def __init__(self, broken: Broken, text: str = "") -> None:
        super().__init__(broken, text)
        self.broken = broken
        """The terminal event."""
        self.text = text
        """The pieces of the answer that came before it."""

    @property
    def status(self) -> int | None:
        """The HTTP status if the server refused with one."""
        return self.broken.status

    def __str__(self) -> str:
        return broken_line(self.broken)
