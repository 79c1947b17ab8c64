"""Every recipe that needs PyPI alone does what the suite says."""

import pytest

from opchat_proto import Event, Session
from tests.transports.scripted import Peer, Scripted

from .runners import RUNNERS
from .suite import STREAMS, Question, Recipe, Suite, cut_after, events_of, without_words


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


@pytest.mark.parametrize("name", [name for name in RUNNERS if not name.startswith("flow_")])
def test_a_server_that_answers_a_long_question_without_reading_it(name: str) -> None:
    """What a recipe does with `send_failed`, or with an answer that is there before all was sent."""
    events: list[Event] = []

    def play(peer: Peer) -> None:
        peer.read_head()
        peer.send(STREAMS["refused"])

    with Scripted(play) as server:
        RUNNERS[name](Question(server.url, events.append, session=Session(), text="long" * 250_000))
    assert events == events_of(STREAMS["refused"])
