"""Test your own client against a bad network: a scripted server on loopback, or in memory without sockets.

`FaultServer` runs in its own thread, so the same `with` serves blocking code, trio and asyncio:

    def test_a_cut_answer_is_reported_once():
        with FaultServer(FAULTS["cut after an event"]) as server, BlockingTransport(server.url) as transport:
            with transport.ask("Hello!") as reply:
                assert [type(event) for event in reply] == [Live, Broken]
        assert len(server.questions) == 1

    def test_the_same_on_trio():
        async def main():
            with FaultServer(FAULTS["cut after an event"]) as server:
                async with TrioTransport(server.url) as transport, transport.ask("Hello!") as reply:
                    assert [type(event) async for event in reply] == [Live, Broken]
            assert len(server.questions) == 1

        trio.run(main)

    def test_the_same_on_asyncio():
        async def main():
            with FaultServer(FAULTS["cut after an event"]) as server:
                async with AsyncioTransport(server.url) as transport, transport.ask("Hello!") as reply:
                    assert [type(event) async for event in reply] == [Live, Broken]
            assert len(server.questions) == 1

        asyncio.run(main())

A script is a tuple of steps: `cut(200)` returns `(Write(ANSWER[:200]), Close())`. It
says what follows a submit. A start_session before it gets a good session, over the
same connection or another. `FAULTS` has a script for each fault worth a test:

    @pytest.mark.parametrize("script", FAULTS.values(), ids=FAULTS)

and `scripts()` is a Hypothesis strategy for scripts:

    @given(scripts())

As a fixture: `with FaultServer(...) as server: yield server`.

    what is answered            answer(*events), response(*pieces, status=..., headers=..., framing=...): bytes
    how the bytes are changed   slices, `+`, `replace`: they are bytes
    how they are sent           Write(data, size, gap), Repeat(data), Delay(seconds)
    how it ends                 Close(), Reset(), Stall()
    what no step does           Run(function)
    when                        Expect("submit"), Expect("start_session"), Accept()

The first submit takes the first script, the second the second, and so on; the last
script serves all later ones. Steps after `Close()` or `Reset()` are for another
connection, for example after a refused nonce:

    (*refused(403, "No.", "rest_cookie_invalid_nonce"), Close(), Expect("submit"), Write(ANSWER))

`MemoryServer` plays the same scripts without sockets and in virtual time, against one
`Call` or many side by side. `pair` connects a client to a `Server` and its bot.

    _scripts.py       the steps, and the responses that they send
    _faults.py        FAULTS, and functions that make scripts
    _journal.py       what a server received, and its reaction to it; no I/O
    _server.py        FaultServer: scripts over sockets
    _memory.py        MemoryServer and pair: the same without sockets
    _strategies.py    scripts(), the Hypothesis strategy
"""

from ._faults import FAULTS, cut, delayed, dripped, refused, replay, reset, stale_nonce, stalled
from ._journal import Connection, Journal, Received
from ._memory import CallLike, ClientLike, Cut, MemoryServer, ServerLike, pair
from ._scripts import (
    ANSWER,
    EVENTS,
    GOOD,
    Accept,
    Close,
    Delay,
    Expect,
    Framing,
    Repeat,
    Reset,
    Run,
    Script,
    Stall,
    Step,
    Write,
    answer,
    chunk,
    encode,
    json_object,
    response,
)
from ._server import FaultServer
from ._strategies import scripts

__all__ = [
    "ANSWER",
    "EVENTS",
    "FAULTS",
    "GOOD",
    "Accept",
    "CallLike",
    "ClientLike",
    "Close",
    "Connection",
    "Cut",
    "Delay",
    "Expect",
    "FaultServer",
    "Framing",
    "Journal",
    "MemoryServer",
    "Received",
    "Repeat",
    "Reset",
    "Run",
    "Script",
    "ServerLike",
    "Stall",
    "Step",
    "Write",
    "answer",
    "chunk",
    "cut",
    "delayed",
    "dripped",
    "encode",
    "json_object",
    "pair",
    "refused",
    "replay",
    "reset",
    "response",
    "scripts",
    "stale_nonce",
    "stalled",
]

for _name in __all__:  # as in opchat_proto
    if isinstance(_public := globals()[_name], type) and _public.__module__.startswith(f"{__name__}."):
        _public.__module__ = __name__
