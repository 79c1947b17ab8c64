"""`python -m tests.fuzz TARGET`: fuzz one target or all, starting from the corpus; or rerun the inputs in a folder."""

import argparse
import hashlib
import importlib
import importlib.util
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

TARGETS = (
    "sse",
    "reply",
    "json",
    "flow",
    "asked",
    "client",
    "call",
    "server",
    "upload",
    "endpoint",
    "proxy",
    "messages",
    "conversation",
    "page",
    "member",
    "arguments",
)
"""Their names. The functions are in `targets`, which must be imported after atheris has made its preparations."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=(*TARGETS, "all"))
    parser.add_argument("--executions", type=int, default=0, metavar="N", help="how many inputs of each target")
    parser.add_argument("--seconds", type=float, default=0, metavar="N", help="how long for each target (default: 60)")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="where inputs are kept: those that reach more, and those that fail"
    )
    parser.add_argument("--replay", action="store_true", help="only run the corpus, and what --keep holds, once")
    parser.add_argument(
        "--plain", action="store_true", help="without atheris: the mutator below, which coverage does not guide"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the plain mutator")
    options = parser.parse_args()
    if not (options.executions or options.seconds):
        options.seconds = 60.0

    guided = not (options.plain or options.replay) and importlib.util.find_spec("atheris") is not None
    if options.target == "all":
        return _all(options)
    keep: Path = options.keep or Path(tempfile.mkdtemp(prefix="opchat-fuzz-"))
    folder = keep / options.target
    folder.mkdir(parents=True, exist_ok=True)
    if guided:
        _with_atheris(options, folder)

    from tests.fuzz import seeds, targets

    run = targets.TARGETS[options.target]
    inputs = seeds.seeds(options.target)
    if options.replay:
        inputs += [path.read_bytes() for path in sorted(folder.iterdir())]
        mutated: Iterator[bytes] = iter(())
    else:
        mutated = mutants(inputs, random.Random(options.seed))
    count = 0
    start = time.monotonic()
    for count, data in enumerate(_chain(inputs, mutated), 1):
        _try(run, options.target, folder, data)
        late = options.seconds and time.monotonic() - start > options.seconds
        if not options.replay and (late or (options.executions and count >= options.executions)):
            break
    print(f"{options.target}: {count} executions in {time.monotonic() - start:.0f} s, no finding")
    return 0


def _all(options: argparse.Namespace) -> int:
    if options.replay:  # in one process, so that coverage.py sees it
        for target in TARGETS:
            sys.argv = [sys.argv[0], target, "--replay", *(["--keep", str(options.keep)] if options.keep else [])]
            main()
        return 0
    arguments = [argument for argument in sys.argv[1:] if argument != "all"]

    def run(target: str) -> int:
        return subprocess.run([sys.executable, "-m", "tests.fuzz", target, *arguments]).returncode

    with ThreadPoolExecutor(os.cpu_count()) as side_by_side:
        return max(side_by_side.map(run, TARGETS))


def _chain(first: list[bytes], then: Iterator[bytes]) -> Iterator[bytes]:
    yield from first
    yield from then


def _try(run: Callable[[bytes], None], target: str, folder: Path, data: bytes) -> None:
    try:
        run(data)
    except BaseException:
        path = folder / f"crash-{hashlib.sha256(data).hexdigest()[:12]}"
        path.write_bytes(data)
        print(f"{target}: a finding, kept as {path}; again with --replay --keep {folder.parent}", file=sys.stderr)
        raise


def mutants(inputs: list[bytes], chance: random.Random) -> Iterator[bytes]:
    """Endless inputs made from these: parts removed, repeated, inserted and exchanged, and decisions at the end."""
    from tests.fuzz.seeds import TOKENS

    while True:
        data = bytearray(chance.choice(inputs))
        for _ in range(chance.choice((1, 1, 2, 3, 8))):
            start = chance.randint(0, len(data))
            end = min(len(data), start + chance.choice((0, 1, 2, 8, 60)))
            match chance.randrange(7):
                case 0:
                    del data[start:end]
                case 1:
                    data[start:start] = chance.choice(TOKENS)
                case 2:
                    data[start:end] = chance.randbytes(chance.randint(0, 4))
                case 3:
                    data[start:start] = data[start:end]
                case 4:
                    other = chance.choice(inputs)
                    data[start:end] = other[chance.randint(0, len(other)) :][: chance.randint(0, 80)]
                case _:
                    count = chance.randint(0, 24)
                    data[-1:] = chance.randbytes(count) + bytes([count])
        yield bytes(data)


def _with_atheris(options: argparse.Namespace, folder: Path) -> None:
    """Never returns: libFuzzer ends the process."""
    atheris: Any = importlib.import_module("atheris")  # not installed everywhere
    with atheris.instrument_imports(include=["opchat_proto"]):
        import opchat_proto  # noqa: F401  # so that it is the instrumented one
    from tests.fuzz import seeds, targets

    run = targets.TARGETS[options.target]
    with tempfile.TemporaryDirectory(prefix="opchat-seeds-") as seed_folder:
        for data in seeds.seeds(options.target):
            (Path(seed_folder) / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
        dictionary = Path(seed_folder).with_suffix(".dict")
        dictionary.write_text(
            "".join('"' + "".join(f"\\x{byte:02x}" for byte in token) + '"\n' for token in seeds.TOKENS)
        )
        arguments = [
            sys.argv[0],
            f"-dict={dictionary}",
            f"-artifact_prefix={folder}/crash-",
            "-max_len=8192",
            "-timeout=60",
            "-rss_limit_mb=4096",
            "-verbosity=0",
            "-print_final_stats=1",
            f"-seed={options.seed or 1}",
            *([f"-runs={options.executions}"] if options.executions else []),
            *([f"-max_total_time={int(options.seconds)}"] if options.seconds else []),
            str(folder),
            seed_folder,
        ]
        atheris.Setup(arguments, run)
        atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
