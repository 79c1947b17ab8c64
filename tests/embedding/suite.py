"""The requirements for every recipe, compared with the core: ten recorded answers, and faults of connections."""

import ssl
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import pytest
import trustme

from opchat_proto import (
    Broken,
    Call,
    Channel,
    Client,
    Done,
    End,
    Event,
    Flow,
    HTTPCall,
    Limits,
    Live,
    Proxy,
    Reason,
    Receive,
    Session,
    Signal,
    Submit,
    Timeouts,
)
from opchat_transports.blocking_server import serve
from opchat_transports.bots import small_talk
from opchat_transports.testing import Close, Delay, Expect, FaultServer, Script, Stall, Write
from tests.captures import NAMES, check, recording_of
from tests.transports.peer import Peer, plays, refusing_port
from tests.transports.wire import SESSION, chunk, live, object_

STREAMS = {path.stem: path.read_bytes() for path in sorted((Path(__file__).parent / "streams").glob("*.http"))}
PATIENCE = 60.0  # seconds; reached only by a failing test
PLENTY = Timeouts(connect=PATIENCE, write=PATIENCE, first_event=PATIENCE, idle=PATIENCE)
LITTLE = Timeouts(connect=1, write=1, first_event=1, idle=1)  # for a server that has stopped


REFUSAL = object_(503, message="Busy.").replace(b"\r\n", b"\r\nRetry-After: 1\r\n", 1)


class Authority:
    """The authority that issues the certificate of `localhost`."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(self.server)
        self.cafile = str(folder / "authority.pem")
        authority.cert_pem.write_to_path(self.cafile)


@dataclass(frozen=True)
class Question:
    """A question for a recipe, and the listener for its events."""

    url: str
    hear: Callable[[Event], object]
    cafile: str | None = None
    timeouts: Timeouts = PLENTY
    session: Session | None = None
    limits: Limits = Limits()
    text: str = "Hi!"
    proxy: Proxy | None = None
    retries: int = 0

    def channel(
        self, signal: Callable[[], Signal] | None = None, lock: AbstractContextManager[object] | None = None
    ) -> Channel:
        return Channel(
            self.url,
            session=self.session,
            limits=self.limits,
            timeouts=self.timeouts,
            proxy=self.proxy,
            retries=self.retries,
            random=lambda: 0.0,
            signal=signal,
            lock=lock,
        )

    def call(self, signal: Callable[[], Signal] | None = None) -> Call:
        """Channel options for a recipe that waits for such signals."""
        return self.channel(signal).call(self.text)

    def http_call(self, signal: Callable[[], Signal]) -> HTTPCall:
        return self.channel(signal).http_call(self.text)

    @cached_property
    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.cafile)


Recipe: TypeAlias = Callable[[Question], None]
"""Runs a recipe, and returns when the reply is over and the connection is closed."""


def events_of(answer: bytes, end: Callable[[Client], list[Event]] = Client.receive_eof) -> list[Event]:
    """The core's events for an answer in one piece, followed by its end if needed."""
    client = Client(Flow("http://127.0.0.1:8000", Submit(new_message="Hi!")))
    events: list[Event] = []
    for data in (SESSION, answer):
        while not isinstance(client.next_step(), Receive | Done):
            client.step_done()
        events += client.receive_data(data)
    return events + end(client)


def failed(reason: Reason, limit: str | None = None) -> Callable[[Client], list[Event]]:
    return lambda client: client.step_failed("what the driver says", reason, limit=limit)


def without_words(events: Sequence[Event]) -> list[Event]:
    """Check the wording: a driver has its own, but it must not be empty."""
    return [replace(event, detail=event.detail and "said") if isinstance(event, Broken) else event for event in events]


def cut_after(name: str, word: bytes) -> bytes:
    """A stream up to the end of the chunk that contains this word."""
    data = STREAMS[name]
    return data[: data.index(b"\r\n", data.index(word)) + 2]


def answering(*pieces: bytes) -> Script:
    """Answer the question with these pieces, and close."""
    return tuple(map(Write, pieces))


class Suite:
    """The tests. A subclass has a fixture `recipe`."""

    def ask(self, recipe: Recipe, url: str, cafile: str | None = None, timeouts: Timeouts = PLENTY) -> list[Event]:
        events: list[Event] = []
        recipe(Question(url, events.append, cafile, timeouts))
        return events

    def ask_and_answer(self, recipe: Recipe, cut: bytes, then: Callable[[Peer], object]) -> list[Event]:
        """The rest after the piece " seven" is sent once that piece was received."""
        heard = threading.Event()
        events: list[Event] = []

        def hear(event: Event) -> None:
            events.append(event)
            if event == Live(" seven"):
                heard.set()

        @plays
        def play(peer: Peer) -> None:
            peer.send(cut)
            assert heard.wait(PATIENCE)
            then(peer)

        with FaultServer(play) as server:
            recipe(Question(server.url, hear))
        return events

    @pytest.mark.parametrize("name", STREAMS)
    def test_a_recorded_answer_gives_the_cores_events(self, recipe: Recipe, name: str) -> None:
        with FaultServer(answering(STREAMS[name])) as server:
            assert self.ask(recipe, server.url) == events_of(STREAMS[name])
        assert server.routes == ("start_session", "submit")

    def test_the_librarys_own_server_answers(self, recipe: Recipe) -> None:
        with serve(small_talk) as server:
            *lives, last = self.ask(recipe, server.url)
        assert last == End("Hello! This is question 1 of our conversation.", last.raw)
        assert isinstance(last, End)
        assert "".join(piece.text for piece in lives if isinstance(piece, Live)) == last.reply

    def test_each_piece_is_received_as_it_is_sent(self, recipe: Recipe) -> None:
        cut = cut_after("plain", b"seven")
        events = self.ask_and_answer(recipe, cut, lambda peer: peer.send(STREAMS["plain"][len(cut) :]))
        assert events == events_of(STREAMS["plain"])

    def test_tls_works(self, recipe: Recipe, authority: Authority) -> None:
        with FaultServer(answering(STREAMS["plain"]), ssl_context=authority.server) as server:
            assert self.ask(recipe, server.url, authority.cafile) == events_of(STREAMS["plain"])

    def test_an_untrusted_certificate_is_lost(self, recipe: Recipe, authority: Authority) -> None:
        with FaultServer(answering(STREAMS["plain"]), ssl_context=authority.server) as server:
            events = self.ask(recipe, server.url)
        assert without_words(events) == [Broken(Reason.LOST, "said", in_session=True)]
        assert server.requests == ()

    def test_leaving_early_closes_the_connection(self, recipe: Recipe) -> None:
        events: list[Event] = []
        left: list[bool] = []

        @plays
        def play(peer: Peer) -> None:
            peer.send(STREAMS["plain"][:-50])
            left.append(peer.is_left())

        def hear(event: Event) -> bool:
            events.append(event)
            return True

        with FaultServer(play) as server:
            recipe(Question(server.url, hear))
        assert events == [Live("Plain")]
        assert left == [True]

    def test_a_connection_that_closes_inside_the_answer_truncates_it(self, recipe: Recipe) -> None:
        cut, more = cut_after("plain", b"seven"), live(" small")[:-10]
        events = self.ask_and_answer(recipe, cut, lambda peer: peer.send(more))
        assert without_words(events) == without_words(events_of(cut + more))
        assert isinstance(events[-1], Broken)
        assert events[-1].reason is Reason.TRUNCATED

    def test_a_connection_that_is_reset_inside_the_answer_truncates_it(self, recipe: Recipe) -> None:
        cut = cut_after("plain", b"seven")
        events = self.ask_and_answer(recipe, cut, Peer.reset)
        assert without_words(events) == without_words(events_of(cut, failed(Reason.LOST)))

    @pytest.mark.parametrize("drip", [b"", chunk(b": still here\n\n")], ids=["silence", "comments"])
    def test_a_server_that_stalls_inside_its_answer_times_out(self, recipe: Recipe, drip: bytes) -> None:
        cut = cut_after("plain", b"seven")

        @plays
        def play(peer: Peer) -> None:
            peer.send(cut)
            while not peer.is_left(within=0.05):
                with suppress(OSError):  # it records that the client has left
                    peer.send(drip)

        with FaultServer(play) as server:
            events = self.ask(recipe, server.url, timeouts=LITTLE)
        assert without_words(events) == without_words(events_of(cut, failed(Reason.TIMEOUT, "idle")))

    def test_a_server_that_stalls_before_its_answer_times_out(self, recipe: Recipe) -> None:
        with FaultServer((Expect("start_session"), Stall())) as server:
            events = self.ask(recipe, server.url, timeouts=LITTLE)
        assert without_words(events) == [Broken(Reason.TIMEOUT, "said", limit="first_event", in_session=True)]

    @pytest.mark.parametrize("session", [None, Session()], ids=["for a session", "for the question"])
    def test_a_refused_connection_is_lost(self, recipe: Recipe, session: Session | None) -> None:
        events: list[Event] = []
        with refusing_port() as port:
            recipe(Question(f"http://127.0.0.1:{port}", events.append, session=session))
        assert without_words(events) == [Broken(Reason.LOST, "said", in_session=session is None)]

    def test_a_retry_after_repeats_the_question_after_a_pause(self, recipe: Recipe) -> None:
        """The connection is closed during the pause, which is a `Wait`."""
        left: list[bool] = []

        @plays
        def refuse(peer: Peer) -> None:
            peer.send(REFUSAL)
            left.append(peer.is_left())

        events: list[Event] = []
        with FaultServer(refuse, answering(STREAMS["plain"])) as server:
            recipe(Question(server.url, events.append, retries=1))
        assert events == events_of(STREAMS["plain"])
        assert left == [True]
        assert server.routes == ("start_session", "submit", "submit")

    @pytest.mark.parametrize("seconds", [0.0, 0.002, 0.02])
    def test_a_server_that_closes_a_connection_it_promised_to_keep_loses_no_question(
        self, recipe: Recipe, seconds: float
    ) -> None:
        only_the_session = (Expect("start_session"), Write(SESSION), Delay(seconds), Close())
        with FaultServer(only_the_session, answering(STREAMS["plain"])) as server:
            assert self.ask(recipe, server.url) == events_of(STREAMS["plain"])
        assert server.routes == ("start_session", "submit")

    def test_a_question_without_an_answer_is_not_repeated(self, recipe: Recipe) -> None:
        with FaultServer(answering()) as server:
            events = self.ask(recipe, server.url)
        assert without_words(events) == [Broken(Reason.LOST, "said", asked=True)]
        assert server.routes == ("start_session", "submit")

    @pytest.mark.sample(4)  # does not divide the number of recipes or recordings
    @pytest.mark.parametrize("name", NAMES)
    def test_a_real_sites_recorded_answer_gives_its_outcome(self, recipe: Recipe, name: str) -> None:
        recording, expected = recording_of(name)
        events: list[Event] = []
        with FaultServer(answering(recording.data)) as server:
            recipe(Question(server.url, events.append, session=Session(nonce="0b2576d756"), limits=Limits(restarts=0)))
        if expected.reason is Reason.TRUNCATED:
            expected = replace(expected, detail="")  # an HTTP library has its own words for the fault
        check(events, expected)
