"""HTML is parsed like browsers do, so only elements are bots. Hostile pages take linear time."""

import html
import tracemalloc

import pytest

from opchat_proto import Page
from tests.fuzz.oracles import check_linear
from tests.proto.pages import BOT, CHAT, PAGE, RAW, SYSTEM, bot_of_text, escaped, parsed

# ------------------------------------------------------------------------------ HTML


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
        ("a &amp;amp; b", "a &amp; b"),  # only once, since it contains JSON
        ("&lt;b&gt;&#39;&#x27;&apos;", "<b>'''"),
        ("&copy &copy; &copy=1 &copy1 &copyx; &notit; &no; &", "\u00a9 \u00a9 &copy=1 &copy1 &copyx; &notit; &no; &"),
        ("&copy;=1 &#65=&#x41;", "\u00a9=1 A=A"),
        ("&CounterClockwiseContourIntegral; &NotEqualTilde;", "\u2233 \u2242\u0338"),
        (
            "&#0; &#xD800; &#x110000; &#99999999999999999999; &#x80; &#; &#x;",
            "\ufffd \ufffd \ufffd \ufffd \u20ac &#; &#x;",
        ),
        (f"&#{'9' * 5000};", "\ufffd"),
        ("\ud83d", "\ufffd"),
        ("a\0b", "a\ufffdb"),
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
        f"<svg><title><textarea>{CHAT}</textarea></title></svg>",
        f"<svg><foreignObject><svg/><script>{CHAT}",
        f"<math><mtext><xmp>{CHAT}</xmp></mtext></math>",
        f"<svg><desc><b></b></desc><![CDATA[{CHAT}]]></svg>",
        f"<svg><![CDATA[>{CHAT}]]></svg>",
        f"<svg><svg></svg></svg><style>{CHAT}</style>",
        f"<svg><g></svg><style>{CHAT}</style>",
        f"<svg></p><style>{CHAT}</style>",
        f"<svg><desc></svg><style>{CHAT}</style>",
        f"<svg><br><style>{CHAT}</style>",
        f"<svg></br><style>{CHAT}</style>",
        f"<svg><desc></math><style>{CHAT}</style>",
        f"<math><annotation-xml encoding='Text/HTML'><style>{CHAT}</style>",
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
def test_text_outside_elements_is_not_a_bot(text: str) -> None:
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
        "<![CDATA[x>",
        "<![if IE]>",
        "<![[>",
        "<script></script>",
        "<script>'</scrip>'</script>",
        "<script><!--</script>",
        "<script><!--<script></script></script>",
        "<script><!--><script></script>",
        "<script>--><script></script>",
        "<script><script></script>",
        "<script><script><script></script>",
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
        "<math><title><style></math>",
        "<math><annotation-xml><style></math>",
        "<svg><mi><style></svg>",
        "<svg></math><style></svg>",
        "<svg><annotation-xml encoding=text/html><style></svg>",
        "<svg><![CDATA[>]]><![CDATA[']]></svg>",
        "<svg><p><title></title>",
        "<svg><title/><style></svg>",
        "<svg><desc><svg></svg></desc><style></svg>",
        "<svg><foreignObject></p></foreignObject><xmp></svg>",
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
def test_preceding_markup_does_not_hide_a_bot(before: str) -> None:
    assert parsed(before + CHAT + before) == PAGE


def test_unclosed_svg_ends_at_the_next_html_element() -> None:
    assert parsed(f"<svg><path><p><script>{CHAT}</script>").bots == ()
    assert parsed(f"<svg><g><title>{CHAT}").bots == (BOT,)


# ------------------------------------------------------------------------------ hostile pages

ELEMENT = "<i class=mwai-chatbot-container data-system='"

# The part that occurs once, and the repeated part.
HOSTILE = {
    "HTML inside SVG": ("", "<svg><desc>"),
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
def test_a_hostile_page_takes_linear_time_and_memory(name: str) -> None:
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


def test_an_element_with_a_class_repeated_many_times_is_decoded_once() -> None:
    system = SYSTEM | {"x": "y" * 1000}
    text = f"<i class='{'mwai-chatbot-container ' * 1000}' data-system='{escaped(system)}'>"
    assert len(parsed(text).bots) == 1
