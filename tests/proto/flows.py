"""Flows to one site, and its answers: sessions, replies, refusals."""

import json
from dataclasses import replace
from typing import Any

from opchat_proto import Awaiting, Broken, End, Endpoint, Event, Flow, Limits, Live, Reason, Request, Session, Submit
from opchat_proto._flow_table import State  # the table is not public, and this test walks it

SITE = Endpoint.parse("https://site.example")
ASK = Submit(new_message="Où ?", chat_id="k3v9x0q2ab")
GIVEN = Session("0b2576d756", "6b02fc304cdb0", "mwai_session_id=6b02fc304cdb0")
MEMBER = Session("0b2576d756", cookie="wordpress_logged_in_0=me")
JSON = [("Content-Type", "application/json; charset=UTF-8")]

Answer = tuple[int, list[tuple[str, str]], bytes]

OPENED = b'{"success":true,"sessionId":"6b02fc304cdb0","restNonce":"0b2576d756"}'
SESSION: Answer = (200, [*JSON, ("Set-Cookie", "mwai_session_id=6b02fc304cdb0; path=/; secure; HttpOnly")], OPENED)
HI = '{"success":true,"reply":"Hi"}'
LIVE = b'data: {"type":"live","data":"Hi"}\n\n'
END = b'data: {"type":"end","data":' + json.dumps(HI).encode() + b"}\n\n"
REPLY: Answer = (200, [("Content-Type", "text/event-stream;charset=UTF-8")], LIVE + END)
REPLIED: list[Event] = [Live("Hi"), End("Hi", HI)]
NO_ROUTE = '{"code":"rest_no_route","message":"No route was found.","data":{"status":404}}'
FORBIDDEN = '{"code":"rest_forbidden","message":"Not allowed.","data":{"status":401}}'
EXPIRED = '{"code":"rest_cookie_invalid_nonce","message":"Cookie check failed","data":{"status":403}}'
PAGE = b"<!DOCTYPE html><title>My site</title>"
PLAIN_HINT = "; no REST API here; with plain permalinks the root is https://site.example/index.php?rest_route="


def refusal(status: int, text: str) -> Broken:
    """The event for a WordPress error with this status, as the answer to a question."""
    error = json.loads(text)
    return Broken(Reason.REFUSED, error["message"], status, error["code"], raw=text, asked=True)


def take(flow: Flow) -> Request:
    request = flow.next_request()
    assert request is not None
    return request


def answer(flow: Flow, response: Answer) -> list[Event]:
    """Report the whole response to the request that was handed out."""
    status, headers, body = response
    return flow.receive_head(status, headers) + flow.receive_data(body) + flow.receive_eof()


def run(flow: Flow, *responses: Answer) -> tuple[list[Request], list[Event]]:
    """All requests and events, with these responses."""
    requests, events = [], []
    for response in responses:
        requests.append(take(flow))
        events += answer(flow, response)
    assert flow.next_request() is None
    return requests, events


def header(request: Request, name: str) -> str | None:
    values = [value for key, value in request.headers if key.lower() == name.lower()]
    assert len(values) < 2
    return values[0] if values else None


def routes(requests: list[Request]) -> list[str]:
    return [request.url.removeprefix("https://site.example/wp-json") for request in requests]


START = "/mwai/v1/start_session"
CHAT = "/mwai-ui/v1/chats/submit"

NO_SESSION = Broken(Reason.MALFORMED, "start_session: no nonce and session id that could be sent back", in_session=True)

# Ways in which start_session can fail: the response, what follows (None: a clean end), the outcome.
FAILED: dict[str, tuple[Answer | None, Reason | None, Broken]] = {
    "an exception": (
        (500, [], b'{"success":false,"message":"Boom."}'),
        None,
        Broken(Reason.REFUSED, "start_session: Boom.", 500, raw='{"success":false,"message":"Boom."}'),
    ),
    "a bad nonce": (
        (403, [], EXPIRED.encode()),
        None,
        replace(refusal(403, EXPIRED), detail="start_session: Cookie check failed"),
    ),
    "forbidden": (
        (401, [], FORBIDDEN.encode()),
        None,
        replace(refusal(401, FORBIDDEN), detail="start_session: Not allowed."),
    ),
    "no such route, under another status": (
        (403, [], NO_ROUTE.encode()),
        None,
        replace(refusal(403, NO_ROUTE), detail="start_session: No route was found."),
    ),
    "no such route, and the connection fails": (
        (404, [], NO_ROUTE.encode()),
        Reason.LOST,
        replace(refusal(404, NO_ROUTE), detail="start_session: No route was found."),
    ),
    "404 with another code": (
        (404, [], b'{"code":"rest_disabled","message":"Off."}'),
        None,
        Broken(
            Reason.REFUSED, "start_session: Off.", 404, "rest_disabled", raw='{"code":"rest_disabled","message":"Off."}'
        ),
    ),
    "404 cut": (
        (404, [], NO_ROUTE[:-1].encode()),
        None,
        Broken(Reason.REFUSED, f"start_session: {NO_ROUTE[:-1]}", 404, raw=NO_ROUTE[:-1]),
    ),
    "busy": (
        (429, [("Retry-After", "30")], b""),
        None,
        Broken(Reason.REFUSED, "start_session: status 429 and no text", 429, retry_after=30),
    ),
    "a redirect": (
        (301, [("Location", "https://www.site.example/")], b""),
        None,
        Broken(Reason.REFUSED, "start_session: redirected to https://www.site.example/, which is not followed", 301),
    ),
    "a firewall's page": (
        (403, [], PAGE),
        None,
        Broken(Reason.REFUSED, "start_session: My site", 403, raw=PAGE.decode()),
    ),
    "the front page": (
        (200, [], PAGE),
        None,
        Broken(
            Reason.MALFORMED,
            f"start_session: a web page, not a chat answer: My site{PLAIN_HINT}",
            raw=PAGE.decode(),
        ),
    ),
    "a page with 404": (
        (404, [], b"\n" + PAGE),
        None,
        Broken(Reason.REFUSED, f"start_session: My site{PLAIN_HINT}", 404, raw=PAGE.decode()),
    ),
    "an error": (
        (200, [], b'{"success":false,"message":"No."}'),
        None,
        Broken(Reason.REMOTE, "start_session: No.", raw='{"success":false,"message":"No."}'),
    ),
    "an object of something else": (
        (200, [], b'{"code":"x","message":"No."}'),
        None,
        Broken(
            Reason.MALFORMED,
            "start_session: a JSON object without success: No.",
            code="x",
            raw='{"code":"x","message":"No."}',
        ),
    ),
    "no JSON": ((200, [], b"{x"), None, Broken(Reason.MALFORMED, "start_session: a body that is not JSON: {x")),
    "unfinished JSON": (
        (200, [], OPENED[:-1]),
        None,
        Broken(Reason.TRUNCATED, "start_session: the answer breaks off inside its JSON object"),
    ),
    "JSON that fails": ((200, [], OPENED[:-1]), Reason.LOST, Broken(Reason.TRUNCATED, "start_session: what happened")),
    "JSON too late": ((200, [], OPENED[:-1]), Reason.TIMEOUT, Broken(Reason.TIMEOUT, "start_session: what happened")),
    "nothing": (
        (200, [], b""),
        None,
        Broken(Reason.TRUNCATED, "start_session: the answer ended without its end event"),
    ),
    "a coding": (
        (200, [("Content-Encoding", "gzip")], OPENED),
        None,
        Broken(Reason.MALFORMED, "start_session: the body is coded as gzip, though identity was asked for"),
    ),
    "an upgrade": (
        (101, [], b""),
        None,
        Broken(Reason.TRUNCATED, "start_session: status 101: the server switched protocols, unasked"),
    ),
    "both framings": (
        (200, [("Content-Length", "5"), ("Transfer-Encoding", "chunked")], OPENED),
        None,
        Broken(Reason.TRUNCATED, "start_session: Content-Length together with Transfer-Encoding"),
    ),
    "too many headers": (
        (200, [("a", "b")] * 129, OPENED),
        None,
        Broken(Reason.TOO_LARGE, "start_session: more than 128 header fields (Limits.headers)", limit="headers"),
    ),
    "a stream with a session in it": (
        (200, [], b'data: {"type":"end","data":' + json.dumps(OPENED.decode()).encode() + b"}\n\n"),
        None,
        NO_SESSION,
    ),
    "a stream without an end": (
        (200, [], LIVE),
        None,
        Broken(Reason.TRUNCATED, "start_session: the answer ended without its end event"),
    ),
    "a stream of pieces and an error": (
        (200, [], LIVE + b'data: {"type":"error","data":"No."}\n\n'),
        None,
        Broken(Reason.REMOTE, "start_session: No."),
    ),
    "no nonce": ((200, [], b'{"success":true,"sessionId":"a"}'), None, NO_SESSION),
    "no connection": (None, Reason.LOST, Broken(Reason.LOST, "start_session: what happened")),
    "no answer in time": (None, Reason.TIMEOUT, Broken(Reason.TIMEOUT, "start_session: what happened")),
    "no proxy": (None, Reason.PROXY, Broken(Reason.PROXY, "start_session: what happened")),
    "a close": (None, None, Broken(Reason.LOST, "start_session: the connection was closed before any answer")),
}


def fail(flow: Flow, response: Answer | None, failure: Reason | None) -> list[Event]:
    """The events that follow once the request was handed out."""
    events: list[Event] = []
    if response is not None:
        status, headers, body = response
        events += flow.receive_head(status, headers)
        if flow.awaiting is not None:
            events += flow.receive_data(body)
    return events + (flow.receive_eof() if failure is None else flow.receive_failure("what happened", failure))


RENEWED: Answer = (200, [], b'{"success":true,"sessionId":"second","restNonce":"fresh"}')
STALE: list[Answer] = [
    (401, JSON, FORBIDDEN.encode()),
    (403, JSON, EXPIRED.encode()),
    (403, JSON, FORBIDDEN.encode()),
]
STALE_IDS = ["missing", "expired", "missing for a member"]


def refused_flow(*, limits: Limits = Limits()) -> Flow:
    """A flow whose question was refused for its nonce. start_session is due."""
    flow = Flow(SITE, ASK, session=GIVEN, limits=limits)
    take(flow)
    assert answer(flow, STALE[1]) == []
    return flow


def ignores_everything(flow: Flow) -> bool:
    events = [*flow.receive_head(200, []), *flow.receive_head(101, []), *flow.receive_data(b"x"), *flow.receive_eof()]
    events += [*flow.receive_failure("late"), *flow.use_session(GIVEN), *flow.use_session(None), *flow.close()]
    return (events, flow.next_request(), flow.awaiting) == ([], None, None)


TOKEN = '{"success":true,"reply":"Hi","new_token":"fresh"}'


def seen(flow: Flow) -> tuple[Awaiting | None, bool, bool]:
    return flow.awaiting, flow.submit_started, flow.is_ready


BEFORE: dict[State, list[tuple[str, Any]]] = {
    State.SESSION: [],
    State.SESSION_HEAD: [("next_request", ())],
    State.SESSION_BODY: [("next_request", ()), ("receive_head", (200, []))],
    State.SUBMIT: [("next_request", ()), ("receive_head", (200, [])), ("receive_data", (OPENED,)), ("receive_eof", ())],
    State.SUBMIT_HEAD: [("next_request", ())],
    State.SUBMIT_BODY: [("next_request", ()), ("receive_head", (200, []))],
    State.PROOF: [("use_session", (MEMBER,))],
    State.PROOF_HEAD: [("use_session", (MEMBER,)), ("next_request", ())],
    State.PROOF_BODY: [("use_session", (MEMBER,)), ("next_request", ()), ("receive_head", (200, []))],
    State.DONE: [("receive_failure", ("lost",))],
}
for _state in (State.SUBMIT_HEAD, State.SUBMIT_BODY):
    BEFORE[_state] = BEFORE[State.SUBMIT] + BEFORE[_state]


def call(machine: Any, name: str, arguments: Any) -> Any:
    return getattr(machine, name)(*arguments)


def in_state(state: State) -> Flow:
    flow = Flow(SITE, ASK)
    for name, arguments in BEFORE[state]:
        call(flow, name, arguments)
    assert repr(flow) == f"<Flow to https://site.example {state}>"
    return flow
