"""Comparison with others: slow references for event streams and JSON, http.client, and httpx."""

import http.client
import io
from dataclasses import replace
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from opchat_proto import (
    Broken,
    Client,
    Endpoint,
    Event,
    Flow,
    Limits,
    Live,
    Reason,
    Receive,
    ReplyDecoder,
    Session,
    SSEDecoder,
    Submit,
    strategies,
)
from opchat_transports.asyncio_httpx import HttpxTransport
from tests import cases
from tests.fuzz import reference
from tests.fuzz.oracles import check_verdicts

ENDPOINT = Endpoint.parse("http://site.example")
QUESTION = Submit(new_message="Hi?")
NO_RESTART = Limits(restarts=0)

# ---------------------------------------------------------------- event streams

_PIECES = [
    *(b"data", b"event", b"id", b"retry", b":", b" ", b": ", b"\n", b"\r", b"\r\n", b"\n\n", b"\0", b"7", b"00", b"x"),
    *(
        b"\xef\xbb\xbf",
        b"\xef\xbb",
        b"\xff",
        b"\xc3",
        b"\xa9",
        b"\xf0\x9f\x9a",
        b"\x89",
        b"\x0b",
        b"\xc2\x85",
        b"Data",
        b"data:",
    ),
]
streams = st.lists(st.sampled_from(_PIECES) | st.binary(max_size=3), max_size=40).map(b"".join)


def decoded(pieces: list[bytes]) -> reference.Stream:
    decoder = SSEDecoder()
    events = [event for piece in pieces for event in decoder.receive_data(piece)] + decoder.receive_eof()
    return reference.Stream([(it.event, it.data, it.id) for it in events], decoder.retry, decoder.last_event_id)


@given(st.data(), streams | strategies.bodies().map(lambda body: body.data) | st.binary(max_size=60))
def test_a_stream_is_decoded_as_the_standard_says(data: DataObject, stream: bytes) -> None:
    assert decoded(data.draw(strategies.cuts(stream))) == reference.read_stream(stream)


@pytest.mark.parametrize(
    "case", [it for it in cases.at_level("sse") if "limits" not in it], ids=lambda case: str(case["name"])
)
def test_the_reference_agrees_with_the_corpus(case: cases.Case) -> None:
    expect = case["expect"]
    events, retry, last_event_id = reference.read_stream(cases.to_bytes(case["body"]))
    expected = [(it.get("event", "message"), cases.to_text(it["data"]), it.get("id", "")) for it in expect["events"]]
    assert events == expected
    assert retry == expect.get("retry", retry)
    assert last_event_id == expect.get("last_event_id", last_event_id)


# ---------------------------------------------------------------- replies

_REPLY_PIECES = [
    *(
        b"\xef\xbb\xbf",
        b"\n",
        b"\r\n",
        b" ",
        b"\x0b",
        b"\xef\xbb",
        b"data: ",
        b"data:",
        b"data",
        b"event: x\n",
        b": c\n\n",
    ),
    *(
        b'data: {"type":"live","data":"x"}\n\n',
        b'data: {"type":"error","data":""}\n\n',
        b"data: \n\n",
        b'data: {"type":"',
    ),
    b'data: {"type":"end","data":"{\\"success\\":true,\\"reply\\":\\"Hi\\"}"}\n\n',
    *(
        b"</div>",
        b"<br />\n",
        b"Warning: x\n",
        b"<!-- cached -->",
        b"0",
        b"[]",
        b'"',
        b"\\",
        b"{",
        b"}",
        b"]",
        b'"a":[',
    ),
    *(
        b'{"success":true,"reply":"Hi"}',
        b'{"code":"x","message":"m"}',
        b'{"success":',
        b'{ "code" :',
        b'{"a":{"success":false}}',
    ),
]
_reply_bodies = st.lists(st.sampled_from(_REPLY_PIECES) | st.binary(max_size=2), max_size=8).map(b"".join)


def judged(pieces: list[bytes], failure: Reason | None, kept: int) -> list[Event]:
    decoder = ReplyDecoder(Limits(refusal_bytes=kept))
    events = decoder.receive_head(200, [])
    for piece in pieces:
        events += decoder.receive_data(piece)
    return events + (decoder.receive_failure("cut", failure) if failure else decoder.receive_eof())


@given(
    st.data(),
    _reply_bodies
    | strategies.bodies().map(lambda body: body.data)
    | strategies.faulty_bodies().map(lambda it: it.data),
    st.sampled_from([None, Reason.TRUNCATED, Reason.TIMEOUT]),
    st.just(64 * 1024) | st.integers(1, 80),
)
def test_a_reply_is_judged_as_the_rules_say(data: DataObject, body: bytes, failure: Reason | None, kept: int) -> None:
    events = judged(data.draw(strategies.cuts(body)), failure, kept)
    check_verdicts(events, reference.read_reply(body, failure or "", kept))


@pytest.mark.parametrize(
    "case",
    [it for it in cases.at_level("reply") if not set(it) & {"limits", "headers", "status", "ends"}],
    ids=lambda case: str(case["name"]),
)
def test_the_reference_of_replies_agrees_with_the_corpus(case: cases.Case) -> None:
    expected = [
        ("live", cases.to_text(it["live"]), it.get("kind", "content"))
        if "live" in it
        else ("end", None if it["end"] is None else cases.to_text(it["end"]), "")
        if "end" in it
        else ("broken", None, it["broken"])
        for it in case["expect"]["events"]
    ]
    *lives, last = reference.read_reply(cases.to_bytes(case["body"]), "")
    if last[2] == "malformed or unfinished":
        assert expected[-1][2] in ("malformed", "truncated")
        expected.pop()
        assert lives == expected
    else:
        assert [*lives, last] == expected


# ---------------------------------------------------------------- JSON

_TOKENS = [
    *(
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        '"',
        "\\",
        "\\u",
        "\\n",
        "\\ud83d",
        "\\ude89",
        "d83d",
        '"a"',
        '""',
        '"type"',
        '"data"',
        "\t",
        " ",
        "\x00",
    ),
    *(
        "true",
        "false",
        "null",
        "nul",
        "NaN",
        "Infinity",
        "-",
        "+",
        "0",
        "1",
        "01",
        ".",
        "e",
        "E5",
        "1.5",
        "1e999",
        "\u00a0",
        "\ufeff",
        "é",
        "🚉",
        "/",
        "'",
    ),
]
whole_values = st.recursive(
    st.sampled_from(
        [
            "true",
            "false",
            "null",
            "0",
            "-0",
            "1e5",
            "-1.5E-7",
            '""',
            '"a"',
            '"\\u00e9\\/"',
            '"\\ud83d\\ude89"',
            '"\\ud83d"',
        ]
    ),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{' , '.join(items)}]")
        | st.lists(st.tuples(st.sampled_from(['"a"', '"b"', '"type"']), inner), max_size=3).map(
            lambda items: "{" + ",".join(f"{key} :{value}" for key, value in items) + "}"
        )
    ),
    max_leaves=8,
)
json_texts = (
    whole_values
    | st.lists(st.sampled_from(_TOKENS), max_size=12).map("".join)
    | st.builds(
        lambda text, place, token: text[:place] + token + text[place:],
        whole_values,
        st.integers(0, 30),
        st.sampled_from(_TOKENS),
    )
    | st.builds(lambda text, place: text[:place] + text[place + 1 :], whole_values, st.integers(0, 30))
)


@given(json_texts, st.integers(1, 5))
def test_an_event_is_accepted_if_its_json_is_strict(text: str, depth: int) -> None:
    try:
        value: Any = reference.read_json(f'{{"type":"ping","data":{text}}}')
    except reference.NotJSON:
        value = None
    decoder = ReplyDecoder(Limits(json_depth=depth))
    events = decoder.receive_head(200, [])
    events += decoder.receive_data(f'data: {{"type":"ping","data":{text}}}\n\n'.encode())
    keys = [key for key, _ in value or ()]
    if (
        value is None
        or reference.depth_of(value) > depth
        or any(keys.count(it) > 1 for it in ("type", "data", "subtype"))
    ):
        assert isinstance(events[0], Broken)
        assert events[0].reason is Reason.MALFORMED
    else:
        content = dict(value)["data"]
        assert isinstance(events[0], Live)
        assert (events[0].text, events[0].kind) == (content if isinstance(content, str) else "", "unknown")


# ---------------------------------------------------------------- HTTP


class _Socket:
    """The part of a socket that http.client needs to read a response."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def makefile(self, mode: str) -> io.BytesIO:
        assert mode == "rb"
        return io.BytesIO(self.data)


def through_http_client(data: bytes) -> list[Event]:
    response = http.client.HTTPResponse(_Socket(data), method="POST")  # type: ignore[arg-type]  # which reads only
    response.begin()
    flow = Flow(ENDPOINT, QUESTION, session=Session())
    flow.next_request()
    events = flow.receive_head(response.status, response.getheaders())
    events += flow.receive_data(response.read())
    return events + flow.receive_eof()


def through_client(pieces: list[bytes]) -> list[Event]:
    client = Client(Flow(ENDPOINT, QUESTION, session=Session(), limits=NO_RESTART))
    while not isinstance(client.next_step(), Receive):
        client.step_done()
    events = [event for piece in pieces for event in client.receive_data(piece)]
    return events + client.receive_eof()


@given(st.data(), strategies.responses())
def test_a_valid_answer_is_read_as_by_http_client(data: DataObject, response: strategies.HTTPResponse) -> None:
    wire = response.data
    while wire.startswith(b"HTTP/1.1 1"):  # http.client skips no interim response but 100
        wire = wire.partition(b"\r\n\r\n")[2]
    through_it = through_http_client(wire)
    assert through_client(data.draw(strategies.cuts(response.data))) == through_it == response.events


@pytest.mark.anyio
@pytest.mark.parametrize(
    "case",
    [it for it in cases.at_level("reply") if "limits" not in it and "ends" not in it],
    ids=lambda case: str(case["name"]),
)
async def test_an_answer_is_the_same_through_httpx(case: cases.Case) -> None:
    """As in `HttpxTransport`, httpx reads the HTTP, and `Flow` judges it."""
    body = cases.to_bytes(case["body"])
    headers = [(name, value) for name, value in case.get("headers") or ()]
    status = case.get("status", 200)
    wire = [f"HTTP/1.1 {status} Reason".encode(), *(f"{name}: {value}".encode() for name, value in headers)]
    if not any(name.lower() in ("content-length", "transfer-encoding") for name, _ in headers):
        wire.append(b"Content-Length: %d" % len(body))
    expected = through_client([b"\r\n".join(wire) + b"\r\n\r\n" + body])

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers=headers, stream=httpx.ByteStream(body))

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        transport = HttpxTransport("http://site.example", client, session=Session(), limits=NO_RESTART)
        async with transport, transport.ask(QUESTION) as reply:
            events = [event async for event in reply]
    assert [_but_for_the_detail(event) for event in events] == [_but_for_the_detail(event) for event in expected]


def _but_for_the_detail(event: Event) -> Any:
    return replace(event, detail="", raw="") if isinstance(event, Broken) else event
