"""A detail quotes a peer without tags and secrets, in any spelling."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opchat_proto import Broken, Event, Limits, Reason, ReplyDecoder
from opchat_proto._quote import SHOWN, beginning, mask, without_tags  # quoting alone is not public

SECRET = "5EcReT1234"
MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a < b &amp; c > d", "a < b &amp; c > d"),
        ("  two\n lines ", "  two\n lines "),
        (
            "<p>There has been a critical error.</p><p><a href='/x'>More</a>.</p>",
            "There has been a critical error. More.",
        ),
        ("<b>Fatal error</b>:  no &lt;b&gt;&nbsp;&#33;<br />\n", "Fatal error: no <b> !"),
        ("<!-- cached --><!DOCTYPE html>a<?php b ?>", "a"),
        ("Down <a href='", "Down"),
        ("<strong>Error</strong><hr>x", "Error x"),
        ("<bdo>a</bdo>b<B>c</B>", "a bc"),
        ("<b>&#99999999999;</b>", "\ufffd"),
        ("", ""),
    ],
)
def test_tags_are_removed_and_other_text_stays(text: str, expected: str) -> None:
    assert without_tags(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<style>a { b }</style><title>\n Just a  moment&hellip;</title><p>x", "Just a moment…"),
        ("<script>if (a < b)</script><p>Down</p><script>x", "Down"),
        ("plain &amp; two\nlines", "plain &amp; two lines"),
        ("error: <b>no</b>", "error: no"),
        ("<p>this &amp; that", "this & that"),
        ("word " * 100, ("word " * 40)[:SHOWN]),
    ],
)
def test_a_text_is_named_by_its_title_or_its_beginning(text: str, expected: str) -> None:
    assert beginning(text) == expected


NAMES = [
    "restNonce",
    "new_token",
    "nonce",
    "sessionId",
    "session",
    "mwai_session_id",
    "cookie",
    "Set-Cookie",
    "X-WP-Nonce",
]


def escaped(text: str, times: int) -> str:
    for _ in range(times):
        text = json.dumps(text)[1:-1]
    return text


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("depth", [0, 1, 2, 3])
@pytest.mark.parametrize("colon", [":", " : ", "\n\t:\r\n "])
def test_secrets_are_masked_under_any_depth_of_escapes(name: str, depth: int, colon: str) -> None:
    text = escaped(f'{{"a":"b","{name}"{colon}"{SECRET}","c":"d"}}', depth)
    assert mask(text) == text.replace(SECRET, "***")
    for size in range(len(text)):
        shown = mask(text[:size])
        assert not any(SECRET[:length] in shown for length in range(3, len(SECRET)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r'{"\u0072estN\u006fnce":"5EcReT"}', r'{"\u0072estN\u006fnce":"***"}'),
        (r"{\"\\u006e\\u004Fnce\":\"5EcReT\"}", r"{\"\\u006e\\u004Fnce\":\"***\"}"),
        (r"\u0022nonce\u0022:\u00225EcReT\u0022,", r"\u0022nonce\u0022:\u0022***\u0022,"),
        ("'nonce' => '5EcReT', 'b'", "'nonce' => '***', 'b'"),
        ("{nonce:'5EcReT'}", "{nonce:'***'}"),
        ("[restNonce] => 5EcReT1\n[b]", "[restNonce] => ***\n[b]"),
        ('["nonce"]=> string(6) "5EcReT" }', '["nonce"]=> string(6) "***" }'),
        ('"sessionId":6812345678901,"a":1', '"sessionId":***,"a":1'),
        ('"nonce":["5EcReT","5EcReT"],"a":1', '"nonce":***'),
        ('"session":{"id":"5EcReT"}', '"session":***'),
        (r'"nonce":"5Ec\"ReT","a":1', '"nonce":"***","a":1'),
        ("&quot;nonce&quot;:&quot;5EcReT&quot;,&quot;a", "&quot;nonce&quot;:&quot;***&quot;,&quot;a"),
        ("%22nonce%22%3A%225EcReT%22%2C", "%22nonce%22%3A%22***%22%2C"),
        ("/?_wpnonce=5EcReT&a=b", "/?_wpnonce=***&a=b"),
        ('<input name="_wpnonce" value="5EcReT">', '<input name="_wpnonce" value="***">'),
        ('"nonce": <b>"5EcReT"</b>', '"nonce": <b>"***"</b>'),
        ("Cookie: a=5EcReT; b=5EcReT", "Cookie: ***"),
        ("set-cookie: a=5EcReT; path=/\nDate: x", "set-cookie: ***\nDate: x"),
        ("mwai_session_id=5EcReT", "mwai_session_id=***"),
        ("PHPSESSID=5EcReT; wordpress_logged_in_ab=5EcReT", "PHPSESSID=***"),
        ("wordpress_logged_in_ab=a%7C5EcReT,", "wordpress_logged_in_ab=***,"),
        ("X-WP-Nonce: abcdefghij", "X-WP-Nonce: ***"),
        ("restNonce: abcdefghij", "restNonce: ***"),
        ("my_nonce: abcdefghij", "my_nonce: ***"),
        ("the nonce: 0b2576d756", "the nonce: ***"),
        ('"cookies":{"a":"5EcReT"}', '"cookies":***'),
        ("Authorization: Basic 5EcReT=", "Authorization: Basic ***"),
        ('"authorization":"Bearer 5EcReT"', '"authorization":"***"'),
        ("[HTTP_AUTHORIZATION] => Basic 5EcReT\n[b]", "[HTTP_AUTHORIZATION] => Basic ***\n[b]"),
        ("[PHP_AUTH_PW] => 5EcReT", "[PHP_AUTH_PW] => ***"),
    ],
)
def test_secrets_are_masked_in_other_notations(text: str, expected: str) -> None:
    assert mask(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Cookie check failed",
        "Session: expired",
        "Invalid nonce: try again. Cookies: none",
        '"session":null,"nonce":false,"new_token":true',
        "You have used 5 tokens; your session has 3 more questions.",
        '{"prompt_tokens":21,"u00":"_"}',
        "nonce",
        '"nonce":',
        "",
    ],
)
def test_a_sentence_about_secrets_is_unchanged(text: str) -> None:
    assert mask(text) == text


@pytest.mark.parametrize(
    "piece", ["nonce", '"nonce":"', "nonce \\", "\\", "wordpress_", "cookie:a=b;", "<", "&amp;", "nonce<", "_"]
)
def test_a_long_repetitive_text_is_quoted_in_linear_time(piece: str) -> None:
    start = time.process_time()
    text = piece * (MIB // len(piece))
    assert (len(mask(text)) > 0, len(beginning(text)) <= SHOWN, len(without_tags(text)) <= len(text)) == (True,) * 3
    assert time.process_time() - start < 60  # a quadratic search would take hours


@given(st.text(max_size=30), st.text(max_size=30), st.sampled_from(NAMES), st.integers(0, 2))
def test_a_secret_between_any_texts_is_masked(before: str, after: str, name: str, depth: int) -> None:
    value = json.dumps({"a": before, name: SECRET, "b": after}, separators=(",", ":"))
    assert SECRET not in mask(escaped(value, depth))


def judged(body: str, status: int = 200) -> Broken:
    decoder = ReplyDecoder(Limits())
    events: list[Event] = decoder.receive_head(status, [("Location", f"/?nonce={SECRET}")])
    events += decoder.receive_data(body.encode()) + decoder.receive_eof()
    (broken,) = events
    assert isinstance(broken, Broken)
    return broken


OBJECT = f'{{"sessionId":"{SECRET}","restNonce" : "{SECRET}","a":1}}'


@pytest.mark.parametrize(
    "body",
    [
        OBJECT,
        OBJECT[:-1] + ",}",
        OBJECT[:-1] + ',"success":0}',
        "x" + OBJECT,
        f"<br />\n<b>Warning</b>: x<br />\n{OBJECT}",
        f'<p>{{"code":"x",{OBJECT[1:]}',
        f"data: {OBJECT}\n\n",
        f'data: {{"type":"end",{OBJECT[1:]}\n\n',
        f'data: {{"type":"end","data":{json.dumps(OBJECT[:-1])}}}\n\n',
        f'data: {{"type":"error","data":{OBJECT}}}\n\n',
        f'data: {{"type":"end","data":{{"success":false,"message":{json.dumps(OBJECT)}}}}}\n\n',
        f"{OBJECT[1:]}\ndata: x\n\n",
        f'{{"success":false,"message":"","new_token":"{SECRET}"}}',
        f'{{"success":false,"message":{OBJECT}}}',
        "[" + "x" * (SHOWN - 25) + OBJECT[1:],
        f"<title>{OBJECT}</title>",
    ],
)
def test_no_detail_shows_a_secret(body: str) -> None:
    for status in (200, 302, 400):
        assert SECRET[:3] not in judged(body, status).detail
        assert SECRET not in repr(judged(body, status))


def test_what_was_masked_is_still_in_raw() -> None:
    assert judged(OBJECT) == Broken(
        Reason.MALFORMED, 'a JSON object without success: {"sessionId":"***","restNonce" : "***","a":1}', raw=OBJECT
    )
