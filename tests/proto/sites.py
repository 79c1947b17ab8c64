"""A site at a fixed time, requests to it, and its responses as values."""

import json
from typing import Any

from opchat_proto import Event, OutgoingFile, Question, Response, Site

SECRET = b"a secret of this site"
NOW = 1_795_357_744.314801  # 6b02fc30 and 4cdb0 in hex
DATE = "Sun, 22 Nov 2026 14:29:04 GMT"
TICK = 43_200
SITE = Site(SECRET)
SHOP = "https://shop.example"
OPEN = Site(SECRET, origins=(SHOP, "http://localhost:3000"))
NONCE = SITE.nonce(NOW)
OLD_NONCE = SITE.nonce(NOW - TICK)
SESSION_ID = "6b02fc304cdb0"

START = "/wp-json/mwai/v1/start_session"
SUBMIT = "/wp-json/mwai-ui/v1/chats/submit"
JSON_TYPE = ("Content-Type", "application/json")
SET_COOKIE = ("Set-Cookie", f"mwai_session_id={SESSION_ID}; path=/; HttpOnly")
QUESTION = b'{"botId":"default","newMessage":"hi","stream":true}'

REJECTED = b'{"success":false,"message":"Sorry, your query has been rejected."}'
FORBIDDEN = b'{"code":"rest_forbidden","message":"Sorry, you are not allowed to do that.","data":{"status":401}}'
INVALID_NONCE = b'{"code":"rest_cookie_invalid_nonce","message":"Cookie check failed","data":{"status":403}}'
INVALID_JSON = (
    b'{"code":"rest_invalid_json","message":"Invalid JSON body passed.",'
    b'"data":{"status":400,"json_error_code":4,"json_error_message":"Syntax error"}}'
)
NO_ROUTE = (
    b'{"code":"rest_no_route","message":"No route was found matching the URL and request method.",'
    b'"data":{"status":404}}'
)


def json_response(status: int, body: bytes, *headers: tuple[str, str]) -> Response:
    own = (
        ("Content-Type", "application/json; charset=UTF-8"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
    )
    return Response(status, (*own, *headers), body)


def wrong(value: object) -> Any:
    """A value of a type that a type checker would reject."""
    return value


def ask(
    values: object = None,
    *headers: tuple[str, str],
    nonce: str | None = NONCE,
    now: float = NOW,
    site: Site = SITE,
) -> Response | Question | OutgoingFile:
    """The site's response to a submit with this JSON body. Bytes are sent unchanged."""
    body = values if isinstance(values, bytes) else json.dumps(values).encode()
    fields = [JSON_TYPE, *headers] if nonce is None else [JSON_TYPE, ("X-WP-Nonce", nonce), *headers]
    return site.receive_request("POST", SUBMIT, fields, body, now=now)


def asked(*args: Any, **kwargs: Any) -> Question:
    question = ask(*args, **kwargs)
    assert isinstance(question, Question)
    return question


def start(*headers: tuple[str, str], body: bytes = b"", site: Site = SITE) -> Response | Question | OutgoingFile:
    return site.receive_request("POST", START, headers, body, now=NOW)


def begun(question: Question, event: Event) -> Response:
    response = question.response(event)
    assert response is not None
    return response


def response_of(value: Response | Question | OutgoingFile) -> Response:
    assert isinstance(value, Response)
    return value


STREAMED = asked(QUESTION)
UNSTREAMED = asked({"botId": "default", "newMessage": "hi"})
