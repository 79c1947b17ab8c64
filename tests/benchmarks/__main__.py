"""`python -m tests.benchmarks`: see --help."""

import argparse
import cProfile
import os
import platform
import pstats
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.benchmarks import bounds, counting, crowd, picture, servers, streams, whole
from tests.benchmarks.candidate import Candidate
from tests.benchmarks.tables import Table
from tests.benchmarks.workloads import Workload

_QUICK, _FULL = 40, 400  # events of a stream


def right_events(candidate: Candidate, workload: Workload) -> bool:
    """Whether this candidate gives the right events."""
    try:
        results = candidate.prepare(workload.pieces)()
        return candidate.pair is None or [candidate.pair(result) for result in results] == workload.expected
    except Exception as error:
        print(f"{candidate.title}: {workload.name}: {error!r}", file=sys.stderr)
        return False


def compare(group: int, tool: str, count: int, seconds: float) -> Table:
    """The cost of an event for each candidate and workload. Candidates with wrong events are not measured."""
    candidates, workloads = counting.groups(count)[group]
    unit = "instructions" if tool else "ns of CPU time"
    what = ("A body: {} an event", "A response: {} an event", "A question over loopback: {}")[group]
    table = Table(what.format(unit), [w.name for w in workloads])
    installed = [candidate for candidate in candidates if candidate.is_installed]
    right = {w.name: [c for c in installed if right_events(c, w)] for w in workloads}
    costs: dict[str, dict[str, float]] = {workload.name: {} for workload in workloads}
    if tool:
        # Instruction counts do not depend on other processes.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            counted = pool.map(lambda one: counting.instructions(tool, group, candidates.index(one), count), installed)
            for candidate, results in zip(installed, counted, strict=True):
                for name, cost in results.items():
                    costs[name][candidate.name] = cost
    for workload in [] if tool else workloads:
        costs[workload.name] = counting.cpu_time(right[workload.name], workload, seconds)
    for candidate in candidates:
        row: list[float | str] = []
        for workload in workloads:
            if candidate not in installed:
                row.append("not installed")
            elif candidate not in right[workload.name]:
                row.append("wrong")
            else:
                row.append(costs[workload.name][candidate.name])
        table.add(candidate.title, row)
    return table


def profile(count: int) -> None:
    """Profile this library."""
    for group, name in ((0, "opchat: ReplyDecoder"), (1, "opchat: Client"), (1, "opchat: TrioTransport")):
        candidates, workloads = counting.groups(count)[group]
        prepare = next(candidate.prepare for candidate in candidates if candidate.name == name)
        for workload in workloads[:2]:
            print(f"\n{name}: {workload.name}")
            run = prepare(workload.pieces)
            profiler = cProfile.Profile()
            profiler.enable()
            for _ in range(20):
                run()
            profiler.disable()
            pstats.Stats(profiler).strip_dirs().sort_stats("tottime").print_stats(15)


def main() -> int:
    """Measure and print. Returns 1 if this library gave wrong events, else 0."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description="How fast opchat is, and its peers."
    )
    parser.add_argument(
        "--quick", action="store_true", help="few events and CPU time: whether all of this works at all"
    )
    parser.add_argument("--cpu", action="store_true", help="CPU time even where instructions can be counted")
    parser.add_argument("--profile", action="store_true", help="where opchat spends its time, instead of the tables")
    parser.add_argument("--svg", metavar="FILE", type=Path, help="draw the picture")
    options = parser.parse_args()
    count = _QUICK if options.quick else _FULL
    if options.profile:
        profile(10 * count)
        return 0
    tool = "" if options.quick or options.cpu else counting.how_to_count()
    how = {"": "CPU time: medians of interleaved rounds", "perf": "perf", "callgrind": "callgrind"}[tool]
    print(f"{platform.python_implementation()} {platform.python_version()} on {platform.machine()}; counted by: {how}")
    body, wire, questions = (compare(group, tool, count, 0.2 if options.quick else 4) for group in (0, 1, 2))
    print(body.text("json.loads alone"))
    print(wire.text("bare h11"))
    print(questions.text("a raw socket with h11"))
    if options.svg:
        options.svg.write_text(picture.draw(body, wire))
    large, worst = whole.big_end(tool, 1 if options.quick else 50)
    print(large)
    print(whole.hostile(100_000 if options.quick else 1_000_000))
    imports, import_costs = whole.importing(tool)
    print(imports)
    print(streams.streams(*((100, 1) if options.quick else (500, 5))))
    crowds, medians = crowd.crowd(50 if options.quick else 1000, 4 if options.quick else 20)
    print(crowds)
    served, server_cost = servers.servers(100 if options.quick else 500, 20 if options.quick else 300)
    print(served)
    print(
        bounds.text(
            [
                *bounds.of_questions(questions),
                *bounds.of_events(wire),
                *bounds.of_crowds(medians),
                ("a large end event: cost, beside json.loads twice", worst["cost"], 1.3),
                ("a large end event: peak memory, beside its size", worst["peak"], 3),
                *(
                    (f"import of {name}, beside h11", cost, 2 if name == "opchat_proto" else 1.5)
                    for name, cost in import_costs.items()
                ),
                *([("the server's CPU for an event, beside Starlette", server_cost, 1.2)] if server_cost else []),
            ]
        )
    )
    own = [row for table in (body, wire, questions) for title, row in table.rows if title.startswith("opchat")]
    return int(any("wrong" in row for row in own))


if __name__ == "__main__":
    sys.exit(main())
