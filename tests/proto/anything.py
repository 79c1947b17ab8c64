"""Draw valid, nearly valid and arbitrary answers and bytes, and run a whole exchange on each machine."""

import copy
import operator
import pickle
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

from hypothesis import strategies as st
from hypothesis.strategies import DataObject, DrawFn, SearchStrategy

from opchat_proto import (
    Broken,
    Client,
    Connect,
    Done,
    Endpoint,
    Event,
    Flow,
    Limits,
    Receive,
    ReplyDecoder,
    Request,
    Send,
    Session,
    SSEDecoder,
    StartTLS,
    Submit,
    strategies,
)
from tests.proto.asking import is_reply

ENDPOINT = Endpoint.parse("http://site.example")
QUESTION = Submit(new_message="Hi?")
NO_RESTART = Limits(restarts=0)
GUEST = Session()

# ---------------------------------------------------------------- answers of a server


class Answered(NamedTuple):
    """An HTTP response as values."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def wire(self) -> bytes:
        head = [f"HTTP/1.1 {self.status} Reason", *(f"{name}: {value}" for name, value in self.headers)]
        return "\r\n".join([*head, f"Content-Length: {len(self.body)}", "", ""]).encode() + self.body


OPENED = Answered(200, [], b'{"success":true,"sessionId":"s1","restNonce":"n1"}')
RENEWED = Answered(
    200, [("Set-Cookie", "mwai_session_id=c2; path=/")], b'{"success":true,"sessionId":7,"restNonce":"n2"}'
)
STALE = Answered(401, [], b'{"code":"rest_forbidden","message":"Sorry","data":{"status":401}}')
EXPIRED = Answered(403, [("X-WP-Nonce", "n3")], b'{"code":"rest_cookie_invalid_nonce","message":"Cookie check failed"}')
NO_ROUTE = Answered(404, [], b'{"code":"rest_no_route","message":"No route"}')
PAGE = Answered(200, [("Content-Type", "text/html")], b"<!DOCTYPE html><title>Blog</title>")
WHO_ASKS = Answered(200, [], b'{"id":2,"slug":"alice"}')
NONCE = Answered(200, [], b"1635c20365")  # the form that WordPress sends
ANSWERS = [OPENED, RENEWED, STALE, EXPIRED, NO_ROUTE, PAGE, WHO_ASKS, NONCE]

# ---------------------------------------------------------------- nearly valid bytes

BODY = [
    *(b"data:", b"data: ", b"data", b"\n", b"\r", b"\r\n", b"\n\n", b" ", b"{", b"}", b"[", b'"', b"\\ud83d", b":"),
    *(b"\0", b"\xef\xbb\xbf", b"\xef\xbb", b"\xff", b"event: x", b"id: 7", b"retry: 7", b"<title>A</title>"),
    *(b'"type":"live"', b'"data":"', b'{"success":true', b'{"success":false,"message":"', b'"code":"rest_forbidden"'),
    *(b'data: {"type":"live","data":"Hi"}\n\n', b'data: {"type":"error","data":""}\n\n', b"data: [DONE]\n\n"),
    *(b'data: {"type":"live","data":5}\n\n', b'data: {"type":"end","data":"{}"}\n\n', b"data: NaN\n\n"),
    *(b"<br />\n", b"1e999", b"[" * 70, b'data: {"type":"end","data":"{\\"success\\":true,\\"reply\\":\\"Hi\\"}"}\n\n'),
]
WIRE = [
    *(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 403 Forbidden\r\n", b"HTTP/2 200\r\n"),
    *(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 101 Switching Protocols\r\n", b"a: b\r\n", b" folded\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"transfer-encoding: gzip\r\n", b"Content-Encoding: gzip\r\n"),
    *(b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Content-Length: 5, 5\r\n", b"Content-Length: -1\r\n"),
    *(b"Connection: close\r\n", b"Location: /\xe9\r\n", b"Retry-After: 600\r\n", b"\r\n", b"\r\n\r\n"),
    *(b"5\r\nhello\r\n", b"0\r\n\r\n", b"0\r\n", b"5;a=b\r\n", b"ffffffffffffffffffff\r\n"),
]
# Proxies, and their replies until the tunnel is open. The first one gets absolute-form requests, without a tunnel.
_CONNECTED = b"HTTP/1.1 200 Connection established\r\nVia: 1.1 proxy\r\n\r\n"
PROXIES: list[tuple[str, str, list[bytes]]] = [
    ("http://proxy.example:3128", "http", []),
    ("http://proxy.example:3128", "https", [_CONNECTED]),
    ("https://u:5EcReT@proxy.example", "https", [b"HTTP/1.1 103 Early Hints\r\n\r\n" + _CONNECTED]),
    ("socks5://proxy.example", "http", [b"\5\0", b"\5\0\0\1\x7f\0\0\1\0\x50"]),
    ("socks5h://u:5EcReT@[::1]:9", "https", [b"\5\2", b"\1\0", b"\5\0\0\3\1a\0\x50"]),
]


def noise(pieces: Sequence[bytes]) -> SearchStrategy[bytes]:
    return st.lists(st.sampled_from(pieces) | st.binary(max_size=6), max_size=16).map(b"".join)


@st.composite
def spoiled(draw: DrawFn, whole: SearchStrategy[bytes], pieces: Sequence[bytes]) -> bytes:
    """`whole` with some bytes removed, inserted, or both."""
    data = draw(whole)
    start, end = sorted(draw(st.tuples(st.integers(0, len(data)), st.integers(0, len(data)))))
    return data[:start] + draw(st.just(b"") | noise(pieces)) + data[end:]


any_body = (
    spoiled(strategies.bodies().map(lambda body: body.data), BODY)
    | spoiled(st.sampled_from([answer.body for answer in ANSWERS]), BODY)
    | noise(BODY)
)
any_wire = (
    spoiled(strategies.responses().map(lambda response: response.data), [*WIRE, *BODY])
    | spoiled(st.sampled_from([answer.wire() for answer in ANSWERS]), [*WIRE, *BODY])
    | st.builds(operator.add, st.sampled_from([answer.wire() for answer in ANSWERS]), noise([*WIRE, *BODY]))
    | noise([*WIRE, *BODY])
)

# `os.fsdecode` and `errors="surrogateescape"` turn a byte that is not UTF-8 into a lone surrogate.
any_text = strategies.texts() | st.just("caf\udce9")
_FIELDS: list[tuple[str | bytes, str | bytes]] = [
    ("Content-Type", "text/html"),
    (b"content-encoding", b"gzip"),
    ("Content-Length", "5"),
    ("Transfer-Encoding", "chunked"),
    ("Set-Cookie", "a=b, mwai_session_id=fresh; path=/"),
    ("Set-Cookie", "mwai_session_id=deleted; expires=Thu, 01-Jan-1970 00:00:01 GMT; Max-Age=0"),
    (b"Link", b'</wp-json/>; rel="https://api.w.org/"'),
    ("X-WP-Nonce", "fresh"),
    ("Retry-After", "Wed, 21 Oct 2015 07:28:00 GMT"),
    ("Date", "Wed, 21 Oct 2015 07:27:00 GMT"),
    ("Date", "Wed, 00 Oct 0000 99:99:99 GMT"),
    (b"Location", b"/caf\xe9"),
    ("Location", "/caf\udce9"),
]
any_fields = st.lists(
    st.sampled_from(_FIELDS) | st.tuples(any_text, any_text) | st.tuples(st.binary(max_size=5), st.binary(max_size=5)),
    max_size=4,
)
any_status = st.sampled_from([200, 200, 200, 100, 101, 103, 301, 401, 403, 404, 429, 500, 503]) | st.integers()


# ---------------------------------------------------------------- a whole exchange, once for each machine


Again: TypeAlias = Callable[[Any], Any]
"""Applied to a machine before each input: the identity, or a copy."""


def the_same(machine: Any) -> Any:
    return machine


def deep_copied(machine: Any) -> Any:
    return copy.deepcopy(machine)


def pickled(protocol: int) -> Again:
    return lambda machine: pickle.loads(pickle.dumps(machine, protocol))


copiers = st.sampled_from([deep_copied, *map(pickled, range(2, pickle.HIGHEST_PROTOCOL + 1))])


def decode_events(pieces: Iterable[bytes], limits: Limits, again: Again = the_same) -> tuple[Any, ...]:
    """Everything that can be observed of an `SSEDecoder` fed with these bytes."""
    decoder = SSEDecoder(limits)
    given = []
    for piece in pieces:
        decoder = again(decoder)
        given += decoder.receive_data(piece)
    assert again(decoder).receive_eof() == []
    decoder.receive_eof()
    assert decoder.receive_data(b"data: late\n\n") == []
    seen = (decoder.retry, decoder.last_event_id, decoder.overflowed, decoder.data_seen, decoder.first_ignored_line)
    return given, *seen


def decode_reply(head: Answered, pieces: Iterable[bytes], limits: Limits, again: Again = the_same) -> list[Event]:
    decoder = ReplyDecoder(limits)
    given = decoder.receive_head(head.status, head.headers)
    for piece in pieces:
        if not is_reply(
            given
        ):  # a body before its head would be the caller's mistake, and so would one after a 1xx head
            decoder = again(decoder)
            given += decoder.receive_data(piece)
    given += again(decoder).receive_eof()
    return given


def run_flow(
    flow: Flow, script: Iterable[Answered], cut: Callable[[bytes], list[bytes]], again: Again = the_same
) -> tuple[list[Event], list[Request], Session | None]:
    """A flow that gets these responses one after the other, and then no more."""
    given: list[Event] = []
    requests = []
    answers = iter(script)
    while request := flow.next_request():
        requests.append(request)
        flow = again(flow)
        answer = next(answers, None)
        if answer is None:
            given += flow.receive_failure("nothing answers")
            continue
        given += flow.receive_head(answer.status, answer.headers)
        for piece in cut(answer.body):
            flow = again(flow)
            given += flow.receive_data(piece)
        flow = again(flow)
        given += flow.receive_eof()
    assert flow.awaiting is None
    return given, requests, flow.session


def run_client(
    client: Client,
    script: Iterable[bytes],
    cut: Callable[[bytes], list[bytes]],
    again: Again = the_same,
    *,
    greeting: Sequence[bytes] = (),
) -> tuple[list[Event], list[Connect | StartTLS | Send], Session | None]:
    """A client whose server sends the next of these after each request, and closes after the last one.

    Each connection starts with the greeting, the replies of a proxy.
    """
    given: list[Event] = []
    done: list[Connect | StartTLS | Send] = []
    answers = iter(script)
    greetings: list[bytes] = []
    while not isinstance(step := client.next_step(), Done):
        match step:
            case Receive() if greetings:
                for piece in cut(greetings.pop(0)):
                    given += client.receive_data(piece)
                    client = again(client)
            case Receive():
                for piece in cut(next(answers, b"")):  # bytes after the answer are ignored
                    given += client.receive_data(piece)
                    client = again(client)
                if isinstance(peek(client), Receive):  # no length, or the answer is cut off
                    given += client.receive_eof()
            case _:
                greetings = [*greeting] if isinstance(step, Connect) else greetings
                done.append(step)
                client.step_done()
        client = again(client)
    assert client.awaiting is None
    return given, done, client.session


def peek(client: Client) -> Connect | StartTLS | Send | Receive | Done:
    """The next step, without the side effect of marking the request as possibly seen."""
    return copy.deepcopy(client).next_step()


def whole(data: bytes) -> list[bytes]:
    return [data]


def cutter(data: DataObject) -> Callable[[bytes], list[bytes]]:
    return lambda given: data.draw(strategies.cuts(given))


def asking(limits: Limits = NO_RESTART, *, session: Session | None = GUEST, submit: Submit = QUESTION) -> Flow:
    return Flow(ENDPOINT, submit, session=session, limits=limits)


any_head = st.builds(Answered, any_status.filter(lambda status: not 100 <= status < 200), any_fields, st.just(b""))


def unasked(event: Event) -> Event:
    """The same events as from a decoder, which does not know whether a question was asked."""
    return replace(event, asked=False) if isinstance(event, Broken) else event
