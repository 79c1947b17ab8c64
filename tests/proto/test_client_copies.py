"""Clients as copies and pickles. They give the same events as the inner ring alone."""

import copy
import pickle
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opchat_proto import Client, Done, Endpoint, Event, Flow, Limits, Session, Submit
from tests.proto.asking import (
    ANSWER,
    ANSWERED,
    CHUNKED,
    CREDENTIALS,
    END,
    ENDPOINT,
    HI,
    QUESTION,
    Way,
    ask,
    chunks,
    client,
    content_length,
)
from tests.proto.clients import EVERY_WAY, PARTS, STALE, frozen
from tests.proto.cuts import byte_by_byte, clones, random_cuts

# ------------------------------------------------------------------------------ copies, secrets


def secrets_of(asking: Client) -> None:
    for text in (repr(asking), str(asking), repr(asking.next_step()), repr(asking.session)):
        assert "secret" not in text
        assert len(text) < 200


def advance(asking: Client, piece: bytes) -> list[Event]:
    """Report these bytes; if empty, report that the step is done."""
    if piece:
        return asking.receive_data(piece)
    asking.step_done()
    return []


def test_a_copy_or_pickle_continues_from_every_step_and_shows_no_secret() -> None:
    start = content_length(
        b'{"success":true,"sessionId":"secret1","restNonce":"secret2"}', b"Set-Cookie: mwai_session_id=secret3"
    )
    asking = client(session=Session("secret0", "secret0", "mwai_session_id=secret0"), limits=Limits())
    events: list[Event] = []
    inputs = [
        *(2 * [b""]),
        *byte_by_byte(STALE),
        *(2 * [b""]),
        *byte_by_byte(start),
        *(2 * [b""]),
        *byte_by_byte(CHUNKED + chunks(HI, END[:20], END[20:])),
    ]
    for piece in inputs:
        secrets_of(asking)
        twins = [copy.deepcopy(asking), *(pickle.loads(pickle.dumps(asking, protocol)) for protocol in range(2, 6))]
        step = asking.next_step()
        got = advance(asking, piece)
        for twin in twins:
            assert twin.next_step() == step
            assert advance(twin, piece) == got
            assert (twin.session, twin.awaiting, twin.submit_started) == (
                asking.session,
                asking.awaiting,
                asking.submit_started,
            )
        asking = twins[len(events) % len(twins)]
        events += got
    assert events == ANSWERED
    assert asking.session == Session("secret2", "secret1", "mwai_session_id=secret3")


@EVERY_WAY
def test_a_copy_or_pickle_continues_through_a_proxy_and_shows_no_credentials(way: Way) -> None:
    asking = way.client()
    answer = content_length(ANSWER)
    script = [*way.script, b"", answer[:50], answer[50:]]
    inputs = [piece for item in script for piece in (byte_by_byte(item) if isinstance(item, bytes) and item else [b""])]
    events: list[Event] = []
    for count, piece in enumerate(inputs):
        step = asking.next_step()
        for text in (repr(asking), str(asking), repr(step), str(step)):
            assert not any(secret in text for secret in ("s3cr3t", "us3r", CREDENTIALS.decode()))
            assert len(text) < 200
        twins = list(clones(asking)) if len(piece) < 2 and count < 60 else [copy.deepcopy(asking)]
        got = advance(asking, piece)
        for twin in twins:
            assert twin.next_step() == step
            assert advance(twin, piece) == got
            assert (twin.next_step(), twin.awaiting) == (asking.next_step(), asking.awaiting)
        asking = twins[count % len(twins)]
        events += got
    assert (events, asking.next_step()) == (ANSWERED, Done())


@pytest.mark.parametrize("report", [Client.step_done, lambda asking: asking.step_failed("broken pipe")])
def test_a_sent_question_is_held_in_memory_once(report: Callable[[Client], object]) -> None:
    asking = Client(Flow(ENDPOINT, Submit(new_message="needle"), session=Session()))
    asking.step_done()
    asking.next_step()
    assert frozen(asking).count(b"needle") == 2
    report(asking)
    assert frozen(asking).count(b"needle") == 1


@pytest.mark.parametrize("answer", [content_length(ANSWER), STALE, b"x\r\n\r\n"])
def test_a_finished_client_holds_its_question_once_and_no_request(answer: bytes) -> None:
    asking = Client(Flow(ENDPOINT, Submit(new_message="needle"), session=Session(), limits=Limits(restarts=0)))
    ask(asking)
    asking.receive_data(answer)
    assert asking.next_step() == Done()
    assert frozen(asking).count(b"needle") == 1


def test_repr_shows_the_origin_and_the_state() -> None:
    assert repr(client(endpoint=Endpoint.parse("https://site.example:8443/blog"))) == (
        "<Client CONNECT of <Flow to https://site.example:8443 SUBMIT>>"
    )


# ------------------------------------------------------------------------------ the two rings

BODIES = st.lists(PARTS | st.binary(max_size=5), max_size=6).map(b"".join)
STATUSES = st.sampled_from([200, 200, 200, 403, 404, 500, 301])
FIELDS = st.lists(
    st.sampled_from(
        [
            ("content-encoding", "gzip"),
            ("x-wp-nonce", "fresh"),
            ("set-cookie", "mwai_session_id=5e"),
            ("retry-after", "7"),
            ("location", "/there"),
        ]
    ),
    max_size=2,
    unique=True,
)


@given(
    st.data(),
    st.lists(
        st.tuples(STATUSES, FIELDS, BODIES, st.sampled_from(["length", "chunked", "close"])), min_size=1, max_size=4
    ),
    st.sampled_from([None, Session(), Session("n0", "s0", "mwai_session_id=q")]),
    st.sampled_from(
        [Limits(), Limits(restarts=0), Limits(event_bytes=40, reply_bytes=90, refusal_bytes=20, headers=2)]
    ),
)
def test_the_inner_ring_gives_the_same_events_for_the_same_answers(
    data: st.DataObject,
    answers: list[tuple[int, list[tuple[str, str]], bytes, str]],
    session: Session | None,
    limits: Limits,
) -> None:
    flow = Flow(ENDPOINT, QUESTION, session=session, limits=limits)
    asking = client(session=session, limits=limits)
    inner: list[Event] = []
    outer: list[Event] = []
    for status, extra, body, framing in answers:
        fields = [*extra]
        if framing == "length":
            fields.append(("content-length", str(len(body))))
        elif framing == "chunked":
            fields.append(("transfer-encoding", "chunked"))
        head = b"HTTP/1.1 %d -\r\n" % status + b"".join(f"{n}: {v}\r\n".encode() for n, v in fields) + b"\r\n"
        pieces = data.draw(random_cuts(body))
        if flow.next_request() is not None:
            inner += flow.receive_head(status, fields)
            for piece in pieces:
                inner += flow.receive_data(piece)
            inner += flow.receive_eof()
        if asking.next_step() != Done():
            ask(asking)
            framed = body
            if framing == "chunked":
                framed = chunks(*(piece for piece in pieces if piece)) + b"0\r\n\r\n"
            for piece in data.draw(random_cuts(head + framed)):
                outer += asking.receive_data(piece)
            if framing == "close":
                outer += asking.receive_eof()
    assert outer == inner
    assert (asking.session, asking.awaiting, asking.submit_started) == (
        flow.session,
        flow.awaiting,
        flow.submit_started,
    )
