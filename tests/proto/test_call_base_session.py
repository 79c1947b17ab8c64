"""Which session a question is asked with: the newest that its channel has when it is asked."""

import pytest

from opchat_proto import Conversation, Session
from tests.proto.calls import FRESH, Make, asks, at_once, both, channel, tell


@both
def test_a_question_is_asked_with_what_another_brought_after_it_was_made(make: Make) -> None:
    _, (first, second) = at_once(make, 2, session=Session("n0"))
    assert asks(first) == "submit n0"
    tell(first, FRESH)
    assert asks(second) == "submit n9"


@both
@pytest.mark.parametrize(("of_channel", "asked"), [(None, "submit n1"), (Session("n0"), "submit n0")])
def test_the_session_of_a_conversation_is_for_a_channel_that_has_none(
    make: Make, of_channel: Session | None, asked: str
) -> None:
    site = channel(session=of_channel)
    call = make(site, "Hi?", Conversation(session=Session("n1")))
    assert asks(call) == asked
    tell(call, FRESH)
    assert site.session == Session("n9")
