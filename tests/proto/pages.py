"""A page with one bot on it, as the plugin writes it."""

import html
from typing import Any

from opchat_proto import Bot, Page
from opchat_proto._json import encode_as_php  # strict JSON is not public

URL = "https://site.example/contact/"
ROOT = "https://site.example/wp-json"


def escaped(value: dict[str, Any]) -> str:
    """Encoded as the plugin writes it into an attribute (WIRE 2.2)."""
    return html.escape(encode_as_php(value)).replace("&#x27;", "&#039;")


def element(system: dict[str, Any], params: dict[str, Any] | None = None, kind: str = "chatbot") -> str:
    attributes = f"data-params='{escaped(params or {})}' data-system='{escaped(system)}' data-theme='null'"
    return f"<div class='mwai-{kind}-container' {attributes}></div>"


SYSTEM = {"botId": "default", "customId": None, "restUrl": ROOT, "stream": True}
RAW = encode_as_php(SYSTEM)
CHAT = element(SYSTEM)
HEX_ID = "0b2576d7560b2576d7560b2576d75600"  # an MD5
BOT = Bot(
    bot_id="default",
    custom_id=None,
    context_id=None,
    session_id=None,
    nonce=None,
    root=ROOT,
    stream=True,
    mode="chat",
    max_length=None,
    start_sentence="",
    compliance="",
    takes_images=False,
    takes_files=False,
    max_files=0,
    popup=False,
    cross_site=False,
    is_member=False,
    raw_system=encode_as_php(SYSTEM),
    raw_params="{}",
)
PAGE = Page(URL, ROOT, (BOT,), (), ())
EMPTY = Page(URL, None, (), (), ())


def parsed(text: str, headers: Any = ()) -> Page:
    return Page.parse(text, URL, headers)


def bot_of_text(text: str) -> Bot:
    (bot,) = parsed(text).bots
    return bot
