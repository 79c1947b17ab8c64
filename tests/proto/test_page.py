"""The page of a site, as bytes. What a site makes of it is tested with the site, its script in a browser."""

import json
import re
from html import unescape

from opchat_proto._page import SCRIPT, STYLE, page


def attribute(name: str, root: str = "") -> object:
    """As an old client reads it: by a pattern (WIRE 2.2)."""
    [value] = re.findall(rf"data-{name}='([^']*)'", page(root).decode())
    return json.loads(unescape(value))


def test_the_attributes_are_json_that_a_pattern_finds() -> None:
    system = attribute("system", "/it's")
    assert isinstance(system, dict)
    assert list(system)[:4] == ["botId", "customId", "userData", "sessionId"]
    assert system["restUrl"] == "/it's/wp-json"
    assert attribute("theme") is None
    assert page("").isascii()


def test_urls_are_whole_where_the_origin_is_known() -> None:
    text = page("/blog", "https://site.example").decode()
    [value] = re.findall("data-system='([^']*)'", text)
    system = json.loads(unescape(value))
    assert system["restUrl"] == "https://site.example/blog/wp-json"
    assert system["pluginUrl"] == "https://site.example/blog/"
    assert '<script src="/blog/opchat.js" defer>' in text


def test_one_decoding_of_entities_is_as_good_as_two() -> None:
    """The plugin's script decodes a second time, which must change nothing."""
    for name in ("system", "params"):
        [value] = re.findall(rf"data-{name}='([^']*)'", page("/blog").decode())
        assert unescape(unescape(value)) == unescape(value)


def test_every_part_that_the_script_looks_for_is_there() -> None:
    ids = set(re.findall(r'id="opchat-([a-z]+)"', page("").decode()))
    assert {"log", "status", "form", "question", "send", "stop", "new"} <= ids
    assert re.findall(rb'"(log|status|form|question|send|stop|new)"', SCRIPT)
    assert STYLE.count(b"{") == STYLE.count(b"}")
