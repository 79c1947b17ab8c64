"""Every recipe that needs PyPI alone does what the suite says."""

import pytest

from .runners import RUNNERS
from .suite import Recipe, Suite, cut_after, events_of, without_words


@pytest.fixture(params=list(RUNNERS))
def recipe(request: pytest.FixtureRequest) -> Recipe:
    return RUNNERS[request.param]


class TestRecipes(Suite):
    """The whole suite."""


@pytest.mark.parametrize("name", [name for name in RUNNERS if name != "flow_aiohttp"])
def test_framing_that_cannot_be_followed(name: str) -> None:
    """aiohttp tells nobody about a chunk that is none, so there the clock runs out."""
    cut, fault = cut_after("plain", b"seven"), b"no chunk size\r\n"
    events = Suite().ask_and_answer(RUNNERS[name], cut, lambda peer: peer.send(fault))
    assert without_words(events) == without_words(events_of(cut + fault))
