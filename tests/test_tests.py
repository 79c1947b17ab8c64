"""The tests themselves: their imports, a README in each folder that explains its files, and names used elsewhere."""

import ast
import fnmatch
import importlib
import re
from pathlib import Path

import pytest

from tests.mutation.__main__ import SLOW

TESTS = Path(__file__).parent
MODULES = sorted(TESTS.rglob("*.py"))
FOLDERS = sorted({path.parent for path in MODULES})


def imported(path: Path) -> list[tuple[str, str, str]]:
    """Each imported name: the module, the name, and the lines of the import (its first one, and the name's)."""
    text = path.read_text()
    lines = text.splitlines()
    return [
        ("." * node.level + (node.module or ""), alias.name, lines[node.lineno - 1] + lines[alias.lineno - 1])
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(TESTS)))
def test_nothing_is_imported_from_a_test_module(path: Path) -> None:
    assert [where for where, *_ in imported(path) if re.search(r"(^|\.)test_\w+$", where)] == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(TESTS)))
def test_a_private_name_of_the_packages_is_imported_with_a_reason_and_only_if_it_is_not_public(path: Path) -> None:
    for where, name, line in imported(path):
        package, *rest = where.split(".")
        if package in ("opchat_proto", "opchat_transports") and any(re.match("_[^_]", part) for part in [*rest, name]):
            assert "  # " in line, f"{line}: why?"
            assert name not in importlib.import_module(package).__all__, f"{name} is public"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_readme_of_a_folder_names_each_of_its_files(folder: Path) -> None:
    named = re.findall(r"`([\w*]+\.(?:py|json|svg|txt))`", (folder / "README.md").read_text())
    files = [
        path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith(("__", "README", "."))
    ]
    assert [name for name in files if not any(fnmatch.fnmatch(name, pattern) for pattern in named)] == []
    assert [pattern for pattern in named if not fnmatch.filter(files, pattern)] == []


@pytest.mark.parametrize("part", SLOW)
def test_each_slow_test_that_mutation_leaves_out_exists(part: str) -> None:
    assert any(re.search(rf"def test_\w*{part}", path.read_text()) for path in (TESTS / "proto").glob("test_*.py"))
