"""Bodies that are not an answer: PHP notices, pages."""

import pytest

from opchat_proto import Broken, End, Limits, Live, Reason, ReplyDecoder
from tests.proto.cuts import every_cut
from tests.proto.replies import (
    BOM,
    CLOSED,
    CUT_PAGE,
    END,
    ENDED,
    HI,
    HINT,
    PAGE,
    STALE,
    check,
    judge,
    line,
    live,
    page,
    plain,
    remote,
)

# ------------------------------------------------------------------------------ not an answer


@pytest.mark.parametrize("before", [b"", BOM, b"\n" + BOM + b" "])
@pytest.mark.parametrize(
    "text",
    ["0", "-1", "[]", '"text"', "null", "true", "1635c20365", "Service down", ": keepalive", "event: x", "[{}]", "idx"],
)
def test_a_body_that_is_not_an_answer_is_malformed_if_complete_else_truncated(before: bytes, text: str) -> None:
    body = before + text.encode()
    check(body, [Broken(Reason.MALFORMED, f"not a chat answer: {text}", raw=text)])
    check(body + b"\n\n", [Broken(Reason.MALFORMED, f"not a chat answer: {text}", raw=f"{text}\n\n")])
    named = text not in ("[]", "[{}]", ": keepalive", "event: x")
    cut = "cut" + (HINT + text if named else "")
    check(body, [Broken(Reason.TRUNCATED, cut)], failure=Reason.LOST)
    check(body, [Broken(Reason.TIMEOUT, cut)], failure=Reason.TIMEOUT)


@pytest.mark.parametrize("body", [b"\xef", b"\n\xef\xbb", b"d", BOM + b"da", b" dat", b"data"])
def test_a_body_cut_inside_a_mark_or_the_name_of_a_data_line_is_truncated(body: bytes) -> None:
    check(
        body,
        [
            Broken(
                Reason.TRUNCATED,
                CLOSED + (HINT + body.strip(b" " + BOM).decode() if b"d" in body and body != b"data" else ""),
            )
        ],
    )


def test_a_text_is_kept_up_to_the_limit_and_a_later_event_still_counts() -> None:
    limits = Limits(refusal_bytes=10)
    check(b"x" * 40, [Broken(Reason.MALFORMED, "not a chat answer: " + "x" * 10, raw="x" * 10)], limits=limits)
    check(b"x" * 40 + b"\n" + live("a") + END, [Live("a"), ENDED], limits=limits)


NOTICES = [
    b'<br />\n<b>Warning</b>:  Undefined {array} key "nope" in <b>a.php</b> on line <b>3</b><br />\n',
    b"PHP Warning:  x\n",
    b"</div>",
    BOM + b"x" + BOM,
    b'Array\n(\n {"success":true\n {"code":',
    b'{"code":"x"} </p>'[1:],
]


@pytest.mark.parametrize("notice", NOTICES)
@pytest.mark.parametrize("after", [b"", b"\n<!-- cached -->", b'<script>{"code":', b'{"success":fal'])
def test_the_object_after_notices_is_judged_as_if_alone(notice: bytes, after: bytes) -> None:
    for text, expected in (
        (HI, ENDED),
        ('{"success":false,"message":"No."}', remote('{"success":false,"message":"No."}', "No.")),
        (
            '{ "success" : true, "blocks":[{"code":"inner"}]}',
            End(None, '{ "success" : true, "blocks":[{"code":"inner"}]}'),
        ),
    ):
        body = notice + text.encode() + after
        check(body, [expected])
        check(body, [expected], failure=Reason.TIMEOUT)
    (refused,) = judge([notice + STALE.encode() + after], 403)
    assert refused == Broken(Reason.REFUSED, "Cookie check failed", 403, "rest_cookie_invalid_nonce", raw=STALE)
    (malformed,) = judge([notice + STALE.encode() + after])
    assert isinstance(malformed, Broken)
    assert (malformed.reason, malformed.code) == (Reason.MALFORMED, "rest_cookie_invalid_nonce")
    assert malformed.detail.startswith("a JSON object without success: Cookie check failed")


def test_of_several_objects_after_notices_the_last_complete_one_counts() -> None:
    body = b'x{"success":false}' + HI.encode() + b'{"code":"cut"'
    check(body, [ENDED])
    check(b"x" + body[:-1] + b"}", judge([b'x{"success":false}' + HI.encode() + b'{"code":"cu}']))


def test_an_object_after_notices_must_be_in_the_part_that_is_kept() -> None:
    body = b"<b>" + HI.encode()
    check(body, [ENDED], limits=Limits(refusal_bytes=len(body)))
    short = Limits(refusal_bytes=len(body) - 1)
    check(body, [page(HI[:-1], body[:-1])], limits=short)
    check(
        b"xxx" + HI.encode(),
        [Broken(Reason.MALFORMED, f"not a chat answer: xxx{HI[:-1]}", raw=f"xxx{HI[:-1]}")],
        limits=short,
    )


def test_the_limit_on_depth_applies_to_an_object_after_notices() -> None:
    limits = Limits(json_depth=2)
    check(b'x{"success":true,"a":[1]}', [End(None, '{"success":true,"a":[1]}')], limits=limits)
    (broken,) = judge([b'x{"success":true,"a":[[]]}'], limits=limits)
    assert isinstance(broken, Broken)
    assert broken.reason is Reason.MALFORMED


def test_after_a_data_line_no_object_is_searched_for() -> None:
    check(b"x\ndata: \n\n" + HI.encode(), [Live("", "unreadable"), Broken(Reason.TRUNCATED, f"{CLOSED}{HINT}x")])


# ------------------------------------------------------------------------------ pages


@pytest.mark.parametrize("before", [b"", BOM, b"\n \t\r\n", BOM + b"\n"], ids=["bare", "mark", "blank", "both"])
def test_a_page_is_malformed_and_named_by_its_title(before: bytes) -> None:
    check(before + PAGE, [page("Café & more", PAGE)])


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"<", "<"),
        (b"<p>Down for <b>repair</b>&nbsp;&#x21;&#33;</p>", "Down for repair !!"),
        (b'<TITLE class="a">\n  Just\n a&hellip; moment\n</TITLE>', "Just a… moment"),
        (b"<title></title><h1>Down</h1>", "Down"),
        (b"<svg><title> \n</title></svg><title>Down</title>", "Down"),
        (b"<titles>no</titles>", "no"),
        (b"<title>cut", "cut"),
        (b"<html><style>a { b: c }</style><SCRIPT src='a'>if (a < b) c();</script ><p>Down</p>", "Down"),
        (b"<p>Down</p><script>if (a < b", "Down"),
        (b"<p>Down</p><scripts>all<styled>day", "Down all day"),
        (b"<h1>a", "a"),
        (b"<br />", ""),
        (b"<p>" + b"word " * 100, ("word " * 40)[:200]),
        (
            b"<title>&#" + b"9" * 5000 + b";|&#x" + b"9" * 5000 + b";|&#0000065;|&#55296;|&#0;</title>",
            "\ufffd|\ufffd|A|\ufffd|\ufffd",
        ),
    ],
    ids=lambda value: plain(value[:24]),
)
def test_a_page_is_named_in_one_line_without_tags(body: bytes, detail: str) -> None:
    check(body, [page(detail, body)])


def test_bytes_of_a_page_that_are_not_utf_8_are_replaced() -> None:
    malformed = Broken(Reason.MALFORMED, "a web page, not a chat answer: caf\ufffd", raw="<title>caf\ufffd</title>")
    check(b"<title>caf\xe9</title>", [malformed])


def test_a_body_that_begins_with_a_tag_and_has_a_data_line_is_a_stream() -> None:
    notice = b"<br />\n<b>Warning</b>: x\n"
    check(notice + live("a") + END, [Live("a"), ENDED])
    check(notice + b"data:", [Broken(Reason.TRUNCATED, f"{CLOSED}{HINT}Warning: x")])
    check(notice + b"data", [page("Warning: x data", notice + b"data")])
    check(notice + b" data: x\n", [page("Warning: x data: x", notice + b" data: x\n")])
    check(notice + line("x"), [Broken(Reason.MALFORMED, f"an event that is not JSON: x{HINT}Warning: x")])


@pytest.mark.parametrize("reason", [Reason.LOST, Reason.TIMEOUT])
def test_a_page_that_is_cut_says_both(reason: Reason) -> None:
    detail = CUT_PAGE.replace("Down", "Café & more")
    expected = Reason.TRUNCATED if reason is Reason.LOST else reason
    body = PAGE[:60]
    check(body, [Broken(expected, detail, raw=body.decode())], failure=reason)


@pytest.mark.parametrize("size", [7, 40, 41])
def test_a_page_is_judged_after_exactly_refusal_bytes(size: int) -> None:
    limits = Limits(refusal_bytes=size)
    body = b"<title>" + b"x" * 100
    expected = [page("" if size == 7 else "x" * (size - 7), body[:size])]
    check(body, expected, limits=limits)
    for pieces in every_cut(body[:size]):
        decoder = ReplyDecoder(limits)
        decoder.receive_head(200, [])
        assert [decoded for piece in pieces for decoded in decoder.receive_data(piece)] == expected
    decoder = ReplyDecoder(limits)
    decoder.receive_head(200, [])
    assert decoder.receive_data(body[: size - 1]) == []


def test_a_data_line_counts_if_its_name_ends_at_the_last_byte_read() -> None:
    notice = b"<br />\n"
    check(notice + live("a") + END, [Live("a"), ENDED], limits=Limits(refusal_bytes=len(notice) + 5))
    short = Limits(refusal_bytes=len(notice) + 4)
    check(notice + live("a") + END, [page("data", notice + b"data")], limits=short)


def test_events_of_data_lines_without_a_colon_do_not_make_a_stream() -> None:
    check(b"<br>\ndata\n\n<p>", [Live("", "unreadable"), page("data", b"<br>\ndata\n\n<p>")])
