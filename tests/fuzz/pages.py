"""The fuzz target of `Page` and `Visit`: any bytes are a page, and a slow, simple HTML reader finds the same one."""

import html
import html.entities
import json
import re
from typing import Any

from opchat_proto import Bot, Broken, End, Event, Limits, Page, Session, Visit
from tests.fuzz.oracles import SECRET, Again, Choices, Cut, check_all_ways, check_linear, check_secrets

URL = "https://site.example/contact/"
_BLANK = " \t\n\r\f"
_RAW_TEXT = ("iframe", "noembed", "noframes", "noscript", "style", "textarea", "title", "xmp")
_SESSIONS = (
    None,
    Session(SECRET, SECRET, f"mwai_session_id={SECRET}"),
    Session(SECRET, None, f"wordpress_logged_in_1={SECRET}"),
)
_STATUSES = (200, 302, 301, 308, 404, 503, 304, 100, 101, 0)
_FIELDS = (
    ("Location", "/a"),
    ("Location", "https://other.example/b"),
    ("Location", "http://site.example"),
    ("Location", "x:\ud800"),
    ("Link", "</api/>; rel=https://api.w.org/"),
    ("Content-Encoding", "gzip"),
    ("Retry-After", "7"),
)
_SOMETIMES = 1 / 100


def page(data: bytes) -> None:
    """Byte strings as the responses to a visit: a page or one `Broken`, and no secret leaves the site."""
    choices = Choices(data)
    session = choices.one_of(_SESSIONS)
    limits = Limits(page_bytes=1 + 16 * choices.number(256)) if choices.number(4) == 3 else Limits()
    fresh = "fresh" if choices.number(2) else None
    bodies = choices.strings
    heads = [(choices.one_of(_STATUSES), choices.number(3), choices.number(8)) for _ in bodies]

    def run(cut: Cut, again: Again) -> tuple[Any, ...]:
        visit = Visit(URL, limits, session=session, fresh=fresh)
        events: list[Event] = []
        for body, (status, ends, field) in zip(bodies, heads, strict=True):
            request = visit.next_request()
            if request is None:
                break
            assert request.url.startswith("https://site.example/") or SECRET not in repr(request.headers)
            fields = [*_FIELDS[:field], ("Location", "/c")][-2:]
            events += visit.receive_head(status, fields)
            if 100 <= status < 200:
                events += visit.receive_head(200, fields)
            for piece in cut(body):
                visit = again(visit)
                events += visit.receive_data(piece)
            events += visit.receive_failure("cut") if ends == 2 else visit.receive_eof()
        events += visit.close()
        assert visit.next_request() is None
        assert visit.receive_data(b"late") == visit.receive_eof() == visit.receive_failure("late") == []
        check_secrets(visit)
        return events, visit.page, visit.urls

    events, found, urls = check_all_ways(choices, run)
    (event,) = events
    assert isinstance(event, End if found else Broken), event
    assert len(urls) <= 6
    if found is not None:
        check_page(found, bodies[len(urls) - 1].decode("utf-8", "replace"))
    if choices.random.random() < _SOMETIMES:
        check_linear(lambda data: Page.parse(data.decode("utf-8", "replace"), URL), choices.data)


def check_page(found: Page, text: str) -> None:
    repr(found).encode()
    expected = None if re.search("<(svg|math)", text, re.IGNORECASE) else read_elements(text)
    for bots, kind in ((found.bots, "mwai-chatbot-container"), (found.discussions, "mwai-discussions-container")):
        for bot in bots:
            _check_bot(bot)
        if expected is not None:
            systems = [read_json(it.get("data-system", "")) for it in expected if kind in it.get("class", "").split()]
            assert [json.loads(bot.raw_system) for bot in bots] == [system for system in systems if system is not None]
    for note in found.notes:
        assert "\n" not in note
        assert len(note) < 400


def _check_bot(bot: Bot) -> None:
    question = bot.submit("Hi?")
    assert (question.bot_id, question.custom_id) == (bot.bot_id, bot.custom_id)
    assert bot.session is None or bot.session.nonce == bot.nonce
    if bot.endpoint is not None:
        assert bot.root == f"{bot.endpoint.origin}{bot.endpoint.root}"
    if bot.raw_params:
        json.loads(bot.raw_params)
    assert all(isinstance(item, dict) for item in (*bot.actions, *bot.blocks, *bot.shortcuts))
    bot.raw_system.encode()


def read_json(text: str) -> Any:
    """The object in a once-decoded attribute, or None. As lenient as `json`."""
    for _ in range(2):
        try:
            value = json.loads(text, parse_constant=_refuse)
        except (ValueError, RecursionError):
            text = read_references(text)
            continue
        return value if isinstance(value, dict) and _depth(text) <= Limits().json_depth else None
    return None


def _depth(text: str) -> int:
    """How deep arrays and objects are nested in JSON text."""
    depth = most = 0
    for mark in re.findall(r"[\[{\]}]", re.sub(r'"(?:[^"\\]|\\.)*"', "", text)):
        depth += 1 if mark in "[{" else -1
        most = max(most, depth)
    return most


def _refuse(name: str) -> None:
    raise ValueError(name)


def read_elements(text: str) -> list[dict[str, str]]:
    """The attributes of each start tag, by the states of https://html.spec.whatwg.org/#tokenization.

    It knows nothing of SVG and MathML.
    """
    found: list[dict[str, str]] = []
    text = text.replace("\0", "\ufffd")
    at, size = 0, len(text)
    while at < size:
        if text[at] != "<":
            at += 1
        elif text.startswith("<!--", at):
            at = _read_comment(text, at + 4)
        elif text[at + 1 : at + 2] in ("!", "?") or (text[at + 1 : at + 2] == "/" and not _is_letter(text, at + 2)):
            if text[at + 2 : at + 3] == ">" and text[at + 1] == "/":
                at += 3
                continue
            while at < size and text[at] != ">":
                at += 1
            at += 1
        elif _is_letter(text, at + 1) or text[at + 1 : at + 2] == "/":
            closing = text[at + 1] == "/"
            at += 2 if closing else 1
            start = at
            while at < size and text[at] not in _BLANK + "/>":
                at += 1
            name = text[start:at].lower()
            attributes, at = _read_attributes(text, at)
            if at > size:
                break  # an end of file inside a tag drops the tag
            if closing:
                continue
            found.append(attributes)
            if name == "plaintext":
                break
            if name == "script":
                at = _read_script(text, at)
            elif name in _RAW_TEXT:
                while at < size and not _is_end_tag(text, at, name):
                    at += 1
        else:
            at += 1
    return found


def _is_letter(text: str, at: int) -> bool:
    return text[at : at + 1].isalpha() and text[at].isascii()


def _is_end_tag(text: str, at: int, name: str) -> bool:
    end = at + 2 + len(name)
    word = text[at:end]
    return word.isascii() and word.lower() == f"</{name}" and text[end : end + 1] in (*_BLANK, "/", ">")


def _read_comment(text: str, at: int) -> int:
    if text.startswith(">", at):
        return at + 1
    if text.startswith("->", at):
        return at + 2
    while at < len(text):
        for end in ("-->", "--!>"):
            if text.startswith(end, at):
                return at + len(end)
        at += 1
    return at


def _read_attributes(text: str, at: int) -> tuple[dict[str, str], int]:
    attributes: dict[str, str] = {}
    while True:
        while text[at : at + 1] in (*_BLANK, "/"):
            at += 1
        if text[at : at + 1] == ">":
            return attributes, at + 1
        if at >= len(text):
            return {}, at + 1
        start = at
        at += 1
        while at < len(text) and text[at] not in _BLANK + "/>=":
            at += 1
        name, value = text[start:at].lower(), ""
        after = at
        while text[after : after + 1] in (*_BLANK,):
            after += 1
        if text[after : after + 1] == "=":
            at = after + 1
            while text[at : at + 1] in (*_BLANK,):
                at += 1
            quote = text[at : at + 1]
            if quote in ('"', "'"):
                start = at = at + 1
                while at < len(text) and text[at] != quote:
                    at += 1
                value = text[start:at]
                at += 1
            else:
                start = at
                while at < len(text) and text[at] not in _BLANK + ">":
                    at += 1
                value = text[start:at]
        attributes.setdefault(name, read_references(value))


def _read_script(text: str, at: int) -> int:
    escaped = doubly = False
    while at < len(text):
        if not escaped and text.startswith("<!--", at):
            escaped = True
            at += 2
            continue
        if escaped and text.startswith("-->", at):
            escaped = doubly = False
            at += 3
            continue
        if _is_end_tag(text, at, "script"):
            if not doubly:
                return at
            doubly = False
        elif escaped and _is_end_tag(f"</{text[at + 1 : at + 8]}", 0, "script") and text[at] == "<":
            doubly = True
        at += 1
    return at


def read_references(text: str) -> str:
    """An attribute's value without its character references: 13.2.5.72 to 13.2.5.80."""
    written = []
    at = 0
    while at < len(text):
        start = at
        at += 1
        if text[start] != "&":
            written.append(text[start])
            continue
        if text[at : at + 1] == "#":
            digits = "0123456789" if text[at + 1 : at + 2] not in ("x", "X") else "0123456789abcdefABCDEF"
            end = first = at + (1 if len(digits) == 10 else 2)
            while end < len(text) and text[end] in digits:
                end += 1
            if end > first:
                number = int(text[first:end][-4000:], len(digits) if len(digits) == 10 else 16)
                huge = text[first:end].lstrip("0")[7:] != "" or number > 0x10FFFF
                written.append("\ufffd" if huge else html.unescape(f"&#{number};"))
                at = end + (text[end : end + 1] == ";")
                continue
        end = at
        while end < len(text) and text[end].isascii() and text[end].isalnum():
            end += 1
        # The longest name that fits. Without its semicolon, it must not precede a letter, a digit or an equals sign.
        for stop in range(min(end, at + 40) + (text[end : end + 1] == ";"), at, -1):
            name = text[at:stop]
            if name in html.entities.html5:
                after = text[stop : stop + 1]
                if name.endswith(";") or not (after == "=" or (after.isascii() and after.isalnum())):
                    written.append(html.entities.html5[name])
                    at = stop
                else:
                    written.append("&")
                break
        else:
            written.append("&")
    return "".join(written)


TOKENS = (
    *(
        b"<div class=mwai-chatbot-container ",
        b"data-system='",
        b"data-params=",
        b"{&quot;botId&quot;:5}",
        b"'>",
        b"<!--",
    ),
    *(
        b"-->",
        b"<script>",
        b"</script>",
        b"<title>",
        b"</title>",
        b"&#34;",
        b"&amp;",
        b"<![CDATA[",
        b"mwai-discussions-container",
    ),
    *(
        b"[mwai_chatbot]",
        b"AI Engine: Chatbot 'x' not found",
        b'"restUrl":"https://site.example/wp-json"',
        b'"restNonce":',
    ),
)
