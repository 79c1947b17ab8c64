"""Candidates that decode the body of a response."""

import asyncio
import json
from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from opchat_proto import Event, ReplyDecoder
from tests.benchmarks.candidate import URL, Candidate, Run, floor_pair, original_loop, own_pair
from tests.benchmarks.floor import Floor, Piece, Reply


def _json_alone(pieces: list[bytes]) -> Run:
    texts = [line[6:] for line in b"".join(pieces).decode().split("\n\n") if line]
    return lambda: [json.loads(text) for text in texts]


def _floor(pieces: list[bytes]) -> Run:
    def run() -> list[Piece | Reply]:
        floor = Floor()
        events = []
        for piece in pieces:
            events += floor.receive_data(piece)
        return events

    return run


def _reply_decoder(pieces: list[bytes]) -> Run:
    def run() -> list[Event]:
        decoder = ReplyDecoder()
        events = decoder.receive_head(200, [])
        for piece in pieces:
            events += decoder.receive_data(piece)
        return events

    return run


def _httpx_sse(pieces: list[bytes]) -> Run:
    httpx, httpx_sse = import_module("httpx"), import_module("httpx_sse")
    headers = {"Content-Type": "text/event-stream"}

    def run() -> list[Any]:
        response = httpx.Response(200, headers=headers, content=iter(pieces))
        return [json.loads(event.data) for event in httpx_sse.EventSource(response).iter_sse()]

    return run


def _httpx2(pieces: list[bytes]) -> Run:
    httpx2 = import_module("httpx2")
    headers, request = {"Content-Type": "text/event-stream"}, httpx2.Request("POST", URL)

    def run() -> list[Any]:
        response = httpx2.Response(200, headers=headers, content=iter(pieces), request=request)
        return [event.json() for event in httpx2.EventSource(response)]

    return run


def _decoder_of(module: str) -> Callable[[list[bytes]], Run]:
    def prepare(pieces: list[bytes]) -> Run:
        streaming = import_module(module)
        return lambda: [json.loads(event.data) for event in streaming.SSEDecoder().iter_bytes(iter(pieces))]

    return prepare


def _sseclient(pieces: list[bytes]) -> Run:
    sseclient = import_module("sseclient")
    return lambda: [json.loads(event.data) for event in sseclient.SSEClient(iter(pieces)).events()]


def _aiohttp_body(pieces: list[bytes]) -> Run:
    streams = import_module("aiohttp.streams")
    protocol = SimpleNamespace(
        _reading_paused=False, connected=True, pause_reading=lambda: None, resume_reading=lambda **_: None
    )

    async def read() -> list[Any]:
        content = streams.StreamReader(protocol, 2**16, loop=asyncio.get_running_loop())
        feeding = asyncio.ensure_future(_feed(content))
        events = await original_loop(content)
        await feeding
        return events

    async def _feed(content: Any) -> None:
        for piece in pieces:
            content.feed_data(piece)
            await asyncio.sleep(0)  # as an event loop returns for the next read
        content.feed_eof()

    return lambda: asyncio.run(read())


BODY = [
    Candidate("json.loads alone", _json_alone),
    Candidate("the floor", _floor, floor_pair),
    Candidate("opchat: ReplyDecoder", _reply_decoder, own_pair),
    Candidate("httpx-sse", _httpx_sse, package="httpx-sse"),
    Candidate("httpx2 sse()", _httpx2, package="httpx2"),
    Candidate("anthropic", _decoder_of("anthropic._streaming"), package="anthropic"),
    Candidate("sseclient-py", _sseclient, package="sseclient-py"),
    Candidate("openai", _decoder_of("openai._streaming"), package="openai"),
    Candidate("the original aiohttp loop", _aiohttp_body, package="aiohttp"),
]
