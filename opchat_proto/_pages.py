"""The bots of a page, from the HTML attributes that the plugin writes for its own script (WIRE 2)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from html import unescape
from html.entities import html5
from typing import Any, final
from urllib.parse import urljoin

from ._http import Endpoint, Headers, decode_headers, find_links
from ._json import decode, encodable
from ._limits import Limits
from ._messages import Scalar, Submit
from ._roots import REST_LINK
from ._session import Session, is_token
from ._value import Value

__all__ = ["Bot", "Page"]

_CHATBOT, _DISCUSSIONS = "mwai-chatbot-container", "mwai-discussions-container"
_CONTAINERS = frozenset((_CHATBOT, _DISCUSSIONS))
_DEPTH = Limits().json_depth
_LONGEST_URL = 2048  # characters
_NONCE_DIGITS = 10  # WIRE 1.2
_LARGEST_ID = 10**100  # far beyond what PHP prints as a number
_DEFAULT_FILES = 5  # WIRE 7.5
_SHOWN = 200  # characters of a text quoted in a note

_WORDPRESS = r'https?://([^/?#]*)((?:/[!"$->@-~]*?)?)/wp-content/'
_NOT_FOUND = rf"AI Engine: Chatbot [^<]{{0,{_SHOWN}}}? not found"
_SHORTCODE = rf"\[mwai_(?:chat|discussions)[^][<]{{0,{_SHOWN}}}]"
_SCRIPT_TIME = r"/app/chatbot\.js\?ver=([0-9]{9,11})(?![0-9])"


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False, kw_only=True)
class Bot(Value):
    """A chat window of a page, or a list of discussions. All values are untrusted.

    Pages do not contain the names of bots.
    """

    bot_id: Scalar | None
    """None if there is a custom id."""
    custom_id: Scalar | None
    """The id of a bot that a shortcode made; None if the page says null or ""."""
    context_id: Scalar | None
    """The id of the post that the page shows."""
    session_id: str | None = field(repr=False)
    """None for "N/A" and for an id that cannot be sent back."""
    nonce: str | None = field(repr=False)
    """A member's nonce; a guest's with plugin 2.0.1 to 2.4.3 (WIRE 2.5). A cached page may have a stale one."""
    root: str | None
    """The URL of the REST root without a trailing slash; None if neither this element nor the page names one."""
    stream: bool
    """Whether the site streams its answers."""
    mode: str
    """"chat", "assistant", "images", "prompt", "realtime"."""
    max_length: int | None
    """The longest question, in characters (before 2.4.9: bytes); None if the page sets no bound."""
    start_sentence: str
    """The greeting, or ""."""
    compliance: str
    """The legal text below the chat, or ""."""
    takes_images: bool
    """Whether images can be uploaded."""
    takes_files: bool
    """Whether documents can be uploaded."""
    max_files: int
    """How many files may come with one question."""
    popup: bool
    """Whether the chat opens from a button."""
    cross_site: bool
    """Whether the page is on another site than the bot."""
    is_member: bool
    """Whether the page was made for a signed-in member."""
    raw_system: str = field(repr=False)
    """The JSON of data-system."""
    raw_params: str = field(repr=False)
    """The JSON of data-params; "" if it is missing or cannot be read."""

    @property
    def actions(self) -> tuple[dict[str, Any], ...]:
        """Functions that the page should call at the start (WIRE 7.1). Data, never executed."""
        return self._objects("actions")

    @property
    def blocks(self) -> tuple[dict[str, Any], ...]:
        """HTML to show at the start (WIRE 7.3)."""
        return self._objects("blocks")

    @property
    def shortcuts(self) -> tuple[dict[str, Any], ...]:
        """Quick replies to offer at the start (WIRE 7.2)."""
        return self._objects("shortcuts")

    def _objects(self, key: str) -> tuple[dict[str, Any], ...]:
        value = decode(self.raw_system, _DEPTH).get(key)
        return tuple(item for item in value if isinstance(item, dict)) if isinstance(value, list) else ()

    @property
    def endpoint(self) -> Endpoint | None:
        """Where to ask it: `root` as an `Endpoint`, even if the site has renamed its "wp-json".

        Its `site` is WordPress's directory, from the address of the plugin.
        """
        if self.root is None:
            return None
        endpoint = _endpoint(self.root)
        plugin = decode(self.raw_system, _DEPTH).get("pluginUrl")
        found = re.match(_WORDPRESS, plugin) if isinstance(plugin, str) and len(plugin) <= _LONGEST_URL else None
        return replace(endpoint, site=f"{found[2]}/") if found and found[1].lower() == endpoint.authority else endpoint

    @property
    def session(self) -> Session | None:
        """The session in the page; None if there is no nonce, so that a session must be started.

        A member's session needs the cookies that the page was visited with, and cannot
        be used without them: `dataclasses.replace(bot.session, cookie=...)`.
        """
        if self.nonce is None or self.endpoint is None:
            return None
        member = "" if self.is_member else None
        return Session(self.nonce, self.session_id, origin=self.endpoint.origin, member=member)

    def submit(self, new_message: str) -> Submit:
        """Make a question to this bot. Raises `InvalidMessages` for a text that cannot be encoded."""
        return Submit(
            new_message=new_message,
            bot_id=self.bot_id,
            custom_id=self.custom_id,
            context_id=self.context_id,
            stream=self.stream,
        )


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Page(Value):
    """A page and the bots on it. Make one with `Page.parse`, or let `Visit` fetch it.

    It does not see what a script adds later: a popup that is loaded when it opens,
    or a chat of another site.
    """

    url: str
    root: str | None
    """The URL of the site's REST root without a trailing slash; None if the page does not name it."""
    bots: tuple[Bot, ...]
    """In the order of the page. A bot that the page shows twice is listed twice."""
    discussions: tuple[Bot, ...]
    """The lists of a bot's discussions (WIRE 7.7). They also name the bot and the root."""
    notes: tuple[str, ...]
    """For a person: why a bot is missing, what is unreadable, the date of the plugin's script."""

    @property
    def endpoint(self) -> Endpoint | None:
        """`root` as an `Endpoint`, also if the site has renamed its "wp-json"."""
        return None if self.root is None else _endpoint(self.root)

    def find(self, name: str) -> Bot | None:
        """The first bot with this id or custom id, or None."""
        return next(
            (bot for bot in self.bots if name in [str(it) for it in (bot.bot_id, bot.custom_id) if it is not None]),
            None,
        )

    def _nonce(self, origin: str, is_member: bool) -> str | None:
        """The first nonce for this site and kind of user."""
        sessions = (bot.session for bot in self.bots)
        return next((it.nonce for it in sessions if it and (it.origin, it.is_member) == (origin, is_member)), None)

    @classmethod
    def parse(cls, html: str, url: str, headers: Headers = ()) -> "Page":
        """Read the page at `url` from its HTML and the response's header fields.

        Any text is a page. If it has no bots, `notes` says why. Takes linear time.
        Raises `TypeError` for wrong types.
        """
        for name, value in (("html", html), ("url", url)):
            if not isinstance(value, str):
                raise TypeError(f"{name}: expected a str, got {type(value).__name__}")
        html = encodable(html).replace("\0", "\ufffd")  # as HTML reads it in attributes (13.2.5.36)
        roots = list(find_links(decode_headers(headers), REST_LINK))
        elements: list[tuple[str, dict[str, str]]] = []
        notes: list[str] = []
        for tag, found in _scan(html):
            if isinstance(found, str):
                notes += [_on_one_line(text) for text in re.findall(_NOT_FOUND, found)]
                notes += [
                    f"the shortcode {_on_one_line(text)} was not expanded" for text in re.findall(_SHORTCODE, found)
                ]
                continue
            if tag == "link" and REST_LINK in _unescape(found.get("rel", "")):
                roots.append(_unescape(found.get("href", "")))
            classes = _CONTAINERS.intersection(_unescape(found.get("class", "")).split())
            elements += [(name, found) for name in sorted(classes)]
        root = next(filter(None, (_root(href, url) for href in roots)), None)
        bots: dict[str, list[Bot]] = {_CHATBOT: [], _DISCUSSIONS: []}
        for name, attributes in elements:
            bot = _bot(attributes, root, url, notes)
            if bot is not None:
                bots[name].append(bot)
        if script := re.search(_SCRIPT_TIME, html):
            notes.append(f"chatbot.js is of {datetime(1970, 1, 1) + timedelta(seconds=int(script[1])):%Y-%m-%d}")
        own = (bot.root for bot in (*bots[_CHATBOT], *bots[_DISCUSSIONS]))
        return cls(
            encodable(url),
            next(filter(None, own), root),
            tuple(bots[_CHATBOT]),
            tuple(bots[_DISCUSSIONS]),
            tuple(dict.fromkeys(notes)),
        )


# ---------------------------------------------------------------- the attributes


def _bot(attributes: dict[str, str], root: str | None, url: str, notes: list[str]) -> Bot | None:
    if "data-system" not in attributes:
        notes.append("a chat without its attributes: this page was saved by a browser")
        return None
    system, raw_system = _read(attributes["data-system"])
    if not raw_system:
        notes.append("a chat whose data-system is not a JSON object")
        return None
    params, raw_params = _read(attributes.get("data-params", ""))
    nonce = system.get("restNonce")
    if type(nonce) is int and 0 <= nonce < 10**_NONCE_DIGITS:
        nonce = f"{nonce:0{_NONCE_DIGITS}}"  # ten decimal digits, which the site printed as a number (WIRE 2.4)
    elif nonce not in (None, "") and not is_token(nonce):
        notes.append("the nonce of a chat cannot be used: the site has printed it as a number")
    session_id = _scalar(system.get("sessionId"))
    if isinstance(session_id, int):
        session_id = str(session_id)
    takes_images = bool(params.get("imageUpload"))
    takes_files = bool(params.get("fileUpload") or params.get("fileSearch"))  # the latter up to 2.4.9
    max_files = int(takes_images or takes_files)
    if max_files and params.get("multiUpload"):
        max_files = _positive(params.get("maxUploads")) or _DEFAULT_FILES
    return Bot(
        bot_id=_scalar(system.get("botId", system.get("chatId"))),  # the names up to 1.6.81 and 1.9.7
        custom_id=_scalar(system.get("customId", system.get("id"))),
        context_id=_scalar(system.get("contextId")),
        session_id=session_id if isinstance(session_id, str) and is_token(session_id) and session_id != "N/A" else None,
        nonce=nonce if is_token(nonce) else None,
        root=_root(system.get("restUrl"), url) or root,
        stream=bool(system.get("stream")),
        mode=_text(params.get("mode")) or "chat",
        max_length=_positive(params.get("textInputMaxLength")),
        start_sentence=_text(params.get("startSentence")),
        compliance=_text(params.get("textCompliance")),
        takes_images=takes_images,
        takes_files=takes_files,
        max_files=max_files,
        popup=bool(params.get("window")),
        cross_site=bool(system.get("crossSite")),
        is_member=bool(system.get("userData")),
        raw_system=raw_system,
        raw_params=raw_params,
    )


def _read(attribute: str) -> tuple[dict[str, Any], str]:
    """The JSON object in an attribute, and its text; ({}, "") if it has no JSON object."""
    for _ in range(2):  # one decoding is right (WIRE 2.2); if the result is not JSON, it was encoded twice
        attribute = _unescape(attribute)
        try:
            value = decode(attribute, _DEPTH)
        except ValueError:
            continue
        return (value, attribute) if isinstance(value, dict) else ({}, "")
    return {}, ""


def _scalar(value: object) -> Scalar | None:
    """An id, unchanged, to be sent back; None for false, "" and values that are not an id."""
    if isinstance(value, bool) or value == "" or not isinstance(value, str | int | float):
        return None
    return None if isinstance(value, int) and abs(value) >= _LARGEST_ID else value


def _text(value: object) -> str:
    """A text from the settings. Sites print texts of digits as numbers (WIRE 2.4)."""
    text = _scalar(value)
    return "" if text is None else str(text)


def _positive(value: object) -> int | None:
    return value if type(value) is int and value > 0 else None


def _root(text: object, base: str) -> str | None:
    """The URL of a REST root in the page, without a trailing slash; None for any other value."""
    if not isinstance(text, str) or not text.strip() or len(text) > _LONGEST_URL:
        return None
    try:
        endpoint = _endpoint(urljoin(base, text.strip()))
    except ValueError:
        return None
    return endpoint.origin + endpoint.root


def _endpoint(root: str) -> Endpoint:
    """The endpoint of a REST root. Raises `ValueError` for any other URL."""
    root = root.rstrip("/")
    if "?" in root or root.endswith("/wp-json"):
        return Endpoint.parse(root)
    # A site that has renamed its "wp-json", which `Endpoint.parse` would append.
    endpoint = Endpoint.parse(f"{root}/wp-json")
    path = endpoint.root.removesuffix("/wp-json")
    return replace(endpoint, root=path, site=path.rpartition("/")[0] + "/")


# ---------------------------------------------------------------- HTML

# The parts of HTML's tokenizer (https://html.spec.whatwg.org, 13.2.5) that find elements and their attributes. Each
# step begins where the previous one ended, and a search without a result ends the scan, so the time is linear.
# Python's own parser takes minutes for "<a <a <a ", and fails at "<![[".
_BLANK = " \t\n\r\f"
_MARKUP = re.compile(rf"<(?:(!--)|(!\[CDATA\[)|[!?]|/(?![A-Za-z>])|(/?)([A-Za-z][^{_BLANK}/>]*+))")
_TAG_END, _CDATA_END = re.compile(">"), re.compile("]]>")
_COMMENT_END = re.compile("-?>|.*?--!?>", re.DOTALL)
_ATTRIBUTE = re.compile(
    rf"[{_BLANK}/]*+(?:>|(=?[^{_BLANK}/>=]*+)"
    rf"(?:[{_BLANK}]*+=[{_BLANK}]*+(?:\"([^\"]*+)(?:\"|\Z)|'([^']*+)(?:'|\Z)|([^{_BLANK}\"'>][^{_BLANK}>]*+)?))?)"
)
_ATTRIBUTES = ("class", "data-params", "data-system", "rel", "href", "encoding")
# The content of these elements is text; also noscript's in a browser with scripts, which the chat needs.
_RAW_TEXT = ("iframe", "noembed", "noframes", "noscript", "style", "textarea", "title", "xmp")
_IN_SCRIPT = re.compile(rf"<!(?=--)|-->|<(/?)script(?=[{_BLANK}/>])", re.IGNORECASE | re.ASCII)
_CONTAIN_HTML = {  # the elements that contain HTML, inside SVG and MathML (13.2.6); also annotation-xml
    "svg": ("foreignobject", "desc", "title"),
    "math": ("mi", "mo", "mn", "ms", "mtext"),
}
_HTML_ENCODINGS = ("text/html", "application/xhtml+xml")
_NOT_FOREIGN = {  # the elements that end an unclosed SVG or MathML (13.2.6.5), except some <font>
    *("b", "big", "blockquote", "body", "br", "center", "code", "dd", "div", "dl", "dt", "em", "embed", "h1", "h2"),
    *("h3", "h4", "h5", "h6", "head", "hr", "i", "img", "li", "listing", "menu", "meta", "nobr", "ol", "p", "pre"),
    *("ruby", "s", "small", "span", "strike", "strong", "sub", "sup", "table", "tt", "u", "ul", "var"),
}
_REFERENCE = "&(?:#([0-9]+)|#[xX]([0-9a-fA-F]+)|([A-Za-z][A-Za-z0-9]*+))(;?)(=?)"


def _scan(text: str) -> Iterator[tuple[str, dict[str, str] | str]]:
    """Yield each start tag with its attributes in `_ATTRIBUTES`, still encoded, and ("", text) between the tags."""
    place = 0
    # "svg" or "math", where no element is raw text and CDATA is possible, and how many of them are open; or ""
    foreign, depth = "", 0
    outer: list[tuple[str, str, int]] = []  # the elements in it that contain HTML, and what was open outside them
    while markup := _MARKUP.search(text, place):
        yield "", text[place : markup.start()]
        comment, cdata, closing, tag = markup.groups()
        place = markup.end()
        if tag is None:
            if comment:
                place = _end(_COMMENT_END.match(text, place))
            else:
                place = _end((_CDATA_END if cdata and foreign else _TAG_END).search(text, place))
            if place < 0:
                return
            continue
        tag = tag.lower()
        attributes: dict[str, str] = {}
        while True:
            attribute = _ATTRIBUTE.match(text, place)
            assert attribute is not None
            place = attribute.end()
            if not attribute[1]:
                break
            name = attribute[1].lower()
            if name in _ATTRIBUTES and name not in attributes:
                attributes[name] = attribute[2] or attribute[3] or attribute[4] or ""
        if attribute[1] is not None:
            return  # the text ended inside the tag, so it does not count
        if closing:
            if outer and not foreign and tag in outer[-1][:2]:
                _, foreign, depth = outer.pop()
            if tag == foreign:
                depth -= 1
                foreign = foreign if depth else ""
            elif foreign and tag in ("br", "p"):
                foreign = ""
            continue
        yield tag, attributes
        if foreign and tag in _NOT_FOREIGN:
            foreign = ""
        elif attribute[0].endswith("/>") and (foreign or tag in _CONTAIN_HTML):
            pass  # it has no content
        elif foreign:
            html = tag == "annotation-xml" and attributes.get("encoding", "").lower() in _HTML_ENCODINGS
            if tag in _CONTAIN_HTML[foreign] or (html and foreign == "math"):
                outer.append((tag, foreign, depth))
                foreign = ""
            depth += tag == foreign
        elif tag in _CONTAIN_HTML:
            foreign, depth = tag, 1
        elif tag == "plaintext":
            return
        elif tag == "script":
            place = _script_end(text, place)
        elif tag in _RAW_TEXT:
            end = re.compile(rf"(?ai)</{tag}(?=[{_BLANK}/>])").search(text, place)
            place = end.start() if end else -1
        if place < 0:
            return
    yield "", text[place:]


def _script_end(text: str, place: int) -> int:
    """Where a script's end tag begins, or -1. Inside a comment, "<script>" and its end tag can be text (13.2.5.20)."""
    level = 0  # 1: inside a comment, 2: inside a script inside a comment
    for found in _IN_SCRIPT.finditer(text, place):
        if found[0] == "<!":
            level = level or 1
        elif found[0] == "-->":
            level = 0
        elif not found[1]:
            level = 2 if level else 0
        elif level < 2:
            return found.start()
        else:
            level = 1
    return -1


def _end(found: re.Match[str] | None) -> int:
    return -1 if found is None else found.end()


def _unescape(value: str) -> str:
    """An attribute's value with its character references resolved (13.2.5.73)."""
    return re.sub(_REFERENCE, _character, value) if "&" in value else value


def _character(found: re.Match[str]) -> str:
    decimal, hexadecimal, name, semicolon, equals = found.groups()
    if name:
        if semicolon and f"{name};" in html5:
            return html5[f"{name};"] + equals
        return found[0] if semicolon or equals or name not in html5 else html5[name]
    digits = (decimal or hexadecimal).lstrip("0")
    # unescape uses int(), which refuses numbers of many digits. Such numbers are not characters.
    number = f"&#{'' if decimal else 'x'}{digits or 0};" if len(digits) < 8 else "&#xfffd;"
    return unescape(number) + equals


def _on_one_line(text: str) -> str:
    return " ".join(_unescape(text).split())
