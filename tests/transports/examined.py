"""Sites for `opchat doctor`: scripts with the responses of plugin versions to each request."""

import json
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

from opchat_transports.testing import EVENTS, Close, Expect, FaultServer, Script, Write, answer, response
from tests.proto.pages import element

from .command import opchat

NONCE = "0b2576d756"
FRESH = "opchat=1"
"""The query that keeps an address out of caches, when `secrets.token_hex` returns "1"."""
VERSIONS = ("1.9.97", "2.1.9", "2.4.3", "2.4.9", "2.9.9", "3.6.2")
_ROUTES = {
    "1.9.97": ["/mwai-ui/v1/chats/submit", "/mwai-ui/v1/files/upload", "/mwai/v1/simpleJsonQuery"],
    "2.1.9": ["/mwai-ui/v1/chats/submit", "/mwai-ui/v1/files/list", "/mwai/v1/simpleAuthCheck"],
    "2.4.3": ["/mwai-ui/v1/chats/submit", "/mwai-ui/v1/files/list", "/mwai/v1/simpleAuthCheck"],
    "2.4.9": ["/mwai-ui/v1/chats/submit", "/mwai/v1/start_session"],
    "2.9.9": ["/mwai-ui/v1/chats/submit", "/mwai/v1/start_session", "/mwai/v1/listChatbots"],
    "3.6.2": ["/mwai-ui/v1/chats/submit", "/mwai/v1/start_session", "/mwai/v1/simpleFileUpload"],
}
LINK = ("Link", '</wp-json/>; rel="https://api.w.org/"')


def date(ahead: int = 0) -> tuple[str, str]:
    """A Date field with the current time, or with the given offset in seconds."""
    now = datetime.fromtimestamp(datetime.now(UTC).timestamp() + ahead, UTC)
    return "Date", format_datetime(now, usegmt=True)


def text(body: str, status: int = 200, *headers: tuple[str, str], kind: str = "text/html") -> bytes:
    return response(body.encode(), status=status, headers=[("Content-Type", kind), *headers], framing="length")


def object_(value: Any, status: int = 200, *headers: tuple[str, str]) -> bytes:
    return text(json.dumps(value), status, *headers, kind="application/json")


def html(version: str, *bots: str, **system: Any) -> str:
    """A page with a chat."""
    given: dict[str, Any] = {
        "customId": "" if version == "2.9.9" else None,
        "sessionId": None if version == "3.6.2" else "N/A",
        "restNonce": NONCE if version in ("2.1.9", "2.4.3") else None,
        "contextId": 4,
        "restUrl": "/wp-json",
        "stream": True,
    }
    if version in ("2.9.9", "3.6.2"):
        given |= {"eventLogs": False, "crossSite": False, "actions": [], "blocks": [], "shortcuts": []}
    chats = "".join(element({"botId": bot, **given, **system}) for bot in bots or ("default",))
    return f"<!doctype html><title>Contact</title><link href=/wp-content/a.css>{chats}"


def page(version: str, *headers: tuple[str, str], **system: Any) -> bytes:
    return text(html(version, **system), 200, date(), LINK, *headers)


def index(version: str, *headers: tuple[str, str], **fields: Any) -> bytes:
    """A response of the REST API."""
    routes: dict[str, Any] = {route: {} for route in _ROUTES[version]}
    namespaces = ["oembed/1.0", "mwai-ui/v1", "mwai/v1", "wp/v2"]
    body = {"name": "Site", "namespaces": namespaces, "authentication": [], "routes": routes, **fields}
    return object_(body, 200, *(headers or (date(),)), LINK)


def session(version: str, *headers: tuple[str, str], **fields: Any) -> bytes:
    """The response to start_session."""
    if version not in ("2.4.9", "2.9.9", "3.6.2"):
        return no_route()
    is_new = version != "2.4.9"
    cookie = (("Set-Cookie", "mwai_session_id=6b03011591785; path=/; HttpOnly"),) if is_new and not fields else ()
    body = {"success": True, "sessionId": "6b03011591785" if is_new else "N/A", "restNonce": NONCE, **fields}
    return object_(body, 200, date(), *cookie, *headers)


def no_route() -> bytes:
    return refused(404, "rest_no_route", "No route was found matching the URL and request method.")


def refused(status: int, code: str, message: str = "No.") -> bytes:
    return object_({"code": code, "message": message, "data": {"status": status}}, status, date())


def check(version: str) -> bytes:
    """The REST index, requested with the nonce."""
    return index(version, date(), ("X-WP-Nonce", NONCE))


def question() -> bytes:
    """An answer whose first piece cannot arrive in the same read as its end."""
    first, *rest = EVENTS
    return answer(first, *[b": keepalive\n\n" * 10_000] * 2, *rest)


def at(route: str, data: bytes) -> Script:
    """Respond with this to a request for the route, on a connection of its own."""
    return (Expect(route), Write(data), Close())


def site(version: str = "3.6.2", *, url: str = "contact", **answers: bytes | None) -> Script:
    """The responses in request order: page, index, session, check. None: the request must not come."""
    given: dict[str, bytes | None] = {
        "page": page(version),
        "index": index(version),
        "session": None if version in ("2.1.9", "2.4.3") else session(version),
        "check": None if version == "1.9.97" else check(version),
        **answers,
    }
    routes = {"page": url, "index": "", "session": "start_session", "check": f"?{FRESH}"}
    parts = [at(routes[name], data) for name, data in given.items() if data is not None]
    return tuple(step for part in parts for step in part)


def seen(server: FaultServer) -> list[str]:
    """The requests that arrived."""
    return [f"{request.method} {request.target}" for request in server.requests]


def found(output: str) -> dict[str, Any]:
    """The checks of the findings, in order."""
    lines = [json.loads(line) for line in output.splitlines()]
    checks = {line["check"]: line for line in lines}
    assert len(checks) == len(lines)
    return checks


def problems(checks: dict[str, Any]) -> set[str]:
    return {check for check, line in checks.items() if line["status"] == "problem"}


def examine(script: Script, *arguments: str, path: str = "/contact", **options: Any) -> tuple[dict[str, Any], int]:
    """The findings and the exit code. Checks that without --ask no question was asked."""
    with FaultServer(script, **options) as server:
        result = opchat("doctor", f"{server.url}{path}", "--json", *arguments)
    assert len(server.questions) == ("--ask" in arguments)
    assert server.repeated == ()
    return found(result.stdout), result.returncode
