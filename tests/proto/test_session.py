"""A session as a value."""

from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opchat_proto import Session
from opchat_proto._session import is_token  # how a session is opened and kept is not public
from tests.proto.cuts import copies
from tests.proto.sessions import GUEST, HARMFUL

HARMLESS = ["0", "0b2576d756", "N/A", "a" * 256, "!\"#$%&'()*+-./:<=>?@[\\]^_`{|}~"]


# ------------------------------------------------------------------------------ the value


def test_a_new_session_is_empty() -> None:
    session = Session()
    assert (session.nonce, session.session_id, session.cookie, session.origin) == (None, None, "", None)


@pytest.mark.parametrize(
    ("session", "shown"),
    [
        (Session(), "<Session empty>"),
        (GUEST, "<Session with nonce, session_id, cookie>"),
        (Session("SECRET"), "<Session with nonce>"),
        (Session(session_id="SECRET"), "<Session with session_id>"),
        (Session(cookie="SECRET=SECRET", origin="https://site.example"), "<Session with cookie>"),
        (Session("SECRET", cookie="a=SECRET"), "<Session with nonce, cookie>"),
    ],
    ids=repr,
)
def test_repr_shows_which_parts_a_session_has_and_not_their_values(session: Session, shown: str) -> None:
    assert repr(session) == str(session) == f"{session}" == shown


def test_a_session_is_a_frozen_slotted_hashable_value_and_equality_ignores_its_origin() -> None:
    assert list(copies(GUEST)) == [GUEST] * 6
    assert [twin.origin for twin in copies(GUEST)] == ["https://site.example"] * 6
    assert replace(GUEST, origin=None) == GUEST
    assert hash(GUEST) == hash(replace(GUEST, origin=None))
    others = [replace(GUEST, nonce="x"), replace(GUEST, session_id=None), replace(GUEST, cookie=""), Session()]
    assert len({GUEST, *others}) == 5
    assert not hasattr(GUEST, "__dict__")
    for field in fields(GUEST):
        with pytest.raises(FrozenInstanceError):
            setattr(GUEST, field.name, "x")


def test_a_session_can_be_matched() -> None:
    match GUEST:
        case Session(nonce, session_id, cookie, origin):
            assert (nonce, session_id) == ("0b2576d756", "6b02fc304cdb0")
            assert (cookie, origin) == ("mwai_session_id=6b02fc304cdb0", "https://site.example")


@pytest.mark.parametrize("name", ["nonce", "session_id"])
def test_a_nonce_and_a_session_id_have_only_safe_characters(name: str) -> None:
    for text in HARMLESS:
        assert is_token(text)
        assert getattr(Session(**{name: text}), name) == text
    for text in HARMFUL:
        assert not is_token(text)
        with pytest.raises(ValueError, match=rf"^Session\.{name}: expected 1 to 256 printable ASCII characters, no "):
            Session(**{name: text})


@given(st.text())
def test_a_token_is_safe_in_a_header_in_a_cookie_and_in_json(text: str) -> None:
    safe = 1 <= len(text) <= 256 and all("!" <= character <= "~" and character not in ",;" for character in text)
    assert is_token(text) is safe


@pytest.mark.parametrize("cookie", ["", "a=b", "a=b; c=d", "a=b;c=d;", "a", "=", 'a="b c"', "a=b, c", "~", "a  =  b"])
def test_a_cookie_header_of_printable_ascii_is_accepted(cookie: str) -> None:
    assert Session(cookie=cookie).cookie == cookie


@pytest.mark.parametrize(
    "cookie", [" ", " a=b", "a=b ", "a=b\r\nX: y", "a=b\n", "a=\x00", "a=\t", "a=é", "a=\x7f", "\ud800"]
)
def test_a_cookie_with_forbidden_characters_is_refused_and_not_shown(cookie: str) -> None:
    with pytest.raises(ValueError, match=r"^Session\.cookie: expected a Cookie header of printable ASCII$"):
        Session(cookie=cookie)


COOKIE_OR_ORIGIN = "Session: expected a str as cookie, and a str or None as origin"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"nonce": 5}, "Session.nonce: expected a str or None, got int"),
        ({"nonce": b"a"}, "Session.nonce: expected a str or None, got bytes"),
        ({"session_id": False}, "Session.session_id: expected a str or None, got bool"),
        ({"cookie": None}, COOKIE_OR_ORIGIN),
        ({"cookie": b""}, COOKIE_OR_ORIGIN),
        ({"cookie": {}}, COOKIE_OR_ORIGIN),
        ({"origin": b"https://a"}, COOKIE_OR_ORIGIN),
        ({"origin": False}, COOKIE_OR_ORIGIN),
    ],
)
def test_a_part_of_a_wrong_type_is_a_type_error(values: dict[str, Any], text: str) -> None:
    with pytest.raises(TypeError) as caught:
        Session(**values)
    assert str(caught.value) == text


@pytest.mark.parametrize("value", [None, 5, b"abc", True, ["a"], 1.5])
def test_only_text_is_a_token(value: object) -> None:
    assert is_token(value) is False


# ------------------------------------------------------------------------------ members


@pytest.mark.parametrize(
    ("cookie", "is_member"),
    [
        ("", False),
        ("mwai_session_id=abc", False),
        ("mwai_session_id=abc;", False),
        ("mwai_session_id=abc=", False),
        ("mwai_session_id=abc; mwai_session_id=def", False),
        ("mwai_session_id =abc", False),
        (";;", False),
        ("wordpress_logged_in_0=x", True),
        ("mwai_session_id=abc; wordpress_logged_in_0=x", True),
        ("PHPSESSID=x;mwai_session_id=abc", True),
        ("mwai_session_id2=abc", True),
        ("MWAI_SESSION_ID=abc", True),
        ("xmwai_session_id=abc", True),
        ("mwai_session_id=a,b=c; d", True),
        ("a", True),
    ],
)
def test_any_cookie_but_the_chats_own_makes_a_member(cookie: str, is_member: bool) -> None:
    assert Session(cookie=cookie).is_member is is_member
