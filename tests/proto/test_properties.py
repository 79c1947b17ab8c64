"""What holds for any input: the promise of the package, and everything that the rest relies on.

`python -m pytest tests/proto/test_properties.py --hypothesis-profile=explore` looks for more (see conftest.py).
"""

import copy
import json
import operator
import pickle
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple, TypeAlias

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.strategies import DataObject, DrawFn, SearchStrategy

from opchat_proto import (
    Answer,
    Awaiting,
    Broken,
    Client,
    Connect,
    Conversation,
    Done,
    End,
    Endpoint,
    Event,
    Flow,
    InvalidMessages,
    Limits,
    Live,
    LocalProtocolError,
    Message,
    Proxy,
    Reason,
    Receive,
    ReplyDecoder,
    Request,
    Send,
    Server,
    Session,
    Site,
    SSEDecoder,
    StartTLS,
    Submit,
    strategies,
)
from tests.proto.asking import is_reply
from tests.proto.cuts import random_cuts

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
ANSWERS = [OPENED, RENEWED, STALE, EXPIRED, NO_ROUTE, PAGE]

# ---------------------------------------------------------------- bytes that are nearly right

_BODY = [
    *(b"data:", b"data: ", b"data", b"\n", b"\r", b"\r\n", b"\n\n", b" ", b"{", b"}", b"[", b'"', b"\\ud83d", b":"),
    *(b"\0", b"\xef\xbb\xbf", b"\xef\xbb", b"\xff", b"event: x", b"id: 7", b"retry: 7", b"<title>A</title>"),
    *(b'"type":"live"', b'"data":"', b'{"success":true', b'{"success":false,"message":"', b'"code":"rest_forbidden"'),
    *(b'data: {"type":"live","data":"Hi"}\n\n', b'data: {"type":"error","data":""}\n\n', b"data: [DONE]\n\n"),
    *(b'data: {"type":"live","data":5}\n\n', b'data: {"type":"end","data":"{}"}\n\n', b"data: NaN\n\n"),
    *(b"<br />\n", b"1e999", b"[" * 70, b'data: {"type":"end","data":"{\\"success\\":true,\\"reply\\":\\"Hi\\"}"}\n\n'),
]
_WIRE = [
    *(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 403 Forbidden\r\n", b"HTTP/2 200\r\n"),
    *(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 101 Switching Protocols\r\n", b"a: b\r\n", b" folded\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"transfer-encoding: gzip\r\n", b"Content-Encoding: gzip\r\n"),
    *(b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Content-Length: 5, 5\r\n", b"Content-Length: -1\r\n"),
    *(b"Connection: close\r\n", b"Location: /\xe9\r\n", b"Retry-After: 600\r\n", b"\r\n", b"\r\n\r\n"),
    *(b"5\r\nhello\r\n", b"0\r\n\r\n", b"0\r\n", b"5;a=b\r\n", b"ffffffffffffffffffff\r\n"),
]
# Proxies, and what they reply until the way is open. The first is given whole URLs, and asked for no tunnel.
_CONNECTED = b"HTTP/1.1 200 Connection established\r\nVia: 1.1 proxy\r\n\r\n"
_PROXIES: list[tuple[str, str, list[bytes]]] = [
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
    """What `whole` gives with something cut out, put in, or both."""
    data = draw(whole)
    start, end = sorted(draw(st.tuples(st.integers(0, len(data)), st.integers(0, len(data)))))
    return data[:start] + draw(st.just(b"") | noise(pieces)) + data[end:]


any_body = (
    spoiled(strategies.bodies().map(lambda body: body.data), _BODY)
    | spoiled(st.sampled_from([answer.body for answer in ANSWERS]), _BODY)
    | noise(_BODY)
)
any_wire = (
    spoiled(strategies.responses().map(lambda response: response.data), [*_WIRE, *_BODY])
    | spoiled(st.sampled_from([answer.wire() for answer in ANSWERS]), [*_WIRE, *_BODY])
    | st.builds(operator.add, st.sampled_from([answer.wire() for answer in ANSWERS]), noise([*_WIRE, *_BODY]))
    | noise([*_WIRE, *_BODY])
)

# A lone surrogate is what `os.fsdecode` and `errors="surrogateescape"` leave of a byte that is no UTF-8.
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
"""What is done to a machine before each input: nothing, or it is replaced by its copy."""


def the_same(machine: Any) -> Any:
    return machine


def deep_copied(machine: Any) -> Any:
    return copy.deepcopy(machine)


def pickled(protocol: int) -> Again:
    return lambda machine: pickle.loads(pickle.dumps(machine, protocol))


copiers = st.sampled_from([deep_copied, *map(pickled, range(2, pickle.HIGHEST_PROTOCOL + 1))])


def decode_events(pieces: Iterable[bytes], limits: Limits, again: Again = the_same) -> tuple[Any, ...]:
    """All that can be seen of an `SSEDecoder` over these bytes."""
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
        if not is_reply(given):  # a body before its head would be the caller's fault, and so is one after a 1xx head
            decoder = again(decoder)
            given += decoder.receive_data(piece)
    given += again(decoder).receive_eof()
    return given


def run_flow(
    flow: Flow, script: Iterable[Answered], cut: Callable[[bytes], list[bytes]], again: Again = the_same
) -> tuple[list[Event], list[Request], Session | None]:
    """A flow that is given these answers one after the other; then nothing answers."""
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
    """A client whose server sends the next of these after each request, and closes when it has no more.

    On each connection the greeting comes first: what a proxy replies.
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
                for piece in cut(next(answers, b"")):  # what comes after the answer is ignored
                    given += client.receive_data(piece)
                    client = again(client)
                if isinstance(_peek(client), Receive):  # no length, or the answer breaks off
                    given += client.receive_eof()
            case _:
                greetings = [*greeting] if isinstance(step, Connect) else greetings
                done.append(step)
                client.step_done()
        client = again(client)
    assert client.awaiting is None
    return given, done, client.session


def _peek(client: Client) -> Connect | StartTLS | Send | Receive | Done:
    """The next step without its effect, that a request may have been seen."""
    return copy.deepcopy(client).next_step()


def whole(data: bytes) -> list[bytes]:
    return [data]


def cutter(data: DataObject) -> Callable[[bytes], list[bytes]]:
    return lambda given: data.draw(strategies.cuts(given))


def asking(limits: Limits = NO_RESTART, *, session: Session | None = GUEST, submit: Submit = QUESTION) -> Flow:
    return Flow(ENDPOINT, submit, session=session, limits=limits)


any_head = st.builds(Answered, any_status.filter(lambda status: not 100 <= status < 200), any_fields, st.just(b""))


# ---------------------------------------------------------------- the promise: any bytes, any cuts, one reply


@given(st.data(), any_body, strategies.limits())
def test_an_event_stream_is_the_same_in_all_cuts(data: DataObject, body: bytes, limits: Limits) -> None:
    expected = decode_events([body], limits)
    assert decode_events(data.draw(strategies.cuts(body)), limits) == expected


@given(st.data(), any_head, any_body, strategies.limits())
def test_any_body_in_any_cuts_is_one_reply_and_always_the_same(
    data: DataObject, head: Answered, body: bytes, limits: Limits
) -> None:
    expected = decode_reply(head, [body], limits)
    assert is_reply(expected)
    assert decode_reply(head, data.draw(strategies.cuts(body)), limits) == expected


@given(
    st.data(), st.lists(st.builds(Answered, any_head.map(lambda head: head.status), any_fields, any_body), max_size=4)
)
def test_any_answers_in_any_cuts_are_one_reply_and_always_the_same(data: DataObject, script: list[Answered]) -> None:
    session = data.draw(st.none() | strategies.sessions())
    limits = data.draw(strategies.limits())
    expected = run_flow(asking(limits, session=session), script, whole)
    assert is_reply(expected[0])
    assert run_flow(asking(limits, session=session), script, cutter(data)) == expected


@given(st.data(), st.lists(any_wire, max_size=4), st.just(Limits()) | strategies.limits())
def test_any_bytes_from_a_server_in_any_cuts_are_one_reply_and_always_the_same(
    data: DataObject, script: list[bytes], limits: Limits
) -> None:
    session = data.draw(st.none() | strategies.sessions())
    expected = run_client(Client(asking(limits, session=session)), script, whole)
    assert is_reply(expected[0])
    assert run_client(Client(asking(limits, session=session)), script, cutter(data)) == expected


@given(st.data(), st.sampled_from([OPENED, RENEWED]), any_wire, strategies.responses())
def test_what_follows_an_answer_is_no_part_of_the_next(
    data: DataObject, opened: Answered, leftover: bytes, response: Any
) -> None:
    def run(first: bytes, cut: Callable[[bytes], list[bytes]]) -> tuple[list[Event], Any, Session | None]:
        return run_client(Client(asking(session=None)), [first, response.data], cut)

    size = len(opened.wire())
    outcome = run(opened.wire() + leftover, whole)
    assert outcome[0] == response.events
    assert run(opened.wire() + leftover, lambda given: [given[:size], given[size:]]) == outcome
    assert run(opened.wire() + leftover, cutter(data)) == outcome
    assert run(b"HTTP/1.1 200 OK\r\n\r\n" + opened.body, cutter(data))[0] == response.events


@given(st.data(), st.lists(any_wire, max_size=3), strategies.limits())
def test_any_bytes_from_a_proxy_in_any_cuts_are_one_reply_and_always_the_same(
    data: DataObject, script: list[bytes], limits: Limits
) -> None:
    url, scheme, replies = data.draw(st.sampled_from(_PROXIES))
    greeting = [data.draw(st.just(reply) | spoiled(st.just(reply), _WIRE)) for reply in replies]
    flow = Flow(Endpoint.parse(f"{scheme}://site.example"), QUESTION, limits=limits)
    start = Client(flow, proxy=Proxy.parse(url))
    expected = run_client(copy.deepcopy(start), script, whole, greeting=greeting)
    assert is_reply(expected[0])
    assert run_client(start, script, cutter(data), greeting=greeting) == expected


@given(st.data(), any_body | any_wire)
def test_a_server_reads_requests_the_same_in_all_cuts(data: DataObject, spoilt: bytes) -> None:
    site = Site(b"secret")
    client = Client(Flow(ENDPOINT, data.draw(strategies.submits()), session=Session(site.nonce(0))))
    while not isinstance(step := client.next_step(), Send):
        client.step_done()
    place = data.draw(st.integers(0, len(step.data)))
    requests = step.data[:place] + spoilt + step.data[place:]
    assert _served(site, [requests]) == _served(site, data.draw(strategies.cuts(requests)))


def _served(site: Site, pieces: Iterable[bytes], again: Again = the_same) -> tuple[bytes, list[Submit]]:
    server = Server(site)
    out = b""
    questions = []
    for piece in pieces:
        server = again(server)
        server.receive_data(piece, now=0)
        while not isinstance(step := server.next_step(), Receive | Done):
            if isinstance(step, Send):
                out += step.data
                server.step_done()
            else:
                questions.append(step.submit)
                server.send(End("Hi"))
            server = again(server)
    server.receive_eof()
    assert server.next_step() == Done()
    return out, questions


# ---------------------------------------------------------------- copies


@given(copiers, st.data())
def test_a_copy_of_a_decoder_goes_on_like_its_original(again: Again, data: DataObject) -> None:
    body, limits = data.draw(any_body), data.draw(strategies.limits())
    pieces = data.draw(strategies.cuts(body))
    assert decode_events(pieces, limits, again) == decode_events(pieces, limits)
    head = data.draw(any_head)
    assert decode_reply(head, pieces, limits, again) == decode_reply(head, pieces, limits)


@given(copiers, st.data())
def test_a_copy_of_a_flow_or_a_client_goes_on_like_its_original(again: Again, data: DataObject) -> None:
    script = data.draw(scripts())
    session = data.draw(st.none() | strategies.sessions())
    wires = [answer.wire() for answer in script]
    pieces = {given: data.draw(random_cuts(given)) for given in [*wires, *(answer.body for answer in script), b""]}
    flow = asking(Limits(), session=session)
    expected = run_flow(copy.deepcopy(flow), script, pieces.__getitem__)
    assert run_flow(copy.deepcopy(flow), script, pieces.__getitem__, again) == expected
    outer = run_client(Client(copy.deepcopy(flow)), wires, pieces.__getitem__)
    assert run_client(Client(flow), wires, pieces.__getitem__, again) == outer


@given(copiers, st.data(), strategies.submits())
def test_a_copy_of_a_server_goes_on_like_its_original(again: Again, data: DataObject, submit: Submit) -> None:
    site = Site(b"secret")
    client = Client(Flow(ENDPOINT, submit, session=Session(site.nonce(0))))
    while not isinstance(step := client.next_step(), Send):
        client.step_done()
    pieces = data.draw(random_cuts(step.data * 2))
    assert _served(site, pieces, again) == _served(site, pieces)


# ---------------------------------------------------------------- the two rings


@st.composite
def scripts(draw: DrawFn) -> list[Answered]:
    """The answers to the requests of one flow, mostly such that it goes on for long."""
    steps = draw(
        st.lists(st.sampled_from([OPENED, RENEWED, STALE, EXPIRED, NO_ROUTE, OPENED, STALE, PAGE]), max_size=4)
    )
    last = Answered(200, draw(plain_fields), draw(strategies.bodies()).data)
    return [*steps, last, last, last]


plain_fields = st.lists(
    st.sampled_from([("X-WP-Nonce", "n4"), ("Content-Type", "a/b"), ("Connection", "close")]), max_size=2
)


@given(st.data(), scripts(), strategies.submits(), st.none() | strategies.sessions(), st.integers(0, 1))
def test_both_rings_give_the_same_events_for_the_same_answers(
    data: DataObject, script: list[Answered], submit: Submit, session: Session | None, restarts: int
) -> None:
    flow = asking(Limits(restarts=restarts), session=session, submit=submit)
    inner = run_flow(copy.deepcopy(flow), script, cutter(data))
    outer = run_client(Client(flow), [answer.wire() for answer in script], cutter(data))
    assert is_reply(inner[0])
    assert outer[0] == inner[0]
    assert outer[2] == inner[2]
    sent = [step.data for step in outer[1] if isinstance(step, Send)]
    assert [data.partition(b"\r\n\r\n")[2] for data in sent] == [request.body for request in inner[1]]
    assert sum(request.target.endswith("/submit") for request in inner[1]) <= 1 + restarts


@given(st.data(), strategies.responses())
def test_both_rings_give_the_same_events_for_every_framing(data: DataObject, response: Any) -> None:
    inner = run_flow(asking(), [Answered(200, response.headers, response.body)], cutter(data))
    outer = run_client(Client(asking()), [response.data], cutter(data))
    assert outer[0] == inner[0] == response.events
    assert outer[2] == inner[2]


@given(st.data(), scripts(), st.none() | strategies.sessions(), st.sampled_from(_PROXIES), copiers)
def test_a_proxy_changes_nothing_of_what_is_said(
    data: DataObject,
    script: list[Answered],
    session: Session | None,
    proxy: tuple[str, str, list[bytes]],
    again: Again,
) -> None:
    url, scheme, greeting = proxy
    flow = Flow(Endpoint.parse(f"{scheme}://site.example"), QUESTION, session=session)
    wires = [answer.wire() for answer in script]
    through = Client(copy.deepcopy(flow), proxy=Proxy.parse(url))
    outcome = run_client(through, wires, lambda given: data.draw(random_cuts(given)), again, greeting=greeting)
    expected = run_client(Client(flow), wires, whole)
    assert (outcome[0], outcome[2]) == (expected[0], expected[2])


@given(st.data(), any_body, st.sampled_from([200, 403, 500]))
def test_both_rings_agree_when_an_answer_is_cut(data: DataObject, body: bytes, status: int) -> None:
    flow, client = asking(), Client(asking())
    flow.next_request()
    inner = flow.receive_head(status, []) + flow.receive_data(body) + flow.receive_failure("cut")
    wire = b"HTTP/1.1 %d Reason\r\nContent-Length: %d\r\n\r\n" % (status, len(body) + 1) + body
    outer = run_client(client, [wire], cutter(data))[0]
    assert [_but_for_the_detail(event) for event in outer] == [_but_for_the_detail(event) for event in inner]


def _unasked(event: Event) -> Event:
    """As a decoder gives it, which does not know whether somebody has asked."""
    return replace(event, asked=False) if isinstance(event, Broken) else event


def _but_for_the_detail(event: Event) -> Event:
    return replace(event, detail="") if isinstance(event, Broken) else event


# ---------------------------------------------------------------- client and server


@given(
    st.data(),
    strategies.submits(),
    strategies.replies(),
    strategies.endpoints(),
    st.sampled_from(["new", "stale", "open"]),
)
def test_a_question_arrives_as_it_was_asked_and_its_answer_comes_back(
    data: DataObject, submit: Submit, reply: list[Event], endpoint: Endpoint, session: str
) -> None:
    site = Site(b"secret")
    known = {"new": None, "stale": Session("0123456789"), "open": Session(site.nonce(0), "s1")}
    client = Client(Flow(endpoint, submit, session=known[session]))
    given, asked, session_id = _converse(client, site, reply, cutter(data))
    assert asked == [submit]
    expected = reply if submit.stream else reply[-1:]
    assert [type(event) for event in given] == [type(event) for event in expected]
    if submit.stream or _what_arrives(reply[-1]) != ("",):  # a refusal without a text shows its JSON
        assert [_what_arrives(event) for event in given] == [_what_arrives(event) for event in expected]
    assert client.session is not None
    assert client.session.nonce == site.nonce(0)
    assert client.session.session_id in (None, session_id)


def _what_arrives(event: Event) -> tuple[Any, ...]:
    """What a server's event is on the other side: all of a `Live` but `raw`, of a `Broken` only what went wrong."""
    match event:
        case Live():
            return event.text, event.kind
        case End():
            return event.reply, event.images, event.actions, event.shortcuts, event.usage, event.response_id
        case Broken():
            return (event.detail,)


def _converse(
    client: Client, site: Site, reply: list[Event], cut: Callable[[bytes], list[bytes]]
) -> tuple[list[Event], list[Submit], str | None]:
    """A client and a server in memory, and the application's events."""
    given: list[Event] = []
    asked = []
    session_id = None
    server = Server(site)
    answer = iter(reply)
    while not isinstance(step := client.next_step(), Done):
        match step, server.next_step():
            case (Connect(), _):
                server = Server(site)
                client.step_done()
            case (StartTLS(), _):
                client.step_done()
            case (Send(request), _):
                for piece in cut(request):
                    server.receive_data(piece, now=0)
                client.step_done()
            case (Receive(), Send(response)):
                for piece in cut(response):
                    given += client.receive_data(piece)
                server.step_done()
            case (Receive(), Answer() as due):
                session_id = due.session_id
                if due.submit not in asked:
                    asked.append(due.submit)
                server.send(next(answer))
            case (Receive(), Done()):
                given += client.receive_eof()
            case state:
                raise AssertionError(f"both wait for the other: {state}")
    return given, asked, session_id


# ---------------------------------------------------------------- limits


def least(passes: Callable[[int], bool], most: int) -> int:
    """The least number from 1 to `most` that passes, if whatever is larger than one that passes does too."""
    low, high = 1, most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(middle) else (middle + 1, high)
    return low


def check_limit(name: str, need: int, run: Callable[[Limits], list[Event]], *, smallest: int = 1) -> None:
    """What is needed passes, and so does one more; one less is TOO_LARGE by this limit's name."""
    expected = run(NO_RESTART)
    for enough in (need, need + 1):
        assert run(replace(NO_RESTART, **{name: enough})) == expected
    if need > smallest:
        last = run(replace(NO_RESTART, **{name: need - 1}))[-1]
        assert isinstance(last, Broken)
        assert last.reason is Reason.TOO_LARGE
        assert last.detail.startswith(f"more than {need - 1} ")
        assert last.detail.endswith(f"(Limits.{name})")


@pytest.mark.parametrize("name", ["event_bytes", "reply_bytes"])
@given(data=st.data(), response=strategies.responses())
def test_the_limits_of_a_body_are_exact_in_all_cuts(name: str, data: DataObject, response: Any) -> None:
    def run(limits: Limits) -> list[Event]:
        return run_client(Client(asking(limits)), [response.data], cutter(data))[0]

    def passes(number: int) -> bool:
        decoder = ReplyDecoder(Limits(**{name: number}))
        given = decoder.receive_head(200, []) + decoder.receive_data(response.body) + decoder.receive_eof()
        return bool([_unasked(event) for event in given] == [_unasked(event) for event in response.events])

    check_limit(name, least(passes, len(response.body)), run)


@given(st.data(), any_body.filter(lambda body: not body.startswith(b"\xef")))
def test_the_limit_of_an_event_is_its_data_lines_and_its_unfinished_line(data: DataObject, body: bytes) -> None:
    need = size = 0
    *lines, tail = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    for line in lines:
        if not line:
            size = 0
            continue
        need = max(need, size + len(line))
        if line == b"data" or line.startswith(b"data:"):
            size += len(line) + 1
    need = max(need, size + len(tail) if tail else 0, 1)
    assert not decode_events(data.draw(strategies.cuts(body)), Limits(event_bytes=need))[3]
    if need > 1:
        assert decode_events(data.draw(strategies.cuts(body)), Limits(event_bytes=need - 1))[3]


@given(st.data(), strategies.responses())
def test_the_limits_of_a_head_are_exact_in_all_cuts(data: DataObject, response: Any) -> None:
    before, _, after = response.data.partition(b" 200 OK\r\n")
    assume(b"\r\ntransfer-encoding: chunked" not in after)  # its lines count as well, by another verdict
    *interim, start = before.split(b"\r\n\r\n")
    head = len(start) + len(b" 200 OK\r\n") + after.index(b"\r\n\r\n") + 4 if response.headers else len(start) + 11
    heads = [*(len(one) + 4 for one in interim), head]

    def run(limits: Limits) -> list[Event]:
        return run_client(Client(asking(limits)), [response.data], cutter(data))[0]

    check_limit("head_bytes", max(heads), run)
    numbers = [*(one.count(b"\r\n") for one in interim), len(response.headers)]
    check_limit("headers", max(*numbers, 1), run)
    check_limit("interim_responses", len(interim), run, smallest=0)


@given(st.data(), any_body, st.integers(1, 200), st.sampled_from([200, 403, 500]))
def test_how_much_of_a_refusal_is_read_does_not_depend_on_the_cuts(
    data: DataObject, body: bytes, most: int, status: int
) -> None:
    head = Answered(status, [], b"")
    limits = Limits(refusal_bytes=most)
    assert decode_reply(head, data.draw(strategies.cuts(body)), limits) == decode_reply(head, [body], limits)
    if status != 200:
        assert decode_reply(head, [body], limits) == decode_reply(head, [body[:most]], Limits())


# ---------------------------------------------------------------- texts


@given(any_head, any_body, any_text, st.sampled_from(Reason), strategies.limits())
def test_every_text_of_every_event_can_be_encoded(
    head: Answered, body: bytes, detail: str, reason: Reason, limits: Limits
) -> None:
    ended, failed, refused = ReplyDecoder(limits), ReplyDecoder(limits), ReplyDecoder(limits)
    given = [
        *decode_reply(head, [body], limits),
        *failed.receive_head(head.status, head.headers),
        *failed.receive_data(body),
        *failed.receive_failure(detail, reason),
        *refused.receive_failure(detail, reason),
        *ended.receive_eof(),
        *Client(asking()).step_failed(detail, reason),
    ]
    for event in given:
        for field in fields(event):
            value = getattr(event, field.name)
            if isinstance(value, str):
                value.encode()


@given(any_body, st.builds(Answered, st.just(200), any_fields, st.just(b"")))
def test_what_an_end_carries_can_be_encoded_and_written_again(body: bytes, head: Answered) -> None:
    end = decode_reply(head, [body], Limits())[-1]
    if isinstance(end, End):
        assert end.payload() == json.loads(json.dumps(end.payload(), ensure_ascii=False).encode())
        assert all(isinstance(image, str) for image in end.images)
        assert all(isinstance(item, dict) for item in (*end.actions, *end.shortcuts, *end.blocks))


SECRET = "5EcReT"
secret_tokens = st.builds("{}{}".format, st.just(SECRET), st.sampled_from(["", "x", "=", "%20"]))
secret_sessions = st.builds(
    Session, st.none() | secret_tokens, st.none() | secret_tokens, st.just("") | st.builds("a={}".format, secret_tokens)
)


@given(st.data(), st.none() | secret_sessions, st.lists(any_wire, max_size=3))
def test_what_is_shown_of_an_object_holds_no_secret(
    data: DataObject, session: Session | None, script: list[bytes]
) -> None:
    shown: list[Any] = [session, Conversation(session=session, messages=(Message("user", SECRET),))]
    answers = [
        Answered(200, [], b'{"success":true,"sessionId":"5EcReT","restNonce":"5EcReT2"}').wire(),
        Answered(401, [("X-WP-Nonce", SECRET), ("Set-Cookie", f"mwai_session_id={SECRET}")], STALE.body).wire(),
        *script,
        Answered(200, [], b'{"success":true,"reply":"Hi","new_token":"5EcReT"}').wire(),
    ]
    proxy = data.draw(st.none() | st.sampled_from([Proxy.parse(url) for url, _, _ in _PROXIES]))
    client = Client(asking(Limits(), session=session), proxy=proxy)
    flow = asking(Limits(), session=session)
    request = flow.next_request()
    server = Server(Site(SECRET.encode()))
    shown += [flow, request, server, proxy]

    def look(machine: Client) -> Client:
        shown.append(repr(machine))
        shown.append(machine.session)
        shown.append(machine.next_step())
        return machine

    shown += run_client(client, data.draw(st.permutations(answers)), cutter(data), look)[0]
    for name in ("nonce", "session_id", "cookie"):
        with pytest.raises(ValueError, match=name) as caught:
            Session(**{name: f"{SECRET}\n"})
        shown.append(caught.value)
    for one in shown:
        assert SECRET not in repr(one)
        assert SECRET not in str(one)


@given(
    st.sampled_from(["", "//", "https://", "HTTP://", "https:", "https:/", "socks5://", "http:///"]),
    st.text("ax1.:[]%&=", max_size=8),
    st.text(":/@?#[]\\ ax1.", max_size=8),
)
def test_an_address_with_a_password_is_refused_without_showing_it(scheme: str, name: str, host: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        Endpoint.parse(f"{scheme}{name}:{SECRET}@{host}")
    assert SECRET not in str(caught.value)


# ---------------------------------------------------------------- values


@given(
    strategies.texts()
    | strategies.endpoints().map(lambda endpoint: endpoint.origin + endpoint.root)
    | st.text("htps:/.@[]?#=&_%\\exampl0é \t", max_size=30)
    | st.from_regex(r"\A(https?://)?[a-z0-9.:\[\]%-]{0,12}(:[0-9]{0,6})?(/[ -~]{0,9}){0,2}(\?[ -~]{0,20})?\Z")
)
def test_any_text_is_an_endpoint_or_no_value(text: str) -> None:
    try:
        endpoint = Endpoint.parse(text)
    except ValueError as error:
        message = str(error)
    else:
        message = ""
    if message:
        assert "expected" in message
        return
    assert Endpoint.parse(endpoint.origin + endpoint.root) == endpoint
    request = Flow(endpoint, None).next_request()
    assert request is not None
    assert request.url.isascii()
    assert request.url.isprintable()
    assert request.target.endswith("/mwai/v1/start_session")


@given(strategies.submits(), st.none() | st.text("abc123", min_size=1))
def test_a_question_comes_back_from_its_json(submit: Submit, session_id: str | None) -> None:
    assert Submit.from_dict(json.loads(submit.encode(session_id))) == submit


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=6,
)


def objects_with(*keys: str) -> SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(keys), json_values, max_size=6)


_KEYS = ("messages", "chat_id", "bot_id", "custom_id", "context_id", "session", "previous_response_id")


@given(st.data())
def test_any_json_is_a_conversation_or_a_value_error(data: DataObject) -> None:
    session = objects_with("nonce", "session_id", "cookie", "origin")
    messages = st.lists(objects_with("role", "content"), max_size=2)
    parts = st.fixed_dictionaries({}, optional={"session": session, "messages": messages})
    values: Any = data.draw(json_values | objects_with(*_KEYS) | parts)
    try:
        conversation = Conversation.from_dict(values)
    except ValueError:
        return
    assert Conversation.from_dict(json.loads(json.dumps(conversation.to_dict()))) == conversation
    conversation.ask("?").encode()


@given(json_values | objects_with("messages", "newMessage", "botId", "newFileIds", "stream", "chatId", "contextId"))
def test_any_json_is_a_question_or_invalid(value: Any) -> None:
    try:
        submit = Submit.from_dict(value)
    except InvalidMessages:
        return
    assert Submit.from_dict(json.loads(submit.encode())) == submit


@given(
    st.lists(st.tuples(strategies.texts(), strategies.events(), strategies.texts()), max_size=5),
    st.none() | strategies.sessions(),
    st.none() | strategies.texts(),
)
def test_a_conversation_grows_by_whole_answers_only(
    turns: list[tuple[str, Event, str]], session: Session | None, chat_id: str | None
) -> None:
    conversation = Conversation(session=session, chat_id=chat_id)
    said: list[Message] = []
    for question, event, pieces in turns:
        before = copy.deepcopy(conversation)
        submit = conversation.ask(question)
        assert conversation == before
        try:
            conversation.record(submit, event, pieces)  # type: ignore[arg-type]  # what is no `End` is refused
        except TypeError:
            assert not isinstance(event, End)
            assert conversation == before
        else:
            assert isinstance(event, End)
            said += [Message("user", question), Message("assistant", pieces if event.reply is None else event.reply)]
        assert conversation.messages == tuple(said)
        assert Conversation.from_dict(json.loads(json.dumps(conversation.to_dict()))) == conversation
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            conversation = pickle.loads(pickle.dumps(conversation, protocol))


# ---------------------------------------------------------------- any call in any order

_PIECES = [
    *(b"", OPENED.body, STALE.body, EXPIRED.body, NO_ROUTE.body, PAGE.body, b"{", b"\n", b"\r", b"data: \n\n"),
    *(b'data: {"type":"live","data":"Hi"}\n\n', b'data: {"type":"error","data":""}\n\n'),
]
_GREETINGS = [piece for _, _, greeting in _PROXIES for piece in greeting]
pieces_of_a_body = st.sampled_from(_PIECES) | noise(_BODY)
pieces_of_wire = (
    st.sampled_from([b"", *_WIRE, *_GREETINGS, *(answer.wire() for answer in ANSWERS)])
    | any_wire
    | strategies.responses().map(lambda response: response.data)
)


ways = st.sampled_from([("", "http", []), ("", "https", []), *_PROXIES])


class Start(NamedTuple):
    """A question, and how far its flow has come when the calls begin."""

    session: Session | None
    submit: Submit | None
    limits: Limits
    answers: list[Answered]


@st.composite
def starts(draw: DrawFn) -> Start:
    submit = draw(st.sampled_from([QUESTION, QUESTION, QUESTION, None]))
    session = draw(st.sampled_from([None, GUEST, Session("n0", "s0")]) | strategies.sessions()) if submit else None
    answers = [*([] if session else [OPENED]), draw(st.sampled_from([STALE, EXPIRED]))]
    answers += [draw(st.sampled_from([RENEWED, RENEWED, NO_ROUTE])), STALE, RENEWED]
    limits = draw(st.just(Limits()) | strategies.limits())
    return Start(session, submit, limits, answers[: draw(st.integers(0, len(answers)))])


# A machine that is over has little to show: after three more calls another takes its place.
while_young = precondition(lambda self: self.late < 3)


class Calls(RuleBasedStateMachine):
    """What `Flow` and `Client` have in common: events are one reply, and an illegal call changes nothing."""

    machine: Any
    start: Start
    given: list[Event]
    submits: int
    stale: bool
    late: int

    def begin(self, start: Start) -> Flow:
        self.start = start
        self.given = []
        self.submits = 0
        self.stale = False
        self.late = 0
        return Flow(ENDPOINT, start.submit, session=start.session, limits=start.limits)

    @property
    def over(self) -> bool:
        return bool(self.given) and not isinstance(self.given[-1], Live)

    def call(self, legal: bool, method: str, *arguments: Any) -> Any:
        over = self.over
        self.late += over
        if not legal:
            before = pickle.dumps(self.machine)
            with pytest.raises(LocalProtocolError, match=" is not legal in state "):
                getattr(self.machine, method)(*arguments)
            assert pickle.dumps(self.machine) == before
            return None
        result = getattr(self.machine, method)(*arguments)
        if isinstance(result, list):
            assert result == [] or not over
            self.given += result
        return result

    def count_submit(self) -> None:
        """A question was handed out: for the first time, or because the nonce was stale."""
        self.submits += 1
        if self.submits > 1:
            assert self.submits == 2
            assert self.stale
            assert self.start.limits.restarts == 1
            assert self.start.session is None or not self.start.session.is_member
        assert self.machine.submit_started

    @invariant()
    def the_events_are_one_reply(self) -> None:
        assert all(isinstance(event, Live) for event in self.given[:-1])
        assert (self.machine.awaiting is None) == self.over

    @rule(again=copiers)
    @while_young
    def copy(self, again: Again) -> None:
        self.machine = again(self.machine)


class FlowCalls(Calls):
    """Any inputs to a `Flow`, against what is legal when."""

    @initialize(start=starts())
    def first(self, start: Start) -> None:
        self.machine = self.begin(start)
        self.expecting = "request"
        self.status = 0
        self.sessions = 0
        for answer in start.answers:
            if self.expecting == "request":
                self.next_request()
                self.receive_answer(answer)

    @rule(start=starts())
    @precondition(lambda self: self.over)
    def another(self, start: Start) -> None:
        self.first(start)

    @rule()
    @while_young
    def next_request(self) -> None:
        request = self.call(True, "next_request")
        assert (request is not None) == (self.expecting == "request")
        if request is None:
            return
        self.expecting = "head"
        if request.target.endswith("/start_session"):
            self.sessions += 1
        else:
            self.count_submit()
            assert self.submits == 1 or (self.sessions and dict(request.headers).get("X-WP-Nonce"))

    @rule(status=any_status, headers=any_fields)
    @while_young
    def receive_head(self, status: int, headers: list[tuple[str, str]]) -> None:
        legal = self.expecting in ("head", "done")
        self.call(legal, "receive_head", status, headers)
        if legal and not 100 <= status < 200:
            self.status = status
            self.move("body")
        else:
            self.move(self.expecting)

    @rule(data=pieces_of_a_body)
    @while_young
    def receive_data(self, data: bytes) -> None:
        self.call(not data or self.expecting in ("body", "done"), "receive_data", data)
        self.move(self.expecting)

    @rule()
    @while_young
    def receive_eof(self) -> None:
        legal = self.expecting != "request"
        self.call(legal, "receive_eof")
        if legal:
            self.stale = self.stale or self.status in (401, 403)
            self.move("request")

    @rule(detail=any_text, reason=st.sampled_from(Reason))
    @while_young
    def receive_failure(self, detail: str, reason: Reason) -> None:
        self.call(True, "receive_failure", detail, reason)
        self.move("request")

    @rule()
    @while_young
    def close(self) -> None:
        self.call(True, "close")
        self.move("done")

    @rule(session=st.sampled_from([None, Session("n5", "s5")]))
    @while_young
    def use_session(self, session: Session | None) -> None:
        due = self.expecting == "request" and self.machine.awaiting is Awaiting.SESSION
        self.call(due or self.over, "use_session", session)
        self.sessions += due
        self.move(self.expecting)

    @rule(answer=st.sampled_from(ANSWERS))
    @precondition(lambda self: self.expecting == "head")
    def receive_answer(self, answer: Answered) -> None:
        self.receive_head(answer.status, answer.headers)
        self.receive_data(answer.body)
        self.receive_eof()

    def move(self, expecting: str) -> None:
        self.expecting = "done" if self.over else expecting
        assert self.machine.is_ready == (self.expecting == "request")


class ClientCalls(Calls):
    """Any inputs to a `Client`, against what is legal when."""

    @initialize(start=starts(), proxy=ways)
    def first(self, start: Start, proxy: tuple[str, str, list[bytes]]) -> None:
        url, scheme, self.greeting = proxy
        flow = self.begin(start)
        if scheme == "https":
            flow = Flow(
                Endpoint.parse("https://site.example"), start.submit, session=start.session, limits=start.limits
            )
        self.machine = Client(flow, proxy=Proxy.parse(url) if url else None)
        self.handed_out: bytes | None = None
        for answer in start.answers:
            if not self.over:
                self.go_to_receive()
                self.receive_data(answer.wire())

    @rule(start=starts(), proxy=ways)
    @precondition(lambda self: self.over)
    def another(self, start: Start, proxy: tuple[str, str, list[bytes]]) -> None:
        self.first(start, proxy)

    @property
    def step(self) -> Connect | StartTLS | Send | Receive | Done:
        return _peek(self.machine)

    def hand_out(self, step: object) -> None:
        if isinstance(step, Send) and self.handed_out is None:
            self.handed_out = step.data
            if b"/chats/submit HTTP/1.1\r\n" in step.data:
                self.count_submit()

    @invariant()
    def the_step_is_what_was_handed_out(self) -> None:
        step = self.step
        if isinstance(step, Send):
            assert self.handed_out in (None, step.data)
        else:
            self.handed_out = None
        assert isinstance(step, Done) == self.over

    @rule()
    @while_young
    def next_step(self) -> None:
        step = self.step
        assert self.machine.next_step() == self.machine.next_step() == step
        self.hand_out(step)

    @rule()
    @while_young
    def step_done(self) -> None:
        step = self.step
        self.call(isinstance(step, Connect | StartTLS | Send | Done), "step_done")
        self.hand_out(step)
        self.handed_out = None

    @rule(detail=any_text, reason=st.just(Reason.LOST) | st.sampled_from(Reason))
    @while_young
    def step_failed(self, detail: str, reason: Reason) -> None:
        cut_off = self.handed_out is not None and reason is Reason.LOST
        count = len(self.given)
        self.call(True, "step_failed", detail, reason)
        self.handed_out = None
        if cut_off:
            assert self.given[count:] == []
            assert self.step == Receive()

    @rule(data=pieces_of_wire)
    @while_young
    def receive_data(self, data: bytes) -> None:
        self.stale = self.stale or b" 401 " in data or b" 403 " in data
        self.take_news("receive_data", data)

    @rule()
    @while_young
    def receive_eof(self) -> None:
        self.take_news("receive_eof")

    def take_news(self, method: str, *arguments: bytes) -> None:
        step = self.step
        count = len(self.given)
        self.call(True, method, *arguments)
        if isinstance(step, Connect):
            assert self.given[count:] == []
            assert self.step == step

    @rule()
    @while_young
    def close(self) -> None:
        self.call(True, "close")
        assert self.over
        self.handed_out = None

    @rule()
    @precondition(lambda self: not self.over)
    def go_to_receive(self) -> None:
        replies: list[bytes] = []
        while not self.over and (replies or not isinstance(self.step, Receive)):
            if isinstance(self.step, Receive):
                self.receive_data(replies.pop(0))
            else:
                replies = [*self.greeting] if isinstance(self.step, Connect) else replies
                self.step_done()
            self.the_step_is_what_was_handed_out()


TestFlowCalls = FlowCalls.TestCase
TestClientCalls = ClientCalls.TestCase
