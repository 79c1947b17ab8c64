"""A site that keeps discussions for one member, as 3.6.2 does."""

import json
from dataclasses import dataclass, field
from typing import Any

from opchat_proto import Session

from .pages import PageSite

MEMBER = Session("0b2576d756", cookie="wordpress_logged_in_1=alice")


def row(number: int, title: str | None = None) -> dict[str, Any]:
    turns = [{"role": "user", "content": f"Question {number}"}, {"role": "assistant", "content": f"Answer {number}"}]
    return {
        "id": str(number),
        "title": title,
        "messages": json.dumps(turns),
        "extra": json.dumps({"previousResponseId": f"resp_{number}"}),
        "botId": "default",
        "chatId": f"chat{number}",
        "created": "2026-11-28 14:03:36",
        "updated": f"2026-11-28 14:05:{number:02}",
    }


@dataclass
class DiscussingSite(PageSite):
    """Its `rows` are what it keeps, the one that was changed last first."""

    rows: list[dict[str, Any]] = field(default_factory=lambda: [row(3, "Third"), row(2), row(1)])

    def answer(self, method: str, path: str, nonce: str | None, body: Any) -> tuple[int, str]:
        is_member = "wordpress_logged_in" in str(self.requests[-1][2])
        if path.endswith("/wp/v2/users/me") and is_member and nonce == self.nonce:
            return 200, json.dumps({"id": 2, "name": "Alice", "slug": "alice"})
        action = path.rpartition("/discussions/")[2]
        if action not in ("list", "edit", "delete"):
            return super().answer(method, path, nonce, body)
        status, answer = self._discuss(action, nonce, body, is_member=is_member)
        return status, json.dumps(answer)

    def _discuss(self, action: str, nonce: str | None, body: Any, *, is_member: bool) -> tuple[int, Any]:
        if nonce != self.nonce:
            return 403, {"code": "rest_cookie_invalid_nonce", "message": "Cookie check failed"}
        if not is_member:
            if action == "list":
                return 200, {"success": False, "message": "You need to be connected."}
            return 401, {"code": "rest_forbidden", "message": "Sorry, you are not allowed to do that."}
        mine = [kept for kept in self.rows if kept["botId"] == body.get("botId")]
        if action == "list":
            chosen = mine[body["offset"] :][: body["limit"]]
            return 200, {"success": True, "total": str(len(mine)), "chats": chosen}
        if action == "edit":
            for kept in self.rows:
                if kept["chatId"] == body["chatId"]:
                    kept["title"] = body["title"]
            return 200, {"success": True}
        if not {kept["chatId"] for kept in self.rows} >= set(body["chatIds"]):
            return 403, {"code": "rest_forbidden", "message": "Sorry, you are not allowed to do that."}
        self.rows = [kept for kept in self.rows if kept["chatId"] not in body["chatIds"]]
        return 200, {"success": True}
