import asyncio
import gc
import inspect
import json
import pickle
import re
import threading
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

import pytest

from opchat_proto import InvalidMessages, Reason
from opchat_transports import ReplyBroken, Timeouts
from opchat_transports.blocking_server import serve
from opchat_transports.provider import Opchatgpts
from opchat_transports.testing import FaultServer

from .peer import PATIENCE, Peer, plays
from .wire import LAST, STREAM, answer, answers, chunk, end, event, live, object_, tells

HI = [{"role": "user", "content": "Hi"}]


@pytest.fixture(autouse=True)
def nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield
    gc.collect()  # an unclosed resource raises ResourceWarning, which is an error here


def ask(url: str, messages: Any = HI, **options: Any) -> list[str]:
    async def main() -> list[str]:
        return [
            piece async for piece in Opchatgpts.create_async_generator("gpt-3.5-turbo", messages, url=url, **options)
        ]

    return asyncio.run(main())


def broken(*pieces: bytes, **options: Any) -> ReplyBroken:
    with FaultServer(answers(*pieces)) as server, pytest.raises(RuntimeError) as caught:
        ask(server.url, **options)
    assert isinstance(caught.value, ReplyBroken)
    assert server.routes == ("start_session", "submit")
    return caught.value


def body(server: FaultServer) -> dict[str, Any]:
    sent: dict[str, Any] = json.loads(server.requests[-1].body)
    return sent


def test_it_has_the_shape_of_the_original() -> None:
    assert Opchatgpts.url == "https://opchatgpts.net"
    assert not Opchatgpts.working  # that site no longer exists
    assert not Opchatgpts.needs_auth
    assert not Opchatgpts.supports_gpt_4
    assert Opchatgpts.supports_stream
    assert Opchatgpts.supports_message_history
    assert Opchatgpts.supports_gpt_35_turbo
    assert inspect.isasyncgenfunction(Opchatgpts.create_async_generator)
    parameters = inspect.signature(Opchatgpts.create_async_generator).parameters
    assert list(parameters)[:3] == ["model", "messages", "proxy"]
    assert parameters["proxy"].default is None
    assert list(inspect.signature(Opchatgpts.create_completion).parameters)[:3] == ["model", "messages", "stream"]
    assert inspect.iscoroutinefunction(Opchatgpts.create_async)


def test_params_lists_the_arguments() -> None:
    given = re.findall(r"(\w+):", Opchatgpts.params.partition("(")[2])
    parameters = inspect.signature(Opchatgpts.create_async_generator).parameters
    assert set(given) == {*parameters, "stream"} - {"kwargs"}


def test_the_pieces_are_yielded_as_text() -> None:
    with FaultServer(tells("Hel", "lo")) as server:
        assert ask(server.url) == ["Hel", "lo"]
    assert server.routes == ("start_session", "submit")
    assert server.requests[1].nonce == "0000000001"


def test_the_librarys_own_server_answers() -> None:
    with serve(lambda submit: [*submit.new_message]) as server:
        assert ask(server.url) == ["H", "i"]


def test_create_async_returns_the_whole_answer() -> None:
    with FaultServer(tells("Hel", "lo")) as server:
        assert asyncio.run(Opchatgpts.create_async("gpt-3.5-turbo", HI, url=server.url)) == "Hello"


@pytest.mark.parametrize("stream", [True, False])
def test_create_completion_yields_the_pieces_without_async(stream: bool) -> None:
    with FaultServer(tells("Hel", "", "lo")) as server:
        assert list(Opchatgpts.create_completion("gpt-3.5-turbo", HI, stream, url=server.url)) == ["Hel", "", "lo"]


def test_without_async_a_broken_answer_raises_too() -> None:
    with FaultServer(answers(STREAM, live("a"), event(type="error", data="Overloaded"), LAST)) as server:
        pieces = Opchatgpts.create_completion("", HI, url=server.url)
        assert next(pieces) == "a"
        with pytest.raises(ReplyBroken, match="Overloaded"):
            next(pieces)
    assert server.routes == ("start_session", "submit")


def test_without_async_leaving_early_closes_the_connection() -> None:
    left = threading.Event()

    @plays
    def play(peer: Peer) -> None:
        peer.send(STREAM, live("a"))
        assert peer.is_left()
        left.set()

    with FaultServer(play) as server:
        pieces = Opchatgpts.create_completion("", HI, url=server.url)
        assert next(pieces) == "a"
        pieces.close()
        assert left.wait(PATIENCE)


def test_without_async_it_is_refused_inside_a_running_event_loop() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="an event loop is running here"):
            next(Opchatgpts.create_completion("", HI, url="http://127.0.0.1:1"))

    asyncio.run(main())


def test_all_arguments_can_be_given_by_position_or_name() -> None:
    async def main(url: str) -> None:
        for generator in (
            Opchatgpts.create_async_generator("", HI, None, url=url),
            Opchatgpts.create_async_generator(model="", messages=HI, proxy=None, url=url),
            Opchatgpts().create_async_generator(None, HI, url=url),
        ):
            assert [piece async for piece in generator] == ["a"]

    with FaultServer(tells("a")) as server:
        asyncio.run(main(server.url))


def test_the_arguments_reach_the_server() -> None:
    messages = [{"role": "system", "content": "Be brief."}, *HI]
    with FaultServer(tells("a")) as server:
        ask(
            server.url,
            messages,
            bot_id="parrot",
            context_id=7,
            headers={"X-Extra": "1"},
            timeout=PATIENCE,
            stream=True,
            x=1,
        )
    sent = body(server)
    assert (sent["botId"], sent["contextId"], sent["newMessage"], sent["stream"]) == ("parrot", 7, "Hi", True)
    assert sent["messages"] == messages[:1]
    assert all(("x-extra", "1") in request.headers for request in server.requests)


def test_omitted_arguments_have_their_defaults() -> None:
    with FaultServer(tells("a")) as server:
        ask(server.url, headers=None, timeout=None)
    sent = body(server)
    assert (sent["botId"], sent["contextId"], len(sent["chatId"])) == ("default", None, 10)


def test_the_url_of_the_class_is_visited_and_its_bot_asked() -> None:
    async def main() -> list[str]:
        return [piece async for piece in Here.create_async_generator("", HI)]

    with FaultServer(tells("a")) as server:

        class Here(Opchatgpts):
            url = server.url

        assert asyncio.run(main()) == ["a"]
    assert body(server)["contextId"] == 28


def test_the_proxy_is_used() -> None:
    with FaultServer(tells("a")) as proxy:
        assert ask("http://site.example", proxy=proxy.url) == ["a"]
    assert proxy.requests[0].target == "http://site.example/wp-json/mwai/v1/start_session"


def test_without_a_proxy_the_environments_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultServer(tells("a")) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert ask("http://site.example") == ["a"]
        assert proxy.routes == ("start_session", "submit")


def test_a_malformed_proxy_is_refused() -> None:
    with pytest.raises(ValueError, match="proxy"):
        ask("http://site.example", proxy="gopher://h")


# ------------------------------------------------------------------------------------------------ where it did not


@pytest.mark.parametrize("first", [b"\xef\xbb\xbf", b"\xef\xbb\xbf\n\n", b"\n\n", b"<b>Warning</b>: x<br />\n"])
def test_bytes_before_the_first_event_are_harmless(first: bytes) -> None:
    with FaultServer(answers(STREAM, chunk(first), live("a"), live("b"), end("ab"), LAST)) as server:
        assert ask(server.url) == ["a", "b"]


def test_only_content_is_yielded() -> None:
    status = event(type="live", data="Thinking...", subtype="status")
    content = event(type="live", data="a", subtype="content", visibility="visible")
    with FaultServer(
        answers(STREAM, status, content, event(type="new", data="x"), chunk(b"data: \n\n"), end("a"), LAST)
    ) as server:
        assert ask(server.url) == ["a"]


def test_a_json_object_is_an_answer() -> None:
    with FaultServer(answers(object_(success=True, reply="Hello"))) as server:
        assert ask(server.url) == ["Hello"]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([end("Hello")], ["Hello"]),
        ([live(""), end("Hello")], ["", "Hello"]),
        ([event(type="live", data="Thinking", subtype="thinking"), end("Hello")], ["Hello"]),
        ([live(" Hel"), live("lo "), end("Hello")], [" Hel", "lo "]),
        ([end("")], []),
        ([event(type="end", data=False)], []),
        ([live("a"), event(type="end", data=False)], ["a"]),
    ],
)
def test_the_final_text_is_yielded_if_no_piece_came(pieces: list[bytes], expected: list[str]) -> None:
    with FaultServer(answers(STREAM, *pieces, LAST)) as server:
        assert ask(server.url) == expected


# ------------------------------------------------------------------------------------------------ what goes wrong


def test_a_broken_line_is_raised() -> None:
    error = broken(STREAM, live("a"), chunk(b'data: {"type":"li\n\n'), LAST)
    assert 'an event that is not JSON: {"type":"li' in str(error)
    assert (error.broken.reason, error.status, error.text) == (Reason.MALFORMED, None, "a")


def test_an_error_event_is_raised() -> None:
    error = broken(STREAM, live("a"), live("b"), event(type="error", data="Overloaded"), LAST)
    assert (str(error), error.text) == ("the server reported an error: Overloaded", "ab")


def test_a_stream_without_its_end_is_raised() -> None:
    error = broken(STREAM, live("a"), LAST)
    assert str(error) == "the answer was cut off: the answer ended without its end event"


def test_a_refusal_is_raised_with_its_status() -> None:
    error = broken(object_(429, code="too_many", message="Slow down."))
    assert (str(error), error.status) == ("the server refused (status 429, too_many): Slow down.", 429)
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.status, copy.broken, str(copy)) == (429, error.broken, str(error))


def test_a_web_page_is_raised() -> None:
    error = broken(answer(b"<html><title>Welcome</title>"))
    assert "Welcome" in str(error)
    assert error.status is None


@pytest.mark.parametrize("timeout", [0.2, Timeouts(idle=0.2)])
def test_a_timeout_is_raised(timeout: Any) -> None:
    @plays
    def play(peer: Peer) -> None:
        peer.send(STREAM, live("a"))
        assert peer.is_left()

    with FaultServer(play) as server, pytest.raises(ReplyBroken, match=r"within 0\.2 s") as caught:
        ask(server.url, timeout=timeout)
    assert caught.value.broken.reason is Reason.TIMEOUT


@pytest.mark.parametrize("messages", [[], "Hi", [{"role": "assistant", "content": "Hi"}], [{"role": "user"}]])
def test_messages_that_cannot_be_asked_are_refused(messages: Any) -> None:
    with pytest.raises(InvalidMessages):
        ask("http://127.0.0.1:1", messages)


# ------------------------------------------------------------------------------------------------ leaving early


@pytest.mark.parametrize("how", ["aclose", "break", "cancel", "throw"])
def test_leaving_early_closes_the_connection(how: str) -> None:
    left = threading.Event()

    @plays
    def play(peer: Peer) -> None:
        peer.send(STREAM, live("a"))
        assert peer.is_left()
        left.set()

    async def main() -> None:
        generator = Opchatgpts.create_async_generator("", HI, url=server.url)
        if how == "break":
            async with aclosing(generator):
                async for _piece in generator:
                    break
        elif how == "cancel":
            got = asyncio.Event()

            async def read() -> None:
                async for _piece in generator:
                    got.set()

            task = asyncio.create_task(read())
            await got.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            assert await anext(generator) == "a"
            if how == "throw":
                with pytest.raises(ZeroDivisionError):
                    await generator.athrow(ZeroDivisionError())
            else:
                await generator.aclose()
        assert left.wait(PATIENCE)  # without letting any task run
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with FaultServer(play) as server:
        asyncio.run(main())


def test_a_garbage_collected_generator_closes_its_connection() -> None:
    left = threading.Event()

    @plays
    def play(peer: Peer) -> None:
        peer.send(STREAM, live("a"))
        assert peer.is_left()
        left.set()

    async def main() -> None:
        async for _piece in Opchatgpts.create_async_generator("", HI, url=server.url):
            break
        assert await asyncio.to_thread(left.wait, PATIENCE)

    with FaultServer(play) as server:
        asyncio.run(main())
