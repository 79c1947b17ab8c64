"""A site's answers to a member, and a flow that asks it."""

import copy
import json
import pickle
from typing import Any, TypeAlias

from opchat_proto import Event, Flow, Request, Session

Answer: TypeAlias = tuple[int, Any, str]

SITE = "https://site.example"
ALICE = Session.from_application_password("alice", "abcd EFGH ijkl 1234 mnop QRST")
COOKIE = "wordpress_logged_in_1=alice%7C1"

ME = "/wp-json/wp/v2/users/me"
START = "/wp-json/mwai/v1/start_session"
AJAX = "/wp-admin/admin-ajax.php?action=rest-nonce"
SUBMIT = "/wp-json/mwai-ui/v1/chats/submit"
PAGE = "/contact/?opchat=r4nd0m"

HI = '{"success":true,"reply":"Hi"}'
ANSWER: Answer = (200, [], HI)
OPENED: Answer = (200, [], '{"success":true,"sessionId":"6b0ae17682c40","restNonce":"2b24c02613"}')
NOT_LOGGED_IN: Answer = (
    401,
    [],
    '{"code":"rest_not_logged_in","message":"You are not currently logged in.","data":{"status":401}}',
)
NO_ROUTE: Answer = (404, [], '{"code":"rest_no_route","message":"No route.","data":{"status":404}}')
EXPIRED: Answer = (
    403,
    [],
    '{"code":"rest_cookie_invalid_nonce","message":"Cookie check failed","data":{"status":403}}',
)
FORBIDDEN: Answer = (403, [], '{"code":"rest_forbidden","message":"Not allowed.","data":{"status":403}}')
NONCE: Answer = (200, [], "1635c20365")
NOBODY: Answer = (400, [], "0")


def user(slug: object = "alice", **more: Any) -> Answer:
    """The answer to users/me."""
    return 200, [], json.dumps({"id": 2, "name": "Alice", "slug": slug} | more)


def asked(flow: Flow, *answers: Answer) -> tuple[list[Request], list[Event]]:
    """The requests and the events. The flow is copied on the way."""
    waiting, events, requests = list(answers), [], []
    while request := flow.next_request():
        requests.append(request)
        status, headers, body = waiting.pop(0)
        events += flow.receive_head(status, headers)
        copied = pickle.loads(pickle.dumps(copy.deepcopy(flow)))
        events += flow.receive_data(body.encode()) + flow.receive_eof()
        copied.receive_data(body.encode())
        copied.receive_eof()
        assert pickle.dumps(copied) == pickle.dumps(flow) or repr(copied) == repr(flow)
    assert waiting == []
    assert flow.awaiting is None
    return requests, events


def places(requests: list[Request]) -> list[tuple[str, str | None]]:
    """The path of each request, with its nonce."""
    return [(request.url.removeprefix(SITE), dict(request.headers).get("X-WP-Nonce")) for request in requests]
