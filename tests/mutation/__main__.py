"""`python -m tests.mutation [MODULE ...]`: do the tests notice when the code changes? Runs mutmut, module by module.

Each module of the parser is mutated and tested with its own test modules, since these cover all of its branches.
Survivors are compared with `survivors.txt`, which says for each one why nobody can notice it. A survivor that is not
listed there is new: write a test, simplify the code, or add it with a reason.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

MODULES = ("sse", "reply", "flow", "client", "exchange", "tunnel", "visit")
SURVIVORS = Path(__file__).with_name("survivors.txt")

# A mutant that survives runs all remaining tests, and one that hangs gets a multiple of their time. So slow tests are
# left out if the others find the same mutants, or all but those that only change time and memory. mutmut calls each
# function through another one, so a million calls are slow, and tests that count calls fail. Hypothesis would run a few
# hundred examples for each mutant, although the first ones find nearly all.
SLOW = (
    "mebibyte", "repetitive", "small_data_lines", "one_by_one", "head_without_an_end", "times_the_calls",
    "times_the_work", "times_its_size", "64_kib", "very_many", "needs_any_more", "whatever_fails",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("modules", metavar="MODULE", nargs="*", help=f"of {', '.join(MODULES)} (default: all)")
    parser.add_argument("--max-children", metavar="N", default=str(os.cpu_count()), help="processes at a time")
    parser.add_argument("--no-run", action="store_true", help="only print again what the last run found")
    options = parser.parse_args()
    modules = options.modules or MODULES
    if unknown := set(modules) - set(MODULES):
        parser.error(f"no such module: {', '.join(sorted(unknown))}")
    if not options.no_run:
        shutil.rmtree("mutants", ignore_errors=True)
        for module in modules:
            _run(module, options.max_children)

    listed = _listed()
    new, found = [], set()
    for module in modules:
        results = re.findall(rf"^ *(opchat_proto\._{module}\.\S+): (.+)$", _mutmut("results", "--all", "1"), re.M)
        survived = {name: result for name, result in results if result not in ("killed", "timeout")}
        for name, result in survived.items():
            change = _change(name)
            found.add(change)
            if change not in listed:
                new.append(f"{name}: {result}\n{change}")
        count, left = len(results), len(survived)
        print(f"_{module}: {count} mutants, {count - left} killed ({1 - left / count:.1%}), {left} survived")
    gone = {change for change in listed - found if change.startswith(tuple(f"_{module}." for module in modules))}
    print(f"{len(new)} survivors without a reason in {SURVIVORS.name}", *new, sep="\n\n")
    print(f"{len(gone)} reasons there that nothing needs any more", *sorted(gone), sep="\n\n")
    return 1 if new else 0


def _run(module: str, children: str) -> None:
    # mutmut selects tests by the functions that they reach, which here is nearly all tests for nearly every function.
    chosen = f"(test_{module}.py or test_{module}_) and not ({' or '.join(SLOW)})"
    Path("mutants/mutmut-stats.json").unlink(missing_ok=True)
    command = ["mutmut", "run", "--max-children", children, f"opchat_proto._{module}.*"]
    environment = os.environ | {"PYTEST_ADDOPTS": f"-m 'not hypothesis' -k '{chosen}'"}
    subprocess.run(command, env=environment, check=True)


def _mutmut(*command: str) -> str:
    return subprocess.run(["mutmut", *command], capture_output=True, text=True, check=True).stdout


def _change(name: str) -> str:
    """The function and the lines that differ, without comments. They stay the same when mutants are renumbered."""
    lines = re.findall(r"^([-+])(?!--|\+\+)(.*?)(?:  #.*)?$", _mutmut("show", name), re.M)
    function = re.sub(r"__mutmut_\d+$", "", name).removeprefix("opchat_proto.")
    function = re.sub(r"\.x(ǁ|_)", ".", function).replace("ǁ", ".")
    return "\n".join([function, *(f"{sign} {line.strip()}" for sign, line in lines)])


def _listed() -> set[str]:
    """The paragraphs of the list, except those that begin with #, which are the reasons."""
    return {part.strip() for part in SURVIVORS.read_text().split("\n\n") if not part.startswith("#")}


if __name__ == "__main__":
    sys.exit(main())
