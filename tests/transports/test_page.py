"""The page of a site as it is served. Its script is tested in a browser, by tests/external/test_browser.py."""

import json
import re
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from importlib.resources import files
from typing import Any

import pytest

from opchat_proto import Response
from opchat_transports.asgi import application
from opchat_transports.blocking_server import serve
from opchat_transports.page import chat_page

NONCE = "0123456789"


def page(path: str = "/", root: str = "", origin: str = "") -> Response:
    response = chat_page(path, root=root, origin=origin, nonce=NONCE)
    assert response is not None
    return response


class Attributes(HTMLParser):
    """The attributes of each element, as a browser reads them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.found if found == tag]


def by_parser(text: str, name: str) -> Any:
    [found] = [of for of in Attributes(text).of("div") if of.get("class") == "mwai-chatbot-container"]
    return json.loads(str(found[f"data-{name}"]))


def by_pattern(text: str, name: str) -> Any:
    """What a client of an early plugin version reads (WIRE 2.2)."""
    [value] = re.findall(rf"data-{name}='([^']*)'", text)
    return json.loads(unescape(value))


def by_the_plugins_script(text: str, name: str) -> Any:
    """It decodes entities twice."""
    [value] = re.findall(rf"data-{name}='([^']*)'", text)
    return json.loads(unescape(unescape(value)))


@pytest.mark.parametrize("read", [by_parser, by_pattern, by_the_plugins_script])
def test_a_client_finds_the_site_from_the_page(read: Callable[[str, str], Any]) -> None:
    text = page("/", "/it's", "https://site.example").body.decode()
    system, params = read(text, "system"), read(text, "params")
    assert list(system)[:4] == ["botId", "customId", "userData", "sessionId"]
    assert (system["restUrl"], system["pluginUrl"]) == (
        "https://site.example/it's/wp-json",
        "https://site.example/it's/",
    )
    assert (system["botId"], system["stream"]) == ("default", True)
    assert [system[name] for name in ("customId", "userData", "sessionId", "contextId")] == [None] * 4
    assert system["restNonce"] == NONCE
    assert (params["mode"], params["textInputMaxLength"], read(text, "theme")) == ("chat", 65536, None)


def test_the_attributes_are_written_as_the_plugin_writes_them() -> None:
    body = page().body
    assert b"data-system='{&quot;botId&quot;:&quot;default&quot;," in body
    assert b"&quot;restUrl&quot;:&quot;\\/wp-json&quot;" in body
    assert body.isascii()


def test_the_page_is_not_cached_and_not_framed() -> None:
    response = page()
    assert (response.status, response.headers) == (
        200,
        (
            ("Content-Type", "text/html; charset=UTF-8"),
            ("Content-Length", str(len(response.body))),
            ("X-Content-Type-Options", "nosniff"),
            ("Cache-Control", "no-store"),
            (
                "Content-Security-Policy",
                "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
                "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            ),
        ),
    )
    assert page("") == page("/")


@pytest.mark.parametrize(
    ("name", "kind"), [("chat.js", "text/javascript"), ("markdown.js", "text/javascript"), ("chat.css", "text/css")]
)
def test_the_page_has_its_script_and_style(name: str, kind: str) -> None:
    for root in ("", "/blog"):
        response = page(f"/{name}", root)
        assert (response.status, response.headers[0]) == (200, ("Content-Type", f"{kind}; charset=UTF-8"))
        assert response.body == files("opchat_transports.page").joinpath(name).read_bytes()
        found = Attributes(page("/", root).body.decode())
        asked_for = [of.get("src") or of.get("href") for of in (*found.of("script"), *found.of("link"))]
        assert f"{root}/{name}" in asked_for or f'from "./{name}"'.encode() in page("/chat.js", root).body


def test_the_page_names_the_rest_api_as_wordpress_does() -> None:
    links = Attributes(page("/", "/blog", "https://site.example").body.decode()).of("link")
    rels = {of["rel"]: of["href"] for of in links}
    assert rels["https://api.w.org/"] == "https://site.example/blog/wp-json/"


def test_a_path_cannot_leave_its_attribute() -> None:
    root = "/a'b\"c<script>&amp;\u00e9$base"
    body = page("/", root).body
    assert by_parser(body.decode(), "system")["restUrl"] == f"{root}/wp-json"
    assert b"<script>" not in body
    assert b"a&#039;b\\&quot;c&lt;script&gt;&amp;amp;\\u00e9$base\\/wp-json" in body


def test_the_markdown_script_is_small() -> None:
    assert page("/markdown.js").body.count(b"\n") <= 150


def test_every_element_that_the_script_looks_up_exists() -> None:
    ids = set(re.findall(r'id="opchat-([a-z]+)"', page().body.decode()))
    names = {"log", "status", "form", "question", "send", "stop", "new", "suggestions"}
    assert names <= ids
    assert names <= set(re.findall(r'"([a-z]+)"', page("/chat.js").body.decode()))


def test_title_greeting_and_suggestions_are_escaped() -> None:
    nasty = "</title><script>'\"&amp;$root\udc80"
    response = chat_page("/", root="", origin="", nonce="", title=nasty, greeting=nasty, suggestions=[nasty])
    assert response is not None
    text = response.body.decode()
    assert by_parser(text, "params")["startSentence"] == nasty
    assert by_parser(text, "system")["shortcuts"] == [{"type": "message", "data": {"label": nasty, "message": nasty}}]
    assert text.count("&lt;/title&gt;&lt;script&gt;&#039;&quot;&amp;amp;$root?<") == 2  # the title and the heading
    assert "<script>" not in text


@pytest.mark.parametrize("server", [application, serve])
def test_a_server_passes_the_title_and_suggestions_to_the_page(server: Callable[..., Any]) -> None:
    for wrong in ({"title": None}, {"greeting": b""}, {"suggestions": [1]}, {"suggestions": "How?"}):
        with pytest.raises(TypeError, match="title, greeting, suggestions"):
            server(lambda submit: [], secret=b"a", **wrong)


def test_nothing_is_inline_and_the_script_writes_no_markup() -> None:
    found = Attributes(page().body.decode())
    assert all(attributes.get("src") for attributes in found.of("script"))
    assert found.of("style") == []
    assert not [
        name for _, attributes in found.found for name in attributes if name == "style" or name.startswith("on")
    ]
    script = page("/chat.js").body + page("/markdown.js").body
    assert not [
        word for word in (b"innerHTML", b"outerHTML", b"insertAdjacent", b"eval(", b"document.write") if word in script
    ]


def test_a_request_for_an_icon_gets_none() -> None:
    assert page("/favicon.ico") == Response(204, (("Cache-Control", "max-age=86400"),))


def test_the_page_asks_the_configured_bot() -> None:
    response = chat_page("/", root="", origin="", nonce=NONCE, bot_id="it's")
    assert response is not None
    text = response.body.decode()
    assert (by_pattern(text, "system")["botId"], by_pattern(text, "params")["id"]) == ("it's", "it's")


@pytest.mark.parametrize(
    "path", ["/opchat", "//", "/x/chat.js", "/chat.html", "/chat.js/", "/../page/__init__.py", "*"]
)
def test_other_paths_are_not_part_of_the_page(path: str) -> None:
    assert chat_page(path, root="", origin="", nonce=NONCE) is None
