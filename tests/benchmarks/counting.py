"""The cost of a piece of work: instructions if they can be counted, else CPU time.

Instruction counts are repeatable within a percent on a busy machine too, so one run
is enough. `perf` counts them where the machine permits it, else callgrind, which runs
a separate process for each candidate. CPU time is taken in interleaved rounds, and
compared only within a round.
"""

import gc
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import which

from tests.benchmarks.bodies import BODY
from tests.benchmarks.candidate import Candidate, Run
from tests.benchmarks.questions import QUESTIONS, asked
from tests.benchmarks.responses import WIRE
from tests.benchmarks.workloads import Workload, bodies, responses

WORKER = "tests.benchmarks.counting"
_ROUNDS = 2


def groups(count: int) -> list[tuple[list[Candidate], list[Workload]]]:
    """Everything to measure: candidates and workloads."""
    return [(BODY, bodies(count)), (WIRE, responses(count)), (QUESTIONS, [asked()])]


def cpu_time(candidates: Sequence[Candidate], workload: Workload, seconds: float) -> dict[str, float]:
    """Nanoseconds per event: the first candidate's median, and the others' median ratio to it within a round."""
    runs = {candidate.name: candidate.prepare(workload.pieces) for candidate in candidates}
    rounds: list[dict[str, float]] = []
    until = time.monotonic() + seconds
    while len(rounds) < 3 or time.monotonic() < until:
        times = {}
        for name, run in runs.items():
            start = time.thread_time_ns()
            run()
            times[name] = (time.thread_time_ns() - start) / workload.events
        rounds.append(times)
    first = candidates[0].name
    unit = statistics.median(times[first] for times in rounds)
    return {name: unit * statistics.median(times[name] / times[first] for times in rounds) for name in runs}


def how_to_count() -> str:
    """ "perf" or "callgrind", whichever can count instructions here; "" if neither can."""
    if which("perf"):
        counted = _perf(["-c", "pass"])
        if counted:
            return "perf"
    return "callgrind" if which("valgrind") and which("callgrind_control") else ""


def instructions(tool: str, group: int, candidate: int, count: int) -> dict[str, float]:
    """Instructions per event of one candidate, for each workload of its group."""
    arguments = ["-m", WORKER, tool, str(group), str(candidate), str(count)]
    if tool == "callgrind":
        return {name: float(value) for name, value in json.loads(_callgrind(arguments)).items()}
    costs = {}
    for index, workload in enumerate(groups(count)[group][1]):
        without, within = (_perf([*arguments, str(index), str(rounds)]) for rounds in (0, _ROUNDS))
        costs[workload.name] = (within - without) / _ROUNDS / workload.events
    return costs


def statement(tool: str, code: str) -> int:
    """Instructions of a whole interpreter that runs this code, with compiled modules cached."""
    with bytecode() as environment, tempfile.NamedTemporaryFile() as out:
        command = [sys.executable, "-c", code]
        subprocess.run(command, check=True, env=environment)
        if tool == "perf":
            return _perf(command[1:], environment)
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out.name}", *command]
        subprocess.run(command, check=True, capture_output=True, env=environment)
        return _total(Path(out.name).read_text())


@contextmanager
def bytecode() -> Iterator[Mapping[str, str]]:
    """An environment in which Python writes bytecode, whatever the outer one says."""
    with tempfile.TemporaryDirectory() as directory:
        yield {**_environment(), "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": directory}


def _environment() -> Mapping[str, str]:
    return {**os.environ, "PYTHONHASHSEED": "0"}


def _perf(arguments: list[str], environment: Mapping[str, str] | None = None) -> int:
    command = ["perf", "stat", "-x,", "-e", "instructions:u", sys.executable, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, env=environment or _environment(), check=False)
    return perf_count(result.stderr) if result.returncode == 0 else 0


def perf_count(output: str) -> int:
    """The number in the output of `perf stat -x,`; 0 if it could not count."""
    match = re.search(r"^([0-9]+),[^,]*,instructions", output, re.MULTILINE)
    return int(match[1]) if match else 0


def _callgrind(arguments: list[str]) -> str:
    with tempfile.TemporaryDirectory() as directory:
        command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={directory}/%p"]
        result = subprocess.run(
            [*command, sys.executable, *arguments, directory],
            check=True,
            capture_output=True,
            text=True,
            env=_environment(),
        )
    return result.stdout.splitlines()[-1]


def _total(dump: str) -> int:
    match = re.search(r"^totals: ([0-9]+)", dump, re.MULTILINE)
    assert match is not None
    return int(match[1])


# ---------------------------------------------------------------- the counting process


def _dump_of_child(run: Run, rounds: int) -> str:
    """The name of the dump that callgrind writes at the end of a copy of this process that does this much work."""
    child = os.fork()
    if not child:
        for _ in range(rounds):
            run()
        os._exit(0)
    os.waitpid(child, 0)
    return str(child)


def _work(tool: str, group: str, candidate: str, count: str, *more: str) -> None:
    candidates, workloads = groups(int(count))[int(group)]
    prepare = candidates[int(candidate)].prepare
    if tool == "perf":
        index, rounds = map(int, more)
        run = prepare(workloads[index].pieces)
        for _ in range(2 + rounds):
            run()
        return
    runs = [(workload, prepare(workload.pieces)) for workload in workloads]
    for _, run in [*runs, *runs]:
        run()
    gc.collect()
    gc.freeze()  # garbage collection no longer scans imported objects
    subprocess.run(["callgrind_control", "--instr=on", str(os.getpid())], check=True, stdout=subprocess.DEVNULL)
    # A copy's count includes ours up to the fork, which grows by the same amount for each copy.
    dumps = [(workload, [_dump_of_child(run, rounds) for rounds in (0, 0, _ROUNDS)]) for workload, run in runs]
    costs = {}
    for workload, names in dumps:
        first, second, third = (_total((Path(more[0]) / name).read_text()) for name in names)
        costs[workload.name] = ((third - second) - (second - first)) / _ROUNDS / workload.events
    print(json.dumps(costs), flush=True)
    os._exit(0)


if __name__ == "__main__":
    _work(*sys.argv[1:])
