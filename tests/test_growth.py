"""Work is linear in everything that a peer or caller can make large: twice the size, twice the work."""

import json
import sys
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import pytest

from opchat_proto import (
    Channel,
    Client,
    Conversation,
    DiscussionPage,
    End,
    Flow,
    Limits,
    ListDiscussions,
    Message,
    Page,
    Proxy,
    ReplyDecoder,
    Server,
    Session,
    Site,
    SSEDecoder,
    Submit,
    Upload,
)
from opchat_transports.many._plan import Plan  # the plan alone is not public
from tests.proto.asking import content_length
from tests.proto.cuts import in_pieces
from tests.transports.many_plans import SITE, play, questions

MANY = Limits(headers=10**6, head_bytes=10**7, interim_responses=10**6)
LIVE = b'data: {"type":"live","data":"Hi"}\n\n'


def cost(work: Callable[[], object]) -> int:
    """Counts calls and lines of Python, and calls of C. They are the same in each run, even on a busy machine."""
    steps = 0

    def traced(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal steps
        steps += 1
        return traced

    def profiled(*_: object) -> None:
        nonlocal steps
        steps += 1

    before = sys.gettrace(), sys.getprofile()
    sys.settrace(traced)
    sys.setprofile(profiled)
    try:
        work()
    finally:
        sys.setprofile(before[1])
        sys.settrace(before[0])
    return steps


def asked(limits: Limits = MANY) -> Client:
    client = Client(Flow("http://site.example", Submit(new_message="Hi?"), session=Session(), limits=limits))
    for _ in range(2):  # Connect, Send
        client.next_step()
        client.step_done()
    return client


def receive(pieces: list[bytes]) -> None:
    client = asked()
    for piece in pieces:
        client.receive_data(piece)


def decode(pieces: list[bytes], decoder: Any = None) -> None:
    decoder = decoder or ReplyDecoder()
    if isinstance(decoder, ReplyDecoder):
        decoder.receive_head(200, [])
    for piece in pieces:
        decoder.receive_data(piece)


def head(*fields: bytes) -> bytes:
    return b"".join((b"HTTP/1.1 200 -\r\n", *(field + b"\r\n" for field in fields), b"\r\n"))


def converse(count: int) -> None:
    said = tuple(Message("user" if number % 2 else "assistant", "Hi") for number in range(count))
    conversation = Conversation(messages=said, chat_id="k3v9x0q2ab")
    question = conversation.ask("And now?")
    question.encode()
    conversation.record(question, End("So"))
    Conversation.from_dict(conversation.to_dict()).undo()


def wait_together(count: int) -> None:
    channel = Channel("http://site.example", signal=_Signal)
    calls = [channel.call("Hi?") for _ in range(count)]
    for call in calls:
        call.next_step(0.0)
    for call in calls:
        call.close()


class _Signal:
    def set(self) -> None: ...


def ask_one_after_the_other(count: int) -> None:
    """Each answer brings another nonce."""
    channel = Channel("http://site.example", session=Session("n0"))
    for number in range(count):
        call = channel.call("Hi?")
        for _ in range(2):
            call.next_step(0.0)
            call.step_done()
        call.receive_data(content_length(b'{"success":true,"reply":"Hi"}', b"X-WP-Nonce: n%d" % number))


def ask_at_length(size: int) -> None:
    limits = Limits(request_bytes=10**9)
    client = Client(
        Flow("http://site.example", Submit(new_message="x" * size), session=Session(), limits=limits),
        proxy=Proxy.parse("http://proxy.example:3128"),
    )
    while type(client.next_step()).__name__ != "Receive":
        client.step_done()


SITE_OF_ALL = Site(b"secret", limits=MANY, upload_types=("txt",))
MESSAGES = b'{"newMessage":"Hi?","messages":[%b{}]}'
REQUEST = b"GET / HTTP/1.1\r\nHost: site.example\r\n"


def serve(pieces: list[bytes]) -> None:
    server = Server(SITE_OF_ALL)
    for piece in pieces:
        server.receive_data(piece, now=0.0)


def submit(framing: bytes) -> bytes:
    fields = b"X-WP-Nonce: %b\r\nContent-Type: application/json\r\n" % SITE_OF_ALL.nonce(0.0).encode()
    return b"POST /wp-json/mwai-ui/v1/chats/submit HTTP/1.1\r\nHost: site.example\r\n" + fields + framing


def upload(pieces: list[bytes]) -> None:
    kind = ("Content-Type", "multipart/form-data; boundary=x"), ("X-WP-Nonce", SITE_OF_ALL.nonce(0.0))
    file = SITE_OF_ALL.receive_upload("POST", "/wp-json/mwai-ui/v1/files/upload", kind, now=0.0)
    assert file is not None
    for piece in pieces:
        file.receive_data(piece)


def part(name: str) -> bytes:
    return f"--x\r\nContent-Disposition: form-data; {name}\r\n\r\n".encode()


def list_discussions(count: int) -> None:
    call = Channel("http://site.example", session=Session("n0")).call(ListDiscussions())
    for _ in range(2):
        call.next_step(0.0)
        call.step_done()
    said = json.dumps([{"role": "user", "content": "Hi?"}])
    chats = [{"chatId": f"c{number}", "messages": said} for number in range(count)]
    call.receive_data(content_length(json.dumps({"success": True, "total": count, "chats": chats}).encode()))
    call.next_step(0.0)
    call.step_done()
    end = call.next_event()
    assert isinstance(end, End)
    assert len(DiscussionPage.from_end(end).discussions) == count


GROWING: dict[str, Callable[[int], object]] = {
    "pieces of a body": lambda count: decode(in_pieces(LIVE * count, 3)),
    "pieces of a response": lambda count: receive(in_pieces(head() + LIVE * count, 3)),
    "pieces of one event": lambda count: decode(in_pieces(b"data: " + count * b"x", 1)),
    "events in one read": lambda count: receive([head() + LIVE * count]),
    "events, one a read": lambda count: receive([head(), *[LIVE] * count]),
    "events that are comments": lambda count: decode([b": wait\n\n"] * count, SSEDecoder()),
    "lines of one event": lambda count: decode([b"data: x\n" * count], SSEDecoder()),
    "chunks": lambda count: receive([head(b"Transfer-Encoding: chunked") + b"1\r\n:\r\n" * count]),
    "headers": lambda count: receive([head(*[b"A: b"] * count)]),
    "headers, cut": lambda count: receive(in_pieces(head(*[b"A: b"] * count), 50)),
    "interim responses": lambda count: receive([b"HTTP/1.1 103 -\r\n\r\n" * count]),
    "nonces of one head": lambda count: receive([head(*[b"X-WP-Nonce: n%d" % number for number in range(count)])]),
    "cookies of one head": lambda count: receive([head(*[b"Set-Cookie: mwai_session_id=a"] * count)]),
    "cookies of one field": lambda count: receive([head(b"Set-Cookie: " + b"mwai_session_id=a, " * count + b"a=b")]),
    "nonces of one refusal": lambda count: receive(
        [b"HTTP/1.1 403 -\r\nContent-Length: %d\r\n\r\n" % (11 * count) + b"nonce: abc," * count]
    ),
    "nonces, one an answer": ask_one_after_the_other,
    "calls that wait for a session": wait_together,
    "messages of a question": lambda count: Submit.from_messages(
        [*[{"role": "assistant", "content": "Hi"}] * count, {"role": "user", "content": "Hi?"}]
    ).encode(),
    "messages of a conversation": converse,
    "files of a question": lambda count: Submit(new_message="", file_ids=("a1",) * count).encode(),
    "bytes of a file": lambda count: Upload(name="a.txt", boundary="-----", data=b"x" * count * 1000).encode(),
    "a question that is sent in pieces": lambda count: ask_at_length(count * 5000),
    "bots of a page": lambda count: Page.parse(
        '<div class="mwai-chatbot-container" data-params="{}">' * count, "https://a/"
    ),
    "attributes of a page": lambda count: Page.parse("<a " + "b=c " * count + ">", "https://a/"),
    "character references of a page": lambda count: Page.parse(f'<link rel="{"&amp;&#65;&x" * count}">', "https://a/"),
    "scripts of a page": lambda count: Page.parse("<script></script>" * count, "https://a/"),
    "tags without an end": lambda count: Page.parse("<a " * count, "https://a/"),
    "a line of chunked framing, cut": lambda count: receive(
        in_pieces(head(b"Transfer-Encoding: chunked") + b"1;" + b"a=b;" * count, 10)
    ),
    "trailers": lambda count: receive([head(b"Transfer-Encoding: chunked") + b"0\r\n" + b"A: b\r\n" * count + b"\r\n"]),
    "folded lines": lambda count: receive([head(b"A: b", *[b" c"] * count)]),
    "challenges of a refusal": lambda count: receive(
        [b"HTTP/1.1 401 -\r\n" + b'WWW-Authenticate: Basic realm="a"\r\n' * count + b"Content-Length: 0\r\n\r\n"]
    ),
    "ids and types of one event": lambda count: decode([b"id: 1\nevent: a\n" * count + b"data: x\n\n"], SSEDecoder()),
    "reconnection times": lambda count: decode([b"retry: 1\n\n" * count], SSEDecoder()),
    "brackets of one event": lambda count: decode([b'data: {"type":"x","data":[' + b"[]," * count + b"0]}\n\n"]),
    "discussions of a page": list_discussions,
    "lines of a file of cookies": lambda count: Session.from_cookies(
        "".join(f"site.example\tFALSE\t/\tFALSE\t0\tn{number}\tv\n" for number in range(count)),
        "http://site.example",
        now=0.0,
    ),
    "headers to a server, cut": lambda count: serve(in_pieces(REQUEST + b"Cookie: a=b\r\n" * count + b"\r\n", 50)),
    "body to a server, cut": lambda count: serve(
        in_pieces(submit(b"Content-Length: %d\r\n\r\n" % (100 * count)) + b" " * 100 * count, 50)
    ),
    "chunks to a server": lambda count: serve([submit(b"Transfer-Encoding: chunked\r\n\r\n") + b"1\r\n \r\n" * count]),
    "messages to a server": lambda count: serve(
        [submit(b"Content-Length: %d\r\n\r\n" % (len(MESSAGES % (b"{}," * count)))) + MESSAGES % (b"{}," * count)]
    ),
    "a file to a server, cut": lambda count: upload(
        in_pieces(part('name="file"; filename="a.txt"') + b"\r\n--y" * count, 10)
    ),
    "requests to a server": lambda count: Server(Site(b"secret")).receive_data(
        b"GET / HTTP/1.1\r\nHost: site.example\r\n\r\n" * count, now=0.0
    ),
    "questions of a batch": lambda count: play(Plan(url=SITE), questions(*map(str, range(count))), concurrency=4),
}


@pytest.mark.parametrize("work", GROWING.values(), ids=GROWING)
def test_twice_the_size_takes_twice_the_work(work: Callable[[int], object]) -> None:
    work(8)  # compiled or cached once
    small, middle, large = (cost(partial(work, count)) for count in (100, 200, 400))
    assert large - middle <= 2.2 * (middle - small) + 500
