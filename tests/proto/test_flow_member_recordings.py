"""A real site's recorded responses to a member, replayed over connections in pieces of several sizes."""

from dataclasses import replace

import pytest

from opchat_proto import Broken, Client, Done, End, Event, Flow, Receive, Send, Session, Submit
from tests import captures
from tests.proto.cuts import in_pieces
from tests.proto.members import AJAX, ALICE, COOKIE, ME, START, SUBMIT

RECORDED = captures.RECORDINGS / "3.6.2"
PROVED = replace(ALICE, nonce="aca71a50b1", member="alice")
COOKIES = Session(cookie=COOKIE)

pytestmark = pytest.mark.skipif(not RECORDED.exists(), reason="the recordings are not at hand")


def replayed(session: Session, *names: str, size: int) -> tuple[list[str], list[Event]]:
    """The paths of the requests, and the events, with these recorded responses."""
    client = Client(Flow("https://site.example", Submit(new_message="echo app password"), session=session))
    waiting, places, events = list(names), [], []
    while not isinstance(step := client.next_step(), Done):
        if isinstance(step, Receive):
            for piece in in_pieces((RECORDED / f"{waiting.pop(0)}.response.bin").read_bytes(), size):
                if isinstance(client.next_step(), Receive):
                    events += client.receive_data(piece)
            continue
        if isinstance(step, Send):
            places.append(step.data.split(b" ", 2)[1].decode())
        client.step_done()
    assert waiting == []
    return places, events


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    ("session", "names", "places"),
    [
        (ALICE, ("users_me_app_password", "apppw_start_session", "apppw_submit"), [ME, START, SUBMIT]),
        (PROVED, ("apppw_submit",), [SUBMIT]),
        (
            PROVED,
            ("apppw_submit_stale_nonce", "users_me_app_password", "apppw_start_session", "apppw_submit"),
            [SUBMIT, ME, START, SUBMIT],
        ),
        (COOKIES, ("ajax_rest_nonce_member", "users_me_app_password", "apppw_submit"), [AJAX, ME, SUBMIT]),
    ],
)
def test_a_member_is_answered(session: Session, names: tuple[str, ...], places: list[str], size: int) -> None:
    asked, events = replayed(session, *names, size=size)
    assert asked == places
    assert isinstance(events[-1], End)
    assert events[-1].reply == "app password"


@pytest.mark.parametrize("size", [1, 1 << 20])
@pytest.mark.parametrize(
    ("session", "names", "status", "code"),
    [
        (ALICE, ("users_me_wrong_password",), 401, "rest_not_logged_in"),
        (ALICE, ("users_me_guest",), 401, "rest_not_logged_in"),
        (ALICE, ("users_me_http",), 401, "rest_not_logged_in"),
        (COOKIES, ("ajax_rest_nonce_guest",), 400, None),
        (replace(COOKIES, nonce="1635c20365"), ("users_me_guest",), 401, "rest_not_logged_in"),
        (PROVED, ("apppw_submit_stale_nonce", "users_me_guest"), 403, "rest_forbidden"),
    ],
)
def test_a_guest_is_not_asked(
    session: Session, names: tuple[str, ...], status: int, code: str | None, size: int
) -> None:
    asked, (event,) = replayed(session, *names, size=size)
    assert isinstance(event, Broken)
    assert (event.status, event.code) == (status, code)
    assert asked.count(SUBMIT) == len([name for name in names if "submit" in name])
