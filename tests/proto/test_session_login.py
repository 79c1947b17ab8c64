"""A member's credentials: never sent where they could be read, and never shown."""

import copy
import pickle
from base64 import b64decode
from dataclasses import replace
from typing import Any, cast

import pytest

from opchat_proto import Channel, Conversation, Event, Flow, Session, Submit, Visit
from opchat_proto._session import hide_login, is_anothers  # their use in a flow and a call is not public

PASSWORD = "abcd EFGH ijkl 1234 mnop QRST"
ALICE = Session.from_application_password("alice", PASSWORD)
TOKEN = ALICE.authorization.removeprefix("Basic ")
ASK = Submit(new_message="Hi")


@pytest.mark.parametrize("name", ["alice", "alice@site.example", "Алиса"])
def test_an_application_password_becomes_a_basic_authorization(name: str) -> None:
    session = Session.from_application_password(name, PASSWORD)
    assert b64decode(session.authorization.removeprefix("Basic ")).decode() == f"{name}:{PASSWORD}"
    assert session.is_member


@pytest.mark.parametrize(
    ("name", "password", "what"),
    [
        ("", "x", "name"),
        (" ", "x", "name"),
        ("a:b", "x", "name"),
        ("a\n", "x", "name"),
        ("a", "", "password"),
        ("a", "x\r", "password"),
        ("a", "x\x7f", "password"),
        ("a", "\ud800x", "password"),
    ],
)
def test_a_name_or_password_that_basic_cannot_encode_is_refused_and_not_shown(
    name: str, password: str, what: str
) -> None:
    with pytest.raises(ValueError, match=f"^{what}: expected at least one character") as raised:
        Session.from_application_password(name, password)
    assert repr(password) not in str(raised.value)


@pytest.mark.parametrize("values", [(1, "x"), ("a", None), ("a", b"x")])
def test_a_name_and_a_password_are_texts(values: Any) -> None:
    with pytest.raises(TypeError, match=r"^expected name and password as str$"):
        Session.from_application_password(*values)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (None, "a str, got NoneType"),
        (b"Basic x", "a str, got bytes"),
        ("Basic x\r\nX: y", "an Authorization header of printable ASCII"),
        (" x", "an Authorization header of printable ASCII"),
    ],
)
def test_the_authorization_is_one_line(value: Any, error: str) -> None:
    with pytest.raises((TypeError, ValueError), match=rf"^Session\.authorization: expected {error}$"):
        Session(authorization=value)


def test_credentials_are_copied_and_not_shown() -> None:
    assert repr(ALICE) == "<Session with authorization>"
    assert pickle.loads(pickle.dumps(ALICE)) == copy.deepcopy(ALICE) == ALICE
    assert Session.from_application_password("alice", "another") != ALICE
    conversation = Conversation(session=ALICE)
    assert Conversation.from_dict(conversation.to_dict()).session == ALICE
    unnamed = Conversation(session=Session(cookie="a=b", member=""))
    again = Conversation.from_dict(unnamed.to_dict()).session
    assert again is not None
    assert again.member == ""
    for shown in (Flow("https://site.example", ASK, session=ALICE), conversation):
        assert TOKEN not in repr(shown)


@pytest.mark.parametrize("site", ["https://site.example", "http://localhost:8000", "http://[::1]:8000"])
def test_a_password_is_sent_over_https_and_to_this_machine(site: str) -> None:
    assert Channel(site, session=ALICE).session == ALICE
    assert Channel("http://site.example", session=Session("n")).session == Session("n")


@pytest.mark.parametrize("site", ["http://site.example", "http://127.0.0.1.site.example"])
def test_a_password_is_sent_nowhere_else(site: str) -> None:
    for make in (lambda: Channel(site, session=ALICE), lambda: Flow(site, ASK, session=ALICE)):
        with pytest.raises(ValueError, match=r"^session: credentials are sent only over https"):
            make()
    flow = Flow(site, ASK)
    with pytest.raises(ValueError, match=r"^session: credentials are sent only over https"):
        flow.use_session(ALICE)


def test_the_callers_header_must_not_replace_the_credentials() -> None:
    with pytest.raises(ValueError, match=r"^headers: Authorization is already set by the session$"):
        Channel("https://site.example", session=ALICE, headers={"authorization": "Basic other"})


def test_credentials_are_not_sent_to_a_page() -> None:
    for redirected in (False, True):
        visit = Visit("https://site.example/", session=ALICE)
        request = visit.next_request()
        if redirected:
            visit.receive_head(302, [("Location", "https://other.example/")])
            assert visit.receive_eof() == []
            request = visit.next_request()
        assert request is not None
        assert "Authorization" not in dict(request.headers)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (f"Bad: {TOKEN}.", "Bad: ***."),
        (f"wrong password {PASSWORD}", "wrong password ***"),
        (f"wrong password {PASSWORD.replace(' ', '')}", "wrong password ***"),
        ("alice", "alice"),
        (f"Bad: {TOKEN[:-2]}", "Bad: ***"),
        (f"Bad: {TOKEN[:7]}, {TOKEN[:-1]}; is it right?", f"Bad: {TOKEN[:7]}, ***; is it right?"),
        (f"{'x' * 3000} {TOKEN}", f"{'x' * 3000} ***"),  # a whole message of any size
        (f"{'x' * 1993} {TOKEN[:6]}", f"{'x' * 1993} ***"),  # 2000 characters, perhaps cut from a longer text
        (f"{'x' * 1994} {TOKEN[:6]}", f"{'x' * 1994} {TOKEN[:6]}"),
        (f"{PASSWORD[:6]}x {PASSWORD[:6]} {PASSWORD[:5]}", f"{PASSWORD[:6]}x {PASSWORD[:6]} {PASSWORD[:5]}"),
    ],
)
def test_credentials_that_a_site_repeats_are_hidden(said: str, shown: str) -> None:
    assert hide_login(ALICE, said) == shown
    assert hide_login(Session("n", None, "wordpress_logged_in_1=x"), said) == hide_login(None, said) == said


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Invalid: alice%7C17%7Chmac", "Invalid: ***"),
        ("Invalid: alice|17|hmac", "Invalid: ***"),
        ("[fw] => 0123456789 nonce 2b24c02613", "[fw] => *** nonce ***"),
        ("lang english, tz utc+1, alice%7C1", "lang english, tz utc+1, ***"),
        ("id X=0123, short 12345", "id ***, short 12345"),
    ],
)
def test_cookies_and_the_nonce_are_hidden_as_well(said: str, shown: str) -> None:
    cookie = 'wordpress_logged_in_1=alice%7C17%7Chmac; fw="0123456789"; lang=english; tz=utc+1; id=X=0123; short=12345'
    assert hide_login(Session("2b24c02613", None, cookie), said) == shown


def test_other_schemes_are_hidden_as_well() -> None:
    for authorization in ("Bearer t0k-en_x", "t0k-en_x"):
        assert hide_login(Session(authorization=authorization), "no t0k-en_x") == "no ***"
    assert hide_login(Session.from_application_password("bob", "ab:cd12"), "not ab:cd12") == "not ***"
    assert hide_login(Session(authorization="Basic YTpi"), "a:b YTpi") == "a:b YTpi"  # too short to differ from words


def test_a_detail_contains_no_credentials() -> None:
    events: list[Event] = []
    flow = Flow("https://site.example", ASK, session=ALICE)
    assert flow.next_request() is not None
    flow.receive_head(500, [])
    flow.receive_data(f"HTTP_AUTHORIZATION=Basic {TOKEN} and {PASSWORD}".encode())
    events += flow.receive_eof()
    assert len(events) == 1
    assert not any(secret in str(events) for secret in (TOKEN, PASSWORD))


COOKIES = Session(cookie="wordpress_logged_in_1=a")


@pytest.mark.parametrize(
    ("session", "other", "expected"),
    [
        (Session("n"), ALICE, False),
        (Session(cookie="cf_clearance=x"), Session(), False),
        (ALICE, Session("n"), True),
        (ALICE, replace(ALICE, nonce="n", member="alice"), False),
        (ALICE, Session.from_application_password("bob", PASSWORD), True),
        (ALICE, COOKIES, True),
        (replace(ALICE, member="alice"), replace(COOKIES, member="alice"), False),
        (replace(ALICE, member="alice"), replace(ALICE, member="bob"), True),
        (COOKIES, replace(COOKIES, cookie="mwai_session_id=x; wordpress_logged_in_1=a"), False),
        (COOKIES, replace(COOKIES, cookie="wordpress_logged_in_1=b"), True),
        (COOKIES, replace(COOKIES, cookie="wordpress_logged_in_1=aX"), True),
        (Session(cookie="a=wordpress_logged_in_1"), ALICE, False),
        (Session(member="alice"), COOKIES, False),
    ],
)
def test_a_members_session_differs_from_anothers(session: Session, other: Session, expected: bool) -> None:
    assert is_anothers(session, other) is expected


def test_a_member_has_a_name_and_credentials() -> None:
    with pytest.raises(TypeError, match=r"^Session\.member: expected a str or None, got int$"):
        Session(member=cast("Any", 5))
    named = Session("n", member="alice")
    assert named.is_member
    with pytest.raises(ValueError, match=r"^session: a member's session needs cookies"):
        Channel("https://site.example", session=named)
    assert Channel("https://site.example", session=replace(named, cookie="a=b")).session == replace(named, cookie="a=b")
