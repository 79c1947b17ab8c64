"""Every case of the corpus, in all cuts. The corpus matches its README."""

import re
from collections import Counter
from typing import Any

import pytest

from tests import cases, cases_expected

FILES = cases.files()
CASES = cases.cases()


def ids(case: Any) -> str:
    return str(case["name"])


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_the_outcome_is_the_one_expected(case: cases.Case) -> None:
    whole = [[cases.to_bytes(recipe)] for recipe in cases.byte_strings(case)]
    cases_expected.check(case, cases.run(case, whole))


@pytest.mark.sample(3)
@pytest.mark.parametrize("case", [case for case in CASES if cases.byte_strings(case)], ids=ids)
def test_the_outcome_is_the_same_in_all_cuts(case: cases.Case) -> None:
    recipes = cases.byte_strings(case)
    whole = [[cases.to_bytes(recipe)] for recipe in recipes]
    expected = cases.run(case, whole)
    limits = [value for value in (case.get("limits") or {}).values() if value > 8]
    for index, recipe in enumerate(recipes):
        for pieces in cases.cuts_of(recipe, limits):
            assert cases.run(case, [*whole[:index], pieces, *whole[index + 1 :]]) == expected, pieces[:2]
    bytewise = [[data[0][at : at + 1] for at in range(len(data[0]))] for data in whole]
    if sum(map(len, bytewise)) <= 10_000:
        assert cases.run(case, bytewise) == expected


def test_there_are_enough_cases_and_each_has_its_own_name() -> None:
    names = Counter(case["name"] for case in CASES)
    assert names.most_common(1)[0][1] == 1
    assert len(names) >= 400


def test_no_two_cases_are_equal() -> None:
    seen: dict[str, str] = {}
    for case in CASES:
        what = repr({key: value for key, value in case.items() if key not in ("name", "why")})
        assert what not in seen, f"{case['name']} is {seen.get(what)}"
        seen[what] = case["name"]


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_well_formed(name: str) -> None:
    file = FILES[name]
    assert set(file) == {"level", "about", "cases"}
    for case in file["cases"]:
        assert re.fullmatch(rf"{name.removesuffix('.json')}/[a-z0-9_-]+", case["name"], re.IGNORECASE), case["name"]
        assert re.fullmatch(r"[A-Z0-9\"].*[.!?]", case["why"]), case["name"]
        assert set(case) <= {"name", "why", "expect", *KEYS[file["level"]]}, case["name"]
        cases.limits_of(case)


KEYS = {
    "sse": {"limits", "body"},
    "reply": {"limits", "status", "headers", "body", "ends"},
    "flow": {"limits", "site", "starts_with", "uses", "asks", "answers"},
    "asked": {"limits", "starts_with", "asks", "answers"},
    "wire": {"limits", "wire", "closes"},
    "exchanges": {"limits", "starts_with", "connections"},
    "proxy": {"limits", "proxy", "site", "dialogue"},
    "server": {"limits", "request", "reply"},
    "upload": {"limits", "content_type", "body"},
    "endpoint": {"text"},
    "proxy_url": {"text"},
    "messages": {"messages", "options", "session_id"},
    "page": {"html", "url", "headers"},
    "visit": {"limits", "url", "starts_with", "fresh", "answers"},
}


def test_the_readme_describes_every_level_and_no_other() -> None:
    text = (cases.FOLDER / "README.md").read_text()
    assert (
        set(re.findall(r"^### `(\w+)`", text, re.MULTILINE)) == set(KEYS) == {file["level"] for file in FILES.values()}
    )
