"""The expected outcomes of the corpus."""

import json
from typing import Any

from opchat_proto import Broken, DiscussionPage, End, Event, Live, Page, Submit
from tests.cases import Case, filled, to_session, to_text


def check(case: Case, outcome: Any) -> None:
    """Compare the outcome with the case's expectation. Anything that the case does not mention may have any value."""
    expect = case["expect"]
    match case["level"]:
        case "sse":
            shown = [_server_sent_event(event) for event in outcome["events"]]
            assert shown == [{**event, "data": to_text(event["data"])} for event in expect["events"]]
            assert outcome["overflowed"] == expect.get("overflowed", False)
            for key in ("retry", "last_event_id"):
                assert outcome[key] == expect.get(key, outcome[key])
            ignored = expect.get("first_ignored_line")
            assert outcome["first_ignored_line"] == (None if ignored is None else to_text(ignored))
        case "page":
            _check_page(outcome, expect)
        case "reply" | "flow" | "wire" | "exchanges" | "proxy" | "visit" | "asked":
            assert len(outcome["events"]) == len(expect["events"]), outcome
            for event, expected in zip(outcome["events"], expect["events"], strict=True):
                check_event(event, expected)
            if case["level"] == "flow":
                assert outcome["unused"] == 0
                assert outcome["requests"] == expect["requests"]
                if "session" in expect:
                    assert outcome["session"] == to_session(expect["session"])
            if case["level"] == "asked":
                assert outcome["unused"] == 0
                assert outcome["requests"] == expect["requests"]
                assert _shown_page(outcome["page"]) == (expect.get("discussions"), expect.get("total"))
            if case["level"] == "exchanges":
                assert outcome["requests"] == expect["requests"]
            if case["level"] == "visit":
                assert outcome["unused"] == 0
                assert outcome["requests"] == expect["requests"]
                assert (outcome["page"] is None) == ("page" not in expect)
                if "page" in expect:
                    _check_page(outcome["page"], expect["page"])
        case "server":
            assert [response[0] for response in outcome["responses"]] == [it["status"] for it in expect["responses"]]
            for response, expected in zip(outcome["responses"], expect["responses"], strict=True):
                _check_response(response, filled_values(expected))
            assert outcome["closed"] == expect.get("closed", outcome["closed"])
            assert len(outcome["questions"]) == len(expect["questions"])
            for question, expected in zip(outcome["questions"], expect["questions"], strict=True):
                _check_question(question, expected)
        case "upload":
            assert outcome == {**expect, "content": expect.get("content", "").encode()}
        case _:
            assert outcome == expect


def filled_values(expected: dict[str, Any]) -> dict[str, Any]:
    return {
        key: filled_values(value) if isinstance(value, dict) else filled(value) if isinstance(value, str) else value
        for key, value in expected.items()
    }


def _server_sent_event(event: Any) -> dict[str, Any]:
    shown = {"data": event.data}
    if event.event != "message":
        shown["event"] = event.event
    if event.id:
        shown["id"] = event.id
    if event.retry is not None:
        shown["retry"] = event.retry
    return shown


def check_event(event: Event, expected: Any) -> None:
    match event:
        case Live(text, kind, raw):
            assert "live" in expected, event
            assert (text, kind) == (to_text(expected["live"]), expected.get("kind", "content"))
            assert raw == expected.get("raw", "")
        case End(reply, raw):
            assert "end" in expected, event
            assert reply == (None if expected["end"] is None else to_text(expected["end"]))
            assert raw == expected.get("raw", raw)
            for key in ("images", "actions", "shortcuts", "blocks"):
                value = list(getattr(event, key))
                assert value == expected.get(key, value)
            for key in ("usage", "response_id", "new_token"):
                value = getattr(event, key)
                assert value == expected.get(key, value)
        case Broken(reason, detail, status, code, retry_after):
            assert "broken" in expected, event
            assert reason == expected["broken"], event
            if "detail" in expected:
                assert detail == to_text(expected["detail"])
            for text in expected.get("says", ()):
                assert text.lower() in detail.lower()
            found = {"status": status, "code": code, "retry_after": retry_after, "limit": event.limit}
            assert found == {key: expected.get(key) for key in found}
            assert (event.in_session, event.asked) == (expected.get("in_session", False), expected.get("asked", False))


def _shown_page(page: DiscussionPage | None) -> tuple[Any, int | None]:
    """The discussions in the notation of the corpus, and the total."""
    if page is None:
        return None, None
    names = ("chat_id", "bot_id", "title", "previous_response_id", "created", "updated")
    shown = [
        {name: getattr(it, name) for name in names}
        | {"messages": [[message.role, message.content] for message in it.messages]}
        for it in page
    ]
    return shown, page.total


def _check_page(page: Page, expected: Any) -> None:
    assert page.root == expected["root"]
    assert page.url == expected.get("url", page.url)
    assert list(page.notes) == expected.get("notes", [])
    for found, given in ((page.bots, expected["bots"]), (page.discussions, expected.get("discussions", []))):
        shown = [{key: getattr(bot, key) for key in each} for bot, each in zip(found, given, strict=True)]
        assert shown == given


def _check_response(response: tuple[int, dict[str, str], bytes], expected: dict[str, Any]) -> None:
    _, fields, body = response
    text = body.decode("ascii")
    if "code" in expected:
        assert json.loads(text)["code"] == expected["code"]
    if "json" in expected:
        assert json.loads(text) == expected["json"]
    if "body" in expected:
        assert text == expected["body"]
    assert expected.get("contains", "") in text
    for name, value in expected.get("fields", {}).items():
        assert fields[name] == value
    assert not {*expected.get("without", ())} & {*fields}


def _check_question(question: Submit, expected: dict[str, Any]) -> None:
    for key, value in expected.items():
        given: Any = getattr(question, key)
        if key == "messages":
            given = [[message.role, message.content] for message in question.messages]
        elif key == "file_ids":
            given = list(given)
        assert given == value
