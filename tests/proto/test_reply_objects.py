"""A body that is one JSON object."""

import pytest

from opchat_proto import Broken, End, Reason
from tests.proto.replies import BOM, ENDED, HI, RICH, check, end_of, judge, plain

CUT_JSON = "the answer breaks off inside its JSON object"


@pytest.mark.parametrize("before", [b"", BOM, b"\n\n", b" \t\r\n\v\f ", BOM + b"\r\n "])
@pytest.mark.parametrize(
    "after", [b"", b"\n", b"<!-- cached -->", b"{", b"data: x\n\n", b"\xff", b"}" * 100, b"[" * 1000]
)
def test_a_complete_object_counts_and_text_after_it_is_ignored(before: bytes, after: bytes) -> None:
    payload = '{"success":true,"reply":"Hi {","a":{"b":[1,{"c":"}"}]}}'
    check(before + payload.encode() + after, [End("Hi {", payload)])


def test_an_object_cut_anywhere_is_truncated() -> None:
    body = RICH.encode()
    for size in range(1, len(body)):
        assert judge([body[:size]]) == [Broken(Reason.TRUNCATED, CUT_JSON)], body[:size]
        assert judge([body[:size]], failure=Reason.LOST) == [Broken(Reason.TRUNCATED, "cut")]
        assert judge([body[:size]], failure=Reason.TIMEOUT) == [Broken(Reason.TIMEOUT, "cut")]
    check(body, [End('🚌 é 🚌 "', RICH)])


@pytest.mark.parametrize("reason", list(Reason))
def test_an_object_that_fails_late_is_judged_by_the_part_that_came(reason: Reason) -> None:
    unfinished = Reason.TRUNCATED if reason is Reason.LOST else reason
    check(HI.encode() + b"\n<!--", [ENDED], failure=reason)
    check(b'{"success":true', [Broken(unfinished, "cut")], failure=reason)
    check(b"{true", [Broken(Reason.MALFORMED, "a body that is not JSON: {true")], failure=reason)


@pytest.mark.parametrize(
    "text",
    [
        "{x",
        "{'success':true}",
        '{"success":True}',
        '{"success":true,"n":NaN}',
        '{"success":true,"n":Infinity',
        '{"success":true;',
        '{"success":true,"n":01}',
        '{"success":true,"n":-}',
        '{"success":true,"n":1.e5}',
        '{"reply":"a\nb"}',
        r'{"reply":"\x',
        r'{"reply":"\u12g',
        '{"success":true,"n":' + "1" * 4301 + "}",
        '{"n":' + "[" * 100_000,
    ],
    ids=lambda text: plain(text[:30]),
)
def test_an_unreadable_object_is_malformed(text: str) -> None:
    check(text.encode(), [Broken(Reason.MALFORMED, f"a body that is not JSON: {text[:200]}")])


def test_the_detail_of_an_unreadable_object_ignores_preceding_blanks() -> None:
    check(b"  \n{x", [Broken(Reason.MALFORMED, "a body that is not JSON: {x")])


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ('{"success":false,"message":"No."}', "No."),
        ('{"success":false}', ""),
        ('{"success":false,"message":null}', ""),
        ('{"success":false,"message":["a"]}', '["a"]'),
        ('{"success":true,"success":false,"message":"No."}', "No."),
    ],
)
def test_success_false_is_the_servers_error(text: str, detail: str) -> None:
    check(text.encode() + b"\n", [Broken(Reason.REMOTE, detail, raw=text)])
    check(end_of(text), [Broken(Reason.REMOTE, detail, raw=text)])


@pytest.mark.parametrize(
    ("text", "said", "code"),
    [
        ("{}", "{}", None),
        ('{"reply":"Hi"}', '{"reply":"Hi"}', None),
        ('{"success":1}', '{"success":1}', None),
        ('{"success":"true"}', '{"success":"true"}', None),
        ('{"success":null}', '{"success":null}', None),
        ('{"success":0,"message":"No."}', "No.", None),
        ('{"code":"rest_no_route","message":"No route.","data":{"status":404}}', "No route.", "rest_no_route"),
        ('{"code":7,"message":""}', '{"code":7,"message":""}', None),
        ('{"' + "x" * 300 + '":1}', '{"' + "x" * 198, None),
    ],
)
def test_an_object_with_another_success_or_none_is_malformed(text: str, said: str, code: str | None) -> None:
    expected = Broken(Reason.MALFORMED, f"a JSON object without success: {said}", code=code, raw=text)
    check(text.encode(), [expected])
    check(end_of(text), [expected])
