"""A site that keeps the discussions of one member, as plugin 3.6.2 does."""

import json
from dataclasses import dataclass, field
from typing import Any

from .member_site import MemberSite

FORBIDDEN = {"code": "rest_forbidden", "message": "Sorry, you are not allowed to do that."}


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
class DiscussingSite(MemberSite):
    """`rows` are Alice's discussions, the most recently changed first."""

    rows: list[dict[str, Any]] = field(default_factory=lambda: [row(3, "Third"), row(2), row(1)])

    def answer(self, method: str, path: str, nonce: str | None, body: Any) -> tuple[int, str]:
        action = path.rpartition("/discussions/")[2]
        if action not in ("list", "edit", "delete"):
            return super().answer(method, path, nonce, body)
        is_alice = nonce == self.member_nonce and (self._has_cookie or "Authorization" in self._fields)
        status, answer = self._discuss(action, body) if is_alice else _refuse(action)
        return status, json.dumps(answer)

    def _discuss(self, action: str, body: Any) -> tuple[int, Any]:
        if action == "list":
            mine = [kept for kept in self.rows if kept["botId"] == body["botId"]]
            chosen = mine[body["offset"] :][: body["limit"]]
            return 200, {"success": True, "total": str(len(mine)), "chats": chosen}
        if action == "edit":
            for kept in self.rows:
                if kept["chatId"] == body["chatId"]:
                    kept["title"] = body["title"]
            return 200, {"success": True}
        if not {kept["chatId"] for kept in self.rows} >= set(body["chatIds"]):
            return 403, FORBIDDEN
        self.rows = [kept for kept in self.rows if kept["chatId"] not in body["chatIds"]]
        return 200, {"success": True}


def _refuse(action: str) -> tuple[int, Any]:
    """The response to a guest."""
    return (200, {"success": False, "message": "You need to be connected."}) if action == "list" else (401, FORBIDDEN)
