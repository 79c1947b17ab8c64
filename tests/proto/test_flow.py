"""One question from its first request to its last event: requests, sessions, the second try, the rules of order."""

import json
import pickle
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opchat_proto import (
    Awaiting,
    Broken,
    End,
    Endpoint,
    Event,
    Flow,
    Limits,
    Live,
    LocalProtocolError,
    Reason,
    ReplyDecoder,
    Request,
    Session,
    Submit,
    __version__,
)
from opchat_proto._flow import TABLE, Input, State  # the table itself is not public, and is walked over here
from tests.proto.cuts import byte_by_byte, clones, every_cut, random_cuts

SITE = Endpoint.parse("https://site.example")
ASK = Submit(new_message="Où ?", chat_id="k3v9x0q2ab")
GIVEN = Session("0b2576d756", "6b02fc304cdb0", "mwai_session_id=6b02fc304cdb0")
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
    """What a WordPress error under this status is judged to be, in answer to a question."""
    error = json.loads(text)
    return Broken(Reason.REFUSED, error["message"], status, error["code"], raw=text, asked=True)


def take(flow: Flow) -> Request:
    request = flow.next_request()
    assert request is not None
    return request


def answer(flow: Flow, response: Answer) -> list[Event]:
    """The whole response to the request that was handed out."""
    status, headers, body = response
    return flow.receive_head(status, headers) + flow.receive_data(body) + flow.receive_eof()


def run(flow: Flow, *responses: Answer) -> tuple[list[Request], list[Event]]:
    """All requests and all events, with these responses."""
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


# ------------------------------------------------------------------------------ requests


def common(accept: str, body: bytes) -> tuple[tuple[str, str], ...]:
    return (
        ("Host", "site.example"),
        ("User-Agent", f"opchat/{__version__}"),
        ("Accept", accept),
        ("Accept-Encoding", "identity"),
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Origin", "https://site.example"),
        ("Referer", "https://site.example/"),
    )


def test_start_session_is_asked_without_a_body_a_nonce_and_a_cookie() -> None:
    request = Request("POST", f"https://site.example/wp-json{START}", common("application/json", b""), b"")
    assert Flow(SITE, ASK).next_request() == request
    assert Flow(SITE, None).next_request() == request


@pytest.mark.parametrize(("stream", "accept"), [(True, "text/event-stream"), (False, "application/json")])
def test_submit_carries_question_nonce_session_and_cookie(stream: bool, accept: str) -> None:
    submit = replace(ASK, stream=stream)
    body = submit.encode("6b02fc304cdb0")
    assert json.loads(body)["session"] == "6b02fc304cdb0"
    headers = (
        *common(accept, body),
        ("X-WP-Nonce", "0b2576d756"),
        ("Cookie", "mwai_session_id=6b02fc304cdb0"),
    )
    assert Flow(SITE, submit, session=GIVEN).next_request() == Request(
        "POST", f"https://site.example/wp-json{CHAT}", headers, body
    )


def test_an_empty_session_submits_at_once_without_nonce_and_cookie() -> None:
    flow = Flow(SITE, ASK, session=Session())
    body = ASK.encode(None)
    assert flow.session == Session()
    assert run(flow, REPLY) == (
        [Request("POST", f"https://site.example/wp-json{CHAT}", common("text/event-stream", body), body)],
        REPLIED,
    )


@pytest.mark.parametrize(
    ("address", "origin", "target", "host", "referer"),
    [
        ("http://site.example", "http://site.example", "/wp-json", "site.example", "http://site.example/"),
        ("127.0.0.1:8000", "http://127.0.0.1:8000", "/wp-json", "127.0.0.1:8000", "http://127.0.0.1:8000/"),
        ("http://[::1]:8000", "http://[::1]:8000", "/wp-json", "[::1]:8000", "http://[::1]:8000/"),
        (
            "https://site.example/blog/index.php?rest_route=",
            "https://site.example",
            "/blog/index.php?rest_route=",
            "site.example",
            "https://site.example/blog/",
        ),
    ],
)
def test_requests_go_to_the_sites_rest_root(address: str, origin: str, target: str, host: str, referer: str) -> None:
    flow = Flow(Endpoint.parse(address), ASK)
    requests, events = run(flow, SESSION, REPLY)
    assert events == REPLIED
    assert [request.target for request in requests] == [target + START, target + CHAT]
    for request in requests:
        assert [header(request, name) for name in ("Host", "Origin", "Referer")] == [host, origin, referer]


@pytest.mark.parametrize("as_mapping", [False, True])
def test_extra_headers_go_with_every_request_and_replace_ours(as_mapping: bool) -> None:
    extra = (("X-Extra", "a"), ("user-agent", "me"), ("ACCEPT", "*/*"), ("Referer", ""), ("x-last", "é\tb"))
    flow = Flow(SITE, ASK, headers=dict(extra) if as_mapping else iter(extra))
    requests, _ = run(flow, SESSION, REPLY)
    for request in requests:
        ours = common("", request.body)
        assert [pair for pair in request.headers if pair[0] not in ("X-WP-Nonce", "Cookie")] == [
            *(pair for pair in ours if pair[0] not in ("User-Agent", "Accept", "Referer")),
            *extra,
        ]
    assert [header(request, "X-WP-Nonce") for request in requests] == [None, "0b2576d756"]


def test_an_extra_header_may_come_twice() -> None:
    extra = [("Accept-Language", "fr"), ("accept-language", "en")]
    assert take(Flow(SITE, ASK, headers=extra)).headers[-2:] == tuple(extra)


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "content-length",
        "Transfer-Encoding",
        "CONNECTION",
        "Expect",
        "Accept-Encoding",
        "Cookie",
        "X-WP-Nonce",
        "x-wp-nonce",
        "Proxy-Authorization",
    ],
)
def test_headers_that_are_not_the_callers_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"^headers: {name} is not yours to set here$"):
        Flow(SITE, ASK, headers={name: "a"})
    with pytest.raises(ValueError, match=f"^headers: {name} is not yours to set here$"):
        Flow(SITE, None, headers=[("X-Fine", "a"), (name, "a")])


@pytest.mark.parametrize("bad", ["\r", "\n", "\0", "\r\n", "\x7f", "\u20ac", "\ud800"])
@pytest.mark.parametrize("place", ["{}", "{}a", "a{}", "a{}b"])
def test_headers_that_break_out_of_their_line_are_refused(bad: str, place: str) -> None:
    text = place.format(bad)
    with pytest.raises(ValueError, match=r"^headers: expected a field name"):
        Flow(SITE, ASK, headers=[(text, "a")])
    with pytest.raises(ValueError, match=r"^headers: X-A: expected a value"):
        Flow(SITE, ASK, headers=[("X-A", text)])


@pytest.mark.parametrize("name", ["", " ", "a b", "a:", "é"])
def test_headers_without_a_name_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"^headers: expected a field name"):
        Flow(SITE, ASK, headers=[(name, "a")])


@pytest.mark.parametrize("value", [" a", "a ", "\ta", " "])
def test_headers_with_blanks_at_their_ends_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"^headers: X-A: expected a value"):
        Flow(SITE, ASK, headers=[("X-A", value)])


def test_the_size_of_a_question_is_exact_in_bytes() -> None:
    size = len(ASK.encode(GIVEN.session_id))
    assert size == len(ASK.encode(GIVEN.session_id).decode()) + 1  # the ù
    flow = Flow(SITE, ASK, session=GIVEN, limits=Limits(request_bytes=size))
    assert len(take(flow).body) == size
    with pytest.raises(ValueError, match=f"^submit: expected at most {size - 1} bytes of JSON, got {size}$"):
        Flow(SITE, ASK, session=GIVEN, limits=Limits(request_bytes=size - 1))
    for session in (None, Session()):
        assert Flow(SITE, ASK, session=session, limits=Limits(request_bytes=len(ASK.encode()))).is_ready
        with pytest.raises(ValueError, match=r"^submit: expected at most"):
            Flow(SITE, ASK, session=session, limits=Limits(request_bytes=len(ASK.encode()) - 1))
    assert Flow(SITE, None, limits=Limits(request_bytes=1)).is_ready


def test_a_question_that_a_later_session_id_makes_too_large_is_told_so_by_the_reply() -> None:
    size = len(ASK.encode("6b02fc304cdb0"))
    for most, last in ((size, REPLIED[-1]), (size - 1, None)):
        detail = f"more than {most} bytes in the question (Limits.request_bytes)"
        too_large = Broken(Reason.TOO_LARGE, detail, limit="request_bytes")
        limits = Limits(request_bytes=most)

        flow = Flow(SITE, ASK, limits=limits)
        requests, events = run(flow, SESSION, *([REPLY] if last else []))
        assert (routes(requests), events[-1]) == ([START, CHAT] if last else [START], last or too_large)
        assert (flow.session, flow.submit_started) == (GIVEN, last is not None)

        flow = Flow(SITE, ASK, limits=limits)
        assert flow.use_session(GIVEN) == ([] if last else [too_large])
        assert flow.session == GIVEN
        assert last or ignores_everything(flow)

        flow = Flow(SITE, ASK, session=Session("old"), limits=limits)
        requests, events = run(flow, STALE[1], SESSION, *([REPLY] if last else []))
        assert routes(requests) == [CHAT, START, CHAT][: 3 if last else 2]
        assert events[-1] == (last or replace(too_large, asked=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((b"https://site.example", ASK), "endpoint: expected .*, got bytes"),
        ((None, ASK), "endpoint: expected .*, got NoneType"),
        ((SITE, "Où ?"), "submit: expected .*, got str"),
        ((SITE, {"new_message": "Où ?"}), "submit: expected .*, got dict"),
        ((SITE, [{"role": "user", "content": "Où ?"}]), "submit: expected .*, got list"),
        ((SITE, ASK, "0b2576d756"), "session: expected .*, got str"),
    ],
)
def test_wrong_types_are_refused_by_name(arguments: Any, message: str) -> None:
    endpoint, submit, *session = arguments
    with pytest.raises(TypeError, match=f"^{message}$"):
        Flow(endpoint, submit, session=session[0] if session else None)


@pytest.mark.parametrize(
    "options",
    [
        {"session": "0b2576d756"},
        {"session": ("0b2576d756", None)},
        {"limits": None},
        {"limits": {"restarts": 0}},
        {"headers": "X-A: b"},
        {"headers": b"X-A: b"},
        {"headers": 5},
        {"headers": None},
        {"headers": ["ab"]},
        {"headers": [("X-A", 5)]},
        {"headers": {"X-A": b"b"}},
        {"headers": [("X-A", "b", "c")]},
    ],
)
def test_options_of_wrong_types_are_refused(options: Any) -> None:
    with pytest.raises(TypeError):
        Flow(SITE, ASK, **options)


def test_a_session_without_a_question_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^session: there is one already, so nothing is to be done without a submit$"):
        Flow(SITE, None, session=GIVEN)


def test_what_a_flow_was_made_with_can_be_read() -> None:
    limits = Limits(headers=7)
    flow = Flow(SITE, ASK, limits=limits)
    assert (flow.endpoint, flow.limits) == (SITE, limits)


def test_an_endpoint_may_be_given_as_text() -> None:
    assert Flow("https://site.example", ASK).endpoint == SITE
    with pytest.raises(ValueError, match=r"^'ftp://site\.example': expected"):
        Flow("ftp://site.example", ASK)


# ------------------------------------------------------------------------------ sessions


def test_a_session_is_started_first_and_used() -> None:
    flow = Flow(SITE, ASK)
    assert flow.session is None
    requests, events = run(flow, SESSION, REPLY)
    assert events == REPLIED
    assert routes(requests) == [START, CHAT]
    assert requests[1] == Flow(SITE, ASK, session=GIVEN).next_request()
    assert flow.session == GIVEN
    assert flow.session is not None
    assert flow.session.origin == "https://site.example"


def test_a_session_can_be_started_alone() -> None:
    flow = Flow(SITE, None)
    requests, events = run(flow, SESSION)
    assert (routes(requests), events) == ([START], [End(None)])
    assert flow.session == GIVEN
    assert flow.submit_started is False
    assert flow.awaiting is None


def test_the_answer_of_start_session_is_the_same_however_it_is_cut() -> None:
    for body in (OPENED, b"\xef\xbb\xbf\n" + OPENED + b"\n<!-- cached -->"):
        for pieces in every_cut(body):
            flow = Flow(SITE, None)
            take(flow)
            assert flow.receive_head(200, []) == []
            assert [event for piece in pieces for event in flow.receive_data(piece)] == []
            assert flow.receive_eof() == [End(None)]
            assert flow.session == Session("0b2576d756", "6b02fc304cdb0")


def test_a_session_that_is_whole_counts_although_the_connection_fails() -> None:
    flow = Flow(SITE, ASK)
    take(flow)
    assert flow.receive_head(200, []) + flow.receive_data(OPENED) == []
    assert flow.receive_failure("reset") == []
    assert (flow.is_ready, flow.awaiting) == (True, Awaiting.FIRST_EVENT)
    assert run(flow, REPLY)[1] == REPLIED


@pytest.mark.parametrize("given_id", ['"N/A"', r'"N\/A"', '""', "null", "false"])
def test_a_session_id_that_says_there_is_none_is_none(given_id: str) -> None:
    body = f'{{"success":true,"sessionId":{given_id},"restNonce":"0b2576d756"}}'.encode()
    flow = Flow(SITE, ASK)
    requests, _ = run(flow, (200, [], body), REPLY)
    assert flow.session == Session("0b2576d756")
    assert json.loads(requests[1].body)["session"] is None


def test_a_session_id_that_is_left_out_is_none() -> None:
    flow = Flow(SITE, None)
    assert run(flow, (200, [], b'{"success":true,"restNonce":"0b2576d756"}'))[1] == [End(None)]
    assert flow.session == Session("0b2576d756")


def test_the_newer_of_two_nonces_is_taken() -> None:
    flow = Flow(SITE, None)
    body = b'{"success":true,"restNonce":"old","new_token":"new"}'
    assert run(flow, (200, [("X-WP-Nonce", "header")], body))[1] == [End(None)]
    assert flow.session == Session("new")


def test_a_site_without_start_session_is_asked_without_a_nonce() -> None:
    old = (404, [("X-WP-Nonce", "x"), ("Set-Cookie", "mwai_session_id=abc")], NO_ROUTE.encode())
    flow = Flow(SITE, ASK)
    requests, events = run(flow, old, REPLY)
    assert events == REPLIED
    assert routes(requests) == [START, CHAT]
    assert (header(requests[1], "X-WP-Nonce"), header(requests[1], "Cookie")) == (None, "mwai_session_id=abc")
    assert flow.session == Session(cookie="mwai_session_id=abc")
    flow = Flow(SITE, None)
    assert run(flow, old)[1] == [End(None)]
    assert flow.session == Session(cookie="mwai_session_id=abc")


ROOT_FIELD = ("Link", '<https://site.example/blog/wp-json/>; rel="https://api.w.org/"')
IN_PAGE = "; the plugin has no start_session: for versions 2.0.1 to 2.4.3 the nonce stands in the site's page"
OTHER_ROOT = "; versions up to 3.0.2 know start_session only under another root: {}"
NAMED = "; the site names another REST root: https://site.example/blog/wp-json/"
BAD_NONCE: list[tuple[int, str]] = [(401, FORBIDDEN), (403, FORBIDDEN), (403, EXPIRED)]


@pytest.mark.parametrize(("status", "error"), BAD_NONCE)
@pytest.mark.parametrize("headers", [[], [ROOT_FIELD]], ids=["alone", "with a Link"])
@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("https://site.example", IN_PAGE),
        ("https://site.example/index.php?rest_route=", IN_PAGE),
        ("https://site.example/?rest_route=", OTHER_ROOT.format("https://site.example/index.php?rest_route=")),
        ("http://[::1]:8000/a/?b=c&rest_route=/", OTHER_ROOT.format("http://[::1]:8000/a/index.php?b=c&rest_route=")),
        ("https://site.example/?b=?&rest_route=", OTHER_ROOT.format("https://site.example/index.php?b=?&rest_route=")),
    ],
)
def test_a_question_without_a_nonce_that_is_refused_for_it_says_what_can_be_done(
    address: str, why: str, headers: list[tuple[str, str]], status: int, error: str
) -> None:
    flow = Flow(address, ASK)
    requests, events = run(flow, (404, headers, NO_ROUTE.encode()), (status, [], error.encode()))
    assert len(requests) == 2
    refused = refusal(status, error)
    assert events == [replace(refused, detail=refused.detail + why + (NAMED if headers else ""))]
    assert flow.session == Session()


@pytest.mark.parametrize(("status", "error"), BAD_NONCE)
def test_so_does_one_that_was_given_an_empty_session(status: int, error: str) -> None:
    flow = Flow(SITE, ASK, session=Session())
    requests, events = run(flow, (status, [], error.encode()), (404, [ROOT_FIELD], NO_ROUTE.encode()))
    assert routes(requests) == [CHAT, START]
    refused = refusal(status, error)
    assert events == [replace(refused, detail=refused.detail + IN_PAGE + NAMED)]


def test_another_refusal_of_a_question_without_a_nonce_is_its_own() -> None:
    for status, body, detail in ((500, b"Down", "Down"), (403, b'{"success":false,"message":"No."}', "No.")):
        _, (broken,) = run(Flow(SITE, ASK), (404, [ROOT_FIELD], NO_ROUTE.encode()), (status, [], body))
        assert isinstance(broken, Broken)
        assert (broken.status, broken.detail) == (status, detail)


@pytest.mark.parametrize(
    ("link", "root"),
    [
        (ROOT_FIELD[1], "https://site.example/blog/wp-json/"),
        ('<https://site.example/index.php?rest_route=/>; rel="https://api.w.org/"',
         "https://site.example/index.php?rest_route=/"),
        ('</a>; rel=next, </b/>; REL="x HTTPS://API.W.ORG/"', "https://site.example/b/"),
        ('<https://site.example/wp-json/>; rel="https://api.w.org/"', None),
        ('<http://site.example/wp-json>; rel="https://api.w.org/"', None),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    ("status", "body", "detail"),
    [
        (200, PAGE, "a page, not an answer of the chat: My site"),
        (404, PAGE, "My site"),
        (200, b'{"success":true}', "no nonce and session id that could be sent back"),
        (401, FORBIDDEN.encode(), "Not allowed."),
        (500, b"", "status 500 and no text"),
        (200, b"", "the answer ended without its end event"),
    ],
)
def test_the_root_that_the_site_names_is_named_where_no_session_comes(
    status: int, body: bytes, detail: str, link: str, root: str | None
) -> None:
    (broken,) = run(Flow(SITE, ASK), (status, [("LINK", link)], body))[1]
    assert isinstance(broken, Broken)
    assert broken.detail == f"start_session: {detail}{f'; the site names another REST root: {root}' if root else ''}"
    assert broken.in_session


def test_the_first_refusal_stays_as_it_was_whatever_the_second_start_session_names() -> None:
    _, events = run(Flow(SITE, ASK, session=GIVEN), STALE[0], (500, [ROOT_FIELD], b"Down"))
    assert events == [refusal(401, FORBIDDEN)]


NO_SESSION = Broken(Reason.MALFORMED, "start_session: no nonce and session id that could be sent back", in_session=True)

# How start_session can fail: the response, what happens after it (None: it ends well), the outcome.
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
            f"start_session: a page, not an answer of the chat: My site{PLAIN_HINT}",
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
    "no JSON": ((200, [], b"{x"), None, Broken(Reason.MALFORMED, "start_session: a body that is no JSON: {x")),
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
    """What comes after the request was handed out."""
    events: list[Event] = []
    if response is not None:
        status, headers, body = response
        events += flow.receive_head(status, headers)
        if flow.awaiting is not None:
            events += flow.receive_data(body)
    return events + (flow.receive_eof() if failure is None else flow.receive_failure("what happened", failure))


@pytest.mark.parametrize(("response", "failure", "expected"), FAILED.values(), ids=FAILED)
@pytest.mark.parametrize("submit", [ASK, None], ids=["question", "session alone"])
def test_any_other_answer_of_start_session_ends_the_reply(
    submit: Submit | None, response: Answer | None, failure: Reason | None, expected: Broken
) -> None:
    flow = Flow(SITE, submit)
    take(flow)
    assert fail(flow, response, failure) == [replace(expected, in_session=True, asked=False)]
    assert (flow.next_request(), flow.awaiting, flow.session, flow.submit_started) == (None, None, None, False)


@pytest.mark.parametrize(
    "bad", ["", " ", "a b", "a,b", "a;b", "é", "a\n", "\u0000", "x" * 257, 5, True, None, ["a"], {}]
)
def test_a_nonce_that_could_not_be_sent_back_is_malformed(bad: object) -> None:
    for keys in ({"restNonce": bad}, {"restNonce": bad, "new_token": bad}):
        body = json.dumps({"success": True, "sessionId": "a", **keys}).encode()
        assert run(Flow(SITE, ASK), (200, [], body))[1] == [NO_SESSION]
    body = json.dumps({"success": True, "restNonce": "fine", "new_token": bad}).encode()
    flow = Flow(SITE, None)
    assert run(flow, (200, [], body))[1] == [End(None)]
    assert flow.session == Session("fine")


@pytest.mark.parametrize("bad", [" ", "a b", "a,b", "a;b", "é", "a\r\nb", "x" * 257, True, ["a"], {}, 1.5])
def test_a_session_id_that_could_not_be_sent_back_is_malformed(bad: object) -> None:
    body = json.dumps({"success": True, "sessionId": bad, "restNonce": "fine"}).encode()
    assert run(Flow(SITE, ASK), (200, [], body))[1] == [NO_SESSION]


@pytest.mark.parametrize("fine", ["!", "~", "x" * 256, "a/b=c", 6812345678901, 0, -1])
def test_a_session_id_that_can_be_sent_back_is_taken(fine: str | int) -> None:
    flow = Flow(SITE, ASK)
    requests, _ = run(
        flow, (200, [], json.dumps({"success": True, "sessionId": fine, "restNonce": "n"}).encode()), REPLY
    )
    assert json.loads(requests[1].body)["session"] == str(fine)


@pytest.mark.parametrize(
    ("address", "hint"),
    [
        ("https://site.example/", PLAIN_HINT),
        ("https://site.example/blog", PLAIN_HINT.replace("/index.php", "/blog/index.php")),
        ("https://site.example/blog/wp-json", PLAIN_HINT.replace("/index.php", "/blog/index.php")),
        ("127.0.0.1:8000", PLAIN_HINT.replace("https://site.example", "http://127.0.0.1:8000")),
        ("https://site.example/?rest_route=", ""),
        ("https://site.example/index.php?rest_route=/", ""),
    ],
)
def test_a_page_in_place_of_a_session_names_the_root_that_may_be_meant(address: str, hint: str) -> None:
    for status, detail in [(200, "a page, not an answer of the chat: My site"), (404, "My site")]:
        flow = Flow(Endpoint.parse(address), ASK)
        take(flow)
        (broken,) = answer(flow, (status, [], PAGE))
        assert isinstance(broken, Broken)
        assert broken.detail == f"start_session: {detail}{hint}"


def test_a_page_in_place_of_an_answer_to_the_question_gets_no_hint() -> None:
    (broken,) = run(Flow(SITE, ASK, session=GIVEN), (200, [], PAGE))[1]
    detail = "a page, not an answer of the chat: My site"
    assert broken == Broken(Reason.MALFORMED, detail, raw=PAGE.decode(), asked=True)


# ------------------------------------------------------------------------------ the second try


RENEWED: Answer = (200, [], b'{"success":true,"sessionId":"second","restNonce":"fresh"}')
STALE: list[Answer] = [
    (401, JSON, FORBIDDEN.encode()),
    (403, JSON, EXPIRED.encode()),
    (403, JSON, FORBIDDEN.encode()),
]
STALE_IDS = ["missing", "expired", "missing for a member"]


@pytest.mark.parametrize("stale", STALE, ids=STALE_IDS)
def test_a_question_refused_for_its_nonce_is_asked_once_more_with_a_fresh_one(stale: Answer) -> None:
    flow = Flow(SITE, ASK, session=GIVEN)
    requests, events = run(flow, stale, RENEWED, REPLY)
    assert events == REPLIED
    assert routes(requests) == [CHAT, START, CHAT]
    assert [header(request, "X-WP-Nonce") for request in requests] == ["0b2576d756", None, "fresh"]
    assert [header(request, "Cookie") for request in requests] == ["mwai_session_id=6b02fc304cdb0"] * 3
    assert [request.body for request in requests] == [ASK.encode("6b02fc304cdb0"), b"", ASK.encode("second")]
    assert flow.session == Session("fresh", "second", "mwai_session_id=6b02fc304cdb0")


@pytest.mark.parametrize("stale", STALE, ids=STALE_IDS)
def test_it_is_never_asked_a_third_time(stale: Answer) -> None:
    for session, first in [(None, [SESSION]), (GIVEN, []), (Session(), [])]:
        flow = Flow(SITE, ASK, session=session)
        _, events = run(flow, *first, stale, RENEWED, stale)
        assert events == [refusal(stale[0], stale[2].decode())]


def test_the_outcome_of_the_second_try_is_the_outcome() -> None:
    responses: list[Answer | None] = [(500, [], b"Down"), None]
    for response, failure in product(responses, [None, Reason.TIMEOUT]):
        flow = Flow(SITE, ASK, session=GIVEN)
        take(flow)
        assert answer(flow, STALE[0]) == []
        take(flow)
        assert answer(flow, RENEWED) == []
        take(flow)
        again = Flow(SITE, ASK, session=Session("fresh"))
        take(again)
        assert fail(flow, response, failure) == fail(again, response, failure)
    flow = Flow(SITE, ASK, session=GIVEN)
    take(flow)
    assert answer(flow, STALE[0]) == []
    take(flow)
    assert answer(flow, RENEWED) == []
    assert flow.receive_failure("no route") == [Broken(Reason.LOST, "no route", asked=True)]


@pytest.mark.parametrize(("response", "failure"), [row[:2] for row in FAILED.values()], ids=FAILED)
@pytest.mark.parametrize("stale", STALE, ids=STALE_IDS)
def test_if_no_fresh_nonce_comes_the_reply_is_the_first_refusal(
    stale: Answer, response: Answer | None, failure: Reason | None
) -> None:
    flow = Flow(SITE, ASK, session=GIVEN)
    take(flow)
    assert answer(flow, stale) == []
    take(flow)
    assert fail(flow, response, failure) == [refusal(stale[0], stale[2].decode())]
    assert (flow.next_request(), flow.awaiting) == (None, None)
    assert flow.session == replace(GIVEN, nonce=None)


def test_if_the_site_has_no_start_session_the_reply_is_the_first_refusal() -> None:
    flow = Flow(SITE, ASK, session=GIVEN)
    requests, events = run(flow, STALE[0], (404, [("X-WP-Nonce", "fresh")], NO_ROUTE.encode()))
    assert events == [refusal(401, FORBIDDEN)]
    assert routes(requests) == [CHAT, START]


@pytest.mark.parametrize("reason", list(Reason))
def test_if_start_session_cannot_be_sent_again_the_reply_is_the_first_refusal(reason: Reason) -> None:
    flow = Flow(SITE, ASK, session=GIVEN)
    take(flow)
    assert answer(flow, STALE[1]) == []
    assert flow.is_ready
    assert flow.receive_failure("what happened", reason) == [refusal(403, EXPIRED)]


@pytest.mark.parametrize("stale", STALE, ids=STALE_IDS)
def test_the_second_try_can_be_switched_off(stale: Answer) -> None:
    flow = Flow(SITE, ASK, session=GIVEN, limits=Limits(restarts=0))
    assert run(flow, stale)[1] == [refusal(stale[0], stale[2].decode())]
    assert flow.session == GIVEN


@pytest.mark.parametrize("stale", STALE, ids=STALE_IDS)
@pytest.mark.parametrize(
    "cookie",
    [
        "wordpress_logged_in_0=me",
        "mwai_session_id=a; wordpress_logged_in_0=me",
        "wordpress_logged_in_0=me;mwai_session_id=a",
        "PHPSESSID=a",
        "MWAI_SESSION_ID=a",
    ],
)
def test_a_members_question_is_never_asked_as_a_guest(cookie: str, stale: Answer) -> None:
    member = Session("theirs", cookie=cookie)
    flow = Flow(SITE, ASK, session=member)
    requests, events = run(flow, stale)
    assert header(requests[0], "Cookie") == cookie
    assert events == [refusal(stale[0], stale[2].decode())]
    assert flow.session == member


@pytest.mark.parametrize(
    "cookie", ["", "mwai_session_id=a", "mwai_session_id=a;", "mwai_session_id=a; mwai_session_id=b"]
)
def test_a_guest_is_one_without_other_cookies(cookie: str) -> None:
    flow = Flow(SITE, ASK, session=Session("old", cookie=cookie))
    requests, events = run(flow, STALE[1], RENEWED, REPLY)
    assert events == REPLIED
    assert [header(request, "Cookie") for request in requests] == [cookie or None] * 3


def test_a_member_becomes_no_guest_by_the_chats_own_cookie() -> None:
    flow = Flow(SITE, ASK, session=Session("theirs", cookie="wordpress_logged_in_0=me"))
    (status, headers, body) = STALE[0]
    _, events = run(flow, (status, [*headers, ("Set-Cookie", "mwai_session_id=a; path=/")], body))
    assert events == [refusal(401, FORBIDDEN)]
    assert flow.session == Session("theirs", cookie="wordpress_logged_in_0=me; mwai_session_id=a")


NOT_STALE: list[Answer] = [
    (400, [], FORBIDDEN.encode()),
    (401, [], EXPIRED.encode()),
    (401, [], b'{"code":"rest_not_logged_in","message":"No."}'),
    (403, [], b'{"success":false,"message":"Rejected."}'),
    (403, [], b'{"code":["rest_forbidden"],"message":"No."}'),
    (401, [], FORBIDDEN[:-1].encode()),
    (500, [], FORBIDDEN.encode()),
    (200, [], FORBIDDEN.encode()),
    (200, [], EXPIRED.encode()),
    (401, [("Content-Encoding", "gzip")], FORBIDDEN.encode()),
    (429, [("Retry-After", "1")], b"busy"),
    (503, [], b"{}"),
    (200, [], b""),
    (200, [], LIVE),
    (200, [], b'data: {"type":"error","data":"rest_forbidden"}\n\n'),
    (200, [], b'{"success":false,"code":"rest_forbidden","message":"No."}'),
]


@pytest.mark.parametrize("response", NOT_STALE, ids=range(len(NOT_STALE)))
def test_a_question_is_sent_twice_in_no_other_case(response: Answer) -> None:
    requests, events = run(Flow(SITE, ASK, session=GIVEN), response)
    assert routes(requests) == [CHAT]
    decoder = ReplyDecoder()
    status, headers, body = response
    *lives, last = decoder.receive_head(status, headers) + decoder.receive_data(body) + decoder.receive_eof()
    assert isinstance(last, Broken)
    assert events == [*lives, replace(last, asked=True)]


@pytest.mark.parametrize("stale", STALE, ids=STALE_IDS)
def test_a_refusal_that_does_not_end_well_is_final(stale: Answer) -> None:
    status, headers, body = stale
    expected = [refusal(status, body.decode())]
    flow = Flow(SITE, ASK, session=GIVEN)
    take(flow)
    assert flow.receive_head(status, headers) + flow.receive_data(body) == []
    assert flow.receive_failure("reset", Reason.TIMEOUT) == expected
    limits = Limits(refusal_bytes=len(body))
    flow = Flow(SITE, ASK, session=GIVEN, limits=limits)
    take(flow)
    assert flow.receive_head(status, headers) + flow.receive_data(body) == expected
    limits = Limits(refusal_bytes=len(body) + 1)
    assert run(Flow(SITE, ASK, session=GIVEN, limits=limits), stale, RENEWED, REPLY)[1] == REPLIED


def test_a_cookie_of_the_second_start_session_goes_with_the_second_try() -> None:
    flow = Flow(SITE, ASK, session=Session("old"))
    status, headers, body = RENEWED
    requests, _ = run(flow, STALE[0], (status, [*headers, ("Set-Cookie", "mwai_session_id=new")], body), REPLY)
    assert [header(request, "Cookie") for request in requests] == [None, None, "mwai_session_id=new"]
    assert flow.session == Session("fresh", "second", "mwai_session_id=new")


# ------------------------------------------------------------------------------ a session that somebody else started


def refused_flow(*, limits: Limits = Limits()) -> Flow:
    """One whose question was refused for its nonce, so that start_session is due."""
    flow = Flow(SITE, ASK, session=GIVEN, limits=limits)
    take(flow)
    assert answer(flow, STALE[1]) == []
    return flow


def ignores_everything(flow: Flow) -> bool:
    events = [*flow.receive_head(200, []), *flow.receive_head(101, []), *flow.receive_data(b"x"), *flow.receive_eof()]
    events += [*flow.receive_failure("late"), *flow.use_session(GIVEN), *flow.use_session(None), *flow.close()]
    return (events, flow.next_request(), flow.awaiting) == ([], None, None)


@pytest.mark.parametrize("session", [GIVEN, Session(), Session("theirs", origin="https://site.example")])
def test_a_session_in_place_of_start_session_is_as_if_it_had_been_given(session: Session) -> None:
    flow, told = Flow(SITE, ASK), Flow(SITE, ASK, session=session)
    assert flow.use_session(session) == []
    assert (flow.session, seen(flow)) == (told.session, seen(told))
    assert take(flow) == take(told)
    assert answer(flow, REPLY) == REPLIED


def test_a_flow_that_is_given_a_session_renews_it_once() -> None:
    flow = Flow(SITE, ASK)
    assert flow.use_session(GIVEN) == []
    requests, events = run(flow, STALE[1], RENEWED, STALE[1])
    assert (routes(requests), events) == ([CHAT, START, CHAT], [refusal(403, EXPIRED)])


@pytest.mark.parametrize("stale", STALE, ids=STALE_IDS)
def test_after_a_refusal_the_question_is_asked_once_more_with_the_session_given(stale: Answer) -> None:
    for response, expected in ((REPLY, REPLIED), (stale, [refusal(stale[0], stale[2].decode())])):
        flow = refused_flow()
        assert flow.use_session(Session("fresh", "second")) == []
        assert seen(flow) == (Awaiting.FIRST_EVENT, True, True)
        requests, events = run(flow, response)
        assert (routes(requests), header(requests[0], "X-WP-Nonce"), events) == ([CHAT], "fresh", expected)
        assert requests[0].body == ASK.encode("second")
        assert flow.session == Session("fresh", "second")


def test_a_question_that_was_refused_for_its_nonce_is_not_asked_again_without_one() -> None:
    assert refused_flow().use_session(Session()) == [refusal(403, EXPIRED)]


def test_if_no_session_can_be_had_the_reply_is_the_first_refusal_or_a_loss() -> None:
    nothing_asked = [Broken(Reason.LOST, "no session could be had", in_session=True)]
    for flow, expected in (
        (Flow(SITE, ASK), nothing_asked),
        (Flow(SITE, None), nothing_asked),
        (refused_flow(), [refusal(403, EXPIRED)]),
    ):
        assert flow.use_session(None) == expected
        assert ignores_everything(flow)


def test_a_flow_without_a_question_ends_with_the_session_given() -> None:
    flow = Flow(SITE, None)
    assert flow.use_session(GIVEN) == [End(None)]
    assert (flow.session, flow.submit_started) == (GIVEN, False)
    assert ignores_everything(flow)


def test_what_is_no_session_is_named_by_its_type() -> None:
    with pytest.raises(TypeError, match=r"^session: expected a Session or None, got str$"):
        Flow(SITE, ASK).use_session("0b2576d756")  # type: ignore[arg-type]  # wrong on purpose


def test_a_session_of_another_origin_in_place_of_start_session_is_refused() -> None:
    for flow in (Flow(SITE, ASK), Flow(SITE, None), refused_flow()):
        before = pickle.dumps(flow)
        with pytest.raises(
            ValueError, match=r"^session: it belongs to https://evil\.example, not to https://site\.exam"
        ):
            flow.use_session(Session("theirs", origin="https://evil.example"))
        assert pickle.dumps(flow) == before


# ------------------------------------------------------------------------------ leaving


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (State.SESSION, Broken(Reason.LOST, in_session=True)),
        (State.SESSION_HEAD, Broken(Reason.LOST, in_session=True)),
        (State.SESSION_BODY, Broken(Reason.LOST, in_session=True)),
        (State.SUBMIT, Broken(Reason.LOST)),
        (State.SUBMIT_HEAD, Broken(Reason.LOST, asked=True)),
        (State.SUBMIT_BODY, Broken(Reason.TRUNCATED, asked=True)),
    ],
)
def test_a_caller_who_leaves_is_told_how_far_it_came(state: State, expected: Broken) -> None:
    flow = in_state(state)
    assert flow.close() == [replace(expected, detail="closed by the caller")]
    assert ignores_everything(flow)


def test_a_caller_who_leaves_after_a_refusal_is_told_that_the_question_was_asked() -> None:
    assert refused_flow().close() == [Broken(Reason.LOST, "closed by the caller", in_session=True, asked=True)]


# ------------------------------------------------------------------------------ limits and clocks


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (State.SESSION, Broken(Reason.TIMEOUT, "start_session: slow", in_session=True)),
        (State.SESSION_HEAD, Broken(Reason.TIMEOUT, "start_session: slow", in_session=True)),
        (State.SESSION_BODY, Broken(Reason.TIMEOUT, "start_session: slow", in_session=True)),
        (State.SUBMIT, Broken(Reason.TIMEOUT, "slow")),
        (State.SUBMIT_HEAD, Broken(Reason.TIMEOUT, "slow", asked=True)),
        (State.SUBMIT_BODY, Broken(Reason.TIMEOUT, "slow", asked=True)),
    ],
)
def test_a_clock_that_ran_out_is_named(state: State, expected: Broken) -> None:
    assert in_state(state).receive_failure("slow", Reason.TIMEOUT, limit="idle") == [replace(expected, limit="idle")]


def test_a_clock_is_not_named_where_the_reply_is_a_refusal() -> None:
    assert refused_flow().receive_failure("slow", Reason.TIMEOUT, limit="idle") == [refusal(403, EXPIRED)]
    flow = in_state(State.SUBMIT_HEAD)
    flow.receive_head(*STALE[1][:2])
    flow.receive_data(STALE[1][2])
    assert flow.receive_failure("slow", Reason.TIMEOUT, limit="idle") == [refusal(403, EXPIRED)]


def test_a_limit_of_the_reply_is_named() -> None:
    flow = Flow(SITE, ASK, session=GIVEN, limits=Limits(reply_bytes=len(LIVE)))
    detail = f"more than {len(LIVE)} bytes in the whole reply (Limits.reply_bytes)"
    assert run(flow, (200, [], LIVE + b":"))[1] == [
        Live("Hi"),
        Broken(Reason.TOO_LARGE, detail, limit="reply_bytes", asked=True),
    ]


# ------------------------------------------------------------------------------ what is adopted


def test_a_fresh_nonce_in_the_response_header_is_adopted_at_once() -> None:
    flow = Flow(SITE, ASK, session=GIVEN)
    take(flow)
    assert flow.receive_head(200, [(b"X-WP-NONCE", b"fresh")]) == []
    assert flow.session == replace(GIVEN, nonce="fresh")
    assert flow.receive_failure("reset") == [Broken(Reason.TRUNCATED, "reset", asked=True)]
    assert flow.session == replace(GIVEN, nonce="fresh")


@pytest.mark.parametrize("bad", ["", " ", "a b", "a,b", "a;b", "é", "x" * 257])
def test_a_nonce_in_the_header_that_cannot_be_sent_back_is_ignored(bad: str) -> None:
    flow = Flow(SITE, ASK, session=GIVEN)
    assert run(flow, (200, [("X-WP-Nonce", bad)], END))[1] == [End("Hi", HI)]
    assert flow.session == GIVEN


TOKEN = '{"success":true,"reply":"Hi","new_token":"fresh"}'


@pytest.mark.parametrize(
    "response",
    [
        (200, [], b'data: {"type":"end","data":' + json.dumps(TOKEN).encode() + b"}\n\n"),
        (200, [], b'data: {"type":"end","data":' + TOKEN.encode() + b"}\n\n"),
        (200, [], TOKEN.encode()),
        (200, [], TOKEN.replace("true", "false").encode()),
        (200, [], TOKEN.replace("true", "null").encode()),
        (500, [], TOKEN.replace("true", "false").encode()),
        (200, [("X-WP-Nonce", "header")], TOKEN.encode()),
    ],
    ids=["end event", "object in the end event", "JSON", "success false", "no success", "refusal", "and in the header"],
)
def test_a_fresh_nonce_in_a_payload_is_adopted(response: Answer) -> None:
    flow = Flow(SITE, ASK, session=GIVEN)
    run(flow, response)
    assert flow.session == replace(GIVEN, nonce="fresh")


@pytest.mark.parametrize(
    "bad", ['""', '"a b"', '"a;b"', r'"\u00e9"', r'"\n"', "5", "null", "true", "[]", f'"{"x" * 257}"']
)
def test_a_token_that_cannot_be_sent_back_is_ignored(bad: str) -> None:
    for success in ("true", "false"):
        flow = Flow(SITE, ASK, session=GIVEN)
        run(flow, (200, [], f'{{"success":{success},"new_token":{bad}}}'.encode()))
        assert flow.session == GIVEN


@pytest.mark.parametrize("text", ["new_token", '{"new_token":"cut', '["new_token"]', "<title>new_token</title>"])
def test_a_refusal_that_only_speaks_of_a_token_brings_none(text: str) -> None:
    flow = Flow(SITE, ASK, session=GIVEN)
    run(flow, (500, [], text.encode()))
    assert flow.session == GIVEN


@pytest.mark.parametrize(
    ("field", "cookie"),
    [
        ("mwai_session_id=new", "mwai_session_id=new"),
        ("mwai_session_id=new; path=/; HttpOnly", "mwai_session_id=new"),
        ("PHPSESSID=a; path=/, mwai_session_id=new; path=/", "mwai_session_id=new"),
        ("PHPSESSID=a; path=/", "mwai_session_id=6b02fc304cdb0"),
        ("wordpress_logged_in_0=evil", "mwai_session_id=6b02fc304cdb0"),
        ("x=mwai_session_id=new", "mwai_session_id=6b02fc304cdb0"),
        ("mwai_session_id=", "mwai_session_id=6b02fc304cdb0"),
        ("mwai_session_id=a b", "mwai_session_id=6b02fc304cdb0"),
        (f"mwai_session_id={'x' * 257}", "mwai_session_id=6b02fc304cdb0"),
        ("mwai_session_id", "mwai_session_id=6b02fc304cdb0"),
    ],
)
def test_of_all_cookies_only_the_chats_own_is_kept(field: str, cookie: str) -> None:
    flow = Flow(SITE, ASK, session=GIVEN)
    run(flow, (200, [("Set-Cookie", field)], END))
    assert flow.session == replace(GIVEN, cookie=cookie)


def test_nothing_is_adopted_from_an_interim_head() -> None:
    flow = Flow(SITE, ASK, session=GIVEN)
    take(flow)
    assert flow.receive_head(103, [("X-WP-Nonce", "early"), ("Set-Cookie", "mwai_session_id=early")]) == []
    assert flow.session == GIVEN
    assert answer(flow, REPLY) == REPLIED


# ------------------------------------------------------------------------------ one session, many flows


def test_a_session_given_is_not_changed_and_serves_many_flows() -> None:
    flows = [Flow(SITE, ASK, session=GIVEN) for _ in range(3)]
    for number, flow in enumerate(flows):
        run(flow, (200, [("X-WP-Nonce", f"nonce{number}")], END))
    assert (GIVEN.nonce, GIVEN.cookie, GIVEN.origin) == ("0b2576d756", "mwai_session_id=6b02fc304cdb0", None)
    assert [flow.session and flow.session.nonce for flow in flows] == ["nonce0", "nonce1", "nonce2"]
    assert run(Flow(SITE, ASK, session=flows[2].session), REPLY)[1] == REPLIED


def test_a_session_goes_to_its_own_origin_only() -> None:
    flow = Flow(SITE, None)
    run(flow, SESSION)
    session = flow.session
    assert session is not None
    for same in ("https://site.example:443/blog", "https://SITE.example/index.php?rest_route="):
        assert Flow(Endpoint.parse(same), ASK, session=session).session == session
    for other in (
        "http://site.example",
        "https://site.example:8443",
        "https://www.site.example",
        "https://evil.example",
    ):
        with pytest.raises(ValueError, match=r"^session: it belongs to https://site\.example, not to http"):
            Flow(Endpoint.parse(other), ASK, session=session)


def test_a_session_given_is_bound_to_the_origin_of_its_first_flow() -> None:
    flow = Flow(SITE, ASK, session=Session("theirs"))
    assert flow.session is not None
    assert flow.session.origin == "https://site.example"
    with pytest.raises(ValueError, match=r"^session: it belongs to"):
        Flow(Endpoint.parse("http://site.example"), ASK, session=flow.session)


@pytest.mark.parametrize("stale", STALE, ids=STALE_IDS)
def test_after_a_second_try_the_session_remembers_its_origin(stale: Answer) -> None:
    for responses in ([stale, RENEWED, REPLY], [stale, (500, [], b"")]):
        flow = Flow(SITE, ASK, session=GIVEN)
        run(flow, *responses)
        assert flow.session is not None
        assert flow.session.origin == "https://site.example"


# ------------------------------------------------------------------------------ events, awaiting, submit_started


@pytest.mark.parametrize(
    ("response", "failure", "expected"),
    [
        (REPLY, None, REPLIED),
        ((200, [], HI.encode()), None, [End("Hi", HI)]),
        ((200, [], HI.encode()), Reason.TIMEOUT, [End("Hi", HI)]),
        ((200, [], LIVE), Reason.TIMEOUT, [Live("Hi"), Broken(Reason.TIMEOUT, "what happened", asked=True)]),
        ((200, [], LIVE), Reason.LOST, [Live("Hi"), Broken(Reason.TRUNCATED, "what happened", asked=True)]),
        ((500, [], b"Down"), None, [Broken(Reason.REFUSED, "Down", 500, raw="Down", asked=True)]),
        (None, Reason.LOST, [Broken(Reason.LOST, "what happened", asked=True)]),
        (None, None, [Broken(Reason.LOST, "the connection was closed before any answer", asked=True)]),
        (
            (101, [], b""),
            None,
            [Broken(Reason.TRUNCATED, "status 101: the server switched protocols, unasked", asked=True)],
        ),
    ],
)
def test_the_answer_to_the_question_is_judged_as_it_is(
    response: Answer | None, failure: Reason | None, expected: list[Event]
) -> None:
    flow = Flow(SITE, ASK, session=GIVEN)
    take(flow)
    assert fail(flow, response, failure) == expected
    assert (flow.next_request(), flow.awaiting, flow.submit_started) == (None, None, True)


def test_a_whole_exchange_is_the_same_however_its_answers_are_cut() -> None:
    expected = [Live("Hi"), End("Hi", HI)]
    for session_pieces, reply_pieces in zip(
        [[OPENED], byte_by_byte(OPENED), [OPENED[:9], b"", OPENED[9:]]],
        [[LIVE + END], byte_by_byte(LIVE + END), [LIVE, b"", END]],
        strict=True,
    ):
        flow = Flow(SITE, ASK)
        events = []
        for pieces in (session_pieces, reply_pieces):
            take(flow)
            events += flow.receive_head(200, [])
            for piece in pieces:
                events += flow.receive_data(piece)
            events += flow.receive_eof()
        assert events == expected


def seen(flow: Flow) -> tuple[Awaiting | None, bool, bool]:
    return flow.awaiting, flow.submit_started, flow.is_ready


def test_what_is_awaited_is_known_at_every_point() -> None:
    session, first, later = Awaiting.SESSION, Awaiting.FIRST_EVENT, Awaiting.EVENT
    flow = Flow(SITE, ASK)
    assert seen(flow) == (session, False, True)
    take(flow)
    assert seen(flow) == (session, False, False)
    flow.receive_head(100, [])
    assert seen(flow) == (session, False, False)
    flow.receive_head(200, [])
    assert seen(flow) == (session, False, False)
    flow.receive_data(OPENED)
    assert seen(flow) == (session, False, False)
    flow.receive_eof()
    assert seen(flow) == (first, False, True)
    take(flow)
    assert seen(flow) == (first, True, False)
    flow.receive_head(401, [])
    flow.receive_data(FORBIDDEN.encode())
    assert seen(flow) == (first, True, False)
    flow.receive_eof()
    assert seen(flow) == (session, True, True)
    take(flow)
    assert seen(flow) == (session, True, False)
    answer(flow, RENEWED)
    assert seen(flow) == (first, True, True)
    take(flow)
    flow.receive_head(200, [])
    flow.receive_data(b": keepalive\n\n")
    assert seen(flow) == (first, True, False)
    flow.receive_data(b'data: {"type":"live","data":"...","subtype":"status"}\n\n')
    assert seen(flow) == (later, True, False)
    flow.receive_data(b": keepalive\n\n")
    assert seen(flow) == (later, True, False)
    flow.receive_data(END)
    assert seen(flow) == (None, True, False)


@pytest.mark.parametrize("of", [bytes, bytearray, memoryview])
def test_after_the_first_event_the_next_is_awaited_whatever_the_type_of_the_bytes(of: Any) -> None:
    # It is what a transport's clock goes by.
    flow = Flow(SITE, ASK, session=GIVEN)
    take(flow)
    flow.receive_head(200, [])
    assert flow.receive_data(of(LIVE)) == [Live("Hi")]
    assert flow.awaiting is Awaiting.EVENT


def test_a_session_given_is_awaited_no_more() -> None:
    assert seen(Flow(SITE, ASK, session=Session())) == (Awaiting.FIRST_EVENT, False, True)


def test_pieces_in_the_answer_of_start_session_are_no_events() -> None:
    flow = Flow(SITE, ASK)
    take(flow)
    assert flow.receive_head(200, []) + flow.receive_data(LIVE + LIVE) == []
    assert seen(flow) == (Awaiting.SESSION, False, False)


def test_a_request_is_handed_out_once() -> None:
    flow = Flow(SITE, ASK)
    take(flow)
    assert flow.next_request() is None
    assert flow.receive_head(200, []) == []
    assert flow.next_request() is None
    assert flow.receive_data(OPENED) + flow.receive_eof() == []
    take(flow)
    assert flow.next_request() is None


# ------------------------------------------------------------------------------ what is legal when


BEFORE: dict[State, list[tuple[str, Any]]] = {
    State.SESSION: [],
    State.SESSION_HEAD: [("next_request", ())],
    State.SESSION_BODY: [("next_request", ()), ("receive_head", (200, []))],
    State.SUBMIT: [("next_request", ()), ("receive_head", (200, [])), ("receive_data", (OPENED,)), ("receive_eof", ())],
    State.SUBMIT_HEAD: [("next_request", ())],
    State.SUBMIT_BODY: [("next_request", ()), ("receive_head", (200, []))],
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


def steps(state: State, given_input: Input) -> list[tuple[str, Any]]:
    """The calls that amount to this input."""
    match given_input:
        case Input.REQUEST:
            return [("next_request", ())]
        case Input.HEAD:
            return [("receive_head", (200, []))]
        case Input.INTERIM:
            return [("receive_head", (100, []))]
        case Input.DATA:
            return [("receive_data", (b" ",))]
        case Input.EOF:
            return [("receive_eof", ())]
        case Input.FAILURE | Input.TERMINAL:
            return [("receive_failure", ("lost", Reason.TIMEOUT))]
        case Input.USE_SESSION:
            return [("use_session", (GIVEN,))]
        case Input.CLOSE:
            return [("close", ())]
        case Input.OPENED:
            return [("receive_data", (OPENED,)), ("receive_eof", ())]
        case Input.STALE | Input.REDIRECTED:
            raise AssertionError("an answer makes it: see the test of its own, and test_flow_page.py")


def test_the_table_has_every_state() -> None:
    assert list(TABLE.rows) == list(State)
    assert TABLE.start == (State.SESSION, State.SUBMIT)


CALLABLE = [given_input for given_input in Input if given_input not in (Input.STALE, Input.REDIRECTED)]


@pytest.mark.parametrize("given_input", CALLABLE)
@pytest.mark.parametrize("state", State)
def test_every_input_in_every_state_does_what_the_table_says(state: State, given_input: Input) -> None:
    flow = in_state(state)
    row = TABLE.rows[state]
    before = pickle.dumps(flow)
    if given_input is Input.REQUEST and given_input not in row:
        assert flow.next_request() is None  # asks, and is told that there is none
        assert pickle.dumps(flow) == before
    elif state is State.DONE:
        assert [call(flow, *step) for step in steps(state, given_input)] in ([[]], [[], []])
        assert pickle.dumps(flow) == before
    elif given_input in (Input.EOF, Input.FAILURE) and given_input in row:
        # It stays where it is, until the answer is judged: here it cannot be an answer.
        assert row[given_input] is state
        assert len(call(flow, *steps(state, given_input)[0])) == 1
        assert repr(flow).endswith(f" {row[Input.TERMINAL]}>")
    elif given_input in row:
        for step in steps(state, given_input):
            call(flow, *step)
        assert repr(flow).endswith(f" {row[given_input]}>")
    elif state is State.SUBMIT_BODY and given_input is Input.OPENED:
        call(flow, "receive_data", (OPENED,))
        (end,) = call(flow, "receive_eof", ())
        assert end == End(None, OPENED.decode())
    else:
        with pytest.raises(LocalProtocolError, match=f"^Flow: .* is not legal in state {state}$"):
            call(flow, *steps(state, given_input)[0])
        assert pickle.dumps(flow) == before


def test_a_refused_nonce_leads_to_a_session_as_the_table_says() -> None:
    assert [state for state, row in TABLE.rows.items() if Input.STALE in row] == [State.SUBMIT_BODY]
    flow = in_state(State.SUBMIT_HEAD)
    assert answer(flow, STALE[0]) == []
    assert repr(flow).endswith(f" {TABLE.rows[State.SUBMIT_BODY][Input.STALE]}>")


@pytest.mark.parametrize("state", State)
def test_no_bytes_and_a_failure_are_always_legal(state: State) -> None:
    flow = in_state(state)
    before = pickle.dumps(flow)
    assert [flow.receive_data(nothing) for nothing in (b"", bytearray(), memoryview(b""))] == [[], [], []]
    assert pickle.dumps(flow) == before
    assert len(flow.receive_failure("lost")) == (0 if state is State.DONE else 1)
    assert flow.receive_failure("again") == []
    assert (
        flow.receive_eof() == flow.receive_head(200, []) == flow.receive_head(100, []) == flow.receive_data(b"x") == []
    )
    assert flow.next_request() is None


def test_a_second_head_is_not_legal() -> None:
    for state in (State.SESSION_BODY, State.SUBMIT_BODY):
        flow = in_state(state)
        before = pickle.dumps(flow)
        for status in (100, 101, 200, 404):
            with pytest.raises(LocalProtocolError, match=f"is not legal in state {state}"):
                flow.receive_head(status, [])
        assert pickle.dumps(flow) == before


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("receive_head", (200, None)),
        ("receive_head", (200, [("a", None)])),
        ("receive_head", (200, {"ab": "c"})),
        ("receive_data", ("text",)),
        ("receive_data", (None,)),
        ("receive_data", (5,)),
        ("receive_failure", (None,)),
        ("receive_failure", (ValueError("lost"),)),
        ("receive_failure", ("lost", "timeout")),
        ("use_session", ("nonce",)),
        ("use_session", (5,)),
    ],
)
def test_wrong_types_raise_and_change_nothing(state: State, name: str, arguments: Any) -> None:
    flow = in_state(state)
    before = pickle.dumps(flow)
    with pytest.raises(TypeError):
        call(flow, name, arguments)
    assert pickle.dumps(flow) == before


@pytest.mark.parametrize("status", ["200", None, True, 200.0])
@pytest.mark.parametrize("state", [State.SESSION_HEAD, State.SUBMIT_HEAD, State.DONE])
def test_a_status_of_another_type_raises_and_changes_nothing(state: State, status: Any) -> None:
    flow = in_state(state)
    before = pickle.dumps(flow)
    with pytest.raises(TypeError, match=r"^status: expected an int"):
        flow.receive_head(status, [("X-WP-Nonce", "fresh")])
    assert pickle.dumps(flow) == before


# ------------------------------------------------------------------------------ copies, secrets


SCRIPT: list[tuple[str, Any]] = [
    ("next_request", ()),
    ("receive_head", (103, [])),
    ("receive_head", SESSION[:2]),
    ("receive_data", (OPENED[:20],)),
    ("receive_data", (OPENED[20:],)),
    ("receive_eof", ()),
    ("next_request", ()),
    ("receive_head", (403, [("Set-Cookie", "mwai_session_id=x")])),
    ("receive_data", (EXPIRED.encode(),)),
    ("receive_eof", ()),
    ("next_request", ()),
    ("receive_head", RENEWED[:2]),
    ("receive_data", (RENEWED[2],)),
    ("receive_failure", ("reset",)),
    ("next_request", ()),
    ("receive_head", REPLY[:2]),
    ("receive_data", (LIVE + END[:30],)),
    ("receive_data", (END[30:],)),
    ("receive_eof", ()),
    ("next_request", ()),
]


SHARED: list[tuple[str, Any]] = [
    ("use_session", (GIVEN,)),
    ("next_request", ()),
    ("receive_head", (403, [])),
    ("receive_data", (EXPIRED.encode(),)),
    ("receive_eof", ()),
    ("use_session", (Session("fresh"),)),
    ("next_request", ()),
    ("receive_head", REPLY[:2]),
    ("receive_data", (LIVE,)),
    ("close", ()),
    ("next_request", ()),
]


def after(flow: Flow, name: str, arguments: Any) -> tuple[Any, Session | None, Awaiting | None, bool]:
    return call(flow, name, arguments), flow.session, flow.awaiting, flow.submit_started


@pytest.mark.parametrize(
    ("script", "last"),
    [
        (SCRIPT, [[Live("Hi")], [End("Hi", HI)], [], None]),
        (SHARED, [[], [Live("Hi")], [Broken(Reason.TRUNCATED, "closed by the caller", asked=True)], None]),
    ],
)
def test_a_copy_made_between_any_two_calls_goes_on_like_the_original(
    script: list[tuple[str, Any]], last: list[Any]
) -> None:
    original = Flow(SITE, ASK, headers={"X-Extra": "a"}, limits=Limits(headers=5))
    snapshots = [list(clones(original))]
    outcomes = []
    for name, arguments in script:
        outcomes.append(after(original, name, arguments))
        snapshots.append(list(clones(original)))
    assert [outcome[0] for outcome in outcomes][-4:] == last
    for number, snapshot in enumerate(snapshots):
        for clone in snapshot:
            assert [after(clone, *step) for step in script[number:]] == outcomes[number:]


def test_repr_shows_where_it_goes_and_the_state_but_no_secret() -> None:
    secrets = ["nonce-secret", "id-secret", "cookie-secret", "header-secret", "Où"]
    session = Session("nonce-secret", "id-secret", "mwai_session_id=cookie-secret")
    flow = Flow(SITE, ASK, session=session, headers={"Authorization": "header-secret"})
    request = take(flow)
    answer(flow, (200, [], b'{"success":true,"reply":"a","new_token":"nonce-secret"}'))
    for shown in (repr(flow), repr(request), repr(flow.session)):
        assert not [secret for secret in secrets if secret in shown]
    assert repr(Flow(SITE, ASK)) == "<Flow to https://site.example SESSION>"
    assert repr(flow) == "<Flow to https://site.example DONE>"


# ------------------------------------------------------------------------------ properties


bodies = st.sampled_from(
    [
        b"",
        OPENED,
        RENEWED[2],
        HI.encode(),
        TOKEN.encode(),
        LIVE + END,
        LIVE,
        END,
        FORBIDDEN.encode(),
        EXPIRED.encode(),
        NO_ROUTE.encode(),
        PAGE,
        b'{"success":true,"restNonce":"a b"}',
        b'{"success":false}',
    ]
) | st.binary(max_size=20)
field_lists = st.lists(
    st.sampled_from(
        [
            ("X-WP-Nonce", "fresh"),
            ("X-WP-Nonce", "a b"),
            ("Set-Cookie", "mwai_session_id=x; path=/"),
            ("Content-Encoding", "gzip"),
            ("Retry-After", "5"),
            ("Location", "/\udcff"),
        ]
    ),
    max_size=2,
)
statuses = st.sampled_from([200, 200, 200, 401, 403, 404, 100, 101, 500])
failures = st.none() | st.none() | st.tuples(st.text(max_size=5), st.sampled_from(Reason))
sessions = st.sampled_from([None, Session(), GIVEN, Session("theirs", cookie="wordpress_logged_in_0=me")])


@st.composite
def exchanges(draw: st.DrawFn) -> list[tuple[int, Any, list[bytes], list[bytes], Any]]:
    drawn = []
    for _ in range(4):
        body = draw(bodies)
        cuts = draw(random_cuts(body)), draw(random_cuts(body))
        drawn.append((draw(statuses), draw(field_lists), *cuts, draw(failures)))
    return drawn


def drive(flow: Flow, responses: Iterator[tuple[int, Any, list[bytes], Any]]) -> tuple[list[Request], list[Event]]:
    """What a driver does, until there is nothing to ask; an answer to a request that is left out is a close."""
    requests: list[Request] = []
    events: list[Event] = []
    while request := flow.next_request():
        requests.append(request)
        status, headers, pieces, failure = next(responses, (500, [], [], None))
        events += flow.receive_head(status, headers)
        if status < 200:
            pieces = []
        for piece in pieces:
            events += flow.receive_data(piece)
        events += flow.receive_eof() if failure is None else flow.receive_failure(*failure)
    return requests, events


@given(exchanges(), sessions, st.sampled_from([ASK, None]), st.integers(0, 1))
def test_any_answers_cut_anywhere_give_one_terminal_event_and_always_the_same(
    responses: list[tuple[int, Any, list[bytes], list[bytes], Any]],
    session: Session | None,
    submit: Submit | None,
    restarts: int,
) -> None:
    limits = Limits(restarts=restarts)
    outcomes = []
    for second in (False, True):
        flow = Flow(SITE, submit, session=session if submit else None, limits=limits)
        cut = ((status, fields, other if second else one, failure) for status, fields, one, other, failure in responses)
        requests, events = drive(flow, cut)
        outcomes.append((requests, events, flow.session))
    assert outcomes[0] == outcomes[1]
    assert all(isinstance(event, Live) for event in events[:-1])
    assert isinstance(events[-1], End | Broken)
    assert routes(requests).count(CHAT) <= 1 + restarts
    assert flow.submit_started == (CHAT in routes(requests))
    for event in events:
        for text in (event.text if isinstance(event, Live) else "", event.detail if isinstance(event, Broken) else ""):
            text.encode()


calls = st.one_of(
    st.tuples(st.just("next_request"), st.just(())),
    st.tuples(st.just("next_request"), st.just(())),
    st.tuples(st.just("receive_head"), st.tuples(statuses, field_lists)),
    st.tuples(st.just("receive_data"), st.tuples(bodies)),
    st.tuples(st.just("receive_eof"), st.just(())),
    st.tuples(st.just("receive_failure"), st.tuples(st.text(max_size=5), st.sampled_from(Reason))),
    st.tuples(st.just("use_session"), st.tuples(sessions)),
    st.tuples(st.just("close"), st.just(())),
)


@given(st.lists(calls, max_size=14), sessions)
def test_any_order_of_calls_raises_nothing_but_local_protocol_error(
    script: list[tuple[str, Any]], session: Session | None
) -> None:
    flow = Flow(SITE, ASK, session=session)
    events: list[Event] = []
    for name, arguments in script:
        before = pickle.dumps(flow)
        try:
            outcome = call(flow, name, arguments)
        except LocalProtocolError:
            assert pickle.dumps(flow) == before
        else:
            events += outcome if isinstance(outcome, list) else []
    last = flow.receive_failure("lost")
    while flow.awaiting is not None:  # a session that was whole: it goes on
        last = flow.receive_failure("lost")
    events += last
    assert all(isinstance(event, Live) for event in events[:-1])
    assert isinstance(events[-1], End | Broken)


def test_bytes_take_a_shorter_way_than_other_bytes_like_data() -> None:
    events = []
    for kind in (bytes, bytearray):
        flow = Flow(Endpoint.parse("http://site.example"), Submit(new_message="Hi?"), session=Session())
        flow.next_request()
        flow.receive_head(200, [])
        events.append([flow.receive_data(kind(b'data: {"type":"live","data":"a"}\n\n')) for _ in range(2)])
    assert events[0] == events[1] == [[Live("a")], [Live("a")]]
