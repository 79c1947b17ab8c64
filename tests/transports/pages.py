"""A site with a page, as each plugin version writes it, for a visit and a question."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

from opchat_proto._json import encode_as_php  # strict JSON; not public

VERSIONS = ("1.9.97", "2.1.9", "2.4.3", "2.4.9", "2.9.9", "3.6.2")
PAGE_HAS_NONCE = ("2.1.9", "2.4.3")
NEEDS_NO_NONCE = ("1.9.97",)
HAS_START_SESSION = ("2.4.9", "2.9.9", "3.6.2")
SETS_COOKIE = ("2.9.9", "3.6.2")
SESSION_ID = "6b02fc304cdb0"


@dataclass
class PageSite:
    """A site that records its requests."""

    version: str = "3.6.2"
    bots: tuple[str, ...] = ("default",)
    nonce: str = "0b2576d756"
    cached_nonce: str | None = None
    """The nonce in the cached page."""
    page_nonce: str | None = None
    """The nonce in the uncached page, if it is not the valid one."""
    params: dict[str, Any] = field(default_factory=dict)
    """The content of data-params."""
    text: str = ""
    """The rest of the page."""
    redirects: dict[str, str] = field(default_factory=dict)
    url: str = ""
    requests: list[tuple[str, str, dict[str, str], Any]] = field(default_factory=list)
    """Method, path, header fields and JSON of each request."""

    def page(self, path: str) -> str:
        cached = "opchat=" not in path and self.cached_nonce is not None
        nonce = (
            (self.cached_nonce if cached else self.page_nonce or self.nonce) if self.version in PAGE_HAS_NONCE else None
        )
        text = f"<!doctype html><html><head><meta charset=utf-8><title>Contact</title></head><body>{self.text}"
        for bot in self.bots:
            system = {
                "botId": bot,
                "customId": "" if self.version == "2.9.9" else None,
                "sessionId": None if self.version == "3.6.2" else "N/A",
                "restNonce": nonce,
                "contextId": 4,
                "restUrl": f"{self.url}/wp-json",
                "stream": True,
            }
            attributes = f"data-params='{encode_as_php(self.params)}' data-system='{encode_as_php(system)}'"
            text += f"<div class='mwai-chatbot-container' {attributes} data-theme='null'></div>"
        return text

    def answer(self, method: str, path: str, nonce: str | None, body: Any) -> tuple[int, str]:
        """The status and body of the response."""
        if method == "GET" and path.split("?")[0] == "/contact/":
            return 200, self.page(path)
        if path == "/wp-json/mwai/v1/start_session" and self.version in HAS_START_SESSION:
            session_id = SESSION_ID if self.version in SETS_COOKIE else "N/A"
            return 200, json.dumps({"success": True, "sessionId": session_id, "restNonce": self.nonce})
        if path == "/wp-json/mwai-ui/v1/chats/submit":
            if nonce != self.nonce and self.version not in NEEDS_NO_NONCE:
                code = "rest_forbidden" if nonce is None else "rest_cookie_invalid_nonce"
                status = 401 if nonce is None else 403
                return status, json.dumps({"code": code, "message": "Cookie check failed", "data": {"status": status}})
            reply = json.dumps({"success": True, "reply": f"{body['botId']}: {body['newMessage']}"})
            return 200, "data: " + json.dumps({"type": "end", "data": reply}) + "\n\n"
        return 404, json.dumps({"code": "rest_no_route", "message": "No route was found.", "data": {"status": 404}})


_S = TypeVar("_S", bound=PageSite)


@contextmanager
def served(site: _S, context: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Iterator[_S]:
    """Serve it. `url` is set from then on."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            given = json.loads(body) if body else None
            site.requests.append((self.command, self.path, dict(self.headers.items()), given))
            location = site.redirects.get(self.path)
            status, text = (302, "") if location else site.answer(
                self.command, self.path, self.headers.get("X-WP-Nonce"), given
            )  # fmt: skip
            self.send_response(status)
            if location:
                self.send_header("Location", location)
            if self.path.endswith("/start_session") and site.version in SETS_COOKIE:
                self.send_header("Set-Cookie", f"mwai_session_id={SESSION_ID}; path=/; HttpOnly")
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    site.url = f"{'http' if context is None else 'https'}://{host}:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
