"""The corpus: the cases in `tests/corpus/*.json`, and this library's outcome of each. See tests/corpus/README.md."""

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import h11

from opchat_proto import (
    Answer,
    Awaiting,
    Broken,
    Client,
    Connect,
    DeleteDiscussions,
    DiscussionPage,
    Done,
    End,
    Endpoint,
    Event,
    Flow,
    InvalidMessages,
    Limits,
    ListDiscussions,
    Live,
    Page,
    Proxy,
    Query,
    Reason,
    Receive,
    RenameDiscussion,
    ReplyDecoder,
    Send,
    Server,
    Session,
    Site,
    SSEDecoder,
    StartTLS,
    Submit,
    Visit,
)

FOLDER = Path(__file__).with_name("corpus")
QUESTION = Submit(new_message="Hi?")
SITE = "https://site.example"
PAGE = "https://site.example/contact/"
NOW = 1_800_000_000.0
TICK = 12 * 60 * 60
SECRET = b"secret"

Case: TypeAlias = dict[str, Any]
Pieces: TypeAlias = list[list[bytes]]
"""The pieces of each byte string of a case."""


def files() -> dict[str, dict[str, Any]]:
    """The whole corpus, by file name."""
    return {path.name: json.loads(path.read_text("ascii")) for path in sorted(FOLDER.glob("*.json"))}


@cache
def cases() -> list[Case]:
    """All cases, each with its level."""
    return [{"level": file["level"], **case} for file in files().values() for case in file["cases"]]


def at_level(level: str) -> list[Case]:
    return [case for case in cases() if case["level"] == level]


def parts_of(recipe: Any) -> Iterator[bytes]:
    """The bytes of a recipe: a text (in UTF-8), base64, something repeated, or several of these."""
    match recipe:
        case str():
            yield recipe.encode()
        case {"base64": data}:
            yield base64.b64decode(data, validate=True)
        case {"repeat": what, "times": times}:
            yield to_bytes(what) * times
        case list():
            for part in recipe:
                yield from parts_of(part)
        case _:
            raise ValueError(f"no recipe for bytes: {recipe!r}")


def to_bytes(recipe: Any) -> bytes:
    return b"".join(parts_of(recipe))


def to_text(recipe: Any) -> str:
    return recipe if isinstance(recipe, str) else to_bytes(recipe).decode()


# ------------------------------------------------------------------------------ cuts

_SMALL = 1500  # up to this length, every cut in two
_BLOCKS = (4096, 65536)  # common buffer sizes of implementations


def cuts_of(recipe: Any, limits: Sequence[int]) -> Iterator[list[bytes]]:
    """The bytes whole, cut in two everywhere, and byte by byte.

    If that would be too many: cut where parts of the recipe meet, where a limit or a
    usual block ends, at both ends, and one byte to either side of all these; and in
    pieces of a few sizes.
    """
    data = to_bytes(recipe)
    yield [data]
    if len(data) <= _SMALL:
        places = set(range(len(data) + 1))
    else:
        seams = [0]
        for part in parts_of(recipe):
            seams.append(seams[-1] + len(part))
        marks = [*seams, *(seam + limit for seam in seams for limit in limits), *_BLOCKS, len(data) // 2]
        places = {mark + by for mark in marks for by in (-1, 0, 1) if 0 <= mark + by <= len(data)}
    for place in sorted(places):
        yield [data[:place], data[place:]]
    for size in (1, 7, 1009) if len(data) <= 10_000 else (997, 4096):
        yield [data[start : start + size] for start in range(0, len(data), size)]


# ------------------------------------------------------------------------------ the levels


def byte_strings(case: Case) -> list[Any]:
    """The recipes of the bytes that the peer sends in this case. Their outcome must be the same in any pieces."""
    match case["level"]:
        case "sse" | "reply":
            return [case["body"]]
        case "flow" | "visit" | "asked":
            return [answer.get("body", "") for answer in case["answers"]]
        case "wire":
            return [case["wire"]]
        case "exchanges":
            return [*case["connections"]]
        case "proxy":
            return [step["receive"] for step in case["dialogue"] if "receive" in step]
        case "server":
            return [filled(case["request"])]
        case "upload":
            return [case["body"]]
        case _:
            return []


def run(case: Case, pieces: Pieces) -> Any:
    """Everything observable about this case when its bytes arrive in these pieces."""
    return _LEVELS[case["level"]](case, pieces)


def limits_of(case: Case) -> Limits:
    return Limits(**(case.get("limits") or {}))


def _sse(case: Case, pieces: Pieces) -> Any:
    decoder = SSEDecoder(limits_of(case))
    events = [event for piece in pieces[0] for event in decoder.receive_data(piece)]
    events += decoder.receive_eof()
    return {
        "events": events,
        "retry": decoder.retry,
        "last_event_id": decoder.last_event_id,
        "overflowed": decoder.overflowed,
        "first_ignored_line": decoder.first_ignored_line,
    }


def to_event(given: Any) -> Event:
    """An event of the corpus as a value."""
    match given:
        case {"live": text}:
            return Live(to_text(text), given.get("kind", "content"), given.get("raw", ""))
        case {"end": reply}:
            return End(None if reply is None else to_text(reply), given.get("raw", ""))
        case {"broken": reason}:
            return Broken(Reason(reason), to_text(given.get("detail", "")))
        case _:
            raise ValueError(f"no event: {given!r}")


def _finish(machine: ReplyDecoder | Flow | Visit, ends: Any) -> list[Event]:
    match ends:
        case "nothing":
            return []
        case {"failure": detail}:
            return machine.receive_failure(detail, Reason(ends.get("reason", "lost")))
        case _:
            return machine.receive_eof()


def _fields(case: Case) -> list[tuple[str, str]]:
    return [(name, value) for name, value in case.get("headers") or ()]


def _reply(case: Case, pieces: Pieces) -> Any:
    decoder = ReplyDecoder(limits_of(case))
    events = decoder.receive_head(case.get("status", 200), _fields(case))
    for piece in pieces[0]:
        events += decoder.receive_data(piece)
    return {"events": events + _finish(decoder, case.get("ends"))}


def to_session(given: Any) -> Session | None:
    if given is None:
        return None
    return Session(given["nonce"], given["session_id"], given["cookie"], member=given.get("member"))


def _flow(case: Case, pieces: Pieces) -> Any:
    question = QUESTION if case.get("asks", True) else None
    endpoint = Endpoint.parse(case.get("site", SITE))
    flow = Flow(endpoint, question, session=to_session(case.get("starts_with")), limits=limits_of(case))
    events: list[Event] = []
    requests = []
    answers = iter(zip(case["answers"], pieces, strict=True))
    uses = list(case.get("uses", ()))
    while True:
        if uses and flow.is_ready and flow.awaiting is Awaiting.SESSION:
            events += flow.use_session(to_session(uses.pop(0)))
        request = flow.next_request()
        if request is None:
            break
        fields = {name.lower(): value for name, value in request.headers}
        body = json.loads(request.body) if request.body else {}
        requests.append(
            {
                "route": request.target.rpartition("/")[2],
                "nonce": fields.get("x-wp-nonce"),
                "session": body.get("session"),
                "cookie": fields.get("cookie", ""),
            }
        )
        answer, body_pieces = next(answers)
        for status in answer.get("interim", ()):
            events += flow.receive_head(status, [])
        if answer.get("head", True):
            events += flow.receive_head(answer.get("status", 200), _fields(answer))
            for piece in body_pieces:
                events += flow.receive_data(piece)
        events += _finish(flow, answer.get("ends"))
    return {"events": events, "requests": requests, "session": flow.session, "unused": len(list(answers))}


def _asked(case: Case, pieces: Pieces) -> Any:
    question = _question(case["asks"])
    flow = Flow(SITE, question, session=to_session(case.get("starts_with")), limits=limits_of(case))
    events: list[Event] = []
    requests = []
    answers = iter(zip(case["answers"], pieces, strict=True))
    while request := flow.next_request():
        body = json.loads(request.body) if request.body else None
        requests.append({"method": request.method, "route": request.target.rpartition("/")[2], "body": body})
        answer, body_pieces = next(answers)
        if answer.get("head", True):
            events += flow.receive_head(answer.get("status", 200), _fields(answer))
            for piece in body_pieces:
                events += flow.receive_data(piece)
        events += _finish(flow, answer.get("ends"))
    page = None
    if isinstance(question, ListDiscussions) and isinstance(events[-1], End):
        page = DiscussionPage.from_end(events[-1])
    return {"events": events, "requests": requests, "page": page, "unused": len(list(answers))}


def _question(given: Any) -> Query | ListDiscussions | RenameDiscussion | DeleteDiscussions:
    match given:
        case {"query": [text, bot_id, chat_id]}:
            return Query(text, bot_id, chat_id)
        case {"list": options}:
            return ListDiscussions(**options)
        case {"rename": [chat_id, title]}:
            return RenameDiscussion(chat_id, title)
        case _:
            return DeleteDiscussions(tuple(given["delete"]))


def _wire(case: Case, pieces: Pieces) -> Any:
    client = Client(Flow(Endpoint.parse("http://site.example"), QUESTION, session=Session(), limits=limits_of(case)))
    while not isinstance(client.next_step(), Receive):
        client.step_done()
    events = [event for piece in pieces[0] for event in client.receive_data(piece)]
    return {"events": events + (client.receive_eof() if case.get("closes", True) else [])}


def _exchanges(case: Case, pieces: Pieces) -> Any:
    flow = Flow(
        Endpoint.parse("http://site.example"),
        QUESTION,
        session=to_session(case.get("starts_with")),
        limits=limits_of(case),
    )
    client = Client(flow)
    events: list[Event] = []
    requests = []
    for answer in pieces:
        assert isinstance(client.next_step(), Connect)
        client.step_done()
        step = client.next_step()
        assert isinstance(step, Send)
        requests.append(step.data.split(b" ")[1].decode().rpartition("/")[2])
        client.step_done()
        for piece in answer:
            events += client.receive_data(piece)
        events += client.receive_eof()
    assert client.next_step() == Done()
    return {"events": events, "requests": requests}


def _proxy(case: Case, pieces: Pieces) -> Any:
    proxy = Proxy.parse(case["proxy"]) if case.get("proxy") else None
    flow = Flow(Endpoint.parse(case["site"]), QUESTION, session=Session(), limits=limits_of(case))
    client = Client(flow, proxy=proxy)
    events: list[Event] = []
    received = iter(pieces)
    for expected in case["dialogue"]:
        step = client.next_step()
        match expected:
            case {"connect": [host, port]}:
                assert step == Connect(host, port)
                client.step_done()
            case {"start_tls": name}:
                assert step == StartTLS(name)
                client.step_done()
            case {"send": data}:
                assert step == Send(to_bytes(data))
                client.step_done()
            case {"send_line": line}:
                assert isinstance(step, Send)
                first, *fields = step.data.partition(b"\r\n\r\n")[0].decode().split("\r\n")
                names = [field.partition(":")[0].lower() for field in fields]
                assert first == line
                assert {field.lower() for field in expected.get("fields", ())} <= {field.lower() for field in fields}
                assert not {*expected.get("without", ())} & {*names}
                client.step_done()
            case {"receive": _}:
                for piece in next(received):
                    events += client.receive_data(piece)
            case {"receive_eof": True}:
                events += client.receive_eof()
            case {"step_failed": detail}:
                reason = Reason(expected.get("reason", "lost"))
                events += client.step_failed(detail, reason, limit=expected.get("limit"))
            case _:
                raise AssertionError(f"no step of a dialogue: {expected}")
    assert client.next_step() == Done()
    return {"events": events}


def filled(recipe: Any) -> Any:
    """The recipe with this site's nonces filled in."""
    match recipe:
        case str():
            site = Site(SECRET)
            for name, age in (("nonce", 0), ("old_nonce", 1), ("dead_nonce", 2)):
                recipe = recipe.replace(f"{{{name}}}", site.nonce(NOW - age * TICK))
            return recipe
        case list():
            return [filled(part) for part in recipe]
        case _:
            return recipe


def _server(case: Case, pieces: Pieces) -> Any:
    server = Server(Site(SECRET, limits=limits_of(case)))
    reply = [to_event(event) for event in case.get("reply") or ()]
    out = b""
    questions = []
    for piece in pieces[0]:
        server.receive_data(piece, now=NOW)
        bot: Iterator[Event] = iter(reply)
        while not isinstance(step := server.next_step(), Receive | Done):
            if isinstance(step, Answer):
                event = next(bot)
                if event is reply[0]:
                    questions.append(step.submit)
                server.send(event)
            else:
                assert isinstance(step, Send)
                out += step.data
                server.step_done()
    return {"responses": read_responses(out), "questions": questions, "closed": server.next_step() == Done()}


def read_responses(data: bytes) -> list[tuple[int, dict[str, str], bytes]]:
    """A server's response, as another HTTP implementation reads it: status, header fields, body."""
    responses = []
    while data:
        reader = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
        reader.send(h11.Request(method="POST", target="/", headers=[("Host", "site.example")]))
        reader.receive_data(data)
        status, fields, body = 0, {}, b""
        while not isinstance(event := reader.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                status = event.status_code
                fields = {name.decode(): value.decode() for name, value in event.headers}
            elif isinstance(event, h11.Data):
                body += event.data
            elif event is h11.NEED_DATA:
                reader.receive_data(b"")  # a body that ends at the close
        responses.append((status, fields, body))
        data = reader.trailing_data[0]
    return responses


def _endpoint(case: Case, pieces: Pieces) -> Any:
    try:
        endpoint = Endpoint.parse(case["text"])
    except ValueError:
        return "error"
    return {"origin": endpoint.origin, "root": endpoint.root, "site": endpoint.site}


def _proxy_url(case: Case, pieces: Pieces) -> Any:
    try:
        proxy = Proxy.parse(case["text"])
    except ValueError:
        return "error"
    return {name: getattr(proxy, name) for name in ("scheme", "host", "port", "username", "password")}


def _messages(case: Case, pieces: Pieces) -> Any:
    options = case.get("options") or {}
    try:
        submit = Submit.from_messages(case["messages"], **options)
    except InvalidMessages as error:
        return {"error": error.index}
    return {"body": json.loads(submit.encode(case.get("session_id")))}


def _page(case: Case, pieces: Pieces) -> Any:
    return Page.parse(to_text(case["html"]), case.get("url", PAGE), _fields(case))


def _visit(case: Case, pieces: Pieces) -> Any:
    visit = Visit(
        case.get("url", PAGE), limits_of(case), session=to_session(case.get("starts_with")), fresh=case.get("fresh")
    )
    events: list[Event] = []
    requests = []
    answers = iter(zip(case["answers"], pieces, strict=True))
    while request := visit.next_request():
        requests.append({"url": request.url, "cookie": dict(request.headers).get("Cookie", "")})
        answer, body_pieces = next(answers)
        events += visit.receive_head(answer.get("status", 200), _fields(answer))
        for piece in body_pieces:
            events += visit.receive_data(piece)
        events += _finish(visit, answer.get("ends"))
    return {"events": events, "requests": requests, "page": visit.page, "unused": len(list(answers))}


def _upload(case: Case, pieces: Pieces) -> Any:
    site = Site(SECRET, limits=limits_of(case), upload_types=("png",))
    kind = case.get("content_type", 'multipart/form-data; boundary="edge"')
    fields = [("Content-Type", kind), ("X-WP-Nonce", site.nonce(NOW))]
    file = site.receive_upload("POST", "/wp-json/mwai-ui/v1/files/upload", fields, now=NOW)
    assert file is not None
    content = b"".join(part for piece in pieces[0] if not file.is_over for part in file.receive_data(piece))
    refusal = file.receive_eof()
    if refusal is None:
        return {"file": [file.name, file.content_type], "content": content}
    # The cuts decide how much of a file is handed over before it turns out too large.
    left = b"" if refusal.status == 413 else content
    return {"refused": [refusal.status, json.loads(refusal.body)["message"]], "content": left}


_LEVELS: dict[str, Callable[[Case, Pieces], Any]] = {
    "sse": _sse,
    "reply": _reply,
    "flow": _flow,
    "asked": _asked,
    "wire": _wire,
    "exchanges": _exchanges,
    "proxy": _proxy,
    "server": _server,
    "upload": _upload,
    "endpoint": _endpoint,
    "proxy_url": _proxy_url,
    "messages": _messages,
    "page": _page,
    "visit": _visit,
}
