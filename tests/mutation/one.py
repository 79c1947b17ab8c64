"""Mutates one module, tests its mutants, and writes what survived to `mutants/survivors.json`: see `__main__.py`.

It is a script of its own, since mutmut imports the package and the tests from their copies in `mutants`.
"""

import json
import sys
from pathlib import Path

from mutmut.__main__ import _run
from mutmut.configuration import config
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code

if __name__ == "__main__":
    module, children = sys.argv[1:]
    source = Path("opchat_proto", f"_{module}.py")
    tests = [path for name in (f"test_{module}.py", f"test_{module}_*.py") for path in Path("tests/proto").glob(name)]
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
