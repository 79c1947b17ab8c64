"""Copies of flows, their reprs, and arbitrary answers in any order."""

import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opchat_proto import (
    Awaiting,
    Broken,
    End,
    Endpoint,
    Event,
    Flow,
    Limits,
    Live,
    LocalProtocolError,
    Reason,
    Request,
    Session,
    Submit,
)
from tests.proto.cuts import clones, random_cuts
from tests.proto.flows import (
    ASK,
    CHAT,
    END,
    EXPIRED,
    FORBIDDEN,
    GIVEN,
    HI,
    LIVE,
    NO_ROUTE,
    OPENED,
    PAGE,
    RENEWED,
    REPLY,
    SESSION,
    SITE,
    TOKEN,
    answer,
    call,
    routes,
    take,
)

# ------------------------------------------------------------------------------ copies, secrets

SCRIPT: list[tuple[str, Any]] = [
    ("next_request", ()),
    ("receive_head", (103, [])),
    ("receive_head", SESSION[:2]),
    ("receive_data", (OPENED[:20],)),
    ("receive_data", (OPENED[20:],)),
    ("receive_eof", ()),
    ("next_request", ()),
    ("receive_head", (403, [("Set-Cookie", "mwai_session_id=x")])),
    ("receive_data", (EXPIRED.encode(),)),
    ("receive_eof", ()),
    ("next_request", ()),
    ("receive_head", RENEWED[:2]),
    ("receive_data", (RENEWED[2],)),
    ("receive_failure", ("reset",)),
    ("next_request", ()),
    ("receive_head", REPLY[:2]),
    ("receive_data", (LIVE + END[:30],)),
    ("receive_data", (END[30:],)),
    ("receive_eof", ()),
    ("next_request", ()),
]

SHARED: list[tuple[str, Any]] = [
    ("use_session", (GIVEN,)),
    ("next_request", ()),
    ("receive_head", (403, [])),
    ("receive_data", (EXPIRED.encode(),)),
    ("receive_eof", ()),
    ("use_session", (Session("fresh"),)),
    ("next_request", ()),
    ("receive_head", REPLY[:2]),
    ("receive_data", (LIVE,)),
    ("close", ()),
    ("next_request", ()),
]


def after(flow: Flow, name: str, arguments: Any) -> tuple[Any, Session | None, Awaiting | None, bool]:
    return call(flow, name, arguments), flow.session, flow.awaiting, flow.submit_started


@pytest.mark.parametrize(
    ("script", "last"),
    [
        (SCRIPT, [[Live("Hi")], [End("Hi", HI)], [], None]),
        (SHARED, [[], [Live("Hi")], [Broken(Reason.TRUNCATED, "closed by the caller", asked=True)], None]),
    ],
)
def test_a_copy_made_between_any_two_calls_continues_like_the_original(
    script: list[tuple[str, Any]], last: list[Any]
) -> None:
    original = Flow(SITE, ASK, headers={"X-Extra": "a"}, limits=Limits(headers=5))
    snapshots = [list(clones(original))]
    outcomes = []
    for name, arguments in script:
        outcomes.append(after(original, name, arguments))
        snapshots.append(list(clones(original)))
    assert [outcome[0] for outcome in outcomes][-4:] == last
    for number, snapshot in enumerate(snapshots):
        for clone in snapshot:
            assert [after(clone, *step) for step in script[number:]] == outcomes[number:]


def test_repr_shows_the_origin_and_the_state_but_no_secret() -> None:
    secrets = ["nonce-secret", "id-secret", "cookie-secret", "header-secret", "Où"]
    session = Session("nonce-secret", "id-secret", "mwai_session_id=cookie-secret")
    flow = Flow(SITE, ASK, session=session, headers={"Authorization": "header-secret"})
    request = take(flow)
    answer(flow, (200, [], b'{"success":true,"reply":"a","new_token":"nonce-secret"}'))
    for shown in (repr(flow), repr(request), repr(flow.session)):
        assert not [secret for secret in secrets if secret in shown]
    assert repr(Flow(SITE, ASK)) == "<Flow to https://site.example SESSION>"
    assert repr(flow) == "<Flow to https://site.example DONE>"


# ------------------------------------------------------------------------------ properties

bodies = st.sampled_from(
    [
        b"",
        OPENED,
        RENEWED[2],
        HI.encode(),
        TOKEN.encode(),
        LIVE + END,
        LIVE,
        END,
        FORBIDDEN.encode(),
        EXPIRED.encode(),
        NO_ROUTE.encode(),
        PAGE,
        b'{"success":true,"restNonce":"a b"}',
        b'{"success":false}',
    ]
) | st.binary(max_size=20)
field_lists = st.lists(
    st.sampled_from(
        [
            ("X-WP-Nonce", "fresh"),
            ("X-WP-Nonce", "a b"),
            ("Set-Cookie", "mwai_session_id=x; path=/"),
            ("Content-Encoding", "gzip"),
            ("Retry-After", "5"),
            ("Location", "/\udcff"),
        ]
    ),
    max_size=2,
)
statuses = st.sampled_from([200, 200, 200, 401, 403, 404, 100, 101, 500])
failures = st.none() | st.none() | st.tuples(st.text(max_size=5), st.sampled_from(Reason))
sessions = st.sampled_from([None, Session(), GIVEN, Session("theirs", cookie="wordpress_logged_in_0=me")])


@st.composite
def exchanges(draw: st.DrawFn) -> list[tuple[int, Any, list[bytes], list[bytes], Any]]:
    drawn = []
    for _ in range(4):
        body = draw(bodies)
        cuts = draw(random_cuts(body)), draw(random_cuts(body))
        drawn.append((draw(statuses), draw(field_lists), *cuts, draw(failures)))
    return drawn


def drive(flow: Flow, responses: Iterator[tuple[int, Any, list[bytes], Any]]) -> tuple[list[Request], list[Event]]:
    """Drive it until no request is due. A missing answer is a close."""
    requests: list[Request] = []
    events: list[Event] = []
    while request := flow.next_request():
        requests.append(request)
        status, headers, pieces, failure = next(responses, (500, [], [], None))
        events += flow.receive_head(status, headers)
        if status < 200:
            pieces = []
        for piece in pieces:
            events += flow.receive_data(piece)
        events += flow.receive_eof() if failure is None else flow.receive_failure(*failure)
    return requests, events


@given(exchanges(), sessions, st.sampled_from([ASK, None]), st.integers(0, 1))
def test_any_answers_cut_anywhere_give_the_same_single_terminal_event(
    responses: list[tuple[int, Any, list[bytes], list[bytes], Any]],
    session: Session | None,
    submit: Submit | None,
    restarts: int,
) -> None:
    limits = Limits(restarts=restarts)
    outcomes = []
    for second in (False, True):
        flow = Flow(SITE, submit, session=session if submit else None, limits=limits)
        cut = ((status, fields, other if second else one, failure) for status, fields, one, other, failure in responses)
        requests, events = drive(flow, cut)
        outcomes.append((requests, events, flow.session))
    assert outcomes[0] == outcomes[1]
    assert all(isinstance(event, Live) for event in events[:-1])
    assert isinstance(events[-1], End | Broken)
    assert routes(requests).count(CHAT) <= 1 + restarts
    assert flow.submit_started == (CHAT in routes(requests))
    for event in events:
        for text in (event.text if isinstance(event, Live) else "", event.detail if isinstance(event, Broken) else ""):
            text.encode()


calls = st.one_of(
    st.tuples(st.just("next_request"), st.just(())),
    st.tuples(st.just("next_request"), st.just(())),
    st.tuples(st.just("receive_head"), st.tuples(statuses, field_lists)),
    st.tuples(st.just("receive_data"), st.tuples(bodies)),
    st.tuples(st.just("receive_eof"), st.just(())),
    st.tuples(st.just("receive_failure"), st.tuples(st.text(max_size=5), st.sampled_from(Reason))),
    st.tuples(st.just("use_session"), st.tuples(sessions)),
    st.tuples(st.just("close"), st.just(())),
)


@given(st.lists(calls, max_size=14), sessions)
def test_any_order_of_calls_raises_only_local_protocol_error(
    script: list[tuple[str, Any]], session: Session | None
) -> None:
    flow = Flow(SITE, ASK, session=session)
    events: list[Event] = []
    for name, arguments in script:
        before = pickle.dumps(flow)
        try:
            outcome = call(flow, name, arguments)
        except LocalProtocolError:
            assert pickle.dumps(flow) == before
        else:
            events += outcome if isinstance(outcome, list) else []
    last = flow.receive_failure("lost")
    while flow.awaiting is not None:  # the session was complete, so it continues
        last = flow.receive_failure("lost")
    events += last
    assert all(isinstance(event, Live) for event in events[:-1])
    assert isinstance(events[-1], End | Broken)


def test_bytes_take_a_shortcut_that_other_bytes_like_data_does_not() -> None:
    events = []
    for kind in (bytes, bytearray):
        flow = Flow(Endpoint.parse("http://site.example"), Submit(new_message="Hi?"), session=Session())
        flow.next_request()
        flow.receive_head(200, [])
        events.append([flow.receive_data(kind(b'data: {"type":"live","data":"a"}\n\n')) for _ in range(2)])
    assert events[0] == events[1] == [[Live("a")], [Live("a")]]
