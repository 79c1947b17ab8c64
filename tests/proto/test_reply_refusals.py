"""Status and header fields: responses that are not followed, and the details of refusals."""

import pickle

import pytest

from opchat_proto import Broken, Event, Limits, Live, Reason, ReplyDecoder
from tests.proto.cuts import every_cut
from tests.proto.replies import (
    DATE,
    END,
    ENDED,
    HI,
    KIB,
    PAGE,
    STALE,
    Fields,
    check,
    judge,
    live,
    page,
    plain,
    too_large,
)

# ------------------------------------------------------------------------------ heads


def test_a_coding_other_than_identity_is_malformed_and_not_inflated() -> None:
    body = live("a") + END
    for value, named in [
        ("gzip", "gzip"),
        (" GZip ", "gzip"),
        ("identity, br", "br"),
        ("gzip,deflate", "gzip, deflate"),
        ("none, X-Gzip", "x-gzip"),
    ]:
        expected = [Broken(Reason.MALFORMED, f"the body is coded as {named}, though identity was asked for")]
        assert judge([body], headers=[("Content-Encoding", value)]) == expected
    both: Fields = [("content-encoding", "gzip"), (b"Content-Encoding", b"br")]
    assert judge([], headers=both) == [
        Broken(Reason.MALFORMED, "the body is coded as gzip, br, though identity was asked for")
    ]
    for value in ("", "identity", "Identity , identity", ",", "none", "UTF-8", "8bit, binary", "x" * 300, "\ud800"):
        assert judge([body], headers=[("Content-Encoding", value)]) == [Live("a"), ENDED]


BOTH_FRAMINGS: Fields = [("Content-Length", "5"), (b"TRANSFER-ENCODING", b"chunked")]


def test_both_framings_at_once_are_truncated() -> None:
    what = "Content-Length together with Transfer-Encoding"
    assert judge([END], headers=BOTH_FRAMINGS) == [Broken(Reason.TRUNCATED, what)]
    assert judge([END], headers=[*BOTH_FRAMINGS, ("Content-Encoding", "gzip")]) == [Broken(Reason.TRUNCATED, what)]
    refused = Broken(Reason.REFUSED, f"status 503 and no text ({what})", 503, retry_after=7)
    assert judge([b"x"], 503, [*BOTH_FRAMINGS, ("Retry-After", "7")]) == [refused]
    for one in BOTH_FRAMINGS:
        assert judge([END], headers=[one]) == [ENDED]


@pytest.mark.parametrize("status", [200, 403, 100, 101])
def test_the_limit_on_headers_is_exact(status: int) -> None:
    fields = [("a", "b")] * 128
    broken = too_large("headers", 128, "header fields")
    decoder = ReplyDecoder()
    assert broken not in decoder.receive_head(status, fields)
    decoder = ReplyDecoder()
    assert decoder.receive_head(status, iter([*fields, ("a", "b")])) == [broken]
    assert decoder.receive_data(END) == []


@pytest.mark.parametrize("most", [0, 1, 8])
def test_the_limit_on_interim_responses_is_exact(most: int) -> None:
    decoder = ReplyDecoder(Limits(interim_responses=most))
    for number in range(most):
        assert decoder.receive_head(102 + number, [("Link", "</a>")]) == []
    enough = pickle.loads(pickle.dumps(decoder))
    assert enough.receive_head(200, []) == []
    assert enough.receive_data(END) == [ENDED]
    broken = too_large("interim_responses", most, "1xx responses before the answer")
    assert decoder.receive_head(199, []) == [broken]
    assert decoder.receive_head(200, []) == []


def test_an_unrequested_switch_of_protocols_is_truncated() -> None:
    decoder = ReplyDecoder(Limits(interim_responses=0))
    broken = Broken(Reason.TRUNCATED, "status 101: the server switched protocols, unasked")
    assert decoder.receive_head(101, [("Upgrade", "websocket")]) == [broken]
    assert decoder.receive_data(END) == []


def test_an_interim_head_says_nothing_about_the_body() -> None:
    decoder = ReplyDecoder()
    assert decoder.receive_head(103, [*BOTH_FRAMINGS, ("Content-Encoding", "gzip"), ("Location", "/")]) == []
    assert decoder.receive_head(200, []) == []
    assert decoder.receive_data(END) == [ENDED]


def test_without_a_head_there_is_no_answer() -> None:
    lost = Broken(Reason.LOST, "the connection was closed before any answer")
    assert ReplyDecoder().receive_eof() == [lost]
    decoder = ReplyDecoder()
    assert decoder.receive_head(100, []) == []
    assert decoder.receive_eof() == [lost]
    for reason in Reason:
        assert ReplyDecoder().receive_failure("no route", reason) == [Broken(reason, "no route")]
    assert ReplyDecoder().receive_failure("no route") == [Broken(Reason.LOST, "no route")]


# ------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize("status", [0, 99, 201, 204, 301, 401, 403, 404, 429, 500, 502, 599, 999])
def test_any_other_status_is_a_refusal_whatever_the_body(status: int) -> None:
    check(b"Down", [Broken(Reason.REFUSED, "Down", status, raw="Down")], status)
    text = END.decode()
    check(END, [Broken(Reason.REFUSED, text.strip()[:200], status, raw=text)], status)
    check(HI.encode(), [Broken(Reason.REFUSED, HI, status, raw=HI)], status)


@pytest.mark.parametrize(
    ("body", "detail", "code", "raw"),
    [
        (STALE, "Cookie check failed", "rest_cookie_invalid_nonce", STALE),
        (f"\ufeff\n\ufeff {STALE}\n<!-- cached -->", "Cookie check failed", "rest_cookie_invalid_nonce", STALE),
        ('{"success":false,"message":"Rejected."}', "Rejected.", None, '{"success":false,"message":"Rejected."}'),
        (
            '{"code":"wp_die","message":"<h1>Down</h1>"}',
            "Down",
            "wp_die",
            '{"code":"wp_die","message":"<h1>Down</h1>"}',
        ),
        ('{"code":403,"message":{"a":1}}', '{"a": 1}', None, '{"code":403,"message":{"a":1}}'),
        (r'{"code":"\ud800","message":"\ud800"}', "\ufffd", "\ufffd", r'{"code":"\ud800","message":"\ud800"}'),
        ('{"code":"x"}', '{"code":"x"}', "x", '{"code":"x"}'),
        ('{"code":"x","message":false}', '{"code":"x","message":false}', "x", '{"code":"x","message":false}'),
        ('{"code":"x","message":"cut', '{"code":"x","message":"cut', None, '{"code":"x","message":"cut'),
        ('{"code":"x","n":NaN}', '{"code":"x","n":NaN}', None, '{"code":"x","n":NaN}'),
        ('["a"]', '["a"]', None, '["a"]'),
        (PAGE.decode(), "Café & more", None, PAGE.decode()),
        ("<h1>502 Bad Gateway</h1><hr>nginx", "502 Bad Gateway nginx", None, "<h1>502 Bad Gateway</h1><hr>nginx"),
        ("<b>Fatal error</b>: x\n" + STALE, "Cookie check failed", "rest_cookie_invalid_nonce", STALE),
        (
            "<b>Fatal error</b>: x\n" + STALE[:-2],
            "Fatal error: x " + STALE[:-2],
            None,
            "<b>Fatal error</b>: x\n" + STALE[:-2],
        ),
        ('<title>No</title>{"code":5}', "No", None, '{"code":5}'),
        ("upstream\n connect  error", "upstream connect error", None, "upstream\n connect  error"),
        ("a < b &amp; c", "a < b &amp; c", None, "a < b &amp; c"),
        ("x" * 300, "x" * 200, None, "x" * 300),
        ("error: <title>Down</title>", "Down", None, "error: <title>Down</title>"),
        ("", "status 403 and no text", None, ""),
        ("\ufeff \n", "status 403 and no text", None, ""),
        ("<br>", "status 403 and no text", None, "<br>"),
        ("\ufeff<b>Down</b>", "Down", None, "<b>Down</b>"),
        (" \n<b>Down</b>", "Down", None, "<b>Down</b>"),
        ("Sorry: <TITLE>Down</TITLE>", "Down", None, "Sorry: <TITLE>Down</TITLE>"),
    ],
    ids=lambda value: plain(str(value)[:24]),
)
def test_a_refusal_quotes_the_server(body: str, detail: str, code: str | None, raw: str) -> None:
    check(body.encode(), [Broken(Reason.REFUSED, detail, 403, code, raw=raw)], 403)


@pytest.mark.parametrize("reason", list(Reason))
def test_a_refusal_that_fails_in_the_middle_stays_a_refusal(reason: Reason) -> None:
    check(b"<title>Bad Gat", [Broken(Reason.REFUSED, "Bad Gat", 502, raw="<title>Bad Gat")], 502, failure=reason)
    check(
        STALE.encode(),
        [Broken(Reason.REFUSED, "Cookie check failed", 403, "rest_cookie_invalid_nonce", raw=STALE)],
        403,
        failure=reason,
    )
    check(b"", [Broken(Reason.REFUSED, "status 502 and no text (cut)", 502)], 502, failure=reason)


def test_only_the_status_of_a_compressed_refusal_counts() -> None:
    headers = [("Content-Encoding", "gzip"), ("Retry-After", "3")]
    expected = Broken(Reason.REFUSED, "status 503 and a body coded as gzip", 503, retry_after=3)
    check(STALE.encode(), [expected], 503, headers)
    lost = Broken(Reason.REFUSED, "status 503 and a body coded as gzip (cut)", 503, retry_after=3)
    check(b"\x1f\x8b", [lost], 503, headers, failure=Reason.LOST)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308, 399])
def test_a_redirect_names_its_location(status: int) -> None:
    headers = [("Location", "https://www.site.example/")]
    detail = "redirected to https://www.site.example/, which is not followed"
    assert judge([], status, headers) == [Broken(Reason.REFUSED, detail, status)]
    moved = b"<title>Moved</title>"
    check(moved, [Broken(Reason.REFUSED, f"{detail}: Moved", status, raw=moved.decode())], status, headers)
    assert judge([], status, []) == [Broken(Reason.REFUSED, f"status {status} and no text", status)]


def test_a_location_is_shortened_and_always_encodes() -> None:
    detail = f"redirected to \ufffd{'x' * 199}, which is not followed"
    assert judge([], 302, [("location", "\udc80" + "x" * 300)]) == [Broken(Reason.REFUSED, detail, 302)]


@pytest.mark.parametrize("status", [201, 299, 400, 403, 503])
def test_a_location_with_another_status_is_not_a_redirect(status: int) -> None:
    assert judge([b"No."], status, [("Location", "/login")]) == [Broken(Reason.REFUSED, "No.", status, raw="No.")]


@pytest.mark.parametrize(
    ("value", "date", "seconds"),
    [
        ("120", None, 120),
        ("0", None, 0),
        ("007", None, 7),
        ("999999999", None, 999_999_999),
        ("1000000000", None, None),
        ("9" * 5000, None, None),
        ("-1", None, None),
        ("1.5", None, None),
        ("soon", None, None),
        ("", DATE, None),
        ("\u0661\u0662", None, None),
        ("Wed, 01 Jul 2026 12:00:30 GMT", DATE, 30),
        ("Thu, 02 Jul 2026 12:00:00 GMT", DATE, 86_400),
        ("Wed, 01 Jul 2026 11:59:00 GMT", DATE, 0),
        (DATE, DATE, 0),
        (DATE, None, None),
        (DATE, "now", None),
        ("Wed, 31 Jun 2026 12:00:00 GMT", DATE, None),
        ("Wed, 01 Jul 0000 12:00:00 GMT", DATE, None),
        ("Wed, 01 Jul 2026 24:00:00 GMT", DATE, None),
        ("Wed, 01 Jux 2026 12:00:00 GMT", DATE, None),
        ("Wed, 01 Jul 2026 12:00:00 CET", DATE, None),
        ("Wednesday, 01-Jul-26 12:00:00 GMT", DATE, 0),
        ("Wed, \u0660\u0661 Jul 2026 12:00:00 GMT", DATE, None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 GMT", 315_537_897_599),
    ],
)
def test_retry_after_is_in_seconds(value: str, date: str | None, seconds: int | None) -> None:
    headers = [("RETRY-AFTER", value), *([] if date is None else [("Date", date)])]
    assert judge([b"Busy"], 429, headers) == [Broken(Reason.REFUSED, "Busy", 429, None, seconds, "Busy")]


@pytest.mark.parametrize("status", [201, 299, 302, 429])
def test_retry_after_counts_with_any_status(status: int) -> None:
    expected = [Broken(Reason.REFUSED, f"status {status} and no text", status, retry_after=5)]
    assert judge([], status, [("Retry-After", "5")]) == expected


def test_the_first_of_repeated_fields_counts() -> None:
    headers = [("Retry-After", "1"), ("Retry-After", "2"), ("Location", "/a"), ("Location", "/b")]
    detail = "redirected to /a, which is not followed"
    assert judge([], 302, headers) == [Broken(Reason.REFUSED, detail, 302, retry_after=1)]


@pytest.mark.parametrize("size", [1, 5, 100])
def test_a_refusal_is_judged_after_exactly_refusal_bytes(size: int) -> None:
    limits = Limits(refusal_bytes=size, event_bytes=1, reply_bytes=1)
    text = "0123456789" * 11
    expected: list[Event] = [Broken(Reason.REFUSED, text[:size], 500, raw=text[:size])]
    check(text.encode(), expected, 500, limits=limits)
    for pieces in every_cut(text[:size].encode()):
        decoder = ReplyDecoder(limits)
        decoder.receive_head(500, [])
        assert [decoded for piece in pieces for decoded in decoder.receive_data(piece)] == expected
    decoder = ReplyDecoder(limits)
    decoder.receive_head(500, [])
    assert decoder.receive_data(text[: size - 1].encode()) == []


def test_by_default_64_kib_of_a_refusal_or_a_page_are_read() -> None:
    body = b"<p>" + b"x" * (64 * KIB)
    raw = body[: 64 * KIB].decode()
    check(body, [Broken(Reason.REFUSED, "x" * 200, 500, raw=raw)], 500)
    check(body, [page("x" * 200, raw.encode())])


def test_a_character_cut_at_the_bound_is_replaced() -> None:
    check("aé".encode(), [Broken(Reason.REFUSED, "a\ufffd", 500, raw="a\ufffd")], 500, limits=Limits(refusal_bytes=2))
