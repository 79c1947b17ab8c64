"""Properties for any input: the promise of the package, and agreement between its machines.

`python -m pytest tests/proto/test_properties.py --hypothesis-profile=explore` looks for more (see conftest.py).
"""

import copy
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DataObject, DrawFn

from opchat_proto import (
    Answer,
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
    Server,
    Session,
    Site,
    StartTLS,
    Submit,
    strategies,
)
from tests.proto.anything import (
    ENDPOINT,
    EXPIRED,
    NO_ROUTE,
    OPENED,
    PAGE,
    PROXIES,
    QUESTION,
    RENEWED,
    STALE,
    WIRE,
    Again,
    Answered,
    any_body,
    any_fields,
    any_head,
    any_wire,
    asking,
    copiers,
    cutter,
    decode_events,
    decode_reply,
    run_client,
    run_flow,
    spoiled,
    the_same,
    whole,
)
from tests.proto.asking import is_reply
from tests.proto.cuts import random_cuts

# ---------------------------------------------------------------- the promise: any bytes, any cuts, one reply


@given(st.data(), any_body, strategies.limits())
def test_an_event_stream_is_the_same_in_all_cuts(data: DataObject, body: bytes, limits: Limits) -> None:
    expected = decode_events([body], limits)
    assert decode_events(data.draw(strategies.cuts(body)), limits) == expected


@given(st.data(), any_head, any_body, strategies.limits())
def test_any_body_in_any_cuts_gives_the_same_single_reply(
    data: DataObject, head: Answered, body: bytes, limits: Limits
) -> None:
    expected = decode_reply(head, [body], limits)
    assert is_reply(expected)
    assert decode_reply(head, data.draw(strategies.cuts(body)), limits) == expected


@given(
    st.data(), st.lists(st.builds(Answered, any_head.map(lambda head: head.status), any_fields, any_body), max_size=4)
)
def test_any_answers_in_any_cuts_give_the_same_single_reply(data: DataObject, script: list[Answered]) -> None:
    session = data.draw(st.none() | strategies.sessions())
    limits = data.draw(strategies.limits())
    expected = run_flow(asking(limits, session=session), script, whole)
    assert is_reply(expected[0])
    assert run_flow(asking(limits, session=session), script, cutter(data)) == expected


@given(st.data(), st.lists(any_wire, max_size=4), st.just(Limits()) | strategies.limits())
def test_any_bytes_from_a_server_in_any_cuts_give_the_same_single_reply(
    data: DataObject, script: list[bytes], limits: Limits
) -> None:
    session = data.draw(st.none() | strategies.sessions())
    expected = run_client(Client(asking(limits, session=session)), script, whole)
    assert is_reply(expected[0])
    assert run_client(Client(asking(limits, session=session)), script, cutter(data)) == expected


@given(st.data(), st.sampled_from([OPENED, RENEWED]), any_wire, strategies.responses())
def test_bytes_after_an_answer_are_not_part_of_the_next_one(
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
def test_any_bytes_from_a_proxy_in_any_cuts_give_the_same_single_reply(
    data: DataObject, script: list[bytes], limits: Limits
) -> None:
    url, scheme, replies = data.draw(st.sampled_from(PROXIES))
    greeting = [data.draw(st.just(reply) | spoiled(st.just(reply), WIRE)) for reply in replies]
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
def test_a_copy_of_a_decoder_continues_like_its_original(again: Again, data: DataObject) -> None:
    body, limits = data.draw(any_body), data.draw(strategies.limits())
    pieces = data.draw(strategies.cuts(body))
    assert decode_events(pieces, limits, again) == decode_events(pieces, limits)
    head = data.draw(any_head)
    assert decode_reply(head, pieces, limits, again) == decode_reply(head, pieces, limits)


@given(copiers, st.data())
def test_a_copy_of_a_flow_or_a_client_continues_like_its_original(again: Again, data: DataObject) -> None:
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
def test_a_copy_of_a_server_continues_like_its_original(again: Again, data: DataObject, submit: Submit) -> None:
    site = Site(b"secret")
    client = Client(Flow(ENDPOINT, submit, session=Session(site.nonce(0))))
    while not isinstance(step := client.next_step(), Send):
        client.step_done()
    pieces = data.draw(random_cuts(step.data * 2))
    assert _served(site, pieces, again) == _served(site, pieces)


# ---------------------------------------------------------------- the two rings


@st.composite
def scripts(draw: DrawFn) -> list[Answered]:
    """The responses to the requests of one flow. Most of them let it continue for long."""
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


@given(st.data(), scripts(), st.none() | strategies.sessions(), st.sampled_from(PROXIES), copiers)
def test_a_proxy_does_not_change_the_events(
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


def _but_for_the_detail(event: Event) -> Event:
    return replace(event, detail="") if isinstance(event, Broken) else event


# ---------------------------------------------------------------- client and server


@given(
    st.data(),
    strategies.submits(),
    strategies.replies().filter(
        lambda reply: "<" not in getattr(reply[-1], "detail", "")
    ),  # tags are removed from details
    strategies.endpoints(),
    st.sampled_from(["new", "stale", "open"]),
)
def test_a_question_and_its_answer_survive_the_round_trip(
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
    """A server's event as the client sees it: `Live` loses its `raw`, and `Broken` keeps only its detail."""
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
