"""Pages and their bots: what every version wrote, in every spelling, and what a stranger may write instead."""

import html
import json
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opchat_proto import Bot, Endpoint, InvalidMessages, Page, Session, Submit
from opchat_proto._json import encode_as_php  # strict JSON is not public
from tests.fuzz.oracles import check_linear
from tests.proto.cuts import copies
from tests.proto.pages import BOT, CHAT, EMPTY, HEX_ID, PAGE, ROOT, SYSTEM, URL, element, escaped

SHARED = Path(__file__).resolve().parents[3] / "shared"


def parsed(text: str, headers: Any = ()) -> Page:
    return Page.parse(text, URL, headers)


def bot_of(system: dict[str, Any], params: dict[str, Any] | None = None) -> Bot:
    """The only bot of a page, without its JSON."""
    page = parsed(element(system, params))
    (bot,) = page.bots
    assert json.loads(bot.raw_system) == system
    assert json.loads(bot.raw_params) == (params or {})
    return replace(bot, raw_system=BOT.raw_system, raw_params=BOT.raw_params)


# ---------------------------------------------------------------- what the versions write


def test_a_bot_is_what_its_element_says() -> None:
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
def test_data_system_is_read_as_all_versions_write_it(system: dict[str, Any], changes: dict[str, Any]) -> None:
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
def test_data_params_is_read_as_all_versions_write_it(params: dict[str, Any], changes: dict[str, Any]) -> None:
    assert bot_of(SYSTEM, params) == replace(BOT, **changes)


@pytest.mark.parametrize("params", ["", "data-params='[]'", "data-params=''", "data-params='{'", "data-params='null'"])
def test_a_bot_needs_no_params(params: str) -> None:
    text = f"<div class='mwai-chatbot-container' {params} data-system='{escaped(SYSTEM)}'></div>"
    assert parsed(text).bots == (replace(BOT, raw_params=""),)


@pytest.mark.parametrize("nonce", [-5, 1.2e20, False, True, "a b", [], 10**10])
def test_a_nonce_that_the_site_has_spoilt_is_named(nonce: object) -> None:
    page = parsed(element(SYSTEM | {"restNonce": nonce}))
    assert page.bots[0].nonce is None
    assert page.notes == ("the nonce of a chat cannot be used: the site has printed it as a number",)


def test_what_is_there_at_the_start_of_a_chat_is_data() -> None:
    items = [{"type": "function", "data": {"name": "openCart", "args": []}}, "no object", 5]
    system = SYSTEM | {"actions": items, "blocks": items[:1], "shortcuts": {"not": "a list"}}
    (bot,) = parsed(element(system)).bots
    assert (bot.actions, bot.blocks, bot.shortcuts) == ((items[0],), (items[0],), ())


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
        ("<div class=mwai-chatbot-container data-system=x>", "a chat whose data-system is not a JSON object"),
        ("<div class=mwai-chatbot-container data-system=[]>", "a chat whose data-system is not a JSON object"),
        ("<div class=mwai-chatbot-container data-system=''>", "a chat whose data-system is not a JSON object"),
    ],
    ids=str,
)
def test_why_a_bot_is_missing_is_noted_once(text: str, note: str) -> None:
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
def test_what_is_not_said_is_not_noted(text: str) -> None:
    assert parsed(text) == EMPTY


# ---------------------------------------------------------------- the root

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
        "https://site.example/" + 2048 * "a",
    ],
)
def test_what_is_no_root_is_not_taken_for_one(given: object) -> None:
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
        (f"<!--{LINK}-->", [], None),
    ],
)
def test_the_root_of_a_page_is_the_best_of_what_is_said(text: str, headers: Any, root: str | None) -> None:
    assert parsed(text, headers).root == root


def test_a_bot_whose_own_root_cannot_be_used_has_that_of_the_page() -> None:
    assert bot_of_text(LINK + element(SYSTEM | {"restUrl": ""})).root == "https://site.example/by-link/wp-json"


def bot_of_text(text: str) -> Bot:
    (bot,) = parsed(text).bots
    return bot


# ---------------------------------------------------------------- HTML

RAW = encode_as_php(SYSTEM)


@pytest.mark.parametrize(
    "attributes",
    [
        f"class='mwai-chatbot-container' data-params='{{}}' data-system='{escaped(SYSTEM)}' data-theme='null'",
        f'class="mwai-chatbot-container" data-params="{{}}" data-system="{escaped(SYSTEM)}"',
        f"class=mwai-chatbot-container data-params={{}} data-system={RAW} data-theme=null",
        f"class=mwai-chatbot-container data-params={{}} data-system={escaped(SYSTEM)}",
        f'class="mwai-chatbot-container" data-params="{{}}" data-system="{RAW.replace(chr(34), "&#34;")}"',
        f'class="mwai-chatbot-container" data-params="{{}}" data-system="{RAW.replace(chr(34), "&#x22;")}"',
        f'class="mwai-chatbot-container" data-params="{{}}" data-system="{RAW.replace(chr(34), "&#0000000000034")}"',
        f"class=x&#32mwai-chatbot&#45;container data-params='{{}}' data-system='{RAW}'",
        f"CLASS = 'mwai-chatbot-container'\n\tData-Params\f=\r\n'{{}}'DATA-SYSTEM='{RAW}'/",
        f"/ data-system='{RAW}'data-params='{{}}'class='\nlazy  mwai-chatbot-container\t' hidden",
        f"class=mwai-chatbot-container class=x data-system='{RAW}' data-system='[]' data-params='{{}}' data-params=x",
        f"= a==b '=x title='</div><!--' class=mwai-chatbot-container data-system='{RAW}' data-params='{{}}'",
        f"class=mwai-chatbot-container data-params='{{}}' data-system='{html.escape(escaped(SYSTEM))}'",
    ],
)
def test_attributes_are_read_however_they_are_written(attributes: str) -> None:
    assert parsed(f"<div {attributes}>") == PAGE


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("a &amp;amp; b", "a &amp; b"),  # once only, as this gives JSON
        ("&lt;b&gt;&#39;&#x27;&apos;", "<b>'''"),
        ("&copy &copy; &copy=1 &copy1 &copyx; &notit; &no; &", "\u00a9 \u00a9 &copy=1 &copy1 &copyx; &notit; &no; &"),
        ("&copy;=1 &#65=&#x41;", "\u00a9=1 A=A"),
        ("&CounterClockwiseContourIntegral; &NotEqualTilde;", "\u2233 \u2242\u0338"),
        (
            "&#0; &#xD800; &#x110000; &#99999999999999999999; &#x80; &#; &#x;",
            "\ufffd \ufffd \ufffd \ufffd \u20ac &#; &#x;",
        ),
        ("\ud83d", "\ufffd"),
    ],
)
def test_character_references_are_read_as_in_an_attribute(written: str, text: str) -> None:
    params = f'{{"startSentence":"{written}"}}'
    found = bot_of_text(f"<div class=mwai-chatbot-container data-system='{RAW}' data-params='{params}'>")
    assert (found.start_sentence, found.raw_params) == (text, f'{{"startSentence":"{text}"}}')


@pytest.mark.parametrize(
    "text",
    [
        f"<!--{CHAT}-->",
        f"<!--{CHAT}--!>",
        f"<!--{CHAT}",
        f"<!---{CHAT}-->",
        f"<!--!>{CHAT}-->",
        f"<!---!>{CHAT}-->",
        f"<script>{CHAT}</script>",
        f"<SCRIPT type='text/plain'>{CHAT}</SCRIPT >",
        f"<script>{CHAT}",
        f"<style>{CHAT}",
        f"<script><!--<script></script>{CHAT}</script>-->",
        f"<script><!--<script></script><script>{CHAT}</script>{CHAT}--></script>",
        f"<script></scripts>{CHAT}</script>",
        f"<script><script>{CHAT}</script>",
        f"<title>{CHAT}</title>",
        f"<title>{CHAT}</title x='{CHAT}'>",
        f"<textarea>{CHAT}</textarea>",
        f"<title/>{CHAT}",
        f"<noscript>{CHAT}</noscript>",
        f"<iframe>{CHAT}</iframe>",
        f"<xmp>{CHAT}</xmp>",
        f"<noembed>{CHAT}</noembed>",
        f"<noframes>{CHAT}</noframes>",
        f"<plaintext></plaintext>{CHAT}",
        f"<style></\u017ftyle>{CHAT}",
        f'<p title="{CHAT}">',
        f'<p title={CHAT[:4]} a="{CHAT}',
        f"<svg><![CDATA[{CHAT}]]></svg>",
        f"<svg><![CDATA[{CHAT}",
        CHAT.replace("<div", "</div"),
        CHAT.removesuffix("></div>"),
        CHAT.replace("<div", "< div"),
        CHAT.replace("<div", "<!div"),
        CHAT.replace("<div", "<?div"),
        CHAT.replace("<div", "<1"),
        CHAT.replace("<", "&lt;"),
        CHAT.replace("class", "klass"),
        CHAT.replace("container", "Container"),
        f"<!{CHAT[5:-8]}",
        f"<{CHAT[4:]}",
        f"<? {CHAT[4:]}",
        f"</ {CHAT[4:]}",
        CHAT.replace("class=", "class=x class="),
    ],
)
def test_what_is_no_element_is_no_bot(text: str) -> None:
    assert parsed(text).bots == ()


@pytest.mark.parametrize(
    "before",
    [
        "<!-->",
        "<!--->",
        "<!---->",
        "<!-- -- > -->",
        "<!--x--!>",
        "<!>",
        "<!x>",
        "<?>",
        "<? x='>",
        "</>",
        "</ x>",
        "</1>",
        "<",
        "<<",
        "<3 ",
        "a < b ",
        "<!doctype html>",
        "<![CDATA[x]]>",
        "<![if IE]>",
        "<![[>",
        "<script></script>",
        "<script>'</scrip>'</script>",
        "<script><!--</script>",
        "<script><!--<script></script></script>",
        "<script><!--><script></script>",
        "<script>--><script></script>",
        "<script><!--<script>--></script>",
        "<title></p></TITLE>",
        "<textarea></textarea\n>",
        "<style></style/>",
        "<style>a > b</style>",
        "<svg><title/><style/><path d='M0 0'/></svg>",
        "<svg><script/></svg>",
        "<svg/><title></title>",
        "</svg>",
        "<svg><svg/></svg>",
        "<svg><g><svg></svg><style/></g></svg>",
        "<math><mi>x</math>",
        "<svg><![CDATA[>]]><![CDATA[']]></svg>",
        "<svg><p><title></title>",
        "<a b=c/>",
        "<a b='>'>",
        "<a b=>",
        "<a =>",
        "<a '>",
        "<a b=x'>",
        "<a/b>",
        "<a\x0bb>",
        "</p a='>'>",
        "\x00",
        "<a \x00=\x00>",
        "<plaintexts>",
        "<template>",
        "<noscript></noscript>",
        "<x-y:z.1>",
        "&#60;",
        "<a" + "\u00a0" + "b='>",
    ],
)
def test_what_comes_before_does_not_hide_a_bot(before: str) -> None:
    assert parsed(before + CHAT + before) == PAGE


def test_svg_that_nobody_closed_ends_at_the_next_element_of_html() -> None:
    assert parsed(f"<svg><path><p><script>{CHAT}</script>").bots == ()
    assert parsed(f"<svg><g><title>{CHAT}").bots == (BOT,)


# ---------------------------------------------------------------- values


def test_a_page_is_a_value_that_shows_no_secret() -> None:
    system = SYSTEM | {"restNonce": "secretnonce", "sessionId": "secretsession"}
    page = parsed(element(system, {"x": "secretparam"}))
    assert all(copied == page and hash(copied) == hash(page) for copied in copies(page))
    assert "secret" not in repr(page)
    assert repr(PAGE.bots[0]).startswith("Bot(bot_id='default', custom_id=None, context_id=None, root='https://site")
    page.bots[0].raw_system.encode()


def test_a_bot_has_what_a_question_to_it_needs() -> None:
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
    for arguments in ((b"<p>", URL), ("<p>", None)):
        with pytest.raises(TypeError, match=r"^(html|url): expected a str, got (bytes|NoneType)$"):
            Page.parse(*arguments)
    with pytest.raises(TypeError, match=r"^headers: expected pairs"):
        parsed("", ["Link: <x>"])


@given(st.text(max_size=60), st.text(max_size=30), st.lists(st.tuples(st.just("link"), st.text(max_size=40))))
def test_any_text_is_a_page(text: str, url: str, headers: list[tuple[str, str]]) -> None:
    page = Page.parse(text, url, headers)
    repr(page).encode()
    assert page.bots == ()


# ---------------------------------------------------------------- real pages


def recorded(name: str) -> Page:
    """What a site answered to a GET of a page."""
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


# ---------------------------------------------------------------- hostile pages

ELEMENT = "<i class=mwai-chatbot-container data-system='"
# What comes once, and what comes again and again.
HOSTILE = {
    "tags without end": ("", "<a "),
    "declarations": ("", "<![["),
    "brackets": ("", "<"),
    "end tags without a name": ("", "</"),
    "elements": ("", "<p>"),
    "attributes": ("<a ", "b "),
    "attributes with values": ("<a ", "b=1 "),
    "the same attribute": ("<a ", "data-system='x' "),
    "equals signs": ("<a ", "="),
    "slashes": ("<a ", "/"),
    "blanks after a name": ("<a b", " "),
    "an open quote": ("<a b='", "x"),
    "open quotes": ("", "<a b='\""),
    "comments": ("", "<!--"),
    "empty comments": ("", "<!-->"),
    "dashes": ("<!--", "-"),
    "bangs": ("<!--", "--!"),
    "questions": ("", "<?"),
    "scripts": ("", "<script>"),
    "scripts in comments in a script": ("<script>", "<!--<script></script"),
    "raw text": ("", "<title>"),
    "closed raw text": ("", "<title></title>"),
    "end tags of another raw text": ("<title>", "</titles>"),
    "svg": ("", "<svg>"),
    "CDATA": ("<svg>", "<![CDATA["),
    "chats": ("", f"{ELEMENT}{{}}'>"),
    "chats without attributes": ("", "<i class=mwai-chatbot-container>"),
    "a class many times": ("<i data-system='{}' class='", "mwai-chatbot-container "),
    "nested JSON": (ELEMENT, "["),
    "an open string": (f"{ELEMENT}{{&quot;a&quot;:&quot;", "\\"),
    "a long number": (f'{ELEMENT}{{"botId":', "9"),
    "a long reference": (f"{ELEMENT}&#", "9"),
    "ampersands": (ELEMENT, "&"),
    "references": (ELEMENT, "&#38;"),
    "a long name of a reference": (f"{ELEMENT}&", "a"),
    "shortcodes": ("", "[mwai_chat"),
    "bots not found": ("", "AI Engine: Chatbot "),
    "links": ("", "<link rel=https://api.w.org/ href=x>"),
    "times of scripts": ("", "/app/chatbot.js?ver="),
    "keys": (f"{ELEMENT}{{", '"a":1,'),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_page_takes_time_and_memory_in_proportion(name: str) -> None:
    start, unit = HOSTILE[name]

    def parse(data: bytes) -> Page:
        return parsed(start + data.decode() + "'>")

    check_linear(parse, (unit * (32 * 1024 // len(unit))).encode())
    size = 64 * 1024
    tracemalloc.start()
    try:
        parse((unit * (size // len(unit))).encode())
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 64 * size


def test_one_element_with_its_class_many_times_is_decoded_once() -> None:
    system = SYSTEM | {"x": "y" * 1000}
    text = f"<i class='{'mwai-chatbot-container ' * 1000}' data-system='{escaped(system)}'>"
    assert len(parsed(text).bots) == 1
