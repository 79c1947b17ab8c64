"""An exception in the middle of a call that nobody expects, such as KeyboardInterrupt: `close` still ends the reply."""

import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import opchat_proto
from opchat_proto import Broken, Conversation, End, Live, Reason, Session
from tests.proto.calls import (
    CLOSED,
    GOOD,
    KEPT,
    LEFT,
    OPENED,
    OPENED_AGAIN,
    STALE,
    AnyCall,
    Make,
    asks,
    both,
    channel,
    ended,
    reach_nobody,
    tell,
)
from tests.proto.uploads import CAT

_FOLDER = Path(opchat_proto.__file__).parent
TRACED = {str(_FOLDER / f"_{name}.py") for name in ("call_base", "call", "http_call", "client", "flow", "opening")}


class Interrupts:
    """Raises KeyboardInterrupt at the first line that is in this place."""

    def __init__(self, place: tuple[str, int] | None) -> None:
        self._place = place
        self.places: dict[tuple[str, int], None] = {}

    def __call__(self, frame: Any, event: str, _: object) -> Any:
        if frame.f_code.co_filename not in TRACED:
            return None
        place = frame.f_code.co_filename, frame.f_lineno
        if event == "line" and place not in self.places:
            self.places[place] = None
            if place == self._place:
                raise KeyboardInterrupt
        return self


def ask(call: AnyCall, asked: list[str]) -> None:
    """Ask, and answer: the first session is stale."""
    answers = {"upload n1": [KEPT], "submit n1": [STALE], "submit n2": [GOOD], "start_session": [OPENED, OPENED_AGAIN]}
    while (step := asks(call)) != "Done":
        asked.append(step)
        tell(call, answers[step].pop(0))


@both
@pytest.mark.parametrize("files", [(), (CAT,)])
def test_an_interrupted_call_can_be_closed_and_blocks_neither_its_conversation_nor_its_channel(
    make: Make, files: tuple[Any, ...]
) -> None:
    def interrupt(place: tuple[str, int] | None) -> Interrupts:
        site, conversation = channel(signal=threading.Event), Conversation(chat_id="c")
        call = make(site, "Hi?", conversation, files=files)
        asked: list[str] = []
        trace, before = Interrupts(place), sys.gettrace()
        sys.settrace(trace)
        try:
            ask(call, asked)
        except KeyboardInterrupt:
            sys.settrace(before)
            call.close()
        finally:
            sys.settrace(before)
        events = ended(call)
        assert all(isinstance(event, Live) for event in events[:-1]), place
        last = call.outcome
        assert isinstance(last, End | Broken), place
        if isinstance(last, Broken):
            assert last.detail == CLOSED, place
            assert last.asked >= any(each.startswith("submit") for each in asked), place
            assert last.reason is Reason.TRUNCATED or events == [last], place
        assert bool(conversation.messages) >= isinstance(last, End), place
        assert asked.count("submit n1") <= 1, place
        assert asked.count("submit n2") <= 1, place
        assert asks(make(site, "And?", conversation)) != "Wait", place
        return trace

    places = interrupt(None).places
    for place in places:
        interrupt(place)
    assert len(places) > 200


def test_a_random_source_that_raises_leaves_a_call_that_can_be_closed() -> None:
    def draw() -> float:
        raise KeyboardInterrupt

    call = channel(session=Session(), retries=1, random=draw).call("Hi?")
    call.next_step(0)
    with pytest.raises(KeyboardInterrupt):
        reach_nobody(call)
    call.close()
    assert ended(call) == [Broken(Reason.LOST, CLOSED)]


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_signal_that_cannot_be_made_leaves_a_call_that_goes_on_or_can_be_closed(goes_on: bool) -> None:
    def signal() -> threading.Event:
        if raising:
            raise raising.pop()
        return threading.Event()

    raising: list[BaseException] = [KeyboardInterrupt()]
    site = channel(signal=signal)
    starter, waiting = site.call("Hi?"), site.call("Hi?")
    assert asks(starter) == "start_session"
    with pytest.raises(KeyboardInterrupt):
        waiting.next_step(0)
    if goes_on:
        assert asks(waiting) == "Wait"
        tell(starter, OPENED)
        assert asks(waiting) == "submit n1"
    else:
        waiting.close()
        assert ended(waiting) == [LEFT]
