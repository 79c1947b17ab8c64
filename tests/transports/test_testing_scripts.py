"""Scripts: values, wrong arguments, the responses in them, and recordings as scripts."""

import copy
import json
import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from opchat_proto import (
    Broken,
    End,
    Live,
    Reason,
    Timeouts,
)
from opchat_transports import testing
from opchat_transports.testing import (
    ANSWER,
    EVENTS,
    FAULTS,
    GOOD,
    Accept,
    Close,
    Delay,
    Expect,
    FaultServer,
    MemoryServer,
    Repeat,
    Reset,
    Script,
    Stall,
    Write,
    answer,
    chunk,
    cut,
    delayed,
    dripped,
    encode,
    json_object,
    refused,
    replay,
    reset,
    response,
    stale_nonce,
    stalled,
)
from tests.captures import CAPTURES

from .faulted import (
    FIRST,
    LAST,
    QUESTION,
    SECOND,
    Ask,
    a_call,
    blocking,
    broken,
    no_answer,
    no_session,
    on_asyncio,
    on_trio,
    outcome,
)

# ---------------------------------------------------------------- scripts are values

STEPS = (
    *(Accept(), Expect(), Expect("start_session"), Write(b"a"), Write(b"", 1, 0.5), Repeat(b"a"), Repeat(b"a", 2, 1)),
    *(Delay(0), Delay(1.5), Stall(), Close(), Close(notify=False), Reset()),
)
SCRIPTS: dict[str, Script] = {**FAULTS, "steps": STEPS, "good": GOOD}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_a_script_is_a_value(script: Script) -> None:
    assert eval(repr(script), vars(testing)) == script
    again = pickle.loads(pickle.dumps(script))
    assert (again, copy.deepcopy(script)) == (script, script)
    assert len({script, again}) == 1


def test_no_two_steps_are_equal() -> None:
    assert len(set(STEPS)) == len(STEPS)


def wrong(value: object) -> Any:
    """Calls a function as untyped, since a type checker would also reject these arguments."""
    return value


BEHIND_AN_END = "only Expect can follow Close or Reset, and nothing Stall"


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Write(wrong("a")), TypeError, "Write.data: expected bytes, got str"),
        (lambda: Write(b"a", 0), ValueError, "Write.size: expected 1 or more, or None, got 0"),
        (lambda: Write(b"a", wrong(1.5)), TypeError, "Write.size: expected int, got float"),
        (lambda: Write(b"a", gap=-1), ValueError, "Write.gap: expected 0 or more seconds, got -1"),
        (lambda: Repeat(b""), ValueError, "Repeat.data: expected at least one byte"),
        (lambda: Repeat(b"a", times=0), ValueError, "Repeat.times: expected 1 or more, or None, got 0"),
        (lambda: Repeat(b"a", gap=wrong("1")), TypeError, "Repeat.gap: expected seconds, got str"),
        (lambda: Delay(math.inf), ValueError, "Delay.seconds: expected 0 or more seconds, got inf"),
        (lambda: Delay(math.nan), ValueError, "Delay.seconds: expected 0 or more seconds, got nan"),
        (lambda: Delay(True), TypeError, "Delay.seconds: expected seconds, got bool"),
        (lambda: Expect(wrong(None)), TypeError, "Expect.route: expected str, got NoneType"),
        (lambda: Close(wrong(None)), TypeError, "Close.notify: expected bool, got NoneType"),
        (lambda: FaultServer(wrong(Write(b"a"))), TypeError, "expected scripts, which are tuples of steps, got Write"),
        (
            lambda: MemoryServer(wrong((b"a",))),
            TypeError,
            "script[0]: expected a step such as Write or Close, got bytes",
        ),
        (lambda: FaultServer((Write(b"a"), Accept())), ValueError, "script[1]: Accept can only be the first step"),
        (lambda: FaultServer((Close(), Expect(), Close(), Write(b"a"))), ValueError, f"script[3]: {BEHIND_AN_END}"),
        (lambda: MemoryServer(GOOD, (Reset(), Close())), ValueError, f"script[1]: {BEHIND_AN_END}"),
        (lambda: FaultServer((Stall(), Expect())), ValueError, f"script[1]: {BEHIND_AN_END}"),
        (
            lambda: response(framing=wrong("none")),
            ValueError,
            "framing: expected 'chunked', 'length' or 'close', got 'none'",
        ),
        (lambda: response(headers=[("a b", "c")]), ValueError, "no HTTP response: "),
        (lambda: replay(b"abc", [(0, 2)]), ValueError, "reads: expected lengths that add up to 3 bytes, got 2"),
        (lambda: replay(b"abc", [(5, 2), (4, 1)]), ValueError, "reads: expected times that do not go back"),
        (lambda: replay(b"abc", [(0, 3)], 0), ValueError, "speed: expected more than 0, got 0"),
    ],
)
def test_wrong_arguments_are_refused(make: Callable[[], object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=re.escape(words)):
        make()


# ---------------------------------------------------------------- the pieces


def test_any_response_can_be_composed() -> None:
    page = response(b"<title>a</title>", status=418, headers=[("X-A", "b")], framing="length", keep_alive=True)
    assert page == b"HTTP/1.1 418 I'm a Teapot\r\nX-A: b\r\nContent-Length: 16\r\n\r\n<title>a</title>"
    assert response(b"a", b"bc") == (
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"
    )
    assert response(b"a", status=299, framing="close") == b"HTTP/1.1 299 \r\nConnection: close\r\n\r\na"
    assert chunk(b"abc") + chunk(b"") == b"3\r\nabc\r\n0\r\n\r\n"


def test_any_answer_can_be_composed() -> None:
    assert encode("a/\N{PILE OF POO}") == b'data: {"type":"live","data":"a\\/\\ud83d\\udca9"}\n\n'
    assert encode(b": as it is\n") == b": as it is\n"
    assert outcome((Write(answer("a\ud83d", "\ude00", End("c"))),))[:2] == [Live("a"), Live("\N{GRINNING FACE}")]
    answered = answer("a", Live("b", "status"), Broken(Reason.REMOTE, "c"), headers=(), framing="length")
    assert outcome((Write(answered),)) == broken(Reason.REMOTE, "c", Live("a"), Live("b", "status"))
    whole = json_object(success=True, reply="a")
    assert outcome((Write(whole),)) == [End("a", '{"success":true,"reply":"a"}')]


def test_faults_can_have_other_numbers() -> None:
    assert delayed(2, b"a") == (Delay(2), Write(b"a"))
    assert dripped(2, 3, b"a") == (Write(b"a", 3, 2),)
    assert cut(2, b"abc") == (Write(b"ab"), Close())
    assert reset(2, b"abc") == (Write(b"ab"), Reset())
    assert stalled(2, b"abc") == (Write(b"ab"), Stall())
    assert outcome(refused(418, "Tea.", headers=[("Retry-After", "7")])) == no_answer(418, "Tea.", None, 7)


def test_a_fault_can_be_moved_to_start_session() -> None:
    script = (Expect("start_session"), *refused(403, "No.", "rest_disabled"))
    assert outcome(script) == no_session(Reason.REFUSED, "No.", status=403, code="rest_disabled")


def test_the_script_after_a_stale_nonce_is_for_another_connection() -> None:
    stale = refused(401, "No.", "rest_forbidden")
    assert stale_nonce(401) == (*stale, Close(), Expect(), Write(ANSWER))
    server = MemoryServer(stale_nonce(401))
    assert list(server.run(a_call())) == list(EVENTS)
    assert server.repeated == (QUESTION,)
    assert [request.nonce for request in server.requests if request.submit] == ["0000000001", "0000000002"]
    assert [visit.script for visit in server.visits] == [(), (*stale, Close()), (), (Expect(), Write(ANSWER))]


# ---------------------------------------------------------------- replay

RECORDED = [(0.0, 100), (250.0, 200), (250.0, 0), (1250.0, len(ANSWER) - 300)]


def test_a_recording_is_played_with_its_timing() -> None:
    assert replay(ANSWER, RECORDED) == (
        Write(ANSWER[:100]),
        Delay(0.25),
        Write(ANSWER[100:300]),
        Write(b""),
        Delay(1.0),
        Write(ANSWER[300:]),
    )
    server = MemoryServer(replay(ANSWER, RECORDED, speed=2))
    assert [(event, server.now) for event in server.run(a_call())] == [(FIRST, 0.125), (SECOND, 0.125), (LAST, 0.625)]
    assert server.visits[-1].left == 0.625
    assert all(isinstance(step, Write) for step in replay(ANSWER, RECORDED, math.inf))


@pytest.mark.parametrize("ask", [blocking, on_trio, on_asyncio])
def test_a_recording_is_played_over_loopback(ask: Ask) -> None:
    with FaultServer(replay(ANSWER, RECORDED, speed=10)) as server:
        assert ask(server.url) == list(EVENTS)
    left = server.visits[-1].left
    assert left is not None
    assert left >= 0.125


@pytest.mark.parametrize(
    "path", [None, *sorted(CAPTURES.glob("*/*.chunks.json"))], ids=lambda path: path.name if path else "ours"
)
def test_recordings_of_real_sites_are_played(path: Path | None) -> None:
    data, reads = ANSWER, RECORDED
    if path is not None:
        data = path.with_name(path.name.replace("chunks.json", "response.bin")).read_bytes()
        reads = [(milliseconds, length) for milliseconds, length in json.loads(path.read_text())]
    script = (*replay(data, reads), Stall())
    timeouts = Timeouts(idle=3)
    assert outcome(script, timeouts=timeouts) == outcome((Write(data), Stall()), timeouts=timeouts)
