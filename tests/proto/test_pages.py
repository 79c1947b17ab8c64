"""Pages and their bots, as each plugin version writes them, and the REST root."""

import html
import json
from dataclasses import replace
from typing import Any

import pytest

from opchat_proto import Bot, Endpoint, Page, Submit
from tests.proto.pages import (
    BOT,
    CHAT,
    EMPTY,
    HEX_ID,
    PAGE,
    RAW,
    ROOT,
    SYSTEM,
    URL,
    bot_of_text,
    element,
    escaped,
    parsed,
)


def bot_of(system: dict[str, Any], params: dict[str, Any] | None = None) -> Bot:
    """The only bot of a page, without its JSON."""
    page = parsed(element(system, params))
    (bot,) = page.bots
    assert page.notes == ()
    assert json.loads(bot.raw_system) == system
    assert json.loads(bot.raw_params) == (params or {})
    return replace(bot, raw_system=BOT.raw_system, raw_params=BOT.raw_params)


# ------------------------------------------------------------------------------ the forms of each version


def test_a_bot_has_the_data_of_its_element() -> None:
    assert parsed(f"<!doctype html><html><body><p>Hello</p>{CHAT}</body></html>") == PAGE


@pytest.mark.parametrize(
    ("system", "changes"),
    [
        ({"botId": 2024}, {"bot_id": 2024}),
        ({"botId": 1e22}, {"bot_id": 1e22}),
        ({"botId": None, "customId": HEX_ID}, {"bot_id": None, "custom_id": HEX_ID}),
        ({"botId": None, "customId": 7}, {"bot_id": None, "custom_id": 7}),
        ({"botId": False}, {"bot_id": None}),
        ({"botId": 10**100}, {"bot_id": None}),
        ({"botId": ["default"]}, {"bot_id": None}),
        ({"customId": ""}, {}),  # 2.9.9
        ({"botId": 0}, {"bot_id": 0}),
        ({"contextId": 12}, {"context_id": 12}),
        ({"contextId": "12"}, {"context_id": "12"}),
        ({"contextId": False}, {}),
        ({"sessionId": "6b02fc304cdb0"}, {"session_id": "6b02fc304cdb0"}),
        ({"sessionId": "N/A"}, {}),
        ({"sessionId": 6812345678901}, {"session_id": "6812345678901"}),
        ({"sessionId": False}, {}),
        ({"sessionId": 1.5e20}, {}),
        ({"sessionId": "a b"}, {}),
        ({"restNonce": "99c1fd16bb"}, {"nonce": "99c1fd16bb"}),
        ({"restNonce": 1234567890}, {"nonce": "1234567890"}),
        ({"restNonce": 12345}, {"nonce": "0000012345"}),
        ({"restNonce": 0}, {"nonce": "0000000000"}),
        ({"restNonce": ""}, {}),
        ({"restUrl": ROOT + "/"}, {}),
        ({"stream": False}, {"stream": False}),
        ({"crossSite": True}, {"cross_site": True}),
        ({"crossSite": False, "actions": [], "blocks": None, "shortcuts": []}, {}),
        ({"userData": {"ID": 1, "name": "Ann"}}, {"is_member": True}),
        ({"userData": None}, {}),
        ({"somethingNew": {"deep": [1]}}, {}),
    ],
    ids=str,
)
def test_data_system_is_read_in_the_form_of_each_version(system: dict[str, Any], changes: dict[str, Any]) -> None:
    assert bot_of(SYSTEM | system) == replace(BOT, **changes)


def test_the_names_before_1_9_8_are_read() -> None:
    system = {"chatId": "support", "id": "mine", "restUrl": ROOT}
    assert bot_of(system) == replace(BOT, bot_id="support", custom_id="mine", stream=False)


@pytest.mark.parametrize(
    ("params", "changes"),
    [
        ({"mode": "images"}, {"mode": "images"}),
        ({"mode": ""}, {}),
        ({"mode": ["chat"]}, {}),
        ({"textInputMaxLength": 512}, {"max_length": 512}),
        ({"textInputMaxLength": 1}, {"max_length": 1}),
        ({"textInputMaxLength": 0}, {}),
        ({"textInputMaxLength": ""}, {}),
        ({"startSentence": "it's <b>\U0001f689 &amp;"}, {"start_sentence": "it's <b>\U0001f689 &amp;"}),
        ({"startSentence": 42}, {"start_sentence": "42"}),
        ({"startSentence": None}, {}),
        ({"textCompliance": "No warranty."}, {"compliance": "No warranty."}),
        ({"window": True}, {"popup": True}),
        ({"imageUpload": True}, {"takes_images": True, "max_files": 1}),
        ({"fileUpload": True}, {"takes_files": True, "max_files": 1}),
        ({"fileSearch": True}, {"takes_files": True, "max_files": 1}),
        ({"imageUpload": False, "multiUpload": True, "maxUploads": 3}, {}),
        ({"imageUpload": True, "multiUpload": False, "maxUploads": 3}, {"takes_images": True, "max_files": 1}),
        ({"imageUpload": True, "multiUpload": True, "maxUploads": 3}, {"takes_images": True, "max_files": 3}),
        ({"fileUpload": True, "multiUpload": True}, {"takes_files": True, "max_files": 5}),
    ],
    ids=str,
)
def test_data_params_is_read_in_the_form_of_each_version(params: dict[str, Any], changes: dict[str, Any]) -> None:
    assert bot_of(SYSTEM, params) == replace(BOT, **changes)


@pytest.mark.parametrize("params", ["", "data-params='[]'", "data-params=''", "data-params='{'", "data-params='null'"])
def test_a_bot_needs_no_params(params: str) -> None:
    text = f"<div class='mwai-chatbot-container' {params} data-system='{escaped(SYSTEM)}'></div>"
    assert parsed(text).bots == (replace(BOT, raw_params=""),)


@pytest.mark.parametrize("nonce", [-5, 1.2e20, False, True, "a b", [], 10**10])
def test_a_nonce_that_the_site_has_mangled_is_named(nonce: object) -> None:
    page = parsed(element(SYSTEM | {"restNonce": nonce}))
    assert page.bots[0].nonce is None
    assert page.notes == ("the nonce of a chat cannot be used: the site has printed it as a number",)


def test_the_start_of_a_chat_is_data() -> None:
    items = [{"type": "function", "data": {"name": "openCart", "args": []}}, "no object", 5]
    system = SYSTEM | {"actions": items, "blocks": items[:1], "shortcuts": {"not": "a list"}}
    (bot,) = parsed(element(system)).bots
    assert (bot.actions, bot.blocks, bot.shortcuts) == ((items[0],), (items[0],), ())
    assert (BOT.actions, BOT.blocks, BOT.shortcuts) == ((), (), ())


def test_a_question_to_a_bot_has_its_ids() -> None:
    bot = replace(BOT, bot_id="sales", custom_id=7, context_id="12", stream=False)
    expected = Submit(new_message="Hi", bot_id="sales", custom_id=7, context_id="12", stream=False)
    assert bot.submit("Hi") == expected


def test_a_page_can_have_several_bots_and_discussions() -> None:
    others: list[dict[str, Any]] = [SYSTEM | {"botId": "sales"}, SYSTEM | {"botId": None, "customId": 7}]
    page = parsed("".join(element(system) for system in [SYSTEM, *others]) + element(SYSTEM, kind="discussions") + CHAT)
    assert [(bot.bot_id, bot.custom_id) for bot in page.bots] == [
        ("default", None),
        ("sales", None),
        (None, 7),
        ("default", None),
    ]
    assert page.discussions == (BOT,)
    assert [page.find(name) for name in ("sales", "7", "None", "", "sale")] == [*page.bots[1:3], None, None, None]


def test_an_element_can_be_both_and_counts_once_as_each() -> None:
    classes = "wide mwai-chatbot-container mwai-discussions-container mwai-chatbot-container\nmwai-chatbot-container-2"
    page = parsed(f"<section class='{classes}' data-system='{escaped(SYSTEM)}' data-params='{{}}'>")
    assert (page.bots, page.discussions) == ((BOT,), (BOT,))


def test_any_element_can_be_a_bot() -> None:
    link = "<link rel=https://api.w.org/ href=/other/wp-json class=mwai-chatbot-container data-params={} "
    assert parsed(f"{link}data-system='{RAW}'>") == PAGE


def test_a_page_of_1_9_85_has_no_bot_but_the_right_root() -> None:
    text = "<p>[mwai_chatbot id=&#8221;default&#8221;]</p>" + element(SYSTEM, kind="discussions")
    note = "the shortcode [mwai_chatbot id=\u201ddefault\u201d] was not expanded"
    assert parsed(text) == Page(URL, ROOT, (), (BOT,), (note,))


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("<p>[mwai_chat]</p>", "the shortcode [mwai_chat] was not expanded"),
        ("[mwai_chatbot_v2\nlocal_memory='0']", "the shortcode [mwai_chatbot_v2 local_memory='0'] was not expanded"),
        (
            "AI Engine: Chatbot &#8216;sales&#8217; not found. If you meant to set an ID",
            "AI Engine: Chatbot \u2018sales\u2019 not found",
        ),
        ("<i>AI Engine: Chatbot 'x' not found</i>", "AI Engine: Chatbot 'x' not found"),
        (
            "<script src='/wp-content/plugins/ai-engine/app/chatbot.js?ver=1699977155'></script>",
            "chatbot.js is of 2023-11-14",
        ),
        ("<div class=mwai-chatbot-container><div>", "a chat without its attributes: this page was saved by a browser"),
        (
            f"<div class=mwai-chatbot-container data-system='{html.escape(html.escape(escaped(SYSTEM)))}'>",
            "a chat whose data-system is not a JSON object",
        ),
        ("<div class=mwai-chatbot-container data-system=x>", "a chat whose data-system is not a JSON object"),
        ("<div class=mwai-chatbot-container data-system=[]>", "a chat whose data-system is not a JSON object"),
        ("<div class=mwai-chatbot-container data-system=''>", "a chat whose data-system is not a JSON object"),
    ],
    ids=str,
)
def test_the_reason_why_a_bot_is_missing_is_noted_once(text: str, note: str) -> None:
    assert parsed(text + text) == replace(EMPTY, notes=(note,))


@pytest.mark.parametrize(
    "text",
    [
        "[mwai_form]",
        "[mwai_chat" + "x" * 300 + "]",
        "[mwai_chat <b>]",
        "<!-- [mwai_chat] -->",
        "<script>'[mwai_chat]'</script>",
        "<p title='[mwai_chat]'>",
        "AI Engine: Chatbot " + "x" * 300 + " not found",
        "chatbot.js?ver=1699977155 /app/chatbot.js?ver=3.6.2 /app/chatbot.js?ver=123456789012",
    ],
)
def test_a_page_without_a_hint_has_no_note(text: str) -> None:
    assert parsed(text) == EMPTY


# ------------------------------------------------------------------------------ the root

LONGEST = "https://site.example/".ljust(2048, "a")
BARE = Endpoint("https", "site.example", 443, "/")


@pytest.mark.parametrize(
    ("given", "root", "endpoint"),
    [
        (ROOT, ROOT, Endpoint.parse(ROOT)),
        (ROOT + "/", ROOT, Endpoint.parse(ROOT)),
        (
            "https://site.example/blog/index.php?rest_route=/",
            "https://site.example/blog/index.php?rest_route=",
            Endpoint.parse("https://site.example/blog/index.php?rest_route="),
        ),
        (
            "https://SITE.example:443/?rest_route=",
            "https://site.example/?rest_route=",
            Endpoint.parse("https://site.example/?rest_route="),
        ),
        (
            "http://other.example:8080/fr/index.php/wp-json/",
            "http://other.example:8080/fr/index.php/wp-json",
            Endpoint.parse("http://other.example:8080/fr/index.php/wp-json"),
        ),
        (
            "https://site.example/blog/api/",
            "https://site.example/blog/api",
            replace(BARE, root="/blog/api", site="/blog/"),
        ),
        ("https://site.example/api", "https://site.example/api", replace(BARE, root="/api")),
        (
            "/caf\u00e9/api",
            "https://site.example/caf%C3%A9/api",
            replace(BARE, root="/caf%C3%A9/api", site="/caf%C3%A9/"),
        ),
        ("//[::1]/wp-json", "https://[::1]/wp-json", Endpoint.parse("https://[::1]/wp-json")),
        ("../wp-json ", ROOT, Endpoint.parse(ROOT)),
        ("/apiX", "https://site.example/apiX", replace(BARE, root="/apiX")),
        (LONGEST, LONGEST, replace(BARE, root=LONGEST.removeprefix("https://site.example"))),
    ],
)
def test_a_root_is_read_in_all_its_forms(given: str, root: str, endpoint: Endpoint) -> None:
    (bot,) = parsed(element(SYSTEM | {"restUrl": given})).bots
    assert (bot.root, bot.endpoint) == (root, endpoint)
    assert f"{endpoint.origin}{endpoint.root}" == root
    assert Page(URL, root, (), (), ()).endpoint == endpoint
    assert EMPTY.endpoint is None


@pytest.mark.parametrize(
    "given",
    [
        None,
        5,
        "",
        " ",
        "https://site.example",
        "https://site.example/",
        "javascript:alert(1)",
        "ftp://a/wp-json",
        "https://user:pw@site.example/wp-json",
        "https://site.example/wp-json?x=1",
        "https://site.example/wp-json#x",
        "https://a b/wp-json",
        "https://[::1/wp-json",
        "https://:0/wp-json",
        "https://\u212a.example/wp-json",
        f"{LONGEST}a",
    ],
)
def test_an_address_that_is_not_a_root_is_not_taken_for_one(given: object) -> None:
    (bot,) = (page := parsed(element(SYSTEM | {"restUrl": given}))).bots
    assert (bot.root, bot.endpoint, page.root) == (None, None, None)
    assert bot.session is None


LINK = '<link rel="https://api.w.org/" href="https://site.example/by-link&#x2f;wp-json/" />'
HEADERS = [
    (
        "Link",
        '<https://site.example/?p=4>; rel=shortlink, <https://site.example/by-header/wp-json/>; rel="https://api.w.org/"',
    ),
    (b"link", b'<https://site.example/wp-json/wp/v2/pages/4>; rel="alternate"; type="application/json"'),
]


@pytest.mark.parametrize(
    ("text", "headers", "root"),
    [
        (LINK + CHAT, HEADERS, ROOT),
        (LINK + element(SYSTEM, kind="discussions"), HEADERS, ROOT),
        (LINK + element(SYSTEM | {"restUrl": None}) + CHAT, HEADERS, "https://site.example/by-header/wp-json"),
        (LINK, HEADERS, "https://site.example/by-header/wp-json"),
        (LINK, HEADERS[1:], "https://site.example/by-link/wp-json"),
        (LINK, [("X-Link", HEADERS[0][1])], "https://site.example/by-link/wp-json"),
        (LINK, [("Link", '<ftp://x>; rel="https://api.w.org/"')], "https://site.example/by-link/wp-json"),
        ("<link rel='https:&#47;/api.w.org/'>" + LINK, [], "https://site.example/by-link/wp-json"),
        ("<link rel=https://api.w.org/ href=../wp-json>", [], ROOT),
        ("<link rel=https://api.w.org/ href>", [], None),
        ("<link href=/wp-json><link rel=icon href=/wp-json><a rel=https://api.w.org/ href=/wp-json>", [], None),
        (f"<!--{LINK}-->", [], None),
    ],
)
def test_the_root_of_a_page_is_the_most_reliable_one(text: str, headers: Any, root: str | None) -> None:
    assert parsed(text, headers).root == root


def test_a_bot_with_an_unusable_root_gets_the_pages_root() -> None:
    assert bot_of_text(LINK + element(SYSTEM | {"restUrl": ""})).root == "https://site.example/by-link/wp-json"
