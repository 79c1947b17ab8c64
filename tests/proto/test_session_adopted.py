"""Which values a session adopts from header fields, a payload, and start_session."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opchat_proto import Endpoint, Session
from opchat_proto import _session as session_module  # how a session is opened and kept is not public
from opchat_proto._session import adopt_token, open_session  # how a session is opened and kept is not public
from tests.proto.sessions import GUEST, HARMFUL


def adopt_headers(session: Session, headers: list[tuple[str, str]], address: str = "https://site.example") -> Session:
    endpoint = Endpoint.parse(address)
    return session_module.adopt_headers(session, headers, endpoint, "/mwai-ui/v1/chats/submit")


# ------------------------------------------------------------------------------ from a response's header fields


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], GUEST),
        ([("content-type", "text/html"), ("x-wp-nonce-2", "new")], GUEST),
        ([("x-cookie", "mwai_session_id=new")], GUEST),
        ([("x-wp-nonce", "new")], replace(GUEST, nonce="new")),
        ([("x-wp-nonce", "first"), ("x-wp-nonce", "last")], replace(GUEST, nonce="last")),
        ([("x-wp-nonce", "first"), ("x-wp-nonce", "not harmless")], replace(GUEST, nonce="first")),
        ([("set-cookie", "mwai_session_id=new; path=/; HttpOnly")], replace(GUEST, cookie="mwai_session_id=new")),
        ([("x-wp-nonce", "n"), ("set-cookie", "mwai_session_id=c")],
         Session("n", GUEST.session_id, "mwai_session_id=c")),
        ([("set-cookie", "mwai_session_id=a"), ("set-cookie", "mwai_session_id=b")],
         replace(GUEST, cookie="mwai_session_id=b")),
    ],
)  # fmt: skip
def test_a_fresh_nonce_and_the_session_cookie_are_adopted(headers: list[tuple[str, str]], expected: Session) -> None:
    adopted = adopt_headers(GUEST, headers)
    assert adopted == expected
    assert adopted.origin == "https://site.example"


@pytest.mark.parametrize(
    "value",
    [
        "mwai_session_id=new",
        "mwai_session_id=new; path=/; HttpOnly",
        "mwai_session_id=new;path=/",
        " mwai_session_id\t= new ;path=/",
        "mwai_session_id=new, PHPSESSID=x; path=/",
        "mwai_session_id=old; Max-Age=60, mwai_session_id=new; path=/",
        "mwai_session_id=new; Path=/, mwai_session_id=old; Domain=other.example",
        "PHPSESSID=x; path=/, mwai_session_id=new; path=/",
        "PHPSESSID=x; path=/,mwai_session_id=new",
        "a=b; expires=Thu, 01 Jan 2026 00:00:00 GMT, mwai_session_id=new",
        "a=b; expires=Thu, 01-Jan-1970 00:00:01 GMT,\tmwai_session_id=new; expires=Fri, 01-Jan-2038 00:00:01 GMT",
        'a="b, c=d"; path=/, mwai_session_id=new',
        'a="b, mwai_session_id=new',
        'a="b"c, mwai_session_id=new',
        "mwai_session_id=new; \xa0Max-Age=0",
    ],
)
def test_the_session_cookie_is_found_in_every_form_of_set_cookie(value: str) -> None:
    assert adopt_headers(Session(), [("set-cookie", value)]) == Session(cookie="mwai_session_id=new")


@pytest.mark.parametrize(
    "value",
    [
        *("", "PHPSESSID=x; path=/", "mwai_session_id"),
        *("mwai_session_id=", "mwai_session_id=; path=/", "=mwai_session_id"),
        *("MWAI_SESSION_ID=x", "xmwai_session_id=x", "mwai_session_id2=x"),
        *("\xa0mwai_session_id=x", "mwai_session_id\xa0=x"),
        *("a=mwai_session_id=x", "a=b; mwai_session_id=x"),
        *("mwai_session_id=a b", "mwai_session_id=é", "mwai_session_id=a\x00", "mwai_session_id=" + "a" * 257),
        *("mwai_session_id=a\r\nX: y", "mwai_session_id=a\n"),
        *('a="b, mwai_session_id=x"; path=/', 'a="b,mwai_session_id=x"'),
        *("mwai_session_id; a=b", "a, mwai_session_id", "mwai_session_id=a b; path=/, c=d"),
    ],
)  # fmt: skip
def test_any_other_cookie_is_ignored(value: str) -> None:
    assert adopt_headers(GUEST, [("set-cookie", value)]) == GUEST


NOW = ("date", "Sat, 28 Nov 2026 14:13:09 GMT")


@pytest.mark.parametrize(
    "value",
    [
        "mwai_session_id=deleted; expires=Thu, 01-Jan-1970 00:00:01 GMT; Max-Age=0",
        "mwai_session_id=deleted; expires=Thu, 01-Jan-70 00:00:01 GMT",
        "mwai_session_id=deleted",
        "mwai_session_id=x; EXPIRES = Sat, 28 Nov 2026 14:13:09 GMT",
        "mwai_session_id=x; expires=Sat Nov 28 14:13:08 2026",
        "mwai_session_id=x; expires=Saturday, 28-Nov-26 14:13:08 GMT",
        "mwai_session_id=x; expires=Sat, 28 Nov 2026 14:13:10 GMT; expires=Sat, 28 Nov 2026 14:13:09 GMT; expires=soon",
        "mwai_session_id=x; expires=Sat, 28 Nov 2027 14:13:09 GMT; max-age=0",
        "mwai_session_id=x; Max-Age=-1",
        "mwai_session_id=x; Max-Age=-" + "9" * 5000,
        "mwai_session_id=x; Max-Age=000",
        "mwai_session_id=x; Max-Age=60; MAX-AGE=0; Max-Age=1.5; Max-Age=",
        "mwai_session_id=; Max-Age=0",
        "mwai_session_id=a b; Max-Age=0",
        "mwai_session_id=new; path=/, mwai_session_id=x; Max-Age=0",
        "mwai_session_id=x; Max-Age=0; Domain=.SITE.example; Path=/wp-json; Secure",
    ],
)
def test_an_expired_cookie_is_not_sent_back(value: str) -> None:
    assert adopt_headers(GUEST, [("set-cookie", value), NOW]) == replace(GUEST, cookie="")
    member = Session(cookie="a=1; mwai_session_id=old; b=2")
    assert adopt_headers(member, [NOW, ("set-cookie", value)]) == Session(cookie="a=1; b=2")


@pytest.mark.parametrize(
    "attributes",
    [
        "expires=Sat, 28 Nov 2026 14:13:10 GMT",
        "expires=Thu, 01-Jan-1970 00:00:01 GMT; Max-Age=60",
        "expires=Thu, 01-Jan-1970 00:00:01 GMT; expires=Fri, 01-Jan-38 00:00:01 GMT",
        "expires=Thu, 32-Jan-1970 00:00:01 GMT",
        "expires; max-age; Max-Age=-; Max-Age=+0; Max-Age=\u0660; Max-Age=0s; max age=0",
        "Max-Age=0; Max-Age=1",
        "Max-Age=" + "9" * 5000,
        "Domain=site.example",
        "Domain=.site.example",
        "domain = SITE.EXAMPLE ",
        "Domain=example",
        "Domain",
        "Domain=",
        "Domain=.",
        "Domain=other.example; Domain=site.example",
        "Domain=site.example; Domain=",
        "Path=/",
        "path=/wp-json",
        "Path=/wp-json/",
        "Path=/wp-json/mwai-ui/v1/chats/submit",
        "Path=",
        "Path=wp-admin",
        "Path=/wp-admin; Path=/wp-json",
        "Path=/wp-admin; Path=",
        "Secure",
        "SECURE=0; HttpOnly; SameSite=None; Partitioned; Version=1;;=;=x",
    ],
)
def test_a_cookie_that_would_be_sent_with_a_question_is_adopted(attributes: str) -> None:
    headers = [("set-cookie", f"mwai_session_id=new; {attributes}"), NOW]
    assert adopt_headers(GUEST, headers) == replace(GUEST, cookie="mwai_session_id=new")


@pytest.mark.parametrize(
    ("address", "attributes"),
    [
        ("https://site.example", "Domain=other.example"),
        ("https://site.example", "Domain=www.site.example"),
        ("https://site.example", "Domain=ite.example"),
        ("https://site.example", "Domain=site.example.evil"),
        ("https://site.example", "Domain=..site.example"),
        ("https://site.example", "Domain=site.example; Domain=other.example"),
        ("https://site.example", "DOMAIN=other.example; Max-Age=0"),
        ("http://127.0.0.1:8000", "Domain=0.0.1"),
        ("http://127.0.0.1:8000", "Domain=.1"),
        ("http://[::1.2.3.4]:8000", "Domain=2.3.4"),
        ("https://site.example", "Path=/wp-admin"),
        ("https://site.example", "Path=/wp"),
        ("https://site.example", "Path=/wp-json/mwai/v1"),
        ("https://site.example", "Path=/wp-json/mwai-ui/v1/chats/submit/"),
        ("https://site.example", "Path=/; Path=/blog"),
        ("https://site.example/?rest_route=", "Path=/wp-json"),
        ("http://site.example", "Secure"),
        ("http://site.example", "path=/; secure; Max-Age=0"),
    ],
)
def test_a_cookie_for_another_site_changes_nothing(address: str, attributes: str) -> None:
    assert adopt_headers(GUEST, [("set-cookie", f"mwai_session_id=new; {attributes}"), NOW], address) == GUEST


@pytest.mark.parametrize(
    ("address", "attributes"),
    [
        ("http://site.example", "path=/; HttpOnly"),
        ("https://www.site.example./blog", "Domain=site.example; Path=/blog"),
        ("http://127.0.0.1:8000", "Domain=127.0.0.1"),
        ("http://[::1]:8000", "Domain=::1"),
        ("http://[::1]:8000", "Domain=[::1]"),
        ("http://1site.example", "Domain=example"),
        ("https://site.example/index.php?rest_route=", "Path=/index.php"),
        ("https://site.example/blog/?rest_route=", "Path=/blog/"),
    ],
)
def test_domain_path_and_secure_are_compared_with_the_site(address: str, attributes: str) -> None:
    adopted = adopt_headers(Session(), [("set-cookie", f"mwai_session_id=new; {attributes}")], address)
    assert adopted == Session(cookie="mwai_session_id=new")


@pytest.mark.parametrize("date", [[], [("date", "today")], [("date", "today"), NOW]])
def test_without_a_date_in_the_answer_only_a_very_early_date_is_past(date: list[tuple[str, str]]) -> None:
    for expires, cookie in (
        ("Thu, 01-Jan-1970 00:00:01 GMT", ""),
        ("Sun, 01-Jan-2023 00:00:01 GMT", "mwai_session_id=x"),
    ):
        field = f"mwai_session_id=x; expires={expires}"
        assert adopt_headers(GUEST, [*date, ("set-cookie", field)]) == replace(GUEST, cookie=cookie)


@pytest.mark.parametrize("value", ['"new"', "a=b", "'", "%2C"])
def test_a_value_is_sent_back_unchanged(value: str) -> None:
    assert adopt_headers(Session(), [("set-cookie", f"mwai_session_id={value}; path=/")]).cookie == (
        f"mwai_session_id={value}"
    )


@pytest.mark.parametrize(
    "value",
    ["," * 300_000, ', a="' * 60_000, "a" * 300_000 + ",", ';="' * 100_000, "expires=" + "1" * 300_000],
)
def test_a_long_field_is_read_in_one_pass(value: str) -> None:
    assert adopt_headers(GUEST, [("set-cookie", f"{value}mwai_session_id=;{value}")]) == GUEST


@pytest.mark.parametrize("value", HARMFUL)
def test_a_nonce_with_unsafe_characters_is_ignored(value: str) -> None:
    assert adopt_headers(GUEST, [("x-wp-nonce", value)]) == GUEST


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "mwai_session_id=new"),
        ("mwai_session_id=old", "mwai_session_id=new"),
        ("mwai_session_id=old;", "mwai_session_id=new"),
        ("mwai_session_id=", "mwai_session_id=new"),
        ("a=1", "a=1; mwai_session_id=new"),
        ("a=X", "a=X; mwai_session_id=new"),
        ("a=1; mwai_session_id=old", "a=1; mwai_session_id=new"),
        ("mwai_session_id=old; a=1", "a=1; mwai_session_id=new"),
        ("a=1; mwai_session_id=old; b=2", "a=1; b=2; mwai_session_id=new"),
        ("a=1;mwai_session_id=old;b=2", "a=1;b=2; mwai_session_id=new"),
        ("a=1;   mwai_session_id=old", "a=1; mwai_session_id=new"),
        ("a=1; mwai_session_id =old", "a=1; mwai_session_id=new"),
        ("mwai_session_id=1; mwai_session_id=2", "mwai_session_id=new"),
        ("xmwai_session_id=1; a=mwai_session_id=2", "xmwai_session_id=1; a=mwai_session_id=2; mwai_session_id=new"),
    ],
)
def test_the_session_cookie_replaces_the_old_one_and_keeps_the_others(before: str, after: str) -> None:
    adopted = adopt_headers(Session("n", cookie=before), [("set-cookie", "mwai_session_id=new; path=/")])
    assert adopted == Session("n", cookie=after)
    again = adopt_headers(adopted, [("set-cookie", "mwai_session_id=new")])
    assert again == adopted


@given(
    st.lists(st.tuples(st.sampled_from(["x-wp-nonce", "set-cookie", "x"]), st.text())),
    st.text(st.characters(min_codepoint=33, max_codepoint=126)),
)
def test_no_header_field_makes_an_invalid_session(headers: list[tuple[str, str]], cookie: str) -> None:
    headers += [("set-cookie", f"mwai_session_id={value}") for _, value in headers]
    adopted = adopt_headers(Session(cookie=cookie), headers)
    assert replace(adopted) == adopted
    assert adopted.is_member == Session(cookie=cookie).is_member


# ------------------------------------------------------------------------------ from a payload


@pytest.mark.parametrize(
    ("raw", "nonce"),
    [
        ('{"new_token":"new"}', "new"),
        ('{"success":true,"new_token":"new","reply":"new_token"}', "new"),
        ('{"success":false,"new_token":"new"}', "new"),
        ("", "0b2576d756"),
        ("{}", "0b2576d756"),
        ('{"new_token":null}', "0b2576d756"),
        ('{"new_token":12}', "0b2576d756"),
        ('{"new_token":["new"]}', "0b2576d756"),
        ('{"new_token":""}', "0b2576d756"),
        ('{"new_token":"a b"}', "0b2576d756"),
        ('{"new_token":"a\\r\\nX: y"}', "0b2576d756"),
        ('{"new_token":"\\ud800"}', "0b2576d756"),
        ('{"a":{"new_token":"new"}}', "0b2576d756"),
        ('{"reply":"\\"new_token\\":\\"new\\""}', "0b2576d756"),
        ('["new_token"]', "0b2576d756"),
        ('"new_token"', "0b2576d756"),
        ('<html>"new_token":"new"', "0b2576d756"),
        ('{"new_token":"new"', "0b2576d756"),
        ('{"new_token":"new","a":' + "[" * 8 + "]" * 8 + "}", "0b2576d756"),
        ('{"new_token":"new","a":' + "[" * 7 + "]" * 7 + "}", "new"),
    ],
)
def test_a_fresh_nonce_in_a_payload_is_adopted(raw: str, nonce: str) -> None:
    adopted = adopt_token(GUEST, raw, 8)
    assert adopted == replace(GUEST, nonce=nonce)
    assert adopted.origin == "https://site.example"


# ------------------------------------------------------------------------------ from start_session


@pytest.mark.parametrize(
    ("payload", "nonce"),
    [
        ({"restNonce": "rest"}, "rest"),
        ({"restNonce": "rest", "new_token": "new"}, "new"),
        ({"new_token": "new"}, "new"),
        ({"restNonce": 5, "new_token": "new"}, "new"),
        ({"restNonce": "rest", "new_token": ""}, "rest"),
        ({"restNonce": "rest", "new_token": "a b"}, "rest"),
        ({"restNonce": "rest", "new_token": None}, "rest"),
        ({"restNonce": "rest", "new_token": 5}, "rest"),
        ({"restNonce": "rest", "new_token": ["new"]}, "rest"),
    ],
)
def test_the_newest_usable_nonce_of_start_session_is_taken(payload: dict[str, Any], nonce: str) -> None:
    before = Session("old", "old", "a=b", "https://site.example")
    opened = open_session(before, {"success": True, **payload})
    assert opened == Session(nonce, None, "a=b")
    assert opened is not None
    assert opened.origin == "https://site.example"


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"restNonce": None},
        {"restNonce": ""},
        {"restNonce": "a b"},
        {"restNonce": "a\r\nX: y"},
        {"restNonce": "a" * 257},
        {"restNonce": 5},
        {"restNonce": True},
        {"restNonce": ["a"]},
        {"new_token": "a b"},
        {"sessionId": "6b02fc304cdb0"},
    ],
)
def test_a_start_session_without_a_usable_nonce_gives_no_session(payload: dict[str, Any]) -> None:
    assert open_session(GUEST, payload) is None


@pytest.mark.parametrize(
    ("given", "session_id"),
    [
        ("6b02fc304cdb0", "6b02fc304cdb0"),
        (6812345678901, "6812345678901"),
        (0, "0"),
        (-1, "-1"),
        ("N/A", None),
        ("", None),
        (None, None),
        (False, None),
        ("0", "0"),
        ("n/a", "n/a"),
    ],
)
def test_a_session_id_is_a_text_or_a_number_or_none(given: object, session_id: str | None) -> None:
    assert open_session(Session(), {"restNonce": "n", "sessionId": given}) == Session("n", session_id)


@pytest.mark.parametrize("given", [True, 1.5, "a b", "a\n", "a" * 257, 10**256, ["a"], {"a": 1}, [], {}, "\ufffd"])
def test_a_session_id_that_cannot_be_used_gives_no_session(given: object) -> None:
    assert open_session(GUEST, {"restNonce": "n", "sessionId": given}) is None
    assert open_session(GUEST, {"new_token": "n", "sessionId": given}) is None


def test_start_session_without_a_session_id_drops_the_old_one() -> None:
    assert open_session(GUEST, {"restNonce": "n"}) == Session("n", None, GUEST.cookie)
