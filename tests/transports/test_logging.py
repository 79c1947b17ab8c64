"""The logger "opchat", which each transport has in addition to its observer."""

import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest

from opchat_proto import Broken, Channel, Connect, End, Session
from opchat_transports._logging import LOGGER, with_log  # the logger is not public
from opchat_transports.testing import ANSWER, EVENTS, FAULTS, Close, FaultServer, MemoryServer, Script, Write, refused

from .asking import ASKS, Ask

each_transport = pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)


@pytest.fixture
def level() -> Iterator[Any]:
    """Set the level as an application does."""
    yield LOGGER.setLevel
    LOGGER.setLevel(logging.NOTSET)


def logged(caplog: pytest.LogCaptureFixture, kind: int = logging.INFO) -> list[str]:
    lines = [record.getMessage() for record in caplog.records if record.name == "opchat" and record.levelno == kind]
    return [re.sub(r"seconds: \d+\.\d{3},", "seconds: _,", line) for line in lines]


@each_transport
def test_each_question_is_logged_as_one_line(ask: Ask, caplog: pytest.LogCaptureFixture, level: Any) -> None:
    level(logging.INFO)
    with FaultServer() as server:
        events = ask(server.url)
    line = f"{server.url}: complete; events: {len(EVENTS)}, seconds: _, retries: 0"
    assert ([type(event) for event in events][-1], logged(caplog)) == (End, [line])


@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        (FAULTS["cut after an event"], "broken, truncated; events: 2"),
        (refused(403, "SECRET", "rest_SECRET"), "broken, refused (status 403); events: 1"),
        (FAULTS["stall after an event"], "broken, timeout (idle); events: 2"),
        (FAULTS["endless head"], "broken, too large (head_bytes); events: 1"),
    ],
)
def test_a_broken_answer_is_logged_as_one_line(
    script: Script, outcome: str, caplog: pytest.LogCaptureFixture, level: Any
) -> None:
    level(logging.INFO)
    channel = Channel("http://h", session=Session(), observer=with_log(None))
    *_, last = MemoryServer(script).run(channel.call("Hi"))
    assert (type(last), logged(caplog)) == (Broken, [f"http://h: {outcome}, seconds: _, retries: 0"])


def test_retries_are_counted_in_the_line(caplog: pytest.LogCaptureFixture, level: Any) -> None:
    level(logging.INFO)
    later = refused(429, "Slow.", headers=[("Retry-After", "1")])
    channel = Channel("http://h", retries=1, observer=with_log(None))
    list(MemoryServer((*later, Close()), (Write(ANSWER),)).run(channel.call("Hi")))
    assert logged(caplog) == [f"http://h: complete; events: {len(EVENTS)}, seconds: _, retries: 1"]


def test_debug_logs_each_step_and_no_secret(caplog: pytest.LogCaptureFixture, level: Any) -> None:
    level(logging.DEBUG)
    session = Session("SECRETnonce", cookie="mwai_session_id=SECRETcookie")
    channel = Channel("http://h", session=session, headers={"X-Key": "SECRETkey"}, observer=with_log(None))
    answer = ANSWER.replace(b"Hello", b"SECRET")
    list(MemoryServer((Write(answer, size=len(answer)),)).run(channel.call("SECRET?")))
    steps = [re.sub(r"\d+ bytes", "_ bytes", line) for line in logged(caplog, logging.DEBUG)]
    expected = ["Connect(host='h', port=80)", "Send(_ bytes)", "Receive()", "Done()"]
    assert steps == [f"http://h: {step}" for step in expected]
    assert "SECRET" not in caplog.text


def test_by_default_it_is_silent_and_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def observer(call: object, item: object) -> None:
        pass

    assert (with_log(None), with_log(observer)) == (None, observer)
    assert [type(handler) for handler in LOGGER.handlers] == [logging.NullHandler]


def test_an_observer_is_called_as_well(level: Any) -> None:
    level(logging.INFO)
    items: list[Any] = []
    channel = Channel("http://h", observer=with_log(lambda call, item: items.append(item)))
    events = list(MemoryServer().run(channel.call("Hi")))
    assert items[0] == Connect("h", 80)
    assert [item for item in items if item in events] == events


def test_a_wrong_observer_is_refused_with_and_without_a_log(level: Any) -> None:
    level(logging.INFO)
    wrong: Any = 3
    with pytest.raises(TypeError, match="observer: expected a callable or None, got int"):
        Channel("http://h", observer=with_log(wrong))
