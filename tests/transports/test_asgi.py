"""The ASGI application, in memory: what it is told and what it tells, on asyncio and on trio."""

import asyncio
import json
import logging
import re
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextvars import ContextVar
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import httpx
import pytest

from opchat_proto import Broken, End, Event, Limits, Live, Reason, ReplyDecoder, Response, Site, Submit
from opchat_transports.asgi import Application, AsyncBot, application
from opchat_transports.asyncio_httpx import HttpxTransport

SECRET = b"a secret of this site"
PATIENCE = 20  # seconds, for what must not hang
START = "/wp-json/mwai/v1/start_session"
SUBMIT = "/wp-json/mwai-ui/v1/chats/submit"
OOPS = "Oops! Something went wrong on the server."

Message = dict[str, Any]


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def run(backend: str, main: Callable[[], Awaitable[Any]]) -> Any:
    async def patiently() -> Any:
        with anyio.fail_after(PATIENCE):
            return await main()

    return anyio.run(patiently, backend=backend)


class Peer:
    """An ASGI server with one client, who sends these messages, and leaves when it is told."""

    def __init__(self, *messages: Message) -> None:
        self.waiting = list(messages)
        self.sent: list[Message] = []
        self.left = anyio.Event()
        self.lost = False  # tell it by an exception of `send`
        self.gates: dict[int, anyio.Event] = {}  # the nth message is taken when its gate opens
        self.came: dict[int, anyio.Event] = {}  # set when the nth message is there

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
    """A submit with a good nonce: its scope and its messages."""
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


# ---------------------------------------------------------------- answers


def test_the_pieces_of_a_bot_are_sent_one_by_one_and_are_the_reply(backend: str) -> None:
    peer = ask(backend, echo)
    assert peer.response.status == 200
    assert ("content-type", "text/event-stream;charset=UTF-8") in peer.response.headers
    assert [message["body"] for message in peer.sent[1:3]] == [
        b'data: {"type":"live","data":"h"}\n\n',
        b'data: {"type":"live","data":"i"}\n\n',
    ]
    assert [type(event) for event in peer.events] == [Live, Live, End]
    assert peer.events[:2] == [Live("h"), Live("i")]
    end = peer.events[-1]
    assert isinstance(end, End)
    assert list(end.payload()) == ["success", "reply", "images", "actions", "shortcuts", "blocks", "usage"]
    assert end.reply == "hi"


def test_a_character_may_be_cut_between_two_pieces(backend: str) -> None:
    async def bot(submit: Submit) -> AsyncIterator[str]:
        yield "\ud83d"
        yield "\ude00"

    piece, end = ask(backend, bot).events
    assert isinstance(end, End)
    assert (piece, end.reply) == (Live("\N{GRINNING FACE}"), "\N{GRINNING FACE}")


def test_a_question_without_a_stream_gets_one_object(backend: str) -> None:
    peer = ask(backend, echo, stream=False)
    assert len(peer.sent) == 2
    assert ("content-length", str(len(peer.response.body))) in peer.response.headers
    [end] = peer.events
    assert isinstance(end, End)
    assert end.reply == "hi"


def test_a_bot_may_give_events_and_nothing_after_the_last(backend: str) -> None:
    async def bot(submit: Submit) -> AsyncIterator[str | Event]:
        yield Live("Thinking...", "thinking")
        yield "a"
        yield End("A", '{"responseId":"r"}')
        yield "never asked for"

    events = ask(backend, bot).events
    assert events[:2] == [Live("Thinking...", "thinking"), Live("a")]
    end = events[-1]
    assert isinstance(end, End)
    assert (len(events), end.reply, end.response_id) == (3, "A", "r")


def test_pieces_of_other_kinds_are_no_part_of_the_reply(backend: str) -> None:
    async def bot(submit: Submit) -> AsyncIterator[str | Event]:
        yield Live("Thinking...", "thinking")
        yield "a"

    end = ask(backend, bot).events[-1]
    assert isinstance(end, End)
    assert end.reply == "a"


def test_a_bot_may_end_with_broken(backend: str) -> None:
    async def bot(submit: Submit) -> AsyncIterator[str | Event]:
        yield "a"
        yield Broken(Reason.REMOTE, "No more today.")

    assert ask(backend, bot).events == [Live("a"), Broken(Reason.REMOTE, "No more today.", raw=ANY)]


class Whatever(str):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = str.__hash__


ANY = Whatever()


class Letters:
    """An async iterator that is no generator: it cannot be closed."""

    def __init__(self, text: str) -> None:
        self.letters = list(text)

    def __aiter__(self) -> "Letters":
        return self

    async def __anext__(self) -> str:
        if not self.letters:
            raise StopAsyncIteration
        return self.letters.pop(0)


async def awaited(submit: Submit) -> Letters:
    return Letters("ab")


class Callable_:
    def __call__(self, submit: Submit) -> Letters:
        return Letters("ab")


@pytest.mark.parametrize(
    "bot", [awaited, Callable_(), lambda submit: Letters("ab")], ids=["awaited", "object", "lambda"]
)
def test_a_bot_is_any_callable_that_gives_an_async_iterable(backend: str, bot: Any) -> None:
    assert ask(backend, bot).events[:2] == [Live("a"), Live("b")]


def test_a_bot_sees_the_whole_question(backend: str) -> None:
    seen: list[Submit] = []

    async def bot(submit: Submit) -> AsyncIterator[str]:
        seen.append(submit)
        yield "ok"

    ask(backend, bot)
    assert seen == [Submit(new_message="hi", stream=True)]


# ---------------------------------------------------------------- bots that fail


def broken(*before: str) -> AsyncBot:
    async def bot(submit: Submit) -> AsyncIterator[str]:
        for piece in before:
            yield piece
        raise LookupError("the password is 1234")

    return bot


def refuses(submit: Submit) -> Any:
    raise LookupError("the password is 1234")


async def refuses_later(submit: Submit) -> Any:
    raise LookupError("the password is 1234")


async def exits(submit: Submit) -> Any:
    sys.exit("the password is 1234")


async def gives_a_number(submit: Submit) -> AsyncIterator[Any]:
    yield 5


async def gives_none(submit: Submit) -> AsyncIterator[Any]:
    yield None


async def in_a_group(submit: Submit) -> AsyncIterator[str]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(refuses_later, submit)
    yield "never"


def fails_in_a_thread(submit: Submit) -> Iterator[str]:
    raise LookupError("the password is 1234")
    yield ""


def exits_in_a_thread(submit: Submit) -> Iterator[str]:
    sys.exit(3)
    yield ""


@pytest.mark.parametrize(
    "bot",
    [
        *(broken(), refuses, refuses_later, exits, gives_a_number, gives_none, in_a_group, lambda: None),
        *(fails_in_a_thread, exits_in_a_thread, lambda submit: 5, lambda submit: [5]),
    ],
)
def test_a_bot_that_fails_is_an_error_event_without_details(
    backend: str, bot: Any, caplog: pytest.LogCaptureFixture
) -> None:
    peer = ask(backend, bot)
    [event] = peer.events
    assert isinstance(event, Broken)
    assert (event.reason, event.detail.startswith(OOPS)) == (Reason.REMOTE, True)
    assert peer.response.status == 200
    assert [record.message for record in caplog.records] == ["the bot failed"]
    assert caplog.records[0].exc_info is not None


def test_a_bot_that_fails_later_has_said_what_it_has_said(backend: str) -> None:
    events = ask(backend, broken("a", "b")).events
    assert events[:2] == [Live("a"), Live("b")]
    assert isinstance(events[2], Broken)


def test_a_bot_that_fails_without_a_stream_is_status_500(backend: str) -> None:
    peer = ask(backend, broken("a"), stream=False)
    assert peer.response.status == 500
    assert json.loads(peer.response.body)["message"].startswith(OOPS)


def test_what_a_bot_raised_is_told_in_debug_only(backend: str) -> None:
    [event] = ask(backend, broken(), debug=True).events
    assert isinstance(event, Broken)
    assert event.detail == "LookupError: the password is 1234"
    assert b"1234" not in ask(backend, broken()).response.body


def test_a_task_of_the_bot_that_is_cancelled_is_a_failure_of_the_bot() -> None:
    async def bot(submit: Submit) -> AsyncIterator[str]:
        yield "a"
        raise asyncio.CancelledError

    for backend in ("asyncio", "trio"):
        events = ask(backend, bot).events
        assert events[0] == Live("a")
        assert isinstance(events[1], Broken)


def test_a_group_of_what_a_bot_may_raise_is_a_failure_of_the_bot(backend: str) -> None:
    async def bot(submit: Submit) -> AsyncIterator[str]:
        yield "a"
        raise BaseExceptionGroup("both", [SystemExit(3), BaseExceptionGroup("inner", [asyncio.CancelledError()])])

    events = ask(backend, bot).events
    assert (events[0], type(events[1])) == (Live("a"), Broken)


def test_what_a_bot_raised_cannot_command_a_terminal_or_forge_a_line(
    backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def bot(submit: Submit) -> AsyncIterator[str]:
        raise LookupError("a\x1b[2J\nINFO: all is well")
        yield ""

    ask(backend, bot)
    text = logging.Formatter("%(message)s").format(caplog.records[0])
    assert text.startswith("the bot failed\n    ")
    assert text.endswith("\n    LookupError: a\\x1b[2J\n    INFO: all is well")


def test_a_bot_that_fails_when_it_is_closed_has_answered(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    async def bot(submit: Submit) -> AsyncIterator[str | Event]:
        try:
            yield End("a")
        finally:
            raise LookupError

    [end] = ask(backend, bot).events
    assert isinstance(end, End)
    assert [record.message for record in caplog.records] == ["the bot failed while it was closed"]


# ---------------------------------------------------------------- bots that are not async


def letters(submit: Submit) -> Iterator[str | Event]:
    yield from submit.new_message


class Lettered:
    def __call__(self, submit: Submit) -> list[str]:
        return list(submit.new_message)


@pytest.mark.parametrize("bot", [letters, Lettered(), lambda submit: list(submit.new_message)])
def test_a_bot_need_not_be_async(backend: str, bot: Any) -> None:
    events = ask(backend, bot).events
    assert events[:2] == [Live("h"), Live("i")]
    assert isinstance(events[2], End)
    assert (len(events), events[2].reply) == (3, "hi")


def test_a_question_has_one_thread_and_one_context(backend: str) -> None:
    who: ContextVar[str] = ContextVar("who", default="nobody")
    guard = threading.RLock()  # its owner alone may release it
    seen: list[tuple[str, str, int]] = []

    def bot(submit: Submit) -> Iterator[str]:
        before = who.get()
        who.set(submit.new_message)
        database = sqlite3.connect(":memory:")  # which one thread alone may use
        threads = {threading.get_ident()}
        try:
            with guard:
                yield "a"
                threads.add(threading.get_ident())
                yield str(database.execute("select 7").fetchone()[0])
        finally:
            database.close()
            threads.add(threading.get_ident())
            seen.append((before, who.get(), len(threads)))

    async def main() -> list[Peer]:
        app = application(bot, secret=SECRET)
        peers = []
        async with anyio.create_task_group() as tasks:
            for number in range(20):
                head, messages = question(str(number))
                peers.append(Peer(*messages))
                tasks.start_soon(app, head, peers[-1].receive, peers[-1].send)
        return peers

    assert [peer.pieces()[:2] for peer in run(backend, main)] == [["a", "7"]] * 20
    assert sorted(seen) == sorted(("nobody", str(number), 1) for number in range(20))


def test_there_are_so_many_threads_and_no_more(backend: str) -> None:
    running, most = 0, 0
    guard = threading.Lock()
    together = threading.Barrier(3)

    def bot(submit: Submit) -> Iterator[str]:
        nonlocal running, most
        with guard:
            running += 1
            most = max(most, running)
        together.wait(PATIENCE)
        yield "a"
        with guard:
            running -= 1

    async def main() -> list[Peer]:
        app = application(bot, secret=SECRET, threads=3)
        peers = []
        async with anyio.create_task_group() as tasks:
            for _ in range(9):
                head, messages = question()
                peers.append(Peer(*messages))
                tasks.start_soon(app, head, peers[-1].receive, peers[-1].send)
        return peers

    assert [type(peer.events[-1]) for peer in run(backend, main)] == [End] * 9
    assert most == 3


@pytest.mark.parametrize("gives_more", [True, False])
def test_nobody_waits_for_a_bot_that_thinks_when_its_client_has_left(backend: str, gives_more: bool) -> None:
    thinks, goes_on, closed = threading.Event(), threading.Event(), threading.Event()

    def bot(submit: Submit) -> Iterator[str]:
        try:
            thinks.set()
            assert goes_on.wait(PATIENCE)
            if gives_more:
                yield "a"
        finally:
            closed.set()

    async def client(peer: Peer) -> None:
        await anyio.to_thread.run_sync(thinks.wait, PATIENCE)
        peer.left.set()

    assert leave(backend, bot, client).sent == []
    assert not closed.is_set()
    goes_on.set()  # the event loop has ended meanwhile
    assert closed.wait(PATIENCE)


def test_a_bot_between_two_pieces_is_closed_before_the_answer_is_over(backend: str) -> None:
    closed: list[int] = []

    def bot(submit: Submit) -> Iterator[str]:
        begun = threading.get_ident()
        try:
            while True:
                yield "a"
        finally:
            closed.append(threading.get_ident() - begun)

    async def client(peer: Peer) -> None:
        peer.gates[2] = anyio.Event()
        peer.came[2] = anyio.Event()
        await peer.came[2].wait()
        peer.left.set()

    leave(backend, bot, client)
    assert closed == [0]


def test_a_question_that_waits_for_a_thread_is_dropped_when_its_client_leaves(backend: str) -> None:
    asked: list[str] = []
    begun, goes_on = threading.Event(), threading.Event()

    def bot(submit: Submit) -> Iterator[str]:
        asked.append(submit.new_message)
        begun.set()
        assert goes_on.wait(PATIENCE)
        yield "a"

    async def main() -> Peer:
        app = application(bot, secret=SECRET, threads=1)
        async with anyio.create_task_group() as tasks:
            first, second = [Peer(*question(text)[1]) for text in ("first", "second")]
            tasks.start_soon(app, question("first")[0], first.receive, first.send)
            await anyio.to_thread.run_sync(begun.wait, PATIENCE)
            second.left.set()
            await app(question("second")[0], second.receive, second.send)
            goes_on.set()
        return first

    assert isinstance(run(backend, main).events[-1], End)
    third = ask(backend, bot)
    assert isinstance(third.events[-1], End)
    assert asked == ["first", "hi"]


# ---------------------------------------------------------------- several bots


def test_a_question_is_answered_by_the_bot_that_it_names(backend: str) -> None:
    async def seven(submit: Submit) -> AsyncIterator[str]:
        yield "seven"

    app = application(bots={"sales": lambda submit: ["buy"], "7": seven}, secret=SECRET)
    assert repr(app) == "<Application sales, 7>"

    def reply(stream: bool = True, **names: Any) -> Response:
        head, _ = question()
        values = {"newMessage": "hi", "stream": stream, **names}
        return request(backend, app, head, *body(json.dumps(values).encode())).response

    assert b'"data":"buy"' in reply(botId="sales").body
    assert b'"data":"seven"' in reply(botId=7).body
    assert b'"data":"seven"' in reply(botId="sales", customId="7").body
    for names in ({"botId": "default"}, {"botId": "Sales"}, {"botId": None, "customId": "gone"}):
        unknown = reply(**names)
        rejected = b'data: {"type":"error","data":"Sorry, your query has been rejected."}\n\n'
        assert (unknown.status, unknown.body) == (200, rejected)
        unknown = reply(stream=False, **names)
        rejected = b'{"success":false,"message":"Sorry, your query has been rejected."}'
        assert (unknown.status, unknown.body) == (500, rejected)
    page = request(backend, app, scope("/", "GET"), *body(b"")).response.body
    assert b"{&quot;botId&quot;:&quot;sales&quot;," in page


# ---------------------------------------------------------------- clients that leave


def leave(backend: str, bot: Any, client: Callable[[Peer], Coroutine[Any, Any, None]], **options: Any) -> Peer:
    """Ask, and let the client do something meanwhile. Gives what it got."""

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


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_while_the_bot_thinks_cancels_it(backend: str, stream: bool) -> None:
    log: list[str] = []
    thinks: list[anyio.Event] = [anyio.Event()]

    async def bot(submit: Submit) -> AsyncIterator[str]:
        try:
            thinks[0].set()
            await anyio.sleep_forever()
            yield "never"
        except anyio.get_cancelled_exc_class():
            log.append("cancelled")
            raise
        finally:
            log.append("closed")

    async def client(peer: Peer) -> None:
        await thinks[0].wait()
        peer.left.set()

    assert leave(backend, bot, client, stream=stream).sent == []
    assert log == ["cancelled", "closed"]


def test_a_client_that_leaves_while_the_bot_streams_closes_it(backend: str) -> None:
    log: list[str] = []

    async def bot(submit: Submit) -> AsyncIterator[str]:
        try:
            while True:
                log.append("asked")
                yield "a"
        finally:
            log.append("closed")

    async def client(peer: Peer) -> None:
        peer.gates[2] = anyio.Event()  # which nobody opens: the client does not read
        peer.came[2] = anyio.Event()
        await peer.came[2].wait()
        peer.left.set()

    peer = leave(backend, bot, client)
    assert peer.pieces() == ["a", "a"]
    assert log == ["asked", "asked", "closed"]


def test_a_server_that_tells_of_it_when_something_is_sent(backend: str) -> None:
    log: list[str] = []

    async def bot(submit: Submit) -> AsyncIterator[str]:
        try:
            while True:
                yield "a"
        finally:
            log.append("closed")

    async def client(peer: Peer) -> None:
        peer.came[3] = anyio.Event()
        await peer.came[3].wait()
        peer.lost = True

    peer = leave(backend, bot, client)
    assert set(peer.pieces()) == {"a"}
    assert log == ["closed"]


def test_a_server_that_takes_everything_at_once_still_tells_that_the_client_has_left(backend: str) -> None:
    """Neither the bot nor the server waits for anything, so nobody else would have a turn."""

    async def bot(submit: Submit) -> AsyncIterator[str]:
        while True:
            yield "a"

    async def main() -> int:
        count = 0

        async def send(message: Any) -> None:
            nonlocal count
            count += 1
            if count == 100:
                peer.left.set()

        head, messages = question()
        peer = Peer(*messages)
        await application(bot, secret=SECRET)(head, peer.receive, send)
        return count

    assert 100 <= run(backend, main) < 200


def test_a_server_may_tell_of_the_end_while_it_takes_the_last_event(backend: str) -> None:
    async def main() -> Peer:
        class Closing(Peer):
            async def send(self, message: Any) -> None:
                if message.get("more_body") is False:
                    self.left.set()
                    await anyio.wait_all_tasks_blocked()
                await super().send(message)

        head, messages = question()
        peer = Closing(*messages)
        await APP(head, peer.receive, peer.send)
        return peer

    assert isinstance(run(backend, main).events[-1], End)


def test_a_bot_that_does_not_mind_being_cancelled_is_asked_for_no_more(backend: str) -> None:
    log: list[str] = []
    thinks: list[anyio.Event] = [anyio.Event()]

    async def bot(submit: Submit) -> AsyncIterator[str]:
        try:
            thinks[0].set()
            await anyio.sleep_forever()
        except BaseException:
            log.append("cancelled")
        while True:
            log.append("asked")
            yield "a"

    async def client(peer: Peer) -> None:
        await thinks[0].wait()
        peer.left.set()

    assert leave(backend, bot, client).sent == []
    assert log == ["cancelled", "asked"]


def test_a_bot_may_tidy_up_behind_a_shield(backend: str) -> None:
    log: list[str] = []
    thinks: list[anyio.Event] = [anyio.Event()]

    async def bot(submit: Submit) -> AsyncIterator[str]:
        try:
            thinks[0].set()
            await anyio.sleep_forever()
            yield "never"
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
                log.append("tidy")

    async def client(peer: Peer) -> None:
        await thinks[0].wait()
        peer.left.set()

    leave(backend, bot, client)
    assert log == ["tidy"]


def test_a_bot_may_hold_scopes_and_task_groups_open_while_it_gives_pieces(backend: str) -> None:
    async def bot(submit: Submit) -> AsyncIterator[str]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep_forever)
            with anyio.fail_after(PATIENCE):
                yield "a"
                yield "b"
            tasks.cancel_scope.cancel()

    assert ask(backend, bot).events[:2] == [Live("a"), Live("b")]

    async def client(peer: Peer) -> None:
        peer.gates[2] = anyio.Event()
        peer.came[2] = anyio.Event()
        await peer.came[2].wait()
        peer.left.set()

    assert leave(backend, bot, client).pieces() == ["a", "b"]


def test_a_client_that_leaves_before_its_question_is_there(backend: str) -> None:
    head, messages = question()
    messages[0]["more_body"] = True
    peer = request(backend, APP, head, *messages, {"type": "http.disconnect"})
    assert peer.sent == []


# ---------------------------------------------------------------- pace


def test_a_bot_is_asked_for_a_piece_when_the_one_before_was_taken(backend: str) -> None:
    asked = 0

    async def bot(submit: Submit) -> AsyncIterator[str]:
        nonlocal asked
        for number in range(5):
            asked += 1
            yield str(number)

    seen: list[int] = []

    async def client(peer: Peer) -> None:
        for number in range(1, 6):
            peer.came[number] = anyio.Event()
            peer.gates[number] = anyio.Event()
        for number in range(1, 6):
            await peer.came[number].wait()
            await anyio.wait_all_tasks_blocked()
            seen.append(asked)
            peer.gates[number].set()

    assert leave(backend, bot, client).pieces()[:5] == list("01234")
    assert seen == [1, 2, 3, 4, 5]


def test_comments_keep_a_stream_alive_while_the_bot_is_silent(backend: str) -> None:
    enough: list[anyio.Event] = [anyio.Event(), anyio.Event()]

    async def bot(submit: Submit) -> AsyncIterator[str]:
        await enough[0].wait()
        yield "a"
        await enough[1].wait()
        yield "b"

    async def client(peer: Peer) -> None:
        for event in enough:
            number = len(peer.sent) + 3
            peer.came[number] = anyio.Event()
            await peer.came[number].wait()
            event.set()

    peer = leave(backend, bot, client, keep_alive=0.001)
    bodies = [message["body"] for message in peer.sent[1:]]
    assert bodies[0] == bodies[1] == b": keepalive\n\n"
    assert set(bodies[: bodies.index(b'data: {"type":"live","data":"a"}\n\n')]) == {b": keepalive\n\n"}
    assert peer.events[:2] == [Live("a"), Live("b")]


@pytest.fixture
def timeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interval is over as soon as others have had their turn."""

    async def sleep(seconds: float) -> None:
        await anyio.lowlevel.checkpoint()

    monkeypatch.setattr(anyio, "sleep", sleep)


async def many_turns() -> None:
    for _ in range(50):
        await anyio.lowlevel.checkpoint()


@pytest.mark.usefixtures("timeless")
def test_no_comment_comes_after_the_last_event(backend: str) -> None:
    async def main() -> Peer:
        class Slow(Peer):
            async def send(self, message: Any) -> None:
                if message.get("more_body") is False:
                    await many_turns()  # comments are due meanwhile
                await super().send(message)

        async def bot(submit: Submit) -> AsyncIterator[str | Event]:
            try:
                yield End("a")
            finally:
                await many_turns()  # and here

        head, messages = question()
        peer = Slow(*messages)
        await application(bot, secret=SECRET, keep_alive=0.001)(head, peer.receive, peer.send)
        return peer

    response = run(backend, main).response
    assert response.body.endswith(b"}\n\n")
    assert b"keepalive" not in response.body.partition(b"data:")[2]


@pytest.mark.usefixtures("timeless")
def test_without_an_interval_and_without_a_stream_there_are_no_comments(backend: str) -> None:
    async def bot(submit: Submit) -> AsyncIterator[str]:
        await many_turns()
        yield "a"

    assert b"keepalive" in ask(backend, bot, keep_alive=1).response.body
    assert b"keepalive" not in ask(backend, bot).response.body
    assert b"keepalive" not in ask(backend, bot, stream=False, keep_alive=1).response.body


# ---------------------------------------------------------------- requests


def test_a_session_is_started_and_a_question_asked_with_it(backend: str) -> None:
    started = request(backend, APP, scope(START), *body(b"")).response
    assert started.status == 200
    nonce = json.loads(started.body)["restNonce"]
    head = scope(headers=[(b"content-type", b"application/json"), (b"x-wp-nonce", nonce.encode())])
    assert request(backend, APP, head, *body(b'{"botId":"default",', b'"newMessage":"hi"}', b"")).response.status == 200


def test_what_the_site_refuses_is_refused(backend: str) -> None:
    refused = request(backend, APP, scope(), *body(b"{}")).response
    assert (refused.status, json.loads(refused.body)["code"]) == (401, "rest_forbidden")
    assert request(backend, APP, scope("/elsewhere"), *body(b"")).response.status == 404
    assert request(backend, APP, scope(f"/?rest_route={START[8:]}"), *body(b"")).response.status == 200
    assert request(backend, APP, scope(f"/index.php?rest_route={START[8:]}"), *body(b"")).response.status == 200
    assert request(backend, APP, scope(f"/index.php{START}"), *body(b"")).response.status == 200


def test_head_has_no_body(backend: str) -> None:
    get = request(backend, APP, scope("/", "GET"), *body(b"")).response
    head = request(backend, APP, scope("/", "HEAD"), *body(b"")).response
    assert (head.status, head.headers, head.body) == (200, get.headers, b"")
    assert b"mwai-chatbot-container" in get.body


def test_a_server_need_not_tell_the_path_as_it_was_sent(backend: str) -> None:
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


def test_cookies_are_marked_where_the_client_came_by_https(backend: str) -> None:
    for scheme, marked in (("http", False), ("https", True)):
        response = request(backend, APP, scope(START, scheme=scheme), *body(b"")).response
        assert ("secure" in dict(response.headers)["set-cookie"]) is marked


def test_pages_of_named_origins_may_ask(backend: str) -> None:
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


def test_any_number_of_processes_are_one_site(backend: str) -> None:
    here, there = application(echo, secret=SECRET), application(echo, secret=SECRET)
    nonce = json.loads(request(backend, here, scope(START), *body(b"")).response.body)["restNonce"]
    values = b'{"botId":"default","newMessage":"hi"}'
    head = scope(headers=[(b"content-type", b"application/json"), (b"x-wp-nonce", nonce.encode())])
    assert request(backend, there, head, *body(values)).response.status == 200
    other = application(echo, secret=b"another")
    assert request(backend, other, head, *body(values)).response.status == 403


def test_a_name_that_was_rebound_to_the_site_reaches_nothing(backend: str) -> None:
    app = application(echo, secret=SECRET, allowed_hosts=["Site.example"])
    head, messages = question()
    for target, method in (("/", "GET"), (START, "POST"), (SUBMIT, "POST")):
        refused = request(backend, app, {**head, **scope(target, method)}, *messages).response
        assert refused.status == 421
    head["headers"].append((b"host", b"site.example:8000"))
    assert request(backend, app, head, *messages).response.status == 200


def test_the_script_of_the_plugin_is_told_that_a_guest_has_no_discussions(backend: str) -> None:
    target = "/wp-json/mwai-ui/v1/discussions/list"
    listed = request(backend, APP, scope(target), *body(b'{"botId":"default"}')).response
    assert (listed.status, listed.body) == (200, b'{"success":false,"message":"You need to be connected."}')


# ---------------------------------------------------------------- requests that are too much


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
def test_a_head_that_can_be_read_in_two_ways_is_refused(backend: str, headers: Any, version: str, status: int) -> None:
    messages = body(b"abc")
    peer = request(backend, APP, scope(START, headers=headers, http_version=version), *messages)
    assert (peer.response.status, ("connection", "close") in peer.response.headers) == (status, version != "2")
    assert peer.waiting == messages


def test_of_bodies_that_are_too_large_together_the_largest_is_refused(backend: str) -> None:
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


def test_the_body_of_a_question_counts_until_it_is_answered(backend: str) -> None:
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


# ---------------------------------------------------------------- the log


def test_each_request_has_a_line_in_the_log(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "opchat_transports.access")
    client = ("192.0.2.7", 5000)
    request(backend, APP, scope("/?a=1", "GET", client=client), *body(b""))
    request(backend, APP, scope("/nowhere", "HEAD", client=None), *body(b""))
    request(backend, APP, {**question()[0], "client": client}, *question()[1])
    request(backend, APP, scope("/\x1b[2J\n127.0.0.1", "G\rT", client=client), *body(b""))
    request(backend, APP, scope(START, client=client), {"type": "http.disconnect"})
    assert [re.sub(r" \d+\.\d{3} s$", "", line) for line in caplog.messages] == [
        '192.0.2.7:5000 "GET /?a=1" 200',
        '-:0 "HEAD /nowhere" 404',
        f'192.0.2.7:5000 "POST {SUBMIT}" 200',
        r'192.0.2.7:5000 "G\rT /\x1b[2J\n127.0.0.1" 404',
        f'192.0.2.7:5000 "POST {START}" - left',
    ]


def test_an_answer_that_was_not_taken_is_in_the_log(backend: str, caplog: pytest.LogCaptureFixture) -> None:
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


# ---------------------------------------------------------------- more requests that are too much


def test_a_body_is_as_large_as_its_limit_and_no_larger(backend: str) -> None:
    app = application(echo, secret=SECRET, limits=Limits(request_bytes=10))
    assert request(backend, app, scope(START), *body(b"12345", b"67890")).response.status == 200
    refused = request(backend, app, scope(START), *body(b"12345", b"67890", b"1", b"more")).response
    assert (refused.status, dict(refused.headers)["connection"]) == (413, "close")
    assert json.loads(refused.body)["message"] == "The body is larger than 10 bytes."


@pytest.mark.parametrize("length", [b"11", b"9" * 5000])
def test_a_body_that_will_be_too_large_is_not_asked_for(backend: str, length: bytes) -> None:
    app = application(echo, secret=SECRET, limits=Limits(request_bytes=10))
    messages = body(b"12345678901")
    peer = request(backend, app, scope(START, headers=[(b"content-length", length)]), *messages)
    assert peer.response.status == 413
    assert peer.waiting == messages


def test_a_request_that_takes_too_long_is_refused(backend: str) -> None:
    app = application(echo, secret=SECRET, request_timeout=0.01)
    half = body(b"{", b"}")[:1]
    refused = request(backend, app, scope(START), *half).response
    assert (refused.status, dict(refused.headers)["connection"]) == (408, "close")
    assert json.loads(refused.body)["code"] == "request_timeout"
    assert "connection" not in dict(request(backend, app, scope(START, http_version="2"), *half).response.headers)


# ---------------------------------------------------------------- the rest of ASGI


def test_the_lifespan_is_followed(backend: str) -> None:
    peer = request(backend, APP, {"type": "lifespan"}, {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"})
    assert peer.sent == [{"type": "lifespan.startup.complete"}, {"type": "lifespan.shutdown.complete"}]


def test_a_websocket_is_refused(backend: str) -> None:
    peer = request(backend, APP, {"type": "websocket"}, {"type": "websocket.connect"})
    assert peer.sent == [{"type": "websocket.close"}]


def test_another_protocol_is_an_error(backend: str) -> None:
    with pytest.raises(ValueError, match="expected http, lifespan or websocket, got 'smtp'"):
        request(backend, APP, {"type": "smtp"})


def test_an_error_of_the_server_is_not_hidden(backend: str) -> None:
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
def test_a_wrong_argument_is_refused(options: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        application(echo, **options)


def test_its_repr_names_the_bot_and_no_secret() -> None:
    assert repr(APP) == "<Application echo>"
    assert repr(application(Callable_(), secret=SECRET)) == "<Application Callable_>"


def test_our_own_client_talks_with_it_without_a_socket(backend: str) -> None:
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


def test_it_imports_no_server_and_no_http_library() -> None:
    names = ["httpx", "uvicorn", "trio", "click", "starlette"]
    code = f"import sys, opchat_transports.asgi; print([name for name in {names} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
