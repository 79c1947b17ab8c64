"""A question uses the newest session that its channel has at the time of asking."""

import pytest

from opchat_proto import Broken, Conversation, Limits, Reason, Session, Submit
from tests.proto.calls import FRESH, Make, Reply, asks, at_once, both, channel, ended, tell


@both
def test_a_question_uses_a_session_that_arrived_after_the_call_was_made(make: Make) -> None:
    _, (first, second) = at_once(make, 2, session=Session("n0"))
    assert asks(first) == "submit n0"
    tell(first, FRESH)
    assert asks(second) == "submit n9"


@both
@pytest.mark.parametrize(("of_channel", "asked"), [(None, "submit n1"), (Session("n0"), "submit n0")])
def test_the_session_of_a_conversation_is_for_a_channel_without_one(
    make: Make, of_channel: Session | None, asked: str
) -> None:
    site = channel(session=of_channel)
    call = make(site, "Hi?", Conversation(session=Session("n1")))
    assert asks(call) == asked
    tell(call, FRESH)
    assert site.session == Session("n9")


QUESTION = Submit(new_message="How do I get there?")
SIZE = len(QUESTION.encode())
TOO_LARGE = f"more than {SIZE} bytes in the question (Limits.request_bytes)"


@both
def test_only_an_existing_session_id_makes_a_question_too_large(make: Make) -> None:
    site = channel(session=Session("n0", "s0s0s0"), limits=Limits(request_bytes=SIZE))
    call = make(site, QUESTION)
    assert asks(call) == "Done"
    assert ended(call) == [Broken(Reason.TOO_LARGE, TOO_LARGE, limit="request_bytes")]
    with pytest.raises(ValueError, match=rf"^submit: expected at most {SIZE} bytes, got {SIZE + 1} "):
        make(site, Submit(new_message=f"{QUESTION.new_message}?"))


@both
def test_a_retried_question_may_have_become_too_large_for_its_session(make: Make) -> None:
    site = channel(session=Session("n0"), limits=Limits(request_bytes=SIZE), retries=1)
    call = make(site, QUESTION)
    assert asks(call) == "submit n0"
    site._session = Session("n1", "s1s1s1", origin="http://site.example")  # as if another question had brought it
    tell(call, Reply(b"later", 429, (("Retry-After", "1"),)))
    assert (asks(call), asks(call, 2.0)) == ("Wait", "Done")
    assert ended(call) == [Broken(Reason.TOO_LARGE, TOO_LARGE, limit="request_bytes", asked=True)]
