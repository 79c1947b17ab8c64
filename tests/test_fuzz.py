"""Every fuzz target with the corpus and with inputs made from it, by the same oracles as under atheris."""

import random
import subprocess
import sys
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from opchat_proto import (
    Call,
    Channel,
    End,
    Endpoint,
    Event,
    Limits,
    Live,
    LocalProtocolError,
    SSEDecoder,
    Submit,
    Timeouts,
)
from tests.fuzz import oracles, targets_call
from tests.fuzz.__main__ import TARGETS as NAMES
from tests.fuzz.__main__ import mutants
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus_passes(target: str) -> None:
    inputs = seeds(target)
    assert len(inputs) >= 20
    for data in inputs:
        TARGETS[target](data)


@pytest.mark.parametrize("target", TARGETS)
def test_inputs_made_from_the_corpus_pass(target: str) -> None:
    inputs = list(islice(mutants(seeds(target), random.Random(8)), 200))
    assert len({*inputs}) > 150
    for data in inputs:
        TARGETS[target](data)


@pytest.mark.parametrize("data", [b"", b"\0", b"\x01", b"\xff", b"\x3f" * 64, b"\xff" * 64, bytes(64)])
@pytest.mark.parametrize("target", TARGETS)
def test_nearly_empty_inputs_pass(target: str, data: bytes) -> None:
    TARGETS[target](data)


def test_the_command_knows_all_targets() -> None:
    assert tuple(TARGETS) == NAMES


def test_the_command_runs_a_target_and_keeps_failing_inputs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz", "endpoint", "--plain", "--executions", "60", "--keep", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("endpoint: 60 executions in ")
    (tmp_path / "endpoint" / "crash-1").write_bytes(b"https://site.example\0")
    result = subprocess.run([*command, "--replay"], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.startswith(f"endpoint: {len(seeds('endpoint')) + 1} executions in ")
    assert subprocess.run([*command[:3], "nothing", "--plain"], capture_output=True, cwd=ROOT).returncode == 2


# ---------------------------------------------------------------- each oracle can fail


def test_an_input_is_taken_apart_as_it_was_composed() -> None:
    choices = oracles.Choices(oracles.seed(b"a", b"b", decisions=b"\x05\x07"))
    assert choices.strings == [b"a", b"b"]
    assert [choices.number(256), choices.number(4), choices.number(9)] == [5, 3, 0]
    assert not choices


class Stateful:
    """A machine that is correct, or wrong in one of these ways."""

    def __init__(self, fault: str = "") -> None:
        self.fault = fault
        self.held = b""
        self.pieces = 0

    def receive(self, data: bytes) -> None:
        self.held += data
        self.pieces += 1

    def outcome(self) -> object:
        return (self.held, self.pieces) if self.fault == "cuts" else self.held

    def __deepcopy__(self, memo: object) -> "Stateful":
        other = Stateful(self.fault)
        other.held = b"" if self.fault == "copies" else self.held
        return other

    def __reduce__(self) -> tuple[object, ...]:
        return copied, (self.fault, self.held)


def copied(fault: str, held: bytes) -> Stateful:
    machine = Stateful(fault)
    machine.held = b"" if fault == "copies" else held
    return machine


@pytest.mark.parametrize("fault", ["cuts", "copies"])
def test_a_machine_that_depends_on_cuts_or_copies_is_found(fault: str) -> None:
    def check(fault: str, data: bytes) -> None:
        def run(cut: oracles.Cut, again: oracles.Again) -> object:
            machine = Stateful(fault)
            for piece in cut(data):
                machine = again(machine)
                machine.receive(piece)
            return machine.outcome()

        oracles.check_all_ways(oracles.Choices(data), run)

    def check_some(fault: str) -> None:
        for number in range(20):
            check(fault, bytes([number]) * 30)

    check_some("")
    with pytest.raises(AssertionError, match="is not, as for the whole"):
        check_some(fault)


@pytest.mark.parametrize(
    "events", [[], [Live("a")], [End("a"), End("a")], [End("a"), Live("a")], [Live("\ud83d"), End("")]]
)
def test_an_invalid_reply_is_found(events: list[Event]) -> None:
    with pytest.raises((AssertionError, UnicodeEncodeError)):
        oracles.check_reply(events)


def test_a_machine_that_holds_too_much_is_found() -> None:
    def check(size: int) -> None:
        chance = random.Random(8)
        for _ in range(100):
            oracles.check_memory(b"x" * size, 1000, chance)

    check(1000)
    with pytest.raises(AssertionError, match="bytes are held"):
        check(100_000)


def test_quadratic_work_is_found_and_linear_work_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    oracles.check_linear(SSEDecoder(Limits()).receive_data, b": x\n" * 1000)
    monkeypatch.setattr(oracles, "_cpu_time", lambda run, data: run(data))  # the same on every machine
    oracles.check_linear(lambda data: len(data) / 1000, b"ab" * 2000)
    with pytest.raises(AssertionError, match="8 times the input took 64 times as long"):
        oracles.check_linear(lambda data: len(data) ** 2 / 1e6, b"ab" * 2000)


def test_a_visible_secret_is_found() -> None:
    oracles.check_secrets("nothing", 5)
    with pytest.raises(AssertionError):
        oracles.check_secrets("nothing", [oracles.SECRET])


def without_clocks(endpoint: Endpoint, **options: Any) -> Channel:
    return Channel(endpoint, **options | {"timeouts": Timeouts(connect=None, first_event=None)})


class Separate:
    """A channel whose calls do not share a session."""

    session = None

    def __init__(self, endpoint: Endpoint, **options: Any) -> None:
        self.new = partial(Channel, endpoint, **options)

    def call(self, question: Submit, **options: Any) -> Call:
        return self.new().call(question, **options)


class Mute:
    def set(self) -> None:
        pass

    def is_set(self) -> bool:
        return False


def without_signals(endpoint: Endpoint, **options: Any) -> Channel:
    return Channel(endpoint, **options | {"signal": Mute})


@pytest.mark.parametrize(
    ("faulty", "what"),
    [
        (without_clocks, "a step without an end"),
        (Separate, "two sessions are started at a time"),
        (without_signals, "another step, though nothing was reported"),
    ],
)
def test_a_channel_that_breaks_a_rule_is_found(monkeypatch: pytest.MonkeyPatch, faulty: Any, what: str) -> None:
    def run_all() -> None:
        for data in seeds("call"):
            TARGETS["call"](data)

    run_all()
    monkeypatch.setattr(targets_call, "Channel", faulty)
    with pytest.raises(AssertionError, match=what):
        run_all()


def test_an_illegal_call_that_changes_something_is_found() -> None:
    def refuse() -> None:
        raise LocalProtocolError

    plain: list[int] = []
    assert oracles.unchanged(plain, refuse, LocalProtocolError)
    assert not oracles.unchanged(plain, lambda: None, LocalProtocolError)
    spoilt: list[int] = []

    def spoil() -> None:
        spoilt.append(1)
        raise LocalProtocolError

    with pytest.raises(AssertionError, match="has changed something"):
        oracles.unchanged(spoilt, spoil, LocalProtocolError)
