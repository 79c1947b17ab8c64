"""WIRE.md describes the protocol, and citations of it name sections that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WIRE = (ROOT / "opchat_proto" / "WIRE.md").read_text()
FOLDERS = ("opchat_proto", "opchat_transports", "tests")
CITING = [
    ROOT / "README.md",
    *(path for folder in FOLDERS for kind in ("py", "md", "js") for path in (ROOT / folder).rglob(f"*.{kind}")),
]
NUMBER = r"\d+(?:\.\d+)?"


def sections() -> list[str]:
    return re.findall(rf"^##+ ({NUMBER})\.? ", WIRE, re.MULTILINE)


def cited(text: str) -> set[str]:
    """The sections in "WIRE 5.5", "WIRE 4.2, 4.7" and "WIRE 3 to 6", also across a line end."""
    citations = re.findall(rf"\bWIRE\s+(?:# )?({NUMBER}(?:(?:, | and | to ){NUMBER})*)", text)
    return {number for citation in citations for number in re.findall(NUMBER, citation)}


def test_citations_are_found_in_every_form() -> None:
    text = "(WIRE 5.5) WIRE 4.2, 4.7: a body; WIRE 3 to 6. # WIRE\n    # 7.1 and 13 (RFC 9112, 7.9)"
    assert cited(text) == {"5.5", "4.2", "4.7", "3", "6", "7.1", "13"}


def test_each_cited_section_exists_once() -> None:
    assert len(sections()) == len(set(sections()))
    missing = {path.name: cited(path.read_text()) - set(sections()) for path in CITING}
    assert {name: numbers for name, numbers in missing.items() if numbers} == {}
    assert len(set().union(*(cited(path.read_text()) for path in CITING))) > 40


def test_sections_that_wire_cites_itself_exist() -> None:
    assert set(re.findall(r"[( ](?:section )?(\d\.\d)\)", WIRE)) - set(sections()) == set()
