"""A site on which the owner has switched on the official REST API."""

import json
from dataclasses import dataclass, field
from typing import Any

from .pages import PageSite

TOKEN = "throwaway-token"
NO_ROUTE: tuple[int, Any] = (404, {"code": "rest_no_route", "message": "No route"})
FORBIDDEN: tuple[int, Any] = (401, {"code": "rest_forbidden", "message": "Sorry, you are not allowed to do that."})


@dataclass
class OfficialSite(PageSite):
    """It accepts the token, and answers as plugin 3.6.2 unless a test says otherwise."""

    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    """Other responses, by route."""

    def answer(self, method: str, path: str, nonce: str | None, body: Any) -> tuple[int, str]:
        route = path.rpartition("/mwai/v1/")[2]
        headers = self.requests[-1][2]
        if route not in ("listChatbots", "simpleChatbotQuery"):
            return super().answer(method, path, nonce, body)
        if headers.get("Authorization", headers.get("authorization")) != f"Bearer {TOKEN}":
            status, answer = FORBIDDEN
        elif route in self.answers:
            status, answer = self.answers[route]
        elif route == "listChatbots":
            status, answer = 200, {"success": True, "data": [{"id": "default"}, {"id": "sales"}]}
        else:
            extra = {"actions": [], "chatId": body.get("chatId", "c1")}
            status, answer = 200, {"success": True, "data": f"{body['botId']}: {body['message']}", "extra": extra}
        return status, json.dumps(answer)

    @property
    def routes(self) -> list[str]:
        return [path.rpartition("/")[2] for _, path, _, _ in self.requests]
