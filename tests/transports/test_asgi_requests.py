"""Requests to the ASGI application: sessions, limits, origins, the log, and the rest of ASGI."""

import json
import logging
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import httpx
import pytest

from opchat_proto import Event, Limits, Live, Submit
from opchat_transports.asgi import application
from opchat_transports.asyncio_httpx import HttpxTransport

from .asgi import APP, SECRET, SUBMIT, Callable_, Peer, body, echo, leave, question, request, run, scope

START = "/wp-json/mwai/v1/start_session"


# ------------------------------------------------------------------------------ requests


def test_a_session_is_started_and_used_for_a_question(backend: str) -> None:
    started = request(backend, APP, scope(START), *body(b"")).response
    assert started.status == 200
    nonce = json.loads(started.body)["restNonce"]
    head = scope(headers=[(b"content-type", b"application/json"), (b"x-wp-nonce", nonce.encode())])
    assert request(backend, APP, head, *body(b'{"botId":"default",', b'"newMessage":"hi"}', b"")).response.status == 200


def test_the_application_refuses_what_the_site_refuses(backend: str) -> None:
    refused = request(backend, APP, scope(), *body(b"{}")).response
    assert (refused.status, json.loads(refused.body)["code"]) == (401, "rest_forbidden")
    assert request(backend, APP, scope("/elsewhere"), *body(b"")).response.status == 404
    assert request(backend, APP, scope(f"/?rest_route={START[8:]}"), *body(b"")).response.status == 200
    assert request(backend, APP, scope(f"/index.php?rest_route={START[8:]}"), *body(b"")).response.status == 200
    assert request(backend, APP, scope(f"/index.php{START}"), *body(b"")).response.status == 200


def test_a_head_request_gets_no_body(backend: str) -> None:
    get = request(backend, APP, scope("/", "GET"), *body(b"")).response
    head = request(backend, APP, scope("/", "HEAD"), *body(b"")).response
    assert (head.status, head.headers, head.body) == (200, get.headers, b"")
    assert b"mwai-chatbot-container" in get.body


def test_a_server_may_omit_raw_path(backend: str) -> None:
    head = scope(START)
    del head["raw_path"], head["query_string"], head["root_path"], head["scheme"]
    assert request(backend, APP, head, {"type": "http.request"}).response.status == 200
    head["path"] = "/é?"
    assert request(backend, APP, head, {"type": "http.request"}).response.status == 404


@pytest.mark.parametrize("path", ["/chat/", "/", "/chat"])
def test_an_application_may_be_mounted_under_a_path(backend: str, path: str) -> None:
    response = request(backend, APP, scope(path, "GET", root_path="/chat"), *body(b"")).response
    assert b"&quot;restUrl&quot;:&quot;\\/chat\\/wp-json&quot;" in response.body
    assert request(backend, APP, scope(f"/chat{START}", root_path="/chat"), *body(b"")).response.status == 200


def test_cookies_are_secure_over_https(backend: str) -> None:
    for scheme, marked in (("http", False), ("https", True)):
        response = request(backend, APP, scope(START, scheme=scheme), *body(b"")).response
        assert ("secure" in dict(response.headers)["set-cookie"]) is marked


def test_pages_of_allowed_origins_may_ask(backend: str) -> None:
    app = application(echo, secret=SECRET, origins=["https://shop.example"])
    origin = (b"origin", b"https://shop.example")
    head, messages = question()
    head["headers"].append(origin)
    streamed = request(backend, app, head, *messages).response
    assert ("access-control-allow-origin", "https://shop.example") in streamed.headers
    asks = [origin, (b"access-control-request-method", b"POST")]
    preflight = request(backend, app, scope(method="OPTIONS", headers=asks), *body(b"")).response
    assert (preflight.status, preflight.body) == (204, b"")
    large = request(backend, app, scope(headers=[origin, (b"content-length", b"99999999")])).response
    assert (large.status, dict(large.headers)["access-control-allow-origin"]) == (413, "https://shop.example")


def test_processes_with_the_same_secret_are_one_site(backend: str) -> None:
    here, there = application(echo, secret=SECRET), application(echo, secret=SECRET)
    nonce = json.loads(request(backend, here, scope(START), *body(b"")).response.body)["restNonce"]
    values = b'{"botId":"default","newMessage":"hi"}'
    head = scope(headers=[(b"content-type", b"application/json"), (b"x-wp-nonce", nonce.encode())])
    assert request(backend, there, head, *body(values)).response.status == 200
    other = application(echo, secret=b"another")
    assert request(backend, other, head, *body(values)).response.status == 403


def test_a_rebound_host_name_gets_status_421(backend: str) -> None:
    app = application(echo, secret=SECRET, allowed_hosts=["Site.example"])
    head, messages = question()
    for target, method in (("/", "GET"), (START, "POST"), (SUBMIT, "POST")):
        refused = request(backend, app, {**head, **scope(target, method)}, *messages).response
        assert refused.status == 421
    head["headers"].append((b"host", b"site.example:8000"))
    assert request(backend, app, head, *messages).response.status == 200


def test_the_plugins_script_is_told_that_a_guest_has_no_discussions(backend: str) -> None:
    target = "/wp-json/mwai-ui/v1/discussions/list"
    listed = request(backend, APP, scope(target), *body(b'{"botId":"default"}')).response
    assert (listed.status, listed.body) == (200, b'{"success":false,"message":"You need to be connected."}')


# ------------------------------------------------------------------------------ limits


@pytest.mark.parametrize(
    ("headers", "version", "status"),
    [
        ([(b"content-length", b"3"), (b"transfer-encoding", b"chunked")], "1.1", 400),
        ([(b"content-length", b"3"), (b"content-length", b"4")], "1.1", 400),
        ([(b"content-length", b"x")], "1.1", 400),
        ([], "9.9", 505),
        ([(b"a", b"b")] * 129, "2", 431),
    ],
)
def test_an_ambiguous_head_is_refused(backend: str, headers: Any, version: str, status: int) -> None:
    messages = body(b"abc")
    peer = request(backend, APP, scope(START, headers=headers, http_version=version), *messages)
    assert (peer.response.status, ("connection", "close") in peer.response.headers) == (status, version != "2")
    assert peer.waiting == messages


def test_the_largest_body_is_refused_when_all_bodies_together_exceed_the_bound(backend: str) -> None:
    async def main() -> list[Peer]:
        app = application(echo, secret=SECRET, body_bytes=100)
        large, other = Peer(*body(b"x" * 60, b"", b"")[:1]), Peer(*body(b"x" * 30, b"x" * 20, b"x" * 49))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(app, scope(START), large.receive, large.send)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(app, scope(START), other.receive, other.send)
        after = Peer(*body(b"x" * 100))
        await app(scope(START), after.receive, after.send)
        over = Peer(*body(b"x" * 101))
        await app(scope(START), over.receive, over.send)
        return [large, other, after, over]

    peers = run(backend, main)
    assert [peer.response.status for peer in peers] == [503, 200, 200, 503]
    assert json.loads(peers[0].response.body)["message"] == "Too many requests are being sent at once."
    assert ("connection", "close") in peers[0].response.headers


def test_the_body_of_a_question_counts_until_the_answer_is_complete(backend: str) -> None:
    goes_on: list[anyio.Event] = [anyio.Event()]

    async def bot(submit: Submit) -> AsyncIterator[str]:
        await goes_on[0].wait()
        yield "a"

    async def main() -> list[Peer]:
        app = application(bot, secret=SECRET, body_bytes=1000)
        first, second, third = (Peer(*question("x" * 600)[1]) for _ in range(3))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(app, question()[0], first.receive, first.send)
            await anyio.wait_all_tasks_blocked()
            await app(question()[0], second.receive, second.send)
            goes_on[0].set()
        await app(question()[0], third.receive, third.send)
        return [first, second, third]

    assert [peer.response.status for peer in run(backend, main)] == [200, 503, 200]


# ------------------------------------------------------------------------------ the log


def test_each_request_is_logged(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "opchat_transports.access")
    client = ("192.0.2.7", 5000)
    request(backend, APP, scope("/?a=1", "GET", client=client), *body(b""))
    request(backend, APP, scope("/nowhere", "HEAD", client=None), *body(b""))
    request(backend, APP, {**question()[0], "client": client}, *question()[1])
    request(backend, APP, scope("/\x1b[2J\n127.0.0.1", "G\rT", client=("\x9b2J", 0)), *body(b""))
    request(backend, APP, scope(START, client=client), {"type": "http.disconnect"})
    assert [re.sub(r" \d+\.\d{3} s$", "", line) for line in caplog.messages] == [
        '192.0.2.7:5000 "GET /?a=1" 200',
        '-:0 "HEAD /nowhere" 404',
        f'192.0.2.7:5000 "POST {SUBMIT}" 200',
        r'\x9b2J:0 "G\rT /\x1b[2J\n127.0.0.1" 404',
        f'192.0.2.7:5000 "POST {START}" - left',
    ]


def test_an_answer_that_the_client_did_not_read_is_logged(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "opchat_transports.access")

    async def bot(submit: Submit) -> AsyncIterator[str]:
        while True:
            yield "a"

    async def client(peer: Peer) -> None:
        peer.came[3] = anyio.Event()
        await peer.came[3].wait()
        peer.left.set()

    leave(backend, bot, client)
    assert re.sub(r" \d+\.\d{3} s$", "", caplog.messages[0]) == f'-:0 "POST {SUBMIT}" 200 left'


# ------------------------------------------------------------------------------ more limits


def test_the_limit_on_a_body_is_exact(backend: str) -> None:
    app = application(echo, secret=SECRET, limits=Limits(request_bytes=10))
    assert request(backend, app, scope(START), *body(b"12345", b"67890")).response.status == 200
    refused = request(backend, app, scope(START), *body(b"12345", b"67890", b"1", b"more")).response
    assert (refused.status, dict(refused.headers)["connection"]) == (413, "close")
    assert json.loads(refused.body)["message"] == "The body is larger than 10 bytes."


@pytest.mark.parametrize("length", [b"11", b"9" * 5000])
def test_a_body_that_is_announced_as_too_large_is_refused_unread(backend: str, length: bytes) -> None:
    app = application(echo, secret=SECRET, limits=Limits(request_bytes=10))
    messages = body(b"12345678901")
    peer = request(backend, app, scope(START, headers=[(b"content-length", length)]), *messages)
    assert peer.response.status == 413
    assert peer.waiting == messages


def test_a_slow_request_is_refused(backend: str) -> None:
    app = application(echo, secret=SECRET, request_timeout=0.01)
    half = body(b"{", b"}")[:1]
    refused = request(backend, app, scope(START), *half).response
    assert (refused.status, dict(refused.headers)["connection"]) == (408, "close")
    assert json.loads(refused.body)["code"] == "request_timeout"
    assert "connection" not in dict(request(backend, app, scope(START, http_version="2"), *half).response.headers)


# ------------------------------------------------------------------------------ the rest of ASGI


def test_lifespan_events_are_acknowledged(backend: str) -> None:
    peer = request(backend, APP, {"type": "lifespan"}, {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"})
    assert peer.sent == [{"type": "lifespan.startup.complete"}, {"type": "lifespan.shutdown.complete"}]


def test_a_websocket_is_refused(backend: str) -> None:
    peer = request(backend, APP, {"type": "websocket"}, {"type": "websocket.connect"})
    assert peer.sent == [{"type": "websocket.close"}]


def test_an_unknown_protocol_raises_value_error(backend: str) -> None:
    with pytest.raises(ValueError, match="expected http, lifespan or websocket, got 'smtp'"):
        request(backend, APP, {"type": "smtp"})


def test_an_exception_from_the_server_propagates(backend: str) -> None:
    async def main() -> None:
        async def send(message: Any) -> None:
            raise ZeroDivisionError

        head, messages = question()
        await APP(head, Peer(*messages).receive, send)

    with pytest.raises(ExceptionGroup) as caught:
        run(backend, main)
    assert caught.value.split(ZeroDivisionError)[1] is None


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"secret": "text"}, TypeError, "Site.secret: expected bytes"),
        ({"secret": b""}, ValueError, "Site.secret: expected at least one byte"),
        ({"secret": b"a", "origins": ["*"]}, ValueError, "Site.origins"),
        ({"secret": b"a", "limits": 5}, TypeError, "Site.limits"),
        ({"secret": b"a", "allowed_hosts": ["a b"]}, ValueError, "Site.hosts: expected e.g. site.example"),
        ({"secret": b"a", "threads": 0}, ValueError, "threads: expected at least 1, got 0"),
        ({"secret": b"a", "bots": {"a": echo}}, TypeError, "expected either a bot or bots"),
        ({"secret": b"a", "keep_alive": 0}, ValueError, "keep_alive: expected seconds above 0, or None, got 0"),
        ({"secret": b"a", "request_timeout": float("nan")}, ValueError, "request_timeout: expected seconds above 0"),
    ],
)
def test_an_invalid_argument_is_refused(options: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        application(echo, **options)


def test_the_repr_names_the_bot_but_not_the_secret() -> None:
    assert repr(APP) == "<Application echo>"
    assert repr(application(Callable_(), secret=SECRET)) == "<Application Callable_>"


def test_our_client_gets_an_answer_without_a_socket(backend: str) -> None:
    async def main() -> list[Event]:
        async with (
            httpx.AsyncClient(transport=httpx.ASGITransport(APP)) as client,
            HttpxTransport("http://site.example", client) as transport,
            transport.ask("abc") as reply,
        ):
            return [event async for event in reply]

    events = run(backend, main)
    assert events[:3] == [Live("a"), Live("b"), Live("c")]
    assert events[3].reply == "abc"


def test_importing_it_loads_no_server_and_no_http_library() -> None:
    names = ["httpx", "uvicorn", "trio", "click", "starlette"]
    code = f"import sys, opchat_transports.asgi; print([name for name in {names} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
