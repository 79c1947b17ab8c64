"""What every recipe must do, held against the core: ten recorded answers, and what can go wrong with a connection."""

import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import pytest
import trustme

from opchat_proto import (
    Broken,
    Client,
    Done,
    End,
    Endpoint,
    Event,
    Flow,
    Limits,
    Live,
    Proxy,
    Reason,
    Receive,
    Session,
    Submit,
)
from opchat_transports.blocking_sockets import serve
from opchat_transports.bots import small_talk
from tests.proto.test_captures import NAMES, check, recording_of
from tests.transports.scripted import SESSION, Peer, Script, Scripted, chunk, live

STREAMS = {path.stem: path.read_bytes() for path in sorted((Path(__file__).parent / "streams").glob("*.http"))}
PLENTY = 20.0  # seconds; only a test that fails waits that long
LITTLE = 1.5  # seconds, for a server that has stopped


class Authority:
    """Issues the certificate of `localhost`."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(self.server)
        self.cafile = str(folder / "authority.pem")
        authority.cert_pem.write_to_path(self.cafile)


@dataclass(frozen=True)
class Question:
    """What a recipe is to ask, and who hears the answer."""

    url: str
    hear: Callable[[Event], object]
    cafile: str | None = None
    seconds: float = PLENTY
    session: Session | None = None
    limits: Limits = Limits()
    text: str = "Hi!"
    proxy: Proxy | None = None

    def flow(self) -> Flow:
        submit = Submit.from_messages([{"role": "user", "content": self.text}], chat_id="c0ffee")
        return Flow(Endpoint.parse(self.url), submit, session=self.session, limits=self.limits)

    def client(self) -> Client:
        return Client(self.flow(), proxy=self.proxy)

    @cached_property
    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.cafile)


Recipe: TypeAlias = Callable[[Question], None]
"""Asks, and comes back when it is over and the connection is closed."""


def events_of(answer: bytes, end: Callable[[Client], list[Event]] = Client.receive_eof) -> list[Event]:
    """What the core makes of an answer in one piece, and then of its end if that is not the last event yet."""
    client = Question("http://127.0.0.1:8000", print).client()
    events: list[Event] = []
    for data in (SESSION, answer):
        while not isinstance(client.next_step(), Receive | Done):
            client.step_done()
        events += client.receive_data(data)
    return events + end(client)


def failed(reason: Reason) -> Callable[[Client], list[Event]]:
    return lambda client: client.receive_failure("what the driver says", reason)


def without_words(events: Sequence[Event]) -> list[Event]:
    """A driver has its own words for what went wrong, but it must have some."""
    return [replace(event, detail=event.detail and "said") if isinstance(event, Broken) else event for event in events]


def cut_after(name: str, word: bytes) -> bytes:
    """A stream up to the end of the chunk that holds this word."""
    data = STREAMS[name]
    return data[: data.index(b"\r\n", data.index(word)) + 2]


def answer(peer: Peer, *pieces: bytes) -> bool:
    """start_session, then these pieces; or only one of the two, for a client with a connection for each request.

    Says whether it was the question that was answered.
    """
    try:
        if b"start_session" in peer.read().split(b"\r\n", 1)[0]:
            peer.send(SESSION)
            peer.read()
    except ConnectionError:
        return False
    with suppress(ConnectionError):  # what comes after the last event may find nobody
        peer.send(*pieces)
    return True


def answering(*pieces: bytes) -> Script:
    """`answer`, and then the close."""
    return lambda peer: answer(peer, *pieces)


class Suite:
    """The tests. A subclass has a fixture `recipe`."""

    def ask(self, recipe: Recipe, url: str, cafile: str | None = None, seconds: float = PLENTY) -> list[Event]:
        events: list[Event] = []
        recipe(Question(url, events.append, cafile, seconds))
        return events

    def ask_and_answer(self, recipe: Recipe, cut: bytes, then: Callable[[Peer], object]) -> list[Event]:
        """What follows the piece " seven" does so when that was heard."""
        heard = threading.Event()
        events: list[Event] = []

        def hear(event: Event) -> None:
            events.append(event)
            if event == Live(" seven"):
                heard.set()

        def play(peer: Peer) -> None:
            if answer(peer, cut):
                assert heard.wait(PLENTY)
                then(peer)

        with Scripted(play) as server:
            recipe(Question(server.url, hear))
        return events

    @pytest.mark.parametrize("name", STREAMS)
    def test_a_recorded_answer(self, recipe: Recipe, name: str) -> None:
        with Scripted(answering(STREAMS[name])) as server:
            assert self.ask(recipe, server.url) == events_of(STREAMS[name])
        assert server.routes == ["start_session", "submit"]

    def test_the_librarys_own_server(self, recipe: Recipe) -> None:
        with serve(small_talk) as server:
            *lives, last = self.ask(recipe, server.url)
        assert last == End("Hello! This is question 1 of our conversation.", last.raw)
        assert isinstance(last, End)
        assert "".join(piece.text for piece in lives if isinstance(piece, Live)) == last.reply

    def test_an_answer_in_pieces_is_heard_piece_by_piece(self, recipe: Recipe) -> None:
        cut = cut_after("plain", b"seven")
        events = self.ask_and_answer(recipe, cut, lambda peer: peer.send(STREAMS["plain"][len(cut) :]))
        assert events == events_of(STREAMS["plain"])

    def test_over_tls(self, recipe: Recipe, authority: Authority) -> None:
        with Scripted(answering(STREAMS["plain"]), tls=authority.server) as server:
            assert self.ask(recipe, server.url, authority.cafile) == events_of(STREAMS["plain"])

    def test_a_certificate_that_is_not_trusted(self, recipe: Recipe, authority: Authority) -> None:
        with Scripted(answering(STREAMS["plain"]), tls=authority.server) as server:
            events = self.ask(recipe, server.url)
        assert without_words(events) == [Broken(Reason.LOST, "said")]
        assert server.requests == []

    def test_leaving_early(self, recipe: Recipe) -> None:
        events: list[Event] = []
        left: list[bool] = []

        def play(peer: Peer) -> None:
            if answer(peer, STREAMS["plain"][:-50]):
                left.append(peer.is_left())

        def hear(event: Event) -> bool:
            events.append(event)
            return True

        with Scripted(play) as server:
            recipe(Question(server.url, hear))
        assert events == [Live("Plain")]
        assert left == [True]

    def test_a_connection_that_is_closed_inside_the_answer(self, recipe: Recipe) -> None:
        cut, more = cut_after("plain", b"seven"), live(" small")[:-10]
        events = self.ask_and_answer(recipe, cut, lambda peer: peer.send(more))
        assert without_words(events) == without_words(events_of(cut + more))
        assert isinstance(events[-1], Broken)
        assert events[-1].reason is Reason.TRUNCATED

    def test_a_connection_that_is_reset_inside_the_answer(self, recipe: Recipe) -> None:
        cut = cut_after("plain", b"seven")
        events = self.ask_and_answer(recipe, cut, Peer.reset)
        assert without_words(events) == without_words(events_of(cut, failed(Reason.LOST)))

    @pytest.mark.parametrize("drip", [b"", chunk(b": still here\n\n")], ids=["silence", "comments"])
    def test_a_server_that_stalls(self, recipe: Recipe, drip: bytes) -> None:
        cut = cut_after("plain", b"seven")

        def play(peer: Peer) -> None:
            asked = answer(peer, cut)
            while asked and not peer.is_left(within=0.05):
                with suppress(OSError):  # which says that it has left
                    peer.send(drip)

        with Scripted(play) as server:
            events = self.ask(recipe, server.url, seconds=LITTLE)
        assert without_words(events) == without_words(events_of(cut, failed(Reason.TIMEOUT)))

    def test_a_server_that_stalls_before_it_answers(self, recipe: Recipe) -> None:
        def play(peer: Peer) -> None:
            peer.read()
            assert peer.is_left()

        with Scripted(play) as server:
            events = self.ask(recipe, server.url, seconds=LITTLE)
        assert without_words(events) == [Broken(Reason.TIMEOUT, "said")]

    def test_a_connection_that_is_refused(self, recipe: Recipe) -> None:
        with closing(socket.create_server(("127.0.0.1", 0))) as listener:
            port = listener.getsockname()[1]
        events = self.ask(recipe, f"http://127.0.0.1:{port}")
        assert without_words(events) == [Broken(Reason.LOST, "said")]

    def test_a_connection_that_is_closed_after_the_session_is_replaced(self, recipe: Recipe) -> None:
        def only_the_session(peer: Peer) -> None:
            peer.read()
            peer.send_and_close(SESSION)

        with Scripted(only_the_session, answering(STREAMS["plain"])) as server:
            assert self.ask(recipe, server.url) == events_of(STREAMS["plain"])
        assert server.routes == ["start_session", "submit"]

    def test_a_question_that_nobody_answers_is_not_repeated(self, recipe: Recipe) -> None:
        with Scripted(answering()) as server:
            events = self.ask(recipe, server.url)
        assert without_words(events) == [Broken(Reason.LOST, "said")]
        assert server.routes == ["start_session", "submit"]

    @pytest.mark.parametrize("name", NAMES)
    def test_what_a_real_site_answered(self, recipe: Recipe, name: str) -> None:
        recording, expected = recording_of(name)
        events: list[Event] = []
        with Scripted(answering(recording.data)) as server:
            recipe(Question(server.url, events.append, session=Session(nonce="0b2576d756"), limits=Limits(restarts=0)))
        if expected.reason is Reason.TRUNCATED:
            expected = replace(expected, detail="")  # who follows HTTP says what is wrong with it
        check(events, expected)
