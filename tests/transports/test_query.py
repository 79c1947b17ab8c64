"""A question by the official API, over each transport."""

from typing import Any

import pytest

from opchat_proto import Broken, End, Query, Reason, Session
from opchat_transports import Timeouts
from opchat_transports.testing import Close, Delay, Expect, FaultServer, Write, json_object

from .asking import ASKS, TRANSPORTS, Ask
from .official import NO_ROUTE, TOKEN, OfficialSite
from .pages import served

each = pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
OWNER = Session.from_token(TOKEN)


@each
def test_the_owner_asks_a_bot_by_name(ask: Ask) -> None:
    with served(OfficialSite()) as site:
        [end] = ask(site.url, question=Query("Hello", "sales", "mine"), session=OWNER)
    assert isinstance(end, End)
    assert (end.reply, end.chat_id, end.actions) == ("sales: Hello", "mine", ())
    assert [(method, path.rpartition("/")[2]) for method, path, _, _ in site.requests] == [
        ("GET", "listChatbots"),
        ("POST", "simpleChatbotQuery"),
    ]
    assert site.requests[-1][3] == {"botId": "sales", "message": "Hello", "chatId": "mine"}


@each
def test_a_site_without_a_list_of_bots_is_still_asked(ask: Ask) -> None:
    with served(OfficialSite(answers={"listChatbots": NO_ROUTE})) as site:
        [end] = ask(site.url, question=Query("Hello", "sales"), session=OWNER)
    assert end.reply == "sales: Hello"


@each
def test_an_unknown_bot_is_not_asked(ask: Ask) -> None:
    with served(OfficialSite()) as site:
        [broken] = ask(site.url, question=Query("Hello", "nope"), session=OWNER, retries=1)
    assert (broken.reason, broken.detail, broken.asked) == (
        Reason.REFUSED,
        "listChatbots: no bot 'nope'; there are: default, sales",
        False,
    )
    assert site.routes == ["listChatbots"]


@each
def test_a_wrong_token_is_final(ask: Ask) -> None:
    with served(OfficialSite()) as site:
        [broken] = ask(site.url, question=Query("Hello"), session=Session.from_token("another"), retries=1)
    assert (broken.status, broken.code, site.routes) == (401, "rest_forbidden", ["simpleChatbotQuery"])


@each
def test_the_clocks_apply_to_the_list_of_bots(ask: Ask) -> None:
    timeouts = Timeouts(connect=0.5, write=0.5, first_event=0.2)
    slow = Expect("listChatbots"), Delay(20), Write(json_object(success=True, data=[])), Close()
    with FaultServer(slow) as server:
        [broken] = ask(server.url, question=Query("Hello", "sales"), session=OWNER, timeouts=timeouts)
    assert isinstance(broken, Broken)
    assert (broken.reason, broken.limit, broken.asked) == (Reason.TIMEOUT, "first_event", False)


@pytest.mark.parametrize("kind", TRANSPORTS)
def test_a_token_is_not_sent_over_plain_http_or_through_a_plain_proxy(kind: Any) -> None:
    with pytest.raises(ValueError, match="only over https"):
        kind("http://site.example", session=OWNER, proxy=None)
    with pytest.raises(ValueError, match="through a proxy only to an https site"):
        kind("http://127.0.0.1:8000", session=OWNER, proxy="http://proxy.example:3128")
