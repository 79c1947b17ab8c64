"""`python -m tests.mutation [MODULE ...]`: do the tests notice when the code changes? By mutmut, module after module.

Each module of the parser is tried with its own test modules, as each has every branch tested there. What survives is
compared with `survivors.txt`, which says for each why nobody can notice it. A survivor that is not there is new: write
a test, make the code simpler, or add it with a reason.
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

# A mutant that survives meets all tests that are left, and one that hangs is given a multiple of their time. So those
# are left out which find none that the others leave, or none but what changes time and memory alone, and take longest:
# mutmut calls each function through another, which makes a million calls slow and counts as a call where calls are
# counted. Hypothesis has the same few hundred examples run for what the first of them shows.
SLOW = (
    "mebibyte", "repeats_itself", "small_data_lines", "one_by_one", "head_without_an_end", "times_the_calls",
    "times_the_work", "times_its_size", "64_kib", "great_many", "needs_any_more", "go_on_for_ever",
    "whatever_fails_when", "one_read_and_in_many",
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
    # mutmut chooses tests by the functions that they reach, which for this code is nearly all for nearly each.
    chosen = f"(test_{module}.py or test_{module}_) and not ({' or '.join(SLOW)})"
    Path("mutants/mutmut-stats.json").unlink(missing_ok=True)
    command = ["mutmut", "run", "--max-children", children, f"opchat_proto._{module}.*"]
    environment = os.environ | {"PYTEST_ADDOPTS": f"-m 'not hypothesis' -k '{chosen}'"}
    subprocess.run(command, env=environment, check=True)


def _mutmut(*command: str) -> str:
    return subprocess.run(["mutmut", *command], capture_output=True, text=True, check=True).stdout


def _change(name: str) -> str:
    """The function and the lines that differ, which stay the same when mutants are numbered anew; without comments."""
    lines = re.findall(r"^([-+])(?!--|\+\+)(.*?)(?:  #.*)?$", _mutmut("show", name), re.M)
    function = re.sub(r"__mutmut_\d+$", "", name).removeprefix("opchat_proto.")
    function = re.sub(r"\.x(ǁ|_)", ".", function).replace("ǁ", ".")
    return "\n".join([function, *(f"{sign} {line.strip()}" for sign, line in lines)])


def _listed() -> set[str]:
    """The paragraphs of the list but those that begin with #, which are the reasons."""
    return {part.strip() for part in SURVIVORS.read_text().split("\n\n") if not part.startswith("#")}


if __name__ == "__main__":
    sys.exit(main())
