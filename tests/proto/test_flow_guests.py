"""A question without a nonce, for a site that has no start_session."""

from dataclasses import replace

import pytest

from opchat_proto import Broken, End, Flow, Session
from tests.proto.flows import (
    ASK,
    CHAT,
    EXPIRED,
    FORBIDDEN,
    GIVEN,
    NO_ROUTE,
    PAGE,
    REPLIED,
    REPLY,
    SITE,
    STALE,
    START,
    header,
    refusal,
    routes,
    run,
)


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
IN_PAGE = "; the plugin has no start_session: for versions 2.0.1 to 2.4.3 the nonce is in the site's page"
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
def test_a_refused_question_without_a_nonce_gets_advice(
    address: str, why: str, headers: list[tuple[str, str]], status: int, error: str
) -> None:
    flow = Flow(address, ASK)
    requests, events = run(flow, (404, headers, NO_ROUTE.encode()), (status, [], error.encode()))
    assert len(requests) == 2
    refused = refusal(status, error)
    assert events == [replace(refused, detail=refused.detail + why + (NAMED if headers else ""))]
    assert flow.session == Session()


@pytest.mark.parametrize(("status", "error"), BAD_NONCE)
def test_a_refused_question_with_an_empty_session_gets_advice(status: int, error: str) -> None:
    flow = Flow(SITE, ASK, session=Session())
    requests, events = run(flow, (status, [], error.encode()), (404, [ROOT_FIELD], NO_ROUTE.encode()))
    assert routes(requests) == [CHAT, START]
    refused = refusal(status, error)
    assert events == [replace(refused, detail=refused.detail + IN_PAGE + NAMED)]


def test_a_question_without_a_nonce_refused_for_another_reason_gets_no_advice() -> None:
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
        (200, PAGE, "a web page, not a chat answer: My site"),
        (404, PAGE, "My site"),
        (200, b'{"success":true}', "no nonce and session id that could be sent back"),
        (401, FORBIDDEN.encode(), "Not allowed."),
        (500, b"", "status 500 and no text"),
        (200, b"", "the answer ended without its end event"),
    ],
)
def test_without_a_session_the_root_that_the_site_names_is_in_the_detail(
    status: int, body: bytes, detail: str, link: str, root: str | None
) -> None:
    (broken,) = run(Flow(SITE, ASK), (status, [("LINK", link)], body))[1]
    assert isinstance(broken, Broken)
    assert broken.detail == f"start_session: {detail}{f'; the site names another REST root: {root}' if root else ''}"
    assert broken.in_session


def test_the_first_refusal_is_unchanged_whatever_root_the_second_start_session_names() -> None:
    _, events = run(Flow(SITE, ASK, session=GIVEN), STALE[0], (500, [ROOT_FIELD], b"Down"))
    assert events == [refusal(401, FORBIDDEN)]
