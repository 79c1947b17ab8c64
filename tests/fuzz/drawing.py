"""Draw heads, plans of calls, and requests from an input."""

from typing import Any

import h11

from opchat_proto import (
    Endpoint,
    Event,
    Flow,
    OutgoingFile,
    Query,
    Question,
    Reason,
    ReplyDecoder,
    Request,
    Response,
    Session,
    Site,
    Submit,
    Upload,
    Visit,
)
from tests import cases
from tests.fuzz.oracles import SECRET, Choices

SITE = Site(b"secret of the site")
NOW = cases.NOW
QUESTION = Submit(new_message="Hi?")
UPLOAD = Upload(name="a.txt", data=b"Hi?", boundary="edge")
QUERY = Query("Hi?", "sales")
OWNER = Session.from_token(SECRET)
MOST_CALLS = 200
_SOMETIMES = 1 / 500  # how often an expensive check is made


def often(choices: Choices, size: int) -> bool:
    return size > 0 and choices.random.random() < _SOMETIMES


STATUSES = (200, 200, 200, 200, 200, 200, 403, 401, 404, 302, 500, 503, 429, 204, 599, 0, -1, 10**9)
FIELDS = (
    ("Content-Type", "text/html"),
    ("Content-Encoding", "gzip"),
    ("content-encoding", "identity, "),
    ("Content-Length", "5"),
    ("Transfer-Encoding", "chunked"),
    ("Set-Cookie", "a=b, mwai_session_id=fresh; path=/"),
    ("Set-Cookie", "mwai_session_id=a b"),
    ("Set-Cookie", "mwai_session_id=deleted; expires=Thu, 01-Jan-1970 00:00:01 GMT; Max-Age=0"),
    (
        "Set-Cookie",
        "mwai_session_id=fresh; expires=Wed, 21-Oct-15 07:28:00 GMT; Domain=.example; Path=/wp-json; secure",
    ),
    ("Link", '</a,b>; rel=next, </wp-json/>; title="a, b"; REL="x HTTPS://API.W.ORG/"'),
    ("Link", '<https://[/>; rel="https://api.w.org/"'),
    ("X-WP-Nonce", "fresh"),
    ("X-WP-Nonce", "a\r\nb"),
    ("Retry-After", "7"),
    ("Retry-After", "Wed, 21 Oct 2015 07:28:00 GMT"),
    ("Date", "Wed, 21 Oct 2015 07:27:00 GMT"),
    ("Location", "/caf\udce9"),
)


def draw_head(choices: Choices) -> tuple[int, list[tuple[str, str]]]:
    status = choices.one_of(STATUSES)
    return status, [choices.one_of(FIELDS) for _ in range(choices.number(4))]


def end_body(machine: ReplyDecoder | Flow, how: int) -> list[Event]:
    if how == 0:
        return machine.receive_eof()
    return machine.receive_failure("cut", [Reason.LOST, Reason.TIMEOUT][how - 1])


SESSIONS: tuple[Session | None, ...] = (
    None,
    Session(),
    Session(SECRET, f"{SECRET}2", f"mwai_session_id={SECRET}"),
    Session(SECRET, None, f"wordpress_logged_in_1={SECRET}"),
    Session(SECRET, None, f"wordpress_logged_in_1={SECRET}", member="alice"),
    Session(None, None, f"wordpress_logged_in_1={SECRET}"),
)

ENDPOINTS = tuple(
    map(Endpoint.parse, ("http://site.example", "https://site.example/blog", "http://[::1]:8000/?rest_route="))
)
Plan = list[tuple[Any, ...]]


def draw_plan(choices: Choices) -> Plan:
    """The actions in order. By default, the ordinary exchange."""
    strings = [string for string in choices.strings if string]
    plan: Plan = []
    for _ in range(60):
        match choices.number(16) if choices else 0:
            case 8:
                plan.append(("data", strings[choices.number(len(strings))] if strings else b"x"))
            case 9:
                plan.append(("eof",))
            case 10:
                plan.append(("failure", choices.one_of(tuple(Reason))))
            case 11:
                plan.append(("head", *draw_head(choices)))
            case 12:
                plan.append(("request",))
            case 13:
                plan.append(("interim", choices.one_of((100, 103, 101, 199))))
            case 14:
                plan.append(("close",))
            case 15:
                plan.append(("step",))
            case how:
                head = draw_head(choices)
                plan.append(("answer", *head, strings.pop(0) if strings else None, how % 3 if choices else 0))
        if not choices and not strings:
            break
    return plan


def as_server(request: Request) -> Response | Submit | Upload | Query | Visit:
    """A server's view of a request: a session, a question, a file, or a page to be shown."""
    if request.target.endswith("/simpleChatbotQuery"):
        assert request.body == QUERY.encode()
        return QUERY
    if request.method == "GET":
        assert not request.body
        return Visit(request.url)
    if request.target.endswith("/files/upload"):
        assert request.body == UPLOAD.encode()
        return UPLOAD
    fields = [(name, value) for name, value in request.headers if name.lower() != "x-wp-nonce"]
    if "start_session" in request.target:
        assert len(fields) == len(request.headers), "a nonce goes to start_session"
    outcome = SITE.receive_request(
        request.method, request.target, [*fields, ("X-WP-Nonce", SITE.nonce(NOW))], request.body, now=NOW
    )
    assert not isinstance(outcome, OutgoingFile), "the site takes no uploads"
    return outcome.submit if isinstance(outcome, Question) else outcome


PROXIES: tuple[str | None, ...] = (
    None,
    None,
    f"http://user:{SECRET}@proxy.example:3128",
    f"https://user:{SECRET}@proxy.example",
    "socks5://proxy.example",
    f"socks5h://user:{SECRET}@[::1]:9",
)


def as_bytes(data: bytes) -> Response | Submit | Upload | Query | Visit:
    """How h11 and a server read these bytes: as one whole request."""
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(data)
    request = reader.next_event()
    assert isinstance(request, h11.Request)
    body = b""
    while isinstance(event := reader.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert reader.trailing_data == (b"", False)
    fields = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers)
    names = [name for name, _ in fields]
    assert names.count("host") == names.count("content-length") == 1
    target = request.target.decode()
    url = target if target.startswith("http://") else f"http://x{target}"
    return as_server(Request(request.method.decode(), url, fields, body))


WORDS = (
    *(
        "role",
        "content",
        "user",
        "assistant",
        "system",
        "messages",
        "session",
        "nonce",
        "session_id",
        "cookie",
        "origin",
    ),
    *("chat_id", "bot_id", "custom_id", "context_id", "previous_response_id", "Hi?", "", "é", "\ud83d", " ", "0"),
)
