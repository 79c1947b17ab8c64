"""Pages as values, and recorded pages of real sites."""

from dataclasses import replace
from pathlib import Path

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opchat_proto import InvalidMessages, Page, Session, Submit
from tests.proto.cuts import copies
from tests.proto.pages import BOT, PAGE, SYSTEM, URL, bot_of_text, element, parsed

SHARED = Path(__file__).resolve().parents[3] / "shared"


# ------------------------------------------------------------------------------ values


def test_a_page_is_a_value_that_shows_no_secret() -> None:
    system = SYSTEM | {"restNonce": "secretnonce", "sessionId": "secretsession"}
    page = parsed(element(system, {"x": "secretparam"}))
    assert all(copied == page and hash(copied) == hash(page) for copied in copies(page))
    assert "secret" not in repr(page)
    assert repr(PAGE.bots[0]).startswith("Bot(bot_id='default', custom_id=None, context_id=None, root='https://site")
    page.bots[0].raw_system.encode()


def test_a_bot_makes_the_question_to_itself() -> None:
    system = SYSTEM | {"botId": None, "customId": 7, "contextId": "12", "restNonce": "99c1fd16bb", "sessionId": 55}
    bot = bot_of_text(element(system))
    assert bot.submit("Hi") == Submit(new_message="Hi", bot_id=None, custom_id=7, context_id="12", stream=True)
    assert bot.session == Session("99c1fd16bb", "55")
    assert bot.session is not None
    assert bot.session.origin == "https://site.example"
    assert BOT.session is None
    assert replace(BOT, stream=False).submit("Hi").stream is False
    with pytest.raises(InvalidMessages):
        bot.submit("\ud83d")


def test_wrong_types_are_refused() -> None:
    for arguments, error in (
        ((b"<p>", URL), "html: expected a str, got bytes"),
        (("", 5), "url: expected a str, got int"),
    ):
        with pytest.raises(TypeError, match=f"^{error}$"):
            Page.parse(*arguments)
    with pytest.raises(TypeError, match=r"^headers: expected pairs"):
        parsed("", ["Link: <x>"])


@given(st.text(max_size=60), st.text(max_size=30), st.lists(st.tuples(st.just("link"), st.text(max_size=40))))
def test_any_text_is_a_page(text: str, url: str, headers: list[tuple[str, str]]) -> None:
    page = Page.parse(text, url, headers)
    repr(page).encode()
    assert page.bots == ()


# ------------------------------------------------------------------------------ real pages


def recorded(name: str) -> Page:
    """A site's response to a GET of a page."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data((SHARED / f"{name}.response.bin").read_bytes())
    head, body = connection.next_event(), b""
    assert isinstance(head, h11.Response)
    while isinstance(event := connection.next_event(), h11.Data):
        body += event.data
    return Page.parse(body.decode(), "http://127.0.0.1/", list(head.headers))


RECORDED = {
    "captures/3.6.2/chat_page": (
        [
            replace(
                BOT,
                context_id=4,
                root="http://127.0.0.1:18000/wp-json",
                max_length=512,
                takes_images=True,
                takes_files=True,
                max_files=3,
                start_sentence="Hi! How can I help you?",
            )
        ],
        "http://127.0.0.1:18000/wp-json",
        ("chatbot.js is of 2026-07-16",),
    ),
    "recordings/2.0.1/chat_page_201": (
        [
            replace(
                BOT,
                context_id=4,
                root="http://127.0.0.1:28201/wp-json",
                max_length=8000,
                takes_images=True,
                max_files=1,
                start_sentence="Hi! How can I help you?",
                nonce="99c1fd16bb",
            )
        ],
        "http://127.0.0.1:28201/wp-json",
        ("chatbot.js is of 2026-11-28",),
    ),
    "recordings/3.6.2/plain_wp_json_200_page": ([], "http://127.0.0.1:28002/index.php?rest_route=", ()),
    "recordings/3.6.2/wrong_root_404_page": ([], "http://127.0.0.1:28362/wp-json", ()),
}


@pytest.mark.parametrize("name", [name for name in RECORDED if (SHARED / f"{name}.response.bin").exists()])
def test_a_recorded_page_gives_its_bots(name: str) -> None:
    bots, root, notes = RECORDED[name]
    page = recorded(name)
    found = [replace(bot, raw_system=BOT.raw_system, raw_params=BOT.raw_params) for bot in page.bots]
    assert (found, page.root, page.notes) == (bots, root, notes)
