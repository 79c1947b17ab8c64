"""Shared by the tests of `Client`: its ways to a site, answers, and a site."""

import pickle
from dataclasses import dataclass

import pytest
from hypothesis import strategies as st

from opchat_proto import (
    Awaiting,
    Broken,
    Client,
    Connect,
    End,
    Endpoint,
    Event,
    Limits,
    Live,
    Reason,
    Request,
    Send,
    Session,
    StartTLS,
)
from opchat_proto._client import State  # the table is not public, and this test walks it
from tests.proto.asking import END, HI, NO_SESSION_NEEDED, WAYS, Way, ask, client, content_length, follow

HTTPS = Endpoint.parse("https://site.example")
DIRECT = Way("", "http://site.example", (Connect("site.example", 80),))
DIRECT_TLS = Way("", "https://site.example", (Connect("site.example", 443), StartTLS("site.example")))
OPENED = content_length(b'{"success":true,"sessionId":"s1","restNonce":"n1"}')
STALE = content_length(b'{"code":"rest_cookie_invalid_nonce","message":"Stale"}', status=b"403 Forbidden")
REFUSAL = Broken(
    Reason.REFUSED,
    "Stale",
    403,
    "rest_cookie_invalid_nonce",
    raw='{"code":"rest_cookie_invalid_nonce","message":"Stale"}',
    asked=True,
)
BUSY = content_length(b"busy", status=b"503 -")
NO_ANSWER = "the connection was closed before any answer"
CLOSED = "closed by the caller"


def frozen(client: Client) -> bytes:
    return pickle.dumps(client)


def is_submit(step: object) -> bool:
    return isinstance(step, Send) and b"/mwai-ui/v1/chats/submit " in step.data


def is_start_session(step: object) -> bool:
    return isinstance(step, Send) and b"/mwai/v1/start_session " in step.data


# The way to each state, and how many steps are done on it.
PLACES: dict[State, tuple[Way, int]] = {
    State.CONNECT: (DIRECT, 0),
    State.PROXY_TLS: (WAYS["https to https"], 1),
    State.TUNNEL_SEND: (WAYS["https to https"], 2),
    State.TUNNEL_RECEIVE: (WAYS["https to https"], 3),
    State.TLS: (DIRECT_TLS, 1),
    State.SEND: (DIRECT, 1),
    State.SENDING: (DIRECT, 1),
    State.RECEIVE: (DIRECT, 2),
}
UNFINISHED = list(PLACES)


def bring(asking: Client, state: State) -> Client:
    for _ in range(PLACES[state][1]):
        asking.step_done()
    if state is not State.SEND:  # the state is left when the step is asked for
        asking.next_step()
    assert state_of(asking) == state
    return asking


def at(state: State, *, session: Session | None = NO_SESSION_NEEDED) -> Client:
    if state is State.DONE:
        asking = client()
        asking.close()
        return asking
    return bring(PLACES[state][0].client(session=session), state)


def state_of(asking: Client) -> str:
    return repr(asking).split()[1]


THE_PROXY = "the proxy https://proxy.example:3128: "
CLEAR = [Broken(Reason.TRUNCATED, "the server sent bytes in the clear where TLS was to begin")]

# The text before the driver's own words: for a lost connection, and for other cases.
SAID: dict[State, tuple[str, str]] = {
    State.CONNECT: ("could not connect to site.example:80: ", "could not connect to site.example:80: "),
    State.PROXY_TLS: (THE_PROXY + "TLS failed: ", THE_PROXY + "TLS failed: "),
    State.TUNNEL_SEND: ("", THE_PROXY),
    State.TUNNEL_RECEIVE: (THE_PROXY + "the connection failed: ", THE_PROXY),
    State.TLS: ("TLS with site.example failed: ", "TLS with site.example failed: "),
    State.SEND: ("the connection failed: ", ""),
    State.SENDING: ("", "the request could not be sent: "),
    State.RECEIVE: ("the connection failed: ", ""),
}


def early(data: bytes, *, failed: bool) -> Client:
    """An answer to start_session that arrives before the request was sent."""
    asking = at(State.SENDING, session=None)
    if failed:
        assert asking.step_failed("broken pipe") == []
    assert asking.receive_data(data) == []
    return asking


@dataclass
class Fetches:
    """A machine other than `Flow`: it requests one URL after another, whatever happens to the earlier ones."""

    urls: list[str]
    limits: Limits = Limits()
    session: Session | None = None
    submit_started: bool = False
    taken: int = 0
    done: int = 0

    @property
    def is_ready(self) -> bool:
        return self.taken == self.done < len(self.urls)

    @property
    def awaiting(self) -> Awaiting | None:
        return Awaiting.SESSION if self.done < len(self.urls) else None

    def next_request(self) -> Request | None:
        if not self.is_ready:
            return None
        self.taken += 1
        return Request("GET", self.urls[self.done], (("Host", "any.example"),))

    def receive_head(self, status: int, headers: object) -> list[Event]:
        return [Live(str(status), "status")]

    def receive_data(self, data: bytes) -> list[Event]:
        return [Live(data.decode())]

    def receive_eof(self) -> list[Event]:
        return self._go_on(Live("", "eof"))

    def receive_failure(self, detail: str, reason: Reason = Reason.LOST, *, limit: str | None = None) -> list[Event]:
        return self._go_on(Live(f"{detail} ({limit})", str(reason)))

    def close(self) -> list[Event]:
        self.done = len(self.urls)
        return [Broken(Reason.LOST, CLOSED)]

    def _go_on(self, event: Event) -> list[Event]:
        self.taken = self.done = self.done + 1
        return [event] if self.done < len(self.urls) else [event, End(None)]


def again(way: Way) -> Client:
    """A client at Connect, after the first connection has carried its request."""
    asking = way.client(session=None)
    follow(asking, way.script)
    ask(asking)
    assert asking.receive_data(OPENED) == []
    return asking


EVERY_WAY = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def parts_of(step: object) -> tuple[bytes, set[bytes], bytes]:
    """The first line of a request, its other lines, and its body."""
    assert isinstance(step, Send)
    head, _, body = step.data.partition(b"\r\n\r\n")
    first, *fields = head.split(b"\r\n")
    return first, set(fields), body


PARTS = st.sampled_from(
    [
        HI,
        END,
        b"data: ",
        b"data:",
        b"\n",
        b"\n\n",
        b"\r\n",
        b"\r",
        b": keepalive\n\n",
        b'data: {"type":"error","data":""}\n\n',
        b'data: {"type":"error","data":"no"}\n\n',
        b'data: {"type":"live","data":5}\n\n',
        b'{"success":true,"reply":"Hi"}',
        b'{"success":false,"message":"no"}',
        b"<title>No</title>",
        b"\xef\xbb\xbf",
        b"\x00\xff",
        STALE.partition(b"\r\n\r\n")[2],
        OPENED.partition(b"\r\n\r\n")[2],
    ]
)
