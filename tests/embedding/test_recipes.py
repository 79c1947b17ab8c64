"""Every recipe that needs only PyPI passes the suite."""

import pytest

from opchat_proto import Broken, Event, Live, Proxy, Reason, Session
from opchat_transports.testing import FaultServer
from tests.transports.peer import Peer, Play, plays, takes
from tests.transports.proxies import Journal, http_proxy, socks_proxy

from .runners import RUNNERS
from .suite import STREAMS, Authority, Question, Recipe, Suite, answering, cut_after, events_of, without_words


@pytest.fixture(params=list(RUNNERS))
def recipe(request: pytest.FixtureRequest) -> Recipe:
    return RUNNERS[request.param]


class TestRecipes(Suite):
    """The whole suite."""


@pytest.mark.parametrize("name", [name for name in RUNNERS if name != "http_aiohttp"])
def test_malformed_framing_truncates_the_answer(name: str) -> None:
    """aiohttp does not report a malformed chunk, so the clock runs out there."""
    cut, fault = cut_after("plain", b"seven"), b"no chunk size\r\n"
    events = Suite().ask_and_answer(RUNNERS[name], cut, lambda peer: peer.send(fault))
    assert without_words(events) == without_words(events_of(cut + fault))


OF_BYTES = [name for name in RUNNERS if not name.startswith("http_")]  # these are the recipes for `Call`


@pytest.mark.parametrize("name", OF_BYTES)
@pytest.mark.parametrize("missing", [10, 60, 200])
def test_a_close_with_the_last_bytes_truncates_the_answer(name: str, missing: int) -> None:
    """The exact words of the core are expected. A library that notices a cut may drop the bytes before it."""
    cut = STREAMS["plain"][:-missing]
    events: list[Event] = []
    with FaultServer(answering(cut)) as server:
        RUNNERS[name](Question(server.url, events.append))
    assert events == events_of(cut)


@pytest.mark.parametrize("name", OF_BYTES)
def test_leaving_early_after_the_close_has_arrived(name: str) -> None:
    """No event follows, whatever the library reports about the connection."""
    events: list[Event] = []

    @plays
    def play(peer: Peer) -> None:
        peer.send_and_close(STREAMS["plain"][:-50])

    def hear(event: Event) -> bool:
        events.append(event)
        return True

    with FaultServer(play) as server:
        RUNNERS[name](Question(server.url, hear))
    assert events == [Live("Plain")]


@pytest.mark.parametrize("name", OF_BYTES)
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("kind", ["http", "socks5"])
def test_a_proxy_works_without_changes_in_a_recipe(name: str, kind: str, scheme: str, authority: Authority) -> None:
    """A proxy uses the same five steps, so no recipe needs to know about it."""
    journal = Journal()
    play = (socks_proxy if kind == "socks5" else http_proxy)(journal)
    events: list[Event] = []
    tls = authority.server if scheme == "https" else None
    with FaultServer(answering(STREAMS["plain"]), ssl_context=tls) as site, FaultServer(play) as proxy:
        through = Proxy.parse(f"{kind}://127.0.0.1:{proxy.port}")
        RUNNERS[name](Question(site.url, events.append, authority.cafile, proxy=through))
    assert events == events_of(STREAMS["plain"])
    assert journal.targets == [site.url.partition("://")[2]] * 2  # a connection for each request


@pytest.mark.parametrize("name", OF_BYTES)
def test_a_server_may_answer_before_it_has_read_a_long_question(name: str) -> None:
    """The server reads on, as RFC 9112 section 9.6 requires."""
    assert answer_early(name, lambda peer: peer.is_left()) == events_of(STREAMS["refused"])


# These write to a socket of their own, so data that arrived before a reset can still be read. The streams of the others
# may meet the reset while writing and drop unread data; their users get LOST.
KEEPS_WHAT_CAME = {"selectors_loop", "threads_queue", "gevent_sockets", "trio_streams", "pygame_frames"}


@pytest.mark.parametrize("name", OF_BYTES)
def test_a_server_may_answer_a_long_question_without_reading_it(name: str) -> None:
    """The Send fails, and an answer arrives before everything was sent."""
    events = answer_early(name, lambda peer: None)
    lost = [Broken(Reason.LOST, "said", asked=True)]
    assert events == events_of(STREAMS["refused"]) or (name not in KEEPS_WHAT_CAME and without_words(events) == lost)


def answer_early(name: str, go_on: Play) -> list[Event]:
    events: list[Event] = []

    @takes
    def play(peer: Peer) -> None:
        peer.read_head()
        peer.send(STREAMS["refused"])
        go_on(peer)

    with FaultServer(play) as server:
        RUNNERS[name](Question(server.url, events.append, session=Session(), text="long" * 250_000))
    return events
