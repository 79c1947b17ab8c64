"""WordPress's answer to the question who asks, and its nonce: both judged, and never quoted."""

from dataclasses import replace
from typing import Any

import pytest

from opchat_proto import Broken, End, Event, Limits, Reason, ReplyDecoder, Session
from opchat_proto._member import (  # internal; the flow's use of them is public
    NonceDecoder,
    explain_guest,
    explain_nonce,
    is_usable,
    read_member,
)
from tests import captures
from tests.proto.cuts import in_pieces

ALICE = Session.from_application_password("alice", "abcd EFGH ijkl")
COOKIES = Session(cookie="wordpress_logged_in_1=x")


@pytest.mark.parametrize(
    ("session", "usable"),
    [
        (Session(), True),
        (Session(cookie="cf_clearance=x; mwai_session_id=y"), True),
        (ALICE, False),
        (replace(ALICE, nonce="n"), False),
        (replace(ALICE, member="alice"), False),
        (replace(ALICE, nonce="n", member="alice"), True),
        (replace(COOKIES, nonce="n"), False),
        (replace(COOKIES, nonce="n", member=""), False),
        (replace(COOKIES, nonce="n", member="alice"), True),
        (Session("n", cookie="cf_clearance=x", member=""), False),
    ],
)
def test_a_guest_or_a_proved_member_needs_no_proof(session: Session, usable: bool) -> None:
    assert is_usable(session) is usable


def answered(status: int, body: bytes) -> Event:
    decoder = ReplyDecoder()
    events = decoder.receive_head(status, []) + decoder.receive_data(body) + decoder.receive_eof()
    return events[-1]


@pytest.mark.parametrize(
    ("status", "body", "member"),
    [
        (200, b'{"id":2,"name":"Alice","slug":"alice"}', "alice"),
        (200, b'{"id":1}', "user 1"),
        (200, b'{"id":23456789012}', "user 456789012"),
        (200, b'{"id":2,"slug":"\\ud83d\\ude00"}', "user 2"),
        (200, b'{"id":2,"slug":5}', "user 2"),
        (200, b'<b>Notice</b>{"id":2,"slug":"alice"}', "alice"),
        (200, b'<b>Notice</b>{"id":2,"slug":"alice"}\n<!-- cached --> <!-- again -->\n', "alice"),
        (200, b'<b>Notice</b>{"id":2,"slug":"alice"} {"id":2,"slug":"alice"}', "alice"),
        (200, b'<title>Home</title><script>post = {"id":2,"slug":"hello"};</script>', None),
        (200, b'[{"id":2,"slug":"alice"},{"id":3,"slug":"bob"}]', None),
        (200, b'<b>Notice</b>{"id":2,"slug":"alice"}<!-- cut', None),
        (200, b'{"id":0}', None),
        (200, b'{"id":-2}', None),
        (200, b'{"id":2.0}', None),
        (200, b'{"name":"alice"}', None),
        (200, b"[2]", None),
        (200, b"id", None),
        (200, b'{"success":true,"id":2}', None),
        (201, b'{"id":2}', None),
        (401, b'{"id":2}', None),
    ],
)
def test_an_id_under_status_200_proves_the_member(status: int, body: bytes, member: str | None) -> None:
    assert read_member(answered(status, body), 64) == member


GUEST = "the site takes you for a guest, so nothing was asked: "


@pytest.mark.parametrize(
    ("event", "session", "advice"),
    [
        (Broken(Reason.REFUSED, "No", 401), ALICE, f"; {GUEST}are the name"),
        (Broken(Reason.REFUSED, "No", 403), COOKIES, f"; {GUEST}the cookies have expired"),
        (Broken(Reason.REFUSED, "No", 404), ALICE, "; a security plugin may hide"),
        (Broken(Reason.MALFORMED, "No"), COOKIES, "; a security plugin may hide"),
        (Broken(Reason.REFUSED, "No", 503, retry_after=5), ALICE, ""),
        (Broken(Reason.LOST, "No"), ALICE, ""),
    ],
)
def test_an_obstacle_is_reported(event: Broken, session: Session, advice: str) -> None:
    explained = explain_guest(event, session)
    assert explained.detail.startswith(f"users/me: No{advice}")
    assert replace(explained, detail="No") == event


def test_any_other_answer_is_not_one_of_wordpress() -> None:
    assert explain_guest(End(None), ALICE).detail.startswith("users/me: no user; a security plugin")
    explained = explain_nonce("/page/")
    assert explained.detail.startswith(f"/page/: no nonce for a member; {GUEST}the cookies")
    assert replace(explained, detail="") == Broken(Reason.REFUSED, "")


def judged(status: int, pieces: list[bytes], *, limits: Limits = Limits()) -> tuple[list[Event], str | None]:
    decoder = NonceDecoder(limits)
    events = decoder._receive_head(103, []) + decoder._receive_head(status, [])
    for piece in pieces:
        if not events:
            events += decoder.receive_data(memoryview(piece))
    return events or decoder.receive_eof(), decoder.nonce


@pytest.mark.parametrize(
    ("body", "nonce"),
    [
        (b"1635c20365", "1635c20365"),
        (b"1635c20365\r\n", "1635c20365"),
        (b"\xef\xbb\xbf1635c20365", "1635c20365"),
        (b"<br />\n<b>Notice</b>:  x in /y on line 3<br />\n1635c20365", "1635c20365"),
        (b"1635C20365", None),
        (b"11635c20365", None),
        (b"1635c2036", None),
        (b"1635c20365 and more", None),
        (b"", None),
        (b"0", None),
        (b"-1", None),
    ],
)
def test_ten_hex_digits_are_a_nonce(body: bytes, nonce: str | None) -> None:
    for pieces in ([body], in_pieces(body, 1)):
        events, found = judged(200, pieces)
        assert found == nonce
        (event,) = events
        assert (event == End(None)) == (nonce is not None)
        assert "635" not in str(event)


@pytest.mark.parametrize(
    ("status", "body", "event"),
    [
        (400, b"0", Broken(Reason.REFUSED, "not signed in: ", 400)),
        (200, b"0", Broken(Reason.REFUSED, "not signed in: ", 200)),
        (403, b"1635c20365", Broken(Reason.REFUSED, "status 403; wp-admin may be closed or elsewhere; ", 403)),
        (200, b"<p>1635c20365</p>", Broken(Reason.MALFORMED, "the answer is not a nonce; ")),
        (200, b"x" * 65_537, Broken(Reason.MALFORMED, "the answer is not a nonce; ")),
    ],
)
def test_anything_else_is_reported_without_quoting_it(status: int, body: bytes, event: Broken) -> None:
    ((found,), nonce) = judged(status, [body])
    assert isinstance(found, Broken)
    assert nonce is None
    detail = found.detail[: len(event.detail)] if event.detail.endswith(" ") else found.detail
    assert replace(found, detail=detail) == event


def test_the_limit_is_exact() -> None:
    limits = Limits(refusal_bytes=10)
    assert judged(200, [b"1635c20365"], limits=limits)[1] == "1635c20365"
    assert judged(200, [b"1635c20365", b"\n"], limits=limits)[1] is None


def test_a_truncated_answer_gives_no_nonce() -> None:
    decoder = NonceDecoder(Limits())
    assert decoder.receive_failure("cut") == [Broken(Reason.LOST, "cut")]
    assert decoder.receive_eof() == [Broken(Reason.LOST, "the connection was closed before any answer")]
    assert decoder._receive_head(200, []) == []
    decoder = NonceDecoder(Limits())
    decoder._receive_head(200, [])
    decoder.receive_data(b"1635c20365")
    assert decoder.receive_failure("cut") == [Broken(Reason.TRUNCATED, "cut")]
    assert decoder.receive_failure("late", Reason.TIMEOUT, limit="idle") == [
        Broken(Reason.TIMEOUT, "late", limit="idle")
    ]
    assert decoder.nonce is None


@pytest.mark.parametrize("headers", [[("content-length", "1"), ("transfer-encoding", "chunked")], [("a", "b")] * 129])
def test_a_head_is_judged_like_a_replys(headers: Any) -> None:
    (event,) = NonceDecoder(Limits())._receive_head(200, headers)
    assert isinstance(event, Broken)
    assert event.reason in (Reason.TRUNCATED, Reason.TOO_LARGE)


RECORDED = captures.RECORDINGS / "3.6.2"


def body_of(name: str) -> tuple[int, bytes]:
    head, _, body = (RECORDED / f"{name}.response.bin").read_bytes().partition(b"\r\n\r\n")
    size, _, rest = body.partition(b"\r\n")  # one chunk
    return int(head.split(b" ")[1]), rest[: int(size, 16)]


@pytest.mark.skipif(not RECORDED.exists(), reason="the recordings are not at hand")
@pytest.mark.parametrize(
    ("name", "member"),
    [
        ("users_me_app_password", "alice"),
        ("users_me_wrong_password", None),
        ("users_me_guest", None),
        ("users_me_http", None),
    ],
)
def test_recorded_answers_to_users_me_are_judged(name: str, member: str | None) -> None:
    assert read_member(answered(*body_of(name)), 64) == member


@pytest.mark.skipif(not RECORDED.exists(), reason="the recordings are not at hand")
def test_recorded_nonces_are_judged() -> None:
    status, body = body_of("ajax_rest_nonce_member")
    assert judged(status, [body]) == ([End(None)], body.decode())
    status, body = body_of("ajax_rest_nonce_guest")
    ((event,), nonce) = judged(status, [body])
    assert isinstance(event, Broken)
    assert (event.reason, event.status, nonce) == (Reason.REFUSED, 400, None)
    assert event.detail.startswith("not signed in")
