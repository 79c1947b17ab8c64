"""The promises of the strategies: what they draw, what they never draw, and that every kind is drawn."""

import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from opchat_proto import (
    Broken,
    End,
    Endpoint,
    Event,
    Limits,
    Live,
    Message,
    Page,
    Question,
    Reason,
    ReplyDecoder,
    Request,
    ServerSentEvent,
    Session,
    Site,
    SSEDecoder,
    Submit,
    strategies,
)
from tests.proto.asking import answered, is_reply

ROOT = Path(__file__).parents[2]
REGISTERED = [Live, End, Broken, Message, Submit, Session, Endpoint, Limits, ServerSentEvent, Request]


# ---------------------------------------------------------------- st.from_type


@pytest.mark.parametrize("kind", REGISTERED)
@given(data=st.data())
def test_every_type_has_its_strategy(kind: type[Any], data: st.DataObject) -> None:
    assert type(data.draw(st.from_type(kind))) is kind


@given(st.from_type(Event))  # type: ignore[arg-type]  # a union is no type[T]
def test_the_union_of_the_events_has_a_strategy_too(event: object) -> None:
    assert isinstance(event, Live | End | Broken)


@pytest.mark.parametrize(
    "imports",
    [
        "from hypothesis import strategies as st; from opchat_proto import *",
        "from opchat_proto import *; from hypothesis import strategies as st",
        "import opchat_proto.strategies; from hypothesis import strategies as st; from opchat_proto import *",
    ],
)
def test_the_types_are_registered_without_an_import_and_in_any_order(tmp_path: Path, imports: str) -> None:
    # Hypothesis sees an installed distribution with the entry points of our pyproject.toml.
    group = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["hypothesis"]
    metadata = tmp_path / "opchat_of_this_test-0.dist-info"
    metadata.mkdir()
    lines = ["[hypothesis]", *(f"{name} = {value}" for name, value in group.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    names = ", ".join(kind.__name__ for kind in REGISTERED)
    code = f"""
import sys, warnings
sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]
{imports}
from hypothesis.strategies._internal.types import _global_type_lookup
assert {{{names}}} <= set(_global_type_lookup)
warnings.simplefilter("ignore")  # that examples are not meant for programs
assert isinstance(st.from_type(Live).example(), Live)
"""
    # Warnings are errors: Hypothesis warns of entry points that draw or evaluate while it is imported.
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")


def test_without_hypothesis_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "opchat\[fuzz\]"'):
        importlib.reload(strategies)


# ---------------------------------------------------------------- values


@given(strategies.texts())
def test_texts_can_be_encoded(text: str) -> None:
    assert text.encode().decode() == text


@given(strategies.messages())
def test_messages_have_only_the_roles_of_a_question(message: Message) -> None:
    assert message.role in ("user", "assistant", "system")
    assert Submit.from_messages([message, Message("user", "?")]).messages == (message,)


@given(strategies.submits(), strategies.sessions())
def test_a_server_decodes_every_question_as_it_was_encoded(submit: Submit, session: Session) -> None:
    site = Site(b"secret")
    headers = [("Content-Type", "application/json"), ("X-WP-Nonce", site.nonce(0))]
    body = submit.encode(session.session_id)
    question = site.receive_request("POST", "/wp-json/mwai-ui/v1/chats/submit", headers, body, now=0)
    assert isinstance(question, Question)
    assert question.submit == submit


@given(strategies.sessions())
def test_sessions_are_not_bound_to_a_site_yet(session: Session) -> None:
    assert session.origin is None


@given(strategies.endpoints())
def test_endpoints_can_be_parsed_from_their_parts(endpoint: Endpoint) -> None:
    assert Endpoint.parse(endpoint.origin + endpoint.root) == endpoint


@given(strategies.limits())
def test_limits_leave_room_for_every_question(limits: Limits) -> None:
    assert limits.request_bytes == Limits().request_bytes


@given(strategies.replies())
def test_a_reply_has_exactly_one_terminal_event_at_its_end(reply: list[Event]) -> None:
    assert is_reply(reply)


@given(strategies.events())
def test_a_payload_is_json_and_contains_the_reply_of_its_event(event: Event) -> None:
    if isinstance(event, End) and event.raw:
        reply = event.payload()["reply"]
        assert event.reply == (reply if isinstance(reply, str) else None)


@given(st.from_type(ServerSentEvent))
def test_server_sent_events_can_be_written_and_read(event: ServerSentEvent) -> None:
    lines = [f"event: {event.event}", f"id: {event.id}", *(f"data: {line}" for line in event.data.split("\n"))]
    lines += [] if event.retry is None else [f"retry: {event.retry}"]
    assert SSEDecoder().receive_data("\n".join([*lines, "", ""]).encode()) == [event]


@given(st.from_type(Request))
def test_requests_belong_to_this_protocol(request: Request) -> None:
    assert request.method == "POST"
    assert request.target.endswith(("/mwai/v1/start_session", "/mwai-ui/v1/chats/submit"))


# ---------------------------------------------------------------- pages


@given(strategies.pages())
def test_a_page_gives_its_bots(found: strategies.HTMLPage) -> None:
    assert Page.parse(found.html, found.url, found.headers) == found.page


@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param(lambda found: len(found.page.bots) > 1, id="several bots"),
        pytest.param(lambda found: found.page.discussions and not found.page.bots, id="discussions alone"),
        pytest.param(lambda found: found.headers and not found.page.bots, id="a Link header"),
        pytest.param(lambda found: "<link" in found.html, id="a link in the head"),
        pytest.param(lambda found: "&amp;quot;" in found.html, id="encoded twice"),
        pytest.param(lambda found: re.search("SYSTEM={&#34;", found.html), id="no quotes"),
        pytest.param(lambda found: 'system="{&#34;' in found.html, id="double quotes"),
        pytest.param(lambda found: "system='{\"" in found.html, id="single quotes"),
        pytest.param(lambda found: any(bot.custom_id for bot in found.page.bots), id="a custom bot"),
        pytest.param(lambda found: any(bot.root is None for bot in found.page.bots), id="no root"),
        pytest.param(lambda found: any(bot.max_files == 5 for bot in found.page.bots), id="files"),
    ],
)
def test_every_kind_of_page_is_drawn(wanted: Callable[[strategies.HTMLPage], bool]) -> None:
    assert wanted(find(strategies.pages(), wanted, settings=SEARCH))


# ---------------------------------------------------------------- bytes


@given(strategies.bodies())
def test_a_body_gives_its_events(body: strategies.Body) -> None:
    decoder = ReplyDecoder()
    events = decoder.receive_head(200, []) + decoder.receive_data(body.data) + decoder.receive_eof()
    assert events == body.events


@given(strategies.responses())
def test_a_response_gives_its_events(response: strategies.HTTPResponse) -> None:
    assert answered([response.data]) == response.events


@given(strategies.responses())
def test_the_parts_of_a_response_match_its_bytes(response: strategies.HTTPResponse) -> None:
    head = response.data[response.data.index(b" 200 OK\r\n") :].partition(b"\r\n\r\n")[0].decode()
    assert head.split("\r\n")[1:] == [f"{name}: {value}" for name, value in response.headers]
    decoder = ReplyDecoder()
    *events, last = (
        decoder.receive_head(200, response.headers) + decoder.receive_data(response.body) + decoder.receive_eof()
    )
    assert [*events, replace(last, asked=True) if isinstance(last, Broken) else last] == response.events


@given(st.data(), st.binary(max_size=40))
def test_cuts_lose_and_move_nothing(data: st.DataObject, whole: bytes) -> None:
    assert b"".join(data.draw(strategies.cuts(whole))) == whole


# Enough to be sure that a missing kind is missing; the search stops at the first example. How many it takes depends on
# what else was imported, since Hypothesis draws on the constants of the modules that it finds.
SEARCH = settings(max_examples=20_000, database=None, phases=[Phase.generate])


def first(body: strategies.Body) -> Event:
    return body.events[0]


def last(body: strategies.Body) -> Event:
    return body.events[-1]


@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param(lambda body: body.data.startswith(b"\xef\xbb\xbf"), id="a byte order mark"),
        pytest.param(lambda body: b"\r" in body.data and b"\n" not in body.data, id="CR only"),
        pytest.param(lambda body: b"\r\n\r\ndata" in body.data, id="CRLF"),
        pytest.param(lambda body: b": keepalive" in body.data, id="a comment"),
        pytest.param(lambda body: b"<b>Warning</b>" in body.data, id="a notice"),
        pytest.param(lambda body: b"retry: 10" in body.data, id="another field"),
        pytest.param(lambda body: b"\ndata: \n\n" in body.data, id="a data line without anything"),
        pytest.param(lambda body: b"\\/" in body.data, id="PHP's JSON"),
        pytest.param(lambda body: "é".encode() in body.data, id="a browser's JSON"),
        pytest.param(lambda body: b'data: {\ndata:  "type": "end"' in body.data, id="an event in several lines"),
        pytest.param(lambda body: b'data:{"type"' in body.data, id="no blank after the colon"),
        pytest.param(lambda body: b"timestamp" in body.data, id="an event object"),
        pytest.param(lambda body: b"new_token" in body.data and b"actions" in body.data, id="a payload of today"),
        pytest.param(lambda body: Live("", "unreadable") in body.events, id="an unreadable piece"),
        pytest.param(lambda body: type(first(body)) is Live and first(body).raw != "", id="an unknown event"),
        pytest.param(lambda body: body.data.startswith(b"{") and type(first(body)) is End, id="a JSON body"),
        pytest.param(lambda body: body.data.startswith(b"{") and type(first(body)) is Broken, id="a JSON failure"),
        pytest.param(lambda body: last(body) == End(None), id="an end without a payload"),
        pytest.param(lambda body: last(body) == Broken(Reason.REMOTE), id="an error without a text"),
        pytest.param(
            lambda body: b'"error","data":null' in body.data and type(last(body)) is End,
            id="an error that came to nothing",
        ),
        pytest.param(lambda body: len(body.events) > 3, id="many events"),
    ],
)
def test_every_kind_of_body_is_drawn(wanted: Callable[[strategies.Body], bool]) -> None:
    assert wanted(find(strategies.bodies(), wanted, settings=SEARCH))


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param(rb"HTTP/1\.1 103 .*HTTP/1\.1 100 .*HTTP/1\.1 200 ", id="interim responses"),
        pytest.param(rb"HTTP/1\.0 200 ", id="HTTP/1.0"),
        pytest.param(rb"chunked\r\n.*\r\n0[0-9A-F]{3}\r\n", id="chunks"),
        pytest.param(rb"chunked\r\n.*;a=b\r\n", id="chunks with extensions"),
        pytest.param(rb"chunked\r\n.*\r\nX-After: 1\r\n\r\n\Z", id="trailers"),
        pytest.param(rb"\r\nContent-Length: \d+\r\n", id="a length"),
        pytest.param(rb"\A(?!.*(chunked|Content-Length))", id="up to the close"),
    ],
)
def test_every_kind_of_response_is_drawn(pattern: bytes) -> None:
    found = find(
        strategies.responses(), lambda response: bool(re.search(pattern, response.data, re.DOTALL)), settings=SEARCH
    )
    assert re.search(pattern, found.data, re.DOTALL)


# ---------------------------------------------------------------- faulty bodies


@given(st.data(), strategies.faulty_bodies())
def test_a_faulty_body_is_broken_after_its_pieces(data: st.DataObject, body: strategies.FaultyBody) -> None:
    decoder = ReplyDecoder()
    events = decoder.receive_head(200, [])
    for piece in data.draw(strategies.cuts(body.data)):
        events += decoder.receive_data(piece)
    *pieces, last = events + decoder.receive_eof()
    assert pieces == body.events
    assert isinstance(last, Broken)
    assert last.reason is body.reason


@pytest.mark.parametrize(
    "what",
    [
        lambda body: body.reason is Reason.TRUNCATED and not body.data,
        lambda body: body.reason is Reason.TRUNCATED and len(body.events) > 1,
        lambda body: body.reason is Reason.TRUNCATED and body.data.startswith(b"{"),
        lambda body: body.reason is Reason.TRUNCATED and b'"end"' in body.data,
        lambda body: body.reason is Reason.MALFORMED and b"<title>" in body.data,
        lambda body: body.reason is Reason.MALFORMED and body.data.startswith(b"{"),
        lambda body: body.reason is Reason.MALFORMED and len(body.events) > 1,
        lambda body: body.reason is Reason.MALFORMED and b"[DONE]" in body.data,
        lambda body: body.data.startswith(b"\xef\xbb\xbfdata: "),
        lambda body: body.events and b"\r\n" in body.data,
    ],
)
def test_every_kind_of_fault_is_drawn(what: Callable[[strategies.FaultyBody], bool]) -> None:
    find(strategies.faulty_bodies(), what, settings=SEARCH)


# ---------------------------------------------------------------- the example of README

_WRONG = """
class Wrong(ReplyDecoder):
    def receive_eof(self):
        return super().receive_eof()[:-1]
"""


_SHORT = """
from hypothesis import Phase, settings

settings.register_profile(
    "short", max_examples=20, stateful_step_count=10, deadline=None, phases=[Phase.generate], derandomize=True
)
settings.load_profile("short")
"""


@pytest.mark.parametrize(("decoder", "outcome"), [("ReplyDecoder", "2 passed"), ("Wrong", "1 failed")])
def test_the_example_of_readme_passes_and_fails_with_a_parser_that_loses_events(
    tmp_path: Path, decoder: str, outcome: str
) -> None:
    readme = (ROOT / "README.md").read_text()
    [example] = [it for it in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "strategies.cuts" in it]
    assert len([line for line in example.splitlines() if line]) <= 10
    example = example.replace("\n\n\n@given", f"\n{_WRONG}\n@given").replace("ReplyDecoder()", f"{decoder}()")
    (tmp_path / "test_parser.py").write_text(example)
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", f"--rootdir={tmp_path}"]
    (tmp_path / "conftest.py").write_text(_SHORT)
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False)
    assert outcome in done.stdout, done.stdout + done.stderr
