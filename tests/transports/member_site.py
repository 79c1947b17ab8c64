"""A site with a page. Its members sign in as in WordPress: by password, or by cookies and a nonce."""

import json
from dataclasses import dataclass
from typing import Any

from opchat_proto import Session
from opchat_proto._json import encode_as_php  # strict JSON; not public

from .pages import HAS_START_SESSION, NEEDS_NO_NONCE, PAGE_HAS_NONCE, PageSite

PASSWORD = "abcd EFGH ijkl 1234 mnop QRST"
ALICE = Session.from_application_password("alice", PASSWORD)
COOKIE = "wordpress_logged_in_1=alice%7C1796047990"
BY_PASSWORD = ("1.9.97", *HAS_START_SESSION)
"""The versions that answer a member with an application password. Earlier ones give nonces only in pages."""

START, SUBMIT = "/wp-json/mwai/v1/start_session", "/wp-json/mwai-ui/v1/chats/submit"
DISCUSSIONS = "/wp-json/mwai-ui/v1/discussions/list"
ME, AJAX = "/wp-json/wp/v2/users/me", "/wp-admin/admin-ajax.php?action=rest-nonce"


@dataclass
class MemberSite(PageSite):
    """A site with one member, Alice."""

    member_nonce: str = "1635c20365"
    knows_password: bool = True
    """False: the password was revoked, or a server drops the Authorization field."""
    knows_cookie: bool = True
    """False: the cookie has expired."""
    other_site: str = ""
    """The REST root that the page names, if not this site's."""

    @property
    def paths(self) -> list[str]:
        """The path of each request, without the query that keeps it out of caches."""
        return [path.split("?opchat=")[0] for _, path, _, _ in self.requests]

    def page(self, path: str) -> str:
        here, there = (site.replace("/", r"\/") for site in (self.url, self.other_site or self.url))
        return self._page(path).replace(here, there)

    def _page(self, path: str) -> str:
        if not self._has_cookie:
            return super().page(path)
        cached = "opchat=" not in path and self.cached_nonce is not None
        system = {
            "botId": self.bots[0],
            "restNonce": self.cached_nonce if cached else self.member_nonce,
            "userData": {"ID": 2, "name": "Alice"},
            "restUrl": f"{self.url}/wp-json",
            "pluginUrl": f"{self.url}/wp-content/plugins/ai-engine/",
            "contextId": 4,
            "stream": True,
        }
        attributes = f"data-params='{{}}' data-system='{encode_as_php(system)}' data-theme='null'"
        return f"<div class='mwai-chatbot-container' {attributes}></div>"

    @property
    def _fields(self) -> dict[str, str]:
        return self.requests[-1][2]

    @property
    def _has_cookie(self) -> bool:
        return self.knows_cookie and COOKIE in self._fields.get("Cookie", "")

    def answer(self, method: str, path: str, nonce: str | None, body: Any) -> tuple[int, str]:
        if path == AJAX:
            return (200, self.member_nonce) if self._has_cookie else (400, "0")
        is_asked = path in (START, SUBMIT, ME, DISCUSSIONS)
        by_password = self.knows_password and self._fields.get("Authorization") == ALICE.authorization
        if not is_asked or (not by_password and "Cookie" not in self._fields and path != ME):
            return super().answer(method, path, nonce, body)
        if nonce is not None and not by_password and nonce != (self.member_nonce if self._has_cookie else self.nonce):
            return _error(403, "rest_cookie_invalid_nonce", "Cookie check failed")
        is_alice = by_password or (self._has_cookie and nonce is not None)  # without a nonce, WordPress ignores cookies
        own = self.member_nonce if is_alice else self.nonce
        if path == ME:
            alice = {"id": 2, "name": "Alice", "slug": "alice"}
            return (
                (200, json.dumps(alice))
                if is_alice
                else _error(401, "rest_not_logged_in", "You are not currently logged in.")
            )
        if path == DISCUSSIONS and is_alice and nonce == own:
            return 200, json.dumps({"success": True, "total": 0, "chats": []})
        if path == START and self.version in HAS_START_SESSION:
            return 200, json.dumps({"success": True, "sessionId": "N/A", "restNonce": own})
        if path == SUBMIT and (nonce == own or self.version in NEEDS_NO_NONCE):
            name = "alice" if is_alice else "guest"
            reply = json.dumps({"success": True, "reply": f"{name}: {body['newMessage']}"})
            return 200, "data: " + json.dumps({"type": "end", "data": reply}) + "\n\n"
        if path == SUBMIT:
            return _error(403 if is_alice else 401, "rest_forbidden", "Sorry, you are not allowed to do that.")
        return _error(404, "rest_no_route", "No route was found.")


def _error(status: int, code: str, message: str) -> tuple[int, str]:
    return status, json.dumps({"code": code, "message": message, "data": {"status": status}})


assert set(BY_PASSWORD).isdisjoint(PAGE_HAS_NONCE)
