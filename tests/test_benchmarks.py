"""The benchmarks measure the right thing: candidates give the right events, and numbers are parsed correctly."""

import pytest

from tests.benchmarks import bounds, counting, picture
from tests.benchmarks.__main__ import right_events
from tests.benchmarks.candidate import Candidate
from tests.benchmarks.tables import Table
from tests.benchmarks.workloads import Workload

GROUPS = counting.groups(8)
INSTALLED = [
    pytest.param(candidate, workload, id=f"{candidate.name}, {workload.name}")
    for candidates, workloads in GROUPS
    for workload in workloads
    for candidate in candidates
    if candidate.name.startswith("opchat") or not candidate.package
]


@pytest.mark.parametrize(("candidate", "workload"), INSTALLED)
def test_each_candidate_gives_the_right_events(candidate: Candidate, workload: Workload) -> None:
    assert right_events(candidate, workload)


def test_wrong_events_are_noticed() -> None:
    candidates, workloads = GROUPS[0]
    wrong = Candidate("half", lambda pieces: candidates[0].prepare(pieces[: len(pieces) // 2]))
    assert not right_events(wrong, workloads[1])


def test_the_output_of_perf_is_parsed() -> None:
    assert counting.perf_count("12345678,,instructions:u,5000000,100.00,,\n") == 12345678
    assert counting.perf_count("<not supported>,,instructions:u,0,100.00,,\n") == 0


def test_a_table_and_its_picture_are_written() -> None:
    table = Table("A body", ["one", "two"])
    table.add("unit", [100.0, 10.0])
    table.add("other", [250.0, "wrong"])
    assert "| other | 250 (2.50) | wrong |" in table.text("unit")
    assert picture.draw(table, table).count("<rect") == 1 + 2 * 3


def test_a_ratio_is_taken_from_the_last_column() -> None:
    table = Table("A response", ["one", "two"])
    table.add("bare h11", [100.0, 10.0])
    table.add("opchat: Client", [250.0, 12.0])
    table.add("opchat: BlockingTransport", [250.0, "wrong"])
    assert list(bounds.of_events(table)) == [("an event of a slow stream, opchat: Client, beside bare h11", 1.2, 1.3)]


def test_a_ratio_above_its_bound_is_reported() -> None:
    assert bounds.text([("one", 1.3, 1.3), ("two", 1.31, 1.3)]) == (
        "\nBounds\n  met      one: 1.30 x (at most 1.3)\n  not met  two: 1.31 x (at most 1.3)"
    )
