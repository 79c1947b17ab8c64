"""Test your own client against a bad network: a scripted server on loopback, and the same without sockets.

It runs in a thread of its own, so the same `with` serves blocking code, trio and asyncio:

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

A script is a tuple of steps, a value: `(Write(ANSWER[:200]), Close())` is what
`cut(200)` gives. It says what follows a submit; start_session is answered with a
good session before, over the same connection or another. `FAULTS` has a script for
each fault that is worth a test:

    @pytest.mark.parametrize("script", FAULTS.values(), ids=FAULTS)

and `scripts()` is a Hypothesis strategy for any script:

    @given(scripts())

As a fixture: `with FaultServer(...) as server: yield server`.

    what is answered            answer(*events), response(*pieces, status=..., headers=..., framing=...): bytes
    how the bytes are changed   slices, `+`, `replace`: they are bytes
    how they are sent           Write(data, size, gap), Repeat(data), Delay(seconds)
    how it ends                 Close(), Reset(), Stall()
    when                        Expect("submit"), Expect("start_session"), Accept()

Scripts follow the requests: the first submit takes the first script, the second the
second, and so on; the last one goes on for all others. What stands behind `Close()`
or `Reset()` is for another connection, as for a question whose nonce is refused:

    (*refused(403, "No.", "rest_cookie_invalid_nonce"), Close(), Expect("submit"), Write(ANSWER))

`MemoryServer` plays the same scripts without sockets, with a clock that costs no
time: against one `Call`, or many side by side. `pair` lets one talk to a `Server` and
its bot.

    _scripts.py       the steps, and the responses that they send
    _faults.py        FAULTS and what makes them
    _journal.py       what came, and what a script does about it; no I/O
    _server.py        FaultServer: scripts over sockets
    _memory.py        MemoryServer and pair: the same without sockets
    _strategies.py    any script, for Hypothesis
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
