"""The page of a site: a chat window, and the attributes by which the plugin's own script finds the site (WIRE 2.2).

The page is three files: `chat.html`, `chat.css` and `chat.js`. It shows what a
server says as text, never as markup, and has neither inline scripts nor inline
styles, so that it works under a strict Content-Security-Policy.
"""

import html
import json
from importlib.resources import files
from string import Template
from typing import Any

from opchat_proto import Response

__all__ = ["chat_page"]

_LONGEST_QUESTION = 65536  # characters
_HTML, _CSS, _JS = (files(__name__).joinpath(f"chat.{kind}").read_bytes() for kind in ("html", "css", "js"))


def chat_page(path: str, *, root: str, origin: str, nonce: str) -> Response | None:
    """What is at this path below the root of a site, None if that is no part of the page. For `Site.page`.

    `origin` begins the URLs in the attributes, which are whole ones (WIRE 2.3),
    as a client that is no browser reads them too; "" where it is not known. The
    page's own script and style are found by their paths.
    """
    match path:
        case "/" | "":
            return _content("text/html", _document(root, origin))
        case "/chat.js":
            return _content("text/javascript", _JS)
        case "/chat.css":
            return _content("text/css", _CSS)
    return None


def _content(kind: str, body: bytes) -> Response:
    headers = (
        ("Content-Type", f"{kind}; charset=UTF-8"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-cache"),
        ("X-Content-Type-Options", "nosniff"),
    )
    return Response(200, headers, body)


def _document(root: str, origin: str) -> bytes:
    system: dict[str, Any] = {
        "botId": "default",
        "customId": None,
        "userData": None,
        "sessionId": None,
        "restNonce": None,  # guests start a session (WIRE 2.5)
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
        "shortcuts": [],
    }
    params: dict[str, Any] = {
        "id": "default",
        "customId": None,
        "aiName": "Bot: ",
        "userName": "You: ",
        "guestName": "You: ",
        "textSend": "Send",
        "textClear": "New chat",
        "textInputPlaceholder": "Your question",
        "textInputMaxLength": _LONGEST_QUESTION,
        "textCompliance": "",
        "startSentence": "",
        "mode": "chat",
        "localMemory": False,
        "themeId": "none",
        "window": False,
        "fullscreen": False,
        "copyButton": False,
        "fileUpload": False,
        "imageUpload": False,
        "multiUpload": False,
        "fileSearch": False,
    }
    values = {
        "root": _escape(root),
        "base": _escape(origin + root),
        "params": _attribute(params),
        "system": _attribute(system),
        "longest": _LONGEST_QUESTION,
    }
    return Template(_HTML.decode()).substitute(values).encode()


def _attribute(value: dict[str, Any]) -> str:
    """JSON as PHP writes it, in an attribute (WIRE 2.2)."""
    return _escape(json.dumps(value, separators=(",", ":")).replace("/", "\\/"))


def _escape(text: str) -> str:
    """PHP's htmlspecialchars with both kinds of quotes (WIRE 2.2)."""
    return html.escape(text).replace("&#x27;", "&#039;")
