"""A question by the official API over a channel."""

import pytest

from opchat_proto import Channel, Conversation, End, Query, Session

SITE = "https://site.example"
OWNER = Session.from_token("throwaway-token")


def test_a_query_uses_the_channels_token() -> None:
    assert Channel(SITE, session=OWNER).call(Query("Hi")).next_step(0)[0]
    channel = Channel("http://127.0.0.1:8000", session=OWNER)
    request, _ = channel.http_call(Query("Hi")).next_step(0)
    assert ("Authorization", "Bearer throwaway-token") in getattr(request, "headers", ())


def test_a_query_takes_no_options_and_no_conversation() -> None:
    channel = Channel(SITE, session=OWNER)
    for options in ({"stream": False}, {"conversation": Conversation()}):
        with pytest.raises(TypeError, match=r"^question: this Query takes no options and belongs to no conversation$"):
            channel.call(Query("Hi"), **options)


def test_a_channel_does_not_take_the_session_of_a_query() -> None:
    channel = Channel(SITE)
    call = channel.http_call(Query("Hi"))
    call.next_step(0)
    call.receive_head(200, [("X-WP-Nonce", "n1")])
    call.receive_data(b'{"success":true,"data":"Hello"}')
    call.receive_eof()
    call.next_step(0)
    assert (call.next_event(), channel.session) == (End("Hello", '{"success":true,"data":"Hello"}'), None)
