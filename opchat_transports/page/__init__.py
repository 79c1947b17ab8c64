"""The chat page of a site, with the attributes that the plugin's own script reads (WIRE 2.2).

The page is `chat.html`, `chat.css`, `chat.js` and `markdown.js`. It shows answers as
Markdown, made of DOM nodes and never of HTML, and everything else as text. Its
Content-Security-Policy allows only its own script, style and site, and no embedding
in frames.
"""

import html
import json
from collections.abc import Sequence
from importlib.resources import files
from string import Template
from typing import Any

from opchat_proto import Response

__all__ = ["chat_page"]

_LONGEST_QUESTION = 65536  # characters
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_HTML, _CSS, _JS, _MARKDOWN = (
    files(__name__).joinpath(name).read_bytes() for name in ("chat.html", "chat.css", "chat.js", "markdown.js")
)


def chat_page(
    path: str,
    *,
    root: str,
    origin: str,
    nonce: str,
    bot_id: str = "default",
    title: str = "Chat",
    greeting: str = "",
    suggestions: Sequence[str] = (),
    uploads: bool = False,
) -> Response | None:
    """What is at this path below the root of a site, or None. For `Site.page`.

    `origin` is the beginning of the absolute URLs in the attributes (WIRE 2.3), for
    clients other than browsers; "" if it is unknown. The page's own script and style
    have relative paths. `nonce` is in the attributes for the scripts of 2.0.1 to
    2.4.3, which do not call start_session (WIRE 2.5).
    `greeting` is the plugin's start sentence (WIRE 2.3): Markdown, the first message
    of a chat. `suggestions` are the plugin's shortcuts of type message (WIRE 7.2).
    """
    match path:
        case "/" | "":
            policy = ("Cache-Control", "no-store"), ("Content-Security-Policy", _POLICY)  # a kept nonce would be stale
            about = (title, greeting, suggestions, uploads)
            return _content("text/html", _document(root, origin, nonce, bot_id, *about), *policy)
        case "/chat.js":
            return _content("text/javascript", _JS, ("Cache-Control", "no-cache"))
        case "/markdown.js":
            return _content("text/javascript", _MARKDOWN, ("Cache-Control", "no-cache"))
        case "/chat.css":
            return _content("text/css", _CSS, ("Cache-Control", "no-cache"))
        case "/favicon.ico":  # every browser requests it
            return Response(204, (("Cache-Control", "max-age=86400"),))
    return None


def _content(kind: str, body: bytes, *more: tuple[str, str]) -> Response:
    own = (
        ("Content-Type", f"{kind}; charset=UTF-8"),
        ("Content-Length", str(len(body))),
        ("X-Content-Type-Options", "nosniff"),
    )
    return Response(200, (*own, *more), body)


def _document(
    root: str,
    origin: str,
    nonce: str,
    bot_id: str,
    title: str,
    greeting: str,
    suggestions: Sequence[str],
    uploads: bool,
) -> bytes:
    system: dict[str, Any] = {
        "botId": bot_id,
        "customId": None,
        "userData": None,
        "sessionId": None,
        "restNonce": nonce,
        "contextId": None,
        "pluginUrl": f"{origin}{root}/",
        "restUrl": f"{origin}{root}/wp-json",
        "stream": True,
        "debugMode": False,
        "eventLogs": False,
        "typewriter": False,
        "speech_recognition": False,
        "speech_synthesis": False,
        "crossSite": False,
        "actions": [],
        "blocks": [],
        "shortcuts": [{"type": "message", "data": {"label": text, "message": text}} for text in suggestions],
    }
    params: dict[str, Any] = {
        "id": bot_id,
        "customId": None,
        "aiName": "Bot: ",
        "userName": "You: ",
        "guestName": "You: ",
        "textSend": "Send",
        "textClear": "New chat",
        "textInputPlaceholder": "Your question",
        "textInputMaxLength": _LONGEST_QUESTION,
        "textCompliance": "",
        "startSentence": greeting,
        "mode": "chat",
        "localMemory": False,
        "themeId": "none",
        "window": False,
        "fullscreen": False,
        "copyButton": False,
        "fileUpload": uploads,
        "imageUpload": uploads,
        "multiUpload": uploads,
        "fileSearch": False,
    }
    values = {
        "title": _escape(title),
        "root": _escape(root),
        "base": _escape(origin + root),
        "params": _attribute(params),
        "system": _attribute(system),
        "longest": _LONGEST_QUESTION,
    }
    return Template(_HTML.decode()).substitute(values).encode(errors="replace")


def _attribute(value: dict[str, Any]) -> str:
    """JSON in PHP's spelling, for an attribute (WIRE 2.2)."""
    return _escape(json.dumps(value, separators=(",", ":")).replace("/", "\\/"))


def _escape(text: str) -> str:
    """PHP's htmlspecialchars with both kinds of quotes (WIRE 2.2)."""
    return html.escape(text).replace("&#x27;", "&#039;")
