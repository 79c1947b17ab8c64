"""`python -m tests.mutation [MODULE ...]`: do the tests notice when the code changes? Runs mutmut, module by module.

Each module is mutated and tested with its own test modules, since these cover all of its branches. Survivors are
compared with `survivors.txt`, which says for each one why nobody can notice it. A survivor that it does not list is
new: write a test, simplify the code, or add it with a reason.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
SURVIVORS = FOLDER / "survivors.txt"
MODULES = (
    "call_base", "channel", "client", "clocks", "conversation", "cookies", "discussions", "exchange", "flow", "form",
    "http", "incoming", "json", "member", "messages", "opening", "pages", "query", "question", "quote", "reply",
    "retries", "server", "session", "site", "sse", "tunnel", "upload", "visit",
)  # fmt: skip

# Modules whose behaviour is tested with its parts, too.
ALSO_TESTED_BY: dict[str, tuple[str, ...]] = {
    "call_base": ("channel", "clocks", "conversation", "observer", "retries"),
    "flow": ("messages",),
}

# These are called while their module is imported, before a mutant is chosen.
AT_IMPORT = ("_quote._spelled",)

_SAME_IN_CAPITALS = r'(?i)"(?:utf-8|latin-1|sha256)"|\\x[0-9a-f]{2}|\\u[0-9a-f]{4}'

# A mutant that survives runs all remaining tests, and one that hangs gets a multiple of their time. So slow tests are
# left out if the others find the same mutants, or all but those that only change time and memory. mutmut calls each
# function through another one, so a million calls are slow, and tests that count calls fail. Hypothesis would run a few
# hundred examples for each mutant, although the first ones find nearly all.
SLOW = (
    "mebibyte", "repetitive", "small_data_lines", "one_by_one", "head_without_an_end", "times_the_calls",
    "times_the_work", "times_its_size", "64_kib", "very_many", "needs_any_more", "whatever_fails", "linear_time",
    "scanned_repeatedly", "at_any_time", "blocks_neither",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("modules", metavar="MODULE", nargs="*", help=f"of {', '.join(MODULES)} (default: all)")
    parser.add_argument("--max-children", metavar="N", default=str(os.cpu_count()), help="processes at a time")
    options = parser.parse_args()
    modules = options.modules or MODULES
    if unknown := set(modules) - set(MODULES):
        parser.error(f"no such module: {', '.join(sorted(unknown))}")

    listed = _listed()
    new, gone = [], []
    for module in modules:
        count, survivors = _run(module, options.max_children)
        new += [f"{name}: {result}\n{change}" for name, (result, change) in survivors.items() if change not in listed]
        found = {change for _, change in survivors.values()}
        gone += sorted(change for change in listed - found if change.startswith(f"_{module}."))
        left = len(survivors)
        killed = f"{count - left} killed ({1 - left / count:.1%})"
        print(f"_{module}: {count} mutants, {killed}, {left} survived", flush=True)
    print(f"{len(new)} survivors without a reason in {SURVIVORS.name}", *new, sep="\n\n")
    print(f"{len(gone)} reasons there that nothing needs any more", *gone, sep="\n\n")
    return 1 if new else 0


def _run(module: str, children: str) -> tuple[int, dict[str, tuple[str, str]]]:
    """How many mutants there are, and of each survivor, by its name: the result and the change."""
    shutil.rmtree("mutants", ignore_errors=True)
    environment = os.environ | {"PYTEST_ADDOPTS": f"-m 'not hypothesis' -k 'not ({' or '.join(SLOW)})'"}
    command = [sys.executable, str(FOLDER / "one.py"), module, children, module, *ALSO_TESTED_BY.get(module, ())]
    subprocess.run(command, env=environment, check=True)
    count, survivors = json.loads(Path("mutants/survivors.json").read_text())
    changes = {name: (result, _change(name, diff)) for name, (result, diff) in survivors.items()}
    return count, {name: found for name, found in changes.items() if found[1] and not found[1].startswith(AT_IMPORT)}


def _change(name: str, diff: str) -> str:
    """The function and the lines that differ, without comments. They stay the same when mutants are renumbered.

    "" if only a codec, a hash or an escape is now in capitals, which means the same.
    """
    lines = re.findall(r"^([-+])(?!--|\+\+)(.*?)(?:  #.*)?$", diff, re.M)
    same = [(sign, re.sub(_SAME_IN_CAPITALS, lambda found: found[0].lower(), line)) for sign, line in lines]
    before, after = ([line for sign, line in same if sign == wanted] for wanted in "-+")
    function = re.sub(r"__mutmut_\d+$", "", name).removeprefix("opchat_proto.")
    function = re.sub(r"\.x(ǁ|_)", ".", function).replace("ǁ", ".")
    return "" if before == after else "\n".join([function, *(f"{sign} {line.strip()}" for sign, line in lines)])


def _listed() -> set[str]:
    """The paragraphs of the list, except those that begin with #, which are the reasons."""
    return {part.strip() for part in SURVIVORS.read_text().split("\n\n") if not part.startswith("#")}


if __name__ == "__main__":
    sys.exit(main())
