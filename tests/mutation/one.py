"""Mutates one module, tests its mutants, and writes what survived to `mutants/survivors.json`: see `__main__.py`.

It is a script of its own, since mutmut imports the package and the tests from their copies in `mutants`.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from mutmut.__main__ import _run
from mutmut.configuration import config
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.runners.harness import PytestRunner
from mutmut.state import state
from mutmut.stats import status_by_exit_code
from mutmut.utils.file_utils import change_cwd


def run_tests(self: Any, *, mutant_name: str | None, tests: Iterable[str]) -> int:
    """Run the quickest tests first: most mutants are found by many tests, so the slow ones are rarely needed.

    Tests are chosen among the collected ones, since pytest does not find each test by its name on the command line.
    """
    wanted, durations = set(tests), state().duration_by_test

    class Selection:
        def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
            items[:] = [item for item in items if item.nodeid in wanted or not wanted]
            items.sort(key=lambda item: durations.get(item.nodeid, 0))

    with change_cwd("mutants"):
        return int(self.execute_pytest(self._pytest_args_regular_run([]), plugins=[Selection()]))


if __name__ == "__main__":
    module, children, *tested = sys.argv[1:]
    source = Path("opchat_proto", f"_{module}.py")
    names = [name for part in tested for name in (f"test_{part}.py", f"test_{part}_*.py")]
    tests = [path for name in names for path in Path("tests/proto").glob(name)]
    PytestRunner.run_tests = run_tests
    config().only_mutate = [str(source)]
    config().pytest_add_cli_args_test_selection = [str(path) for path in tests]
    _run([f"opchat_proto._{module}.*"], int(children))
    data = SourceFileMutationData(path=source)
    data.load()
    results = {name: status_by_exit_code[code] for name, code in data.exit_code_by_key.items()}
    survivors = {
        name: [result, get_diff_for_mutant(name, path=source)]
        for name, result in results.items()
        if result not in ("killed", "timeout")
    }
    Path("mutants/survivors.json").write_text(json.dumps([len(results), survivors]))
