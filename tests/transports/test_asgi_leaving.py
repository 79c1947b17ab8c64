"""Clients that leave while a bot thinks or streams."""

from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from opchat_proto import End, Live, Submit
from opchat_transports.asgi import application

from .asgi import APP, PATIENCE, SECRET, Peer, ask, body, leave, question, request, run, scope


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_early_cancels_the_bot(backend: str, stream: bool) -> None:
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
        peer.gates[2] = anyio.Event()  # never set: the client does not read
        peer.came[2] = anyio.Event()
        await peer.came[2].wait()
        peer.left.set()

    peer = leave(backend, bot, client)
    assert peer.pieces() == ["a", "a"]
    assert log == ["asked", "asked", "closed"]


def test_a_server_may_report_a_lost_client_only_on_send(backend: str) -> None:
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


def test_a_client_that_is_lost_before_any_response_is_no_failure(backend: str) -> None:
    async def main() -> None:
        for head in (scope("/", "GET"), scope()):
            peer = Peer(*body(b""))
            peer.lost = True
            await APP(head, peer.receive, peer.send)
            assert peer.sent == []

    run(backend, main)


def test_a_lost_client_is_noticed_even_if_neither_bot_nor_server_waits(backend: str) -> None:
    """Neither the bot nor the server waits, so no other task would get a turn."""

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


def test_a_server_may_report_a_disconnect_during_the_last_send(backend: str) -> None:
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


def test_a_bot_that_swallows_its_cancellation_gets_no_further_turn(backend: str) -> None:
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


@pytest.mark.parametrize("stream", [True, False])
def test_a_bot_that_fails_when_it_is_cancelled_only_logs(
    backend: str, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    is_asked = anyio.Event()

    async def bot(submit: Submit) -> AsyncIterator[str]:
        try:
            is_asked.set()
            await anyio.sleep_forever()
            yield "never"
        finally:
            raise LookupError("cannot close")

    async def client(peer: Peer) -> None:
        await is_asked.wait()
        peer.left.set()

    leave(backend, bot, client, stream=stream)
    assert [record.message for record in caplog.records] == ["the bot failed"]


def test_a_bot_may_clean_up_in_a_shielded_scope(backend: str) -> None:
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


def test_a_bot_may_yield_inside_cancel_scopes_and_task_groups(backend: str) -> None:
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


def test_a_client_that_leaves_during_its_request_reaches_no_bot(backend: str) -> None:
    head, messages = question()
    messages[0]["more_body"] = True
    peer = request(backend, APP, head, *messages, {"type": "http.disconnect"})
    assert peer.sent == []
