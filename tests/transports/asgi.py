"""Call an ASGI application in memory: a peer in the role of the server, and bots."""

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread

from opchat_proto import Event, ReplyDecoder, Response, Site, Submit
from opchat_transports.asgi import Application, application

SECRET = b"a secret of this site"
PATIENCE = 20  # seconds; bounds whatever might hang
SUBMIT = "/wp-json/mwai-ui/v1/chats/submit"

Message = dict[str, Any]


def run(backend: str, main: Callable[[], Awaitable[Any]]) -> Any:
    async def patiently() -> Any:
        with anyio.fail_after(PATIENCE):
            return await main()

    return anyio.run(patiently, backend=backend)


class Peer:
    """An ASGI server with one client. It delivers `messages`, and leaves when told to."""

    def __init__(self, *messages: Message) -> None:
        self.waiting = list(messages)
        self.sent: list[Message] = []
        self.left = anyio.Event()
        self.lost = False  # report a lost client by raising in `send`
        self.gates: dict[int, anyio.Event] = {}  # the application's nth message is accepted when gate n opens
        self.came: dict[int, anyio.Event] = {}  # set when the application has sent its nth message

    async def receive(self) -> Message:
        if self.waiting:
            await anyio.lowlevel.checkpoint()
            return self.waiting.pop(0)
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if self.lost:
            raise OSError("the client has left")
        number = len(self.sent)
        self.sent.append(dict(message))
        if number in self.came:
            self.came[number].set()
        if number in self.gates:
            await self.gates[number].wait()
        else:
            await anyio.lowlevel.checkpoint()

    @property
    def response(self) -> Response:
        assert [message["type"] for message in self.sent] == [
            "http.response.start",
            *["http.response.body"] * (len(self.sent) - 1),
        ]
        assert [message["more_body"] for message in self.sent[1:]] == [True] * (len(self.sent) - 2) + [False]
        headers = tuple((name.decode(), value.decode()) for name, value in self.sent[0]["headers"])
        return Response(self.sent[0]["status"], headers, b"".join(message["body"] for message in self.sent[1:]))

    @property
    def events(self) -> list[Event]:
        response = self.response
        decoder = ReplyDecoder()
        events = decoder.receive_head(response.status, response.headers)
        return [*events, *decoder.receive_data(response.body), *decoder.receive_eof()]

    def pieces(self) -> list[str]:
        return [json.loads(message["body"][6:])["data"] for message in self.sent[1:]]


def body(*pieces: bytes) -> list[Message]:
    return [
        {"type": "http.request", "body": piece, "more_body": number < len(pieces) - 1}
        for number, piece in enumerate(pieces)
    ]


def scope(target: str = SUBMIT, method: str = "POST", headers: Any = (), **more: Any) -> Message:
    path, _, query = target.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": list(headers),
        **more,
    }


def question(text: str = "hi", *, stream: bool = True) -> tuple[Message, list[Message]]:
    """A submit with a valid nonce, as its scope and its messages."""
    values = {"botId": "default", "newMessage": text, "stream": stream}
    headers = [(b"content-type", b"application/json"), (b"x-wp-nonce", Site(SECRET).nonce(time.time()).encode())]
    return scope(headers=headers), body(json.dumps(values).encode())


def ask(backend: str, bot: Any, *, stream: bool = True, **options: Any) -> Peer:
    async def main() -> Peer:
        head, messages = question(stream=stream)
        peer = Peer(*messages)
        await application(bot, secret=SECRET, **options)(head, peer.receive, peer.send)
        return peer

    peer = run(backend, main)
    assert isinstance(peer, Peer)
    return peer


def request(backend: str, app: Application, head: Message, *messages: Message) -> Peer:
    async def main() -> Peer:
        peer = Peer(*messages)
        await app(head, peer.receive, peer.send)
        return peer

    peer = run(backend, main)
    assert isinstance(peer, Peer)
    return peer


async def echo(submit: Submit) -> AsyncIterator[str | Event]:
    for character in submit.new_message:
        yield character


APP = application(echo, secret=SECRET)


class Letters:
    """An async iterator that is not a generator, so it has no `aclose`."""

    def __init__(self, text: str) -> None:
        self.letters = list(text)

    def __aiter__(self) -> "Letters":
        return self

    async def __anext__(self) -> str:
        if not self.letters:
            raise StopAsyncIteration
        return self.letters.pop(0)


class Callable_:
    def __call__(self, submit: Submit) -> Letters:
        return Letters("ab")


def leave(backend: str, bot: Any, client: Callable[[Peer], Coroutine[Any, Any, None]], **options: Any) -> Peer:
    """Ask, and run `meanwhile` as the client. Returns the messages received."""

    async def main() -> Peer:
        head, messages = question(stream=options.pop("stream", True))
        peer = Peer(*messages)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client, peer)
            await application(bot, secret=SECRET, **options)(head, peer.receive, peer.send)
        return peer

    peer = run(backend, main)
    assert isinstance(peer, Peer)
    return peer
