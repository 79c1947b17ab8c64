"""The official API's "extra" is read like the chat's fields next to the reply."""

import json
from typing import Any

import pytest

from opchat_proto import End

FUNCTION = {"type": "function", "data": {"name": "openCart"}}


@pytest.mark.parametrize(
    ("payload", "chat_id", "actions"),
    [
        ({"data": "Hi", "extra": {"actions": [FUNCTION], "chatId": "c1"}}, "c1", (FUNCTION,)),
        ({"data": "Hi", "extra": {"actions": 5, "chatId": 7}}, None, ()),
        ({"data": "Hi", "extra": [FUNCTION]}, None, ()),
        ({"data": "Hi"}, None, ()),
        ({"reply": "Hi", "actions": [FUNCTION], "chatId": "c2", "extra": {"actions": []}}, "c2", (FUNCTION,)),
        ({"reply": "Hi", "actions": [], "extra": {"actions": [FUNCTION]}}, None, ()),
    ],
)
def test_extra_gives_the_chat_id_and_the_actions(
    payload: dict[str, Any], chat_id: str | None, actions: tuple[dict[str, Any], ...]
) -> None:
    end = End("Hi", json.dumps(payload))
    assert (end.chat_id, end.actions) == (chat_id, actions)
