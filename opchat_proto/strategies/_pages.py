"""Pages of sites, with their bots."""

import html
import re
from functools import cache
from typing import Any, NamedTuple, TypeAlias

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from .._json import encode_as_php
from .._pages import Bot, Page
from ._values import endpoints, texts, tokens

__all__ = ["HTMLPage", "pages"]


class HTMLPage(NamedTuple):
    """A page as a site sends it, and what it contains."""

    html: str
    url: str
    headers: list[tuple[str, str]]
    page: Page


_Written: TypeAlias = tuple[dict[str, Any], dict[str, Any]]
"""A part of the JSON, and the fields of `Bot` that it gives."""


def pages() -> SearchStrategy[HTMLPage]:
    """A page with any number of bots and discussions, and the result of `Page.parse`.

    In the plugin's spelling, or as minifiers and themes leave it: any quotes or
    none, any kind of character reference, duplicate attributes, and elements inside
    comments, scripts and titles, which do not count. Its `notes` are always empty.
    """
    return _pages()


@st.composite
def _pages(draw: DrawFn) -> HTMLPage:
    head, linked = draw(_links())
    bots, discussions = draw(st.lists(_bots(linked), max_size=3)), draw(st.lists(_bots(linked), max_size=1))
    found = [("chatbot", bot) for bot in bots] + [("discussions", bot) for bot in discussions]
    text = draw(st.sampled_from(["", "<!doctype html><html><head><title>Chat</title></head><body>"]))
    headers = []
    if head and draw(st.booleans()):
        headers.append(("Link", f'{head}; rel="https://api.w.org/"'))
    elif head:
        text += f'<link rel="https://api.w.org/" href="{html.escape(head[1:-1])}" />'
    for kind, bot in found:
        text += draw(_surroundings()) + draw(_elements(kind, bot))
    text += draw(_surroundings())
    url = "https://site.example/contact/"
    root = next((bot.root for _, bot in found if bot.root), linked)
    return HTMLPage(text, url, headers, Page(url, root, tuple(bots), tuple(discussions), ()))


@cache
def _links() -> SearchStrategy[tuple[str, str | None]]:
    """The target of the page's Link header, and the REST root that it names."""
    return st.just(("", None)) | _roots().map(lambda root: (f"<{root}/>", root))


@cache
def _roots() -> SearchStrategy[str]:
    renamed = st.sampled_from(["https://site.example/api", "https://site.example/blog/json"])
    return endpoints().map(lambda endpoint: endpoint.origin + endpoint.root) | renamed


def _bots(linked: str | None) -> SearchStrategy[Bot]:
    return st.builds(_bot, st.just(linked), _system(), _params())


def _bot(linked: str | None, system: list[_Written], params: list[_Written]) -> Bot:
    meaning: dict[str, Any] = {
        **dict.fromkeys(("bot_id", "custom_id", "context_id", "session_id", "nonce", "max_length")),
        **dict.fromkeys(("stream", "takes_images", "takes_files", "popup", "cross_site", "is_member"), False),
        "root": linked,
        "mode": "chat",
        "start_sentence": "",
        "compliance": "",
        "max_files": 0,
    }
    raw = []
    for written in (system, params):
        values: dict[str, Any] = {}
        for given, means in written:
            values |= given
            meaning |= means
        raw.append(encode_as_php(values))
    return Bot(**meaning, raw_system=raw[0], raw_params=raw[1])


def _one_of(*written: _Written) -> SearchStrategy[_Written]:
    return st.sampled_from(written)


@cache
def _system() -> SearchStrategy[list[_Written]]:
    ids = st.integers(0, 10**20) | texts().filter(bool)
    bots = st.just("default") | ids
    return st.tuples(
        bots.map(lambda value: ({"botId": value}, {"bot_id": value}))
        | ids.map(lambda value: ({"botId": None, "customId": value}, {"custom_id": value})),
        _one_of(({}, {}), ({"contextId": 4}, {"context_id": 4}), ({"contextId": "4"}, {"context_id": "4"}))
        | _one_of(({"contextId": False}, {}), ({"contextId": None}, {})),
        _one_of(*(({"sessionId": nothing}, {}) for nothing in (None, False, "N/A", "a b")))
        | st.integers(0, 10**13).map(lambda number: ({"sessionId": number}, {"session_id": str(number)}))
        | tokens().filter(lambda text: text != "N/A").map(lambda text: ({"sessionId": text}, {"session_id": text})),
        st.just(({"restNonce": None}, {}))
        | st.integers(0, 10**10 - 1).map(lambda number: ({"restNonce": number}, {"nonce": f"{number:010}"}))
        | tokens().map(lambda text: ({"restNonce": text}, {"nonce": text})),
        st.builds(lambda root, slash: ({"restUrl": root + slash}, {"root": root}), _roots(), st.sampled_from(["", "/"]))
        | _one_of(({"restUrl": None}, {}), ({}, {})),
        st.booleans().map(lambda value: ({"stream": value}, {"stream": value})),
        _one_of(({}, {}), ({"crossSite": True}, {"cross_site": True}), ({"crossSite": False, "blocks": []}, {})),
        _one_of(({"userData": None}, {}), ({"userData": {"ID": 1, "name": "Ann"}}, {"is_member": True})),
        _one_of(({}, {}), ({"pluginUrl": "https://site.example/wp-content/plugins/ai-engine", "new": [None]}, {})),
    ).map(list)


@cache
def _params() -> SearchStrategy[list[_Written]]:
    files: dict[str, Any] = {"takes_images": True, "takes_files": True}
    uploads: dict[str, Any] = {"imageUpload": True, "fileUpload": True}
    return st.tuples(
        _one_of(({}, {}), ({"mode": "chat"}, {}), ({"mode": "images"}, {"mode": "images"})),
        _one_of(({}, {}), ({"textInputMaxLength": ""}, {}), ({"textInputMaxLength": 512}, {"max_length": 512})),
        texts().map(lambda text: ({"startSentence": text}, {"start_sentence": text})),
        _one_of(({}, {}), ({"textCompliance": "No <b>'warranty'</b>."}, {"compliance": "No <b>'warranty'</b>."})),
        _one_of(({}, {}), ({"imageUpload": True}, {"takes_images": True, "max_files": 1}))
        | _one_of((uploads, files | {"max_files": 1}), (uploads | {"multiUpload": True}, files | {"max_files": 5}))
        | st.just((uploads | {"multiUpload": True, "maxUploads": 3}, files | {"max_files": 3})),
        _one_of(({}, {}), ({"window": False}, {}), ({"window": True}, {"popup": True})),
    ).map(list)


@st.composite
def _elements(draw: DrawFn, kind: str, bot: Bot) -> str:
    attributes = [
        (
            "class",
            draw(st.sampled_from(["{}", "wide\n{}", "{} {}", "\t{} x "])).replace("{}", f"mwai-{kind}-container"),
        ),
        ("data-params", bot.raw_params),
        ("data-system", bot.raw_system),
        ("data-theme", "null"),
    ]
    if draw(st.booleans()):
        attributes = draw(st.permutations(attributes))
    if draw(st.booleans()):
        attributes += draw(
            st.sampled_from([[("class", "x"), ("data-system", "[]")], [("title", "<!-- '>")], [("a", "")]])
        )
    quoting = draw(st.sampled_from(_QUOTING))
    name = draw(st.sampled_from(["div", "DIV", "section", "x-chat"]))
    blank = draw(st.sampled_from([" ", "\n", "\t \r\n", " / "]))
    upper = draw(st.booleans())
    text = "".join(f"{blank}{key.upper() if upper else key}={quoting(value)}" for key, value in attributes)
    return f"<{name}{text}{draw(st.sampled_from(['>', ' >', ' />']))}"


def _reference(pattern: str, form: str) -> Any:
    """A function that writes each matching character as a character reference of this form."""
    return lambda text: re.sub(pattern, lambda found: form.format(ord(found[0])), text)


def _as_plugin(text: str) -> str:
    return html.escape(text).replace("&#x27;", "&#039;")


_as_double, _as_single = _reference('[&"]', "&#{};"), _reference("[&']", "&#x{:X};")
_as_bare = _reference("""[\\s&"'<>=`]""", "&#{:d};")
# A JSON object that was encoded twice is not JSON after one decoding, so it is decoded again.
_QUOTING = (
    lambda text: f"'{_as_plugin(text)}'",
    lambda text: f'"{_as_double(text)}"',
    lambda text: f"'{_as_single(text)}'",
    lambda text: _as_bare(text) or "''",
    lambda text: f"'{_as_plugin(_as_plugin(text)) if chr(34) in text else _as_plugin(text)}'",
)

_NO_BOT = "<div class='mwai-chatbot-container' data-params='{}' data-system='{}' data-theme='null'></div>"
_NOTHING = (
    *(
        "",
        "<p>Hello</p>",
        "a < b <3 < ",
        "<!-->",
        "<!--->",
        f"<!--{_NO_BOT}-->",
        f"<!-- > {_NO_BOT} --!>",
        "</p a='>'>",
    ),
    *(f'<script>let a = "{_NO_BOT}"</script>', f"<script><!--<script>{_NO_BOT}</script>{_NO_BOT}--></script >"),
    *(f"<style>{_NO_BOT}</style>", f"<textarea>{_NO_BOT}</TEXTAREA>", f"<noscript>{_NO_BOT}</noscript>", "<![[>"),
    *("<svg><title/><style/><path d='M0 0'/></svg>", f"<svg><![CDATA[{_NO_BOT}]]></svg>", "<a b='>' c=/>", "<?php >"),
    *(
        f'<p title="{_NO_BOT}">',
        "\0",
        "&lt;div class=mwai-chatbot-container&gt;",
        "<p class=mwai-chatbot>",
        "</>",
        "</ x>",
    ),
)


@cache
def _surroundings() -> SearchStrategy[str]:
    return st.lists(st.sampled_from(_NOTHING), max_size=3).map("".join)
