"""Properties for any limits, texts and values."""

import copy
import json
import pickle
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.strategies import DataObject, SearchStrategy

from opchat_proto import (
    Broken,
    Client,
    Conversation,
    End,
    Endpoint,
    Event,
    Flow,
    InvalidMessages,
    Limits,
    Message,
    Proxy,
    Reason,
    ReplyDecoder,
    Server,
    Session,
    Site,
    Submit,
    strategies,
)
from tests.proto.anything import (
    NO_RESTART,
    PROXIES,
    STALE,
    Answered,
    any_body,
    any_fields,
    any_head,
    any_text,
    any_wire,
    asking,
    cutter,
    decode_events,
    decode_reply,
    run_client,
    unasked,
)

# ---------------------------------------------------------------- limits


def least(passes: Callable[[int], bool], most: int) -> int:
    """The least number from 1 to `most` that passes, if every larger one passes too."""
    low, high = 1, most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(middle) else (middle + 1, high)
    return low


def check_limit(name: str, need: int, run: Callable[[Limits], list[Event]], *, smallest: int = 1) -> None:
    """Check that the exact limit and one more pass, and that one less is TOO_LARGE with this limit's name."""
    expected = run(NO_RESTART)
    for enough in (need, need + 1):
        assert run(replace(NO_RESTART, **{name: enough})) == expected
    if need > smallest:
        last = run(replace(NO_RESTART, **{name: need - 1}))[-1]
        assert isinstance(last, Broken)
        assert last.reason is Reason.TOO_LARGE
        assert last.detail.startswith(f"more than {need - 1} ")
        assert last.detail.endswith(f"(Limits.{name})")


@pytest.mark.parametrize("name", ["event_bytes", "reply_bytes"])
@given(data=st.data(), response=strategies.responses())
def test_the_limits_of_a_body_are_exact_in_all_cuts(name: str, data: DataObject, response: Any) -> None:
    def run(limits: Limits) -> list[Event]:
        return run_client(Client(asking(limits)), [response.data], cutter(data))[0]

    def passes(number: int) -> bool:
        decoder = ReplyDecoder(Limits(**{name: number}))
        given = decoder.receive_head(200, []) + decoder.receive_data(response.body) + decoder.receive_eof()
        return bool([unasked(event) for event in given] == [unasked(event) for event in response.events])

    check_limit(name, least(passes, len(response.body)), run)


@given(st.data(), any_body.filter(lambda body: not body.startswith(b"\xef")))
def test_the_limit_of_an_event_is_exact_in_all_cuts(data: DataObject, body: bytes) -> None:
    need = size = 0
    *lines, tail = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    for line in lines:
        if not line:
            size = 0
            continue
        need = max(need, size + len(line))
        if line == b"data" or line.startswith(b"data:"):
            size += len(line) + 1
    need = max(need, size + len(tail) if tail else 0, 1)
    assert not decode_events(data.draw(strategies.cuts(body)), Limits(event_bytes=need))[3]
    if need > 1:
        assert decode_events(data.draw(strategies.cuts(body)), Limits(event_bytes=need - 1))[3]


@given(st.data(), strategies.responses())
def test_the_limits_of_a_head_are_exact_in_all_cuts(data: DataObject, response: Any) -> None:
    before, _, after = response.data.partition(b" 200 OK\r\n")
    assume(b"\r\ntransfer-encoding: chunked" not in after)  # its lines count too, with another outcome
    *interim, start = before.split(b"\r\n\r\n")
    head = len(start) + len(b" 200 OK\r\n") + after.index(b"\r\n\r\n") + 4 if response.headers else len(start) + 11
    heads = [*(len(one) + 4 for one in interim), head]

    def run(limits: Limits) -> list[Event]:
        return run_client(Client(asking(limits)), [response.data], cutter(data))[0]

    check_limit("head_bytes", max(heads), run)
    numbers = [*(one.count(b"\r\n") for one in interim), len(response.headers)]
    check_limit("headers", max(*numbers, 1), run)
    check_limit("interim_responses", len(interim), run, smallest=0)


@given(st.data(), any_body, st.integers(1, 200), st.sampled_from([200, 403, 500]))
def test_the_bound_on_a_refusal_is_independent_of_the_cuts(
    data: DataObject, body: bytes, most: int, status: int
) -> None:
    head = Answered(status, [], b"")
    limits = Limits(refusal_bytes=most)
    assert decode_reply(head, data.draw(strategies.cuts(body)), limits) == decode_reply(head, [body], limits)
    if status != 200:
        assert decode_reply(head, [body], limits) == decode_reply(head, [body[:most]], Limits())


# ---------------------------------------------------------------- texts


@given(any_head, any_body, any_text, st.sampled_from(Reason), strategies.limits())
def test_every_text_of_every_event_can_be_encoded(
    head: Answered, body: bytes, detail: str, reason: Reason, limits: Limits
) -> None:
    ended, failed, refused = ReplyDecoder(limits), ReplyDecoder(limits), ReplyDecoder(limits)
    given = [
        *decode_reply(head, [body], limits),
        *failed.receive_head(head.status, head.headers),
        *failed.receive_data(body),
        *failed.receive_failure(detail, reason),
        *refused.receive_failure(detail, reason),
        *ended.receive_eof(),
        *Client(asking()).step_failed(detail, reason),
    ]
    for event in given:
        for field in fields(event):
            value = getattr(event, field.name)
            if isinstance(value, str):
                value.encode()


@given(any_body, st.builds(Answered, st.just(200), any_fields, st.just(b"")))
def test_the_payload_of_an_end_can_be_encoded_again(body: bytes, head: Answered) -> None:
    end = decode_reply(head, [body], Limits())[-1]
    if isinstance(end, End):
        assert end.payload() == json.loads(json.dumps(end.payload(), ensure_ascii=False).encode())
        assert all(isinstance(image, str) for image in end.images)
        assert all(isinstance(item, dict) for item in (*end.actions, *end.shortcuts, *end.blocks))


SECRET = "5EcReT"
secret_tokens = st.builds("{}{}".format, st.just(SECRET), st.sampled_from(["", "x", "=", "%20"]))
secret_sessions = st.builds(
    Session, st.none() | secret_tokens, st.none() | secret_tokens, st.just("") | st.builds("a={}".format, secret_tokens)
)


@given(st.data(), st.none() | secret_sessions, st.lists(any_wire, max_size=3))
def test_the_repr_of_an_object_contains_no_secret(
    data: DataObject, session: Session | None, script: list[bytes]
) -> None:
    shown: list[Any] = [session, Conversation(session=session, messages=(Message("user", SECRET),))]
    answers = [
        Answered(200, [], b'{"success":true,"sessionId":"5EcReT","restNonce":"5EcReT2"}').wire(),
        Answered(401, [("X-WP-Nonce", SECRET), ("Set-Cookie", f"mwai_session_id={SECRET}")], STALE.body).wire(),
        *script,
        Answered(200, [], b'{"success":true,"reply":"Hi","new_token":"5EcReT"}').wire(),
    ]
    proxy = data.draw(st.none() | st.sampled_from([Proxy.parse(url) for url, _, _ in PROXIES]))
    client = Client(asking(Limits(), session=session), proxy=proxy)
    flow = asking(Limits(), session=session)
    request = flow.next_request()
    server = Server(Site(SECRET.encode()))
    shown += [flow, request, server, proxy]

    def look(machine: Client) -> Client:
        shown.append(repr(machine))
        shown.append(machine.session)
        shown.append(machine.next_step())
        return machine

    shown += run_client(client, data.draw(st.permutations(answers)), cutter(data), look)[0]
    for name in ("nonce", "session_id", "cookie"):
        with pytest.raises(ValueError, match=name) as caught:
            Session(**{name: f"{SECRET}\n"})
        shown.append(caught.value)
    for one in shown:
        assert SECRET not in repr(one)
        assert SECRET not in str(one)


@given(
    st.sampled_from(["", "//", "https://", "HTTP://", "https:", "https:/", "socks5://", "http:///"]),
    st.text("ax1.:[]%&=", max_size=8),
    st.text(":/@?#[]\\ ax1.", max_size=8),
)
def test_an_address_with_a_password_is_refused_without_showing_it(scheme: str, name: str, host: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        Endpoint.parse(f"{scheme}{name}:{SECRET}@{host}")
    assert SECRET not in str(caught.value)


# ---------------------------------------------------------------- values


@given(
    strategies.texts()
    | strategies.endpoints().map(lambda endpoint: endpoint.origin + endpoint.root)
    | st.text("htps:/.@[]?#=&_%\\exampl0é \t", max_size=30)
    | st.from_regex(r"\A(https?://)?[a-z0-9.:\[\]%-]{0,12}(:[0-9]{0,6})?(/[ -~]{0,9}){0,2}(\?[ -~]{0,20})?\Z")
)
def test_any_text_is_an_endpoint_or_a_value_error(text: str) -> None:
    try:
        endpoint = Endpoint.parse(text)
    except ValueError as error:
        message = str(error)
    else:
        message = ""
    if message:
        assert "expected" in message
        return
    assert Endpoint.parse(endpoint.origin + endpoint.root) == endpoint
    request = Flow(endpoint, None).next_request()
    assert request is not None
    assert request.url.isascii()
    assert request.url.isprintable()
    assert request.target.endswith("/mwai/v1/start_session")


@given(strategies.submits(), st.none() | st.text("abc123", min_size=1))
def test_a_question_survives_a_round_trip_through_json(submit: Submit, session_id: str | None) -> None:
    assert Submit.from_dict(json.loads(submit.encode(session_id))) == submit


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=6,
)


def objects_with(*keys: str) -> SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(keys), json_values, max_size=6)


_KEYS = ("messages", "chat_id", "bot_id", "custom_id", "context_id", "session", "previous_response_id")


@given(st.data())
def test_any_json_is_a_conversation_or_a_value_error(data: DataObject) -> None:
    session = objects_with("nonce", "session_id", "cookie", "origin")
    messages = st.lists(objects_with("role", "content"), max_size=2)
    parts = st.fixed_dictionaries({}, optional={"session": session, "messages": messages})
    values: Any = data.draw(json_values | objects_with(*_KEYS) | parts)
    try:
        conversation = Conversation.from_dict(values)
    except ValueError:
        return
    assert Conversation.from_dict(json.loads(json.dumps(conversation.to_dict()))) == conversation
    conversation.ask("?").encode()


@given(json_values | objects_with("messages", "newMessage", "botId", "newFileIds", "stream", "chatId", "contextId"))
def test_any_json_is_a_question_or_invalid(value: Any) -> None:
    try:
        submit = Submit.from_dict(value)
    except InvalidMessages:
        return
    assert Submit.from_dict(json.loads(submit.encode())) == submit


@given(
    st.lists(st.tuples(strategies.texts(), strategies.events(), strategies.texts()), max_size=5),
    st.none() | strategies.sessions(),
    st.none() | strategies.texts(),
)
def test_a_conversation_grows_by_complete_answers_only(
    turns: list[tuple[str, Event, str]], session: Session | None, chat_id: str | None
) -> None:
    conversation = Conversation(session=session, chat_id=chat_id)
    said: list[Message] = []
    for question, event, pieces in turns:
        before = copy.deepcopy(conversation)
        submit = conversation.ask(question)
        assert conversation == before
        try:
            conversation.record(submit, event, pieces)  # type: ignore[arg-type]  # what is no `End` is refused
        except TypeError:
            assert not isinstance(event, End)
            assert conversation == before
        else:
            assert isinstance(event, End)
            said += [Message("user", question), Message("assistant", pieces if event.reply is None else event.reply)]
        assert conversation.messages == tuple(said)
        assert Conversation.from_dict(json.loads(json.dumps(conversation.to_dict()))) == conversation
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            conversation = pickle.loads(pickle.dumps(conversation, protocol))
