"""The arguments of a flow, and its requests."""

import json
from dataclasses import replace
from typing import Any

import pytest

from opchat_proto import Broken, Endpoint, Flow, Limits, Reason, Request, Session, __version__
from tests.proto.flows import (
    ASK,
    CHAT,
    GIVEN,
    REPLIED,
    REPLY,
    SESSION,
    SITE,
    STALE,
    START,
    header,
    ignores_everything,
    routes,
    run,
    take,
)


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


def test_start_session_has_no_body_nonce_or_cookie() -> None:
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


def test_an_extra_header_may_be_repeated() -> None:
    extra = [("Accept-Language", "fr"), ("accept-language", "en")]
    assert take(Flow(SITE, ASK, headers=extra)).headers[-2:] == tuple(extra)


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        *((name, "opchat sets it") for name in ("Host", "content-length", "Transfer-Encoding", "CONNECTION", "Expect")),
        ("Accept-Encoding", "opchat sets it, and reads no compressed answers"),
        ("Cookie", "use Session.from_cookies"),
        ("X-WP-Nonce", r"use Session\(nonce\)"),
        ("x-wp-nonce", r"use Session\(nonce\)"),
        ("Proxy-Authorization", "use the URL of the proxy, as in http://name:password@host:port"),
    ],
)
def test_reserved_headers_are_refused_with_what_to_use_instead(name: str, instead: str) -> None:
    with pytest.raises(ValueError, match=f"^headers: {name} cannot be set here: {instead}$"):
        Flow(SITE, ASK, headers={name: "a"})
    with pytest.raises(ValueError, match=f"^headers: {name} cannot be set here: {instead}$"):
        Flow(SITE, None, headers=[("X-Fine", "a"), (name, "a")])


@pytest.mark.parametrize("bad", ["\r", "\n", "\0", "\r\n", "\x7f", "\u20ac", "\ud800"])
@pytest.mark.parametrize("place", ["{}", "{}a", "a{}", "a{}b"])
def test_headers_with_line_breaks_are_refused(bad: str, place: str) -> None:
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


def test_the_limit_on_a_question_is_exact_in_bytes() -> None:
    size = len(ASK.encode(GIVEN.session_id))
    assert size == len(ASK.encode(GIVEN.session_id).decode()) + 1  # the ù has two bytes
    flow = Flow(SITE, ASK, session=GIVEN, limits=Limits(request_bytes=size))
    assert len(take(flow).body) == size
    with pytest.raises(ValueError, match=f"^submit: expected at most {size - 1} bytes, got {size} "):
        Flow(SITE, ASK, session=GIVEN, limits=Limits(request_bytes=size - 1))
    for session in (None, Session()):
        assert Flow(SITE, ASK, session=session, limits=Limits(request_bytes=len(ASK.encode()))).is_ready
        with pytest.raises(ValueError, match=r"^submit: expected at most"):
            Flow(SITE, ASK, session=session, limits=Limits(request_bytes=len(ASK.encode()) - 1))
    assert Flow(SITE, None, limits=Limits(request_bytes=1)).is_ready


def test_a_later_session_id_can_make_a_question_too_large() -> None:
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
    with pytest.raises(
        ValueError, match=r"^session: expected None, since without a submit there is nothing left to do$"
    ):
        Flow(SITE, None, session=GIVEN)


def test_the_arguments_of_a_flow_can_be_read() -> None:
    limits = Limits(headers=7)
    flow = Flow(SITE, ASK, limits=limits)
    assert (flow.endpoint, flow.limits) == (SITE, limits)


def test_an_endpoint_may_be_given_as_text() -> None:
    assert Flow("https://site.example", ASK).endpoint == SITE
    with pytest.raises(ValueError, match=r"^'ftp://site\.example': expected"):
        Flow("ftp://site.example", ASK)
