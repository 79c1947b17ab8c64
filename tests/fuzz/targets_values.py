"""Any requests to a `Server`, and any texts and values that are parsed."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import h11

from opchat_proto import (
    Answer,
    Broken,
    Client,
    Connect,
    Conversation,
    Done,
    End,
    Endpoint,
    Event,
    Find,
    Flow,
    IncomingFile,
    InvalidMessages,
    Keep,
    Kept,
    Limits,
    Live,
    Proxy,
    Reason,
    Receive,
    Send,
    SendFile,
    Server,
    Session,
    Site,
    StartTLS,
    Submit,
)
from tests import cases
from tests.fuzz.drawing import ENDPOINTS, NOW, QUESTION, SITE, WORDS, as_bytes, often
from tests.fuzz.oracles import (
    SECRET,
    Again,
    Choices,
    Cut,
    attempt,
    check_all_ways,
    check_linear,
    check_memory,
    random_copies,
    random_cut,
)

# ------------------------------------------------------------------------------ Server

_FORM = 'multipart/form-data; boundary="edge"'
_FORM_HELD = 4 * 8192  # bytes: the head of a part, which is held until it is complete


def upload(data: bytes) -> None:
    """Any form is a file or a refusal, the same however it is cut. Only the head of a part is held in memory."""
    choices = Choices(data)
    site = Site(b"secret of the site", upload_types=("png",), limits=choices.limits())
    form = b"".join(choices.strings)
    fields = [("Content-Type", choices.one_of((_FORM, _FORM, "multipart/form-data; boundary=--edge", "text/html"))),
              ("X-WP-Nonce", site.nonce(NOW))]  # fmt: skip

    def begin() -> IncomingFile:
        file = site.receive_upload("POST", "/wp-json/mwai-ui/v1/files/upload", fields, now=NOW)
        assert file is not None
        return file

    def run(cut: Cut, again: Again) -> tuple[Any, ...]:
        file, content = begin(), b""
        for piece in cut(form):
            file = again(file)
            content += b"".join(file.receive_data(piece))
            check_memory(file, _FORM_HELD, choices.random)
        refusal = file.receive_eof()
        assert "secret of the site" not in repr(file)
        if refusal is None:
            assert (file.name or "").lower().endswith("png")
            assert not re.search(r"[/\\\x00-\x1f]", file.name or "")
            refusal = file.kept("f1")
            assert json.loads(refusal.body)["data"]["id"] == "f1"
        too_large = refusal.status == 413
        return refusal.status, refusal.body, None if too_large else content, None if too_large else file.name

    status, _, content, _ = check_all_ways(choices, run)
    assert status in (200, 400, 413)
    assert content is None or content in form
    if often(choices, len(form)):
        check_linear(lambda data: begin().receive_data(data), form)


_BOTS: tuple[tuple[Event, ...], ...] = (
    (Live("Hi"), End("Hi")),
    (End(None),),
    (Live("\n\ndata: x", "thinking"), Broken(Reason.REMOTE, "é\r\n")),
    (End("é", '{"success":true,"images":["/a"],"new_token":"x"}'),),
    (Live(""), Live("", "unknown"), End("", "[")),
)
_STATUSES_OF_A_SERVER = {100, 200, 400, 401, 403, 404, 413, 431, 500, 501, 505}


def server(data: bytes) -> None:
    """Any bytes from a client get documented responses that another HTTP implementation can read."""
    choices = Choices(data)
    limits = choices.limits()
    bot = choices.one_of(_BOTS)
    site = Site(b"secret of the site", limits=limits, upload_types=("png",))
    request = b"".join(choices.strings).replace(b"{nonce}", site.nonce(NOW).encode())

    def run(cut: Cut, again: Again) -> tuple[Any, ...]:
        machine = Server(site)
        out = kept = b""
        submits = []
        for piece in cut(request):
            machine = again(machine)
            machine.receive_data(piece, now=NOW)
            events: Iterator[Event] = iter(bot)
            while not isinstance(step := machine.next_step(), Receive | Done):
                if isinstance(step, Answer):
                    event = next(events)
                    if event is bot[0]:
                        submits.append(step.submit)
                    machine.send(event, now=NOW)
                    if not isinstance(event, Live):
                        events = iter(bot)
                elif isinstance(step, Keep):
                    kept += step.data
                    machine.step_done()
                elif isinstance(step, Kept):
                    machine.respond(step.file.kept("f1"))
                elif isinstance(step, Find):
                    machine.respond(step.file.found("cat.png", "image/png", 3))
                elif isinstance(step, SendFile):
                    out += step.data + b"cat"
                    machine.step_done()
                else:
                    out += step.data
                    machine.step_done()
                machine = again(machine)
            check_memory(machine, 4 * min(limits.head_bytes + limits.request_bytes, len(request)), choices.random)
        over = machine.next_step() == Done()
        machine.receive_eof()
        assert machine.next_step() == Done()
        assert "secret of the site" not in repr(machine)
        return out, submits, over

    out, submits, _ = check_all_ways(choices, run)
    if often(choices, len(request)):
        check_linear(lambda data: Server(site).receive_data(data, now=NOW), request)
    while out.startswith(b"HTTP/1.1 100 "):
        out = out.partition(b"\r\n\r\n")[2]
    if b"HEAD " in request or b"100-continue" in request.lower() or b"HTTP/1.0" in request:
        return  # a reader needs the requests to read the responses
    responses = cases.read_responses(out)
    assert {status for status, _, _ in responses} <= _STATUSES_OF_A_SERVER
    assert sum(status == 200 for status, _, _ in responses) >= len({*submits}) - sum(
        status == 500 for status, _, _ in responses
    )
    for _, fields, body in responses:
        assert body.isascii()
        if fields["content-type"].startswith("application/json") and not body.startswith(b"data: "):
            json.loads(body)


# ------------------------------------------------------------------------------ values

_WITH_PASSWORD = re.compile(rf"(?:[a-z0-9+.-]*:)?/*[^/?#@]*:{SECRET}@", re.IGNORECASE)


def _text(choices: Choices) -> str:
    return choices.data.decode("utf-8", "surrogateescape")


def endpoint(data: bytes) -> None:
    """Any text names a site or is a `ValueError` that says what was expected and shows no password."""
    text = _text(Choices(data))
    found, error = attempt(Endpoint.parse, text, ValueError)
    if found is None:
        assert "expected" in str(error)
        assert SECRET not in str(error) or not _WITH_PASSWORD.match(text)
        return
    assert Endpoint.parse(found.origin + found.root) == found
    request = Flow(found, QUESTION, session=Session()).next_request()
    assert request is not None
    assert request.url == found.origin + request.target
    assert re.fullmatch(r"https?://[!-~]+", request.url)
    machine = Client(Flow(found, QUESTION, session=Session()))
    assert machine.next_step() == Connect(found.host, found.port)
    while not isinstance(step := machine.next_step(), Send):
        machine.step_done()
    assert step.data.startswith(f"POST {request.target} HTTP/1.1\r\n".encode())
    assert as_bytes(step.data) == QUESTION


def proxy(data: bytes) -> None:
    """Any text names a proxy or is a `ValueError` that shows no credentials."""
    text = _text(Choices(data))
    found, error = attempt(Proxy.parse, text, ValueError)
    if found is None:
        assert "expected" in str(error)
        assert SECRET not in str(error)
        return
    bare = Proxy.parse(str(found))
    assert (bare.scheme, bare.host, bare.port) == (found.scheme, found.host, found.port)
    if found.password and len(found.password) > 12:
        assert found.password not in repr(found)
    for url in ("http://site.example", "https://site.example"):
        machine = Client(Flow(Endpoint.parse(url), QUESTION, session=Session()), proxy=found)
        assert machine.next_step() == Connect(found.host, found.port)
        machine.step_done()
        if isinstance(machine.next_step(), StartTLS):
            machine.step_done()
        step = machine.next_step()
        assert isinstance(step, Send)
        if step.data[:1] in (b"P", b"C"):
            reader = h11.Connection(h11.SERVER)
            reader.receive_data(step.data)
            assert isinstance(reader.next_event(), h11.Request)


_SCALARS: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1.5,
    1e308,
    float("inf"),
    float("nan"),
    10**5000,
    "https://site.example",
)


def _value(choices: Choices) -> Any:
    """The bytes as JSON; if they are not JSON, a value made from them."""
    try:
        return json.loads(choices.data.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        return _built(list(choices.data[:200]), 0)


def _built(left: list[int], depth: int) -> Any:
    if not left:
        return None
    byte = left.pop()
    match byte % 8:
        case 0 | 1 if depth < 5:
            return [_built(left, depth + 1) for _ in range(byte // 8 % 4)]
        case 2 | 3 | 4 if depth < 5:
            return {
                WORDS[(left.pop() if left else 0) % len(WORDS)]: _built(left, depth + 1) for _ in range(byte // 8 % 8)
            }
        case 5:
            return _SCALARS[byte // 8 % len(_SCALARS)]
        case _:
            return WORDS[byte // 8 % len(WORDS)]


def messages(data: bytes) -> None:
    """Any JSON is a question, which a server decodes as it was asked, or `InvalidMessages`."""
    choices = Choices(data)
    value = _value(choices)
    submit, error = attempt(Submit.from_messages, value, InvalidMessages)
    if error is not None:
        assert "expected" in str(error)
        if error.index is not None:
            assert 0 <= error.index < len(value)
            assert f"messages[{error.index}]" in str(error)
    if submit is None:
        return
    assert [message.content for message in (*submit.messages,)] == [it["content"] for it in value[:-1]]
    assert submit.new_message == value[-1]["content"]
    assert Submit.from_dict(json.loads(submit.encode())) == submit
    if len(submit.encode()) > Limits().request_bytes or not submit.new_message.strip(" \t\n\r\0\x0b"):
        return
    machine = Server(SITE)
    asking = Client(Flow(ENDPOINTS[0], submit, session=Session(SITE.nonce(NOW))))
    while not isinstance(step := asking.next_step(), Send):
        asking.step_done()
    for piece in random_cut(choices.random)(step.data):
        machine.receive_data(piece, now=NOW)
    answer = machine.next_step()
    assert isinstance(answer, Answer)
    assert answer.submit == submit


def conversation(data: bytes) -> None:
    """Any JSON is a conversation, which can be saved and continued, or a `ValueError`."""
    choices = Choices(data)
    value = _value(choices)
    found, _ = attempt(Conversation.from_dict, value, ValueError)
    if found is None:
        return
    kept = json.loads(json.dumps(found.to_dict()))
    assert Conversation.from_dict(kept) == found
    assert random_copies(choices.random)(found) == found
    submit = found.ask("And now?")
    found.record(submit, End("That", '{"responseId":"r1"}'))
    assert found.ask("?").previous_response_id == "r1"
    found = Conversation.from_dict(found.to_dict())
    assert [message.content for message in found.undo()] == ["And now?", "That"]
    expected = submit if submit.messages else replace(submit, previous_response_id=None)  # no message holds that id
    assert found.ask("And now?") == expected
    if found.session is not None and len(found.session.nonce or "") > 12:
        assert str(found.session.nonce) not in repr(found)
