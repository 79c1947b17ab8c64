"""A question over connections: its steps, its proxy, and failed or timed-out steps."""

import math

import pytest

from opchat_proto import Connect, Done, Live, LocalProtocolError, Proxy, Receive, Request, Send, Session, StepDone
from tests.proto.asking import ANSWERED
from tests.proto.calls import GOOD, NO_CONNECTION, OPENED, asks, channel, ended, taken, tell


def test_the_steps_of_a_question_over_connections() -> None:
    call = channel().call([{"role": "user", "content": "Hi?"}])
    for is_first, asked_for in ((True, "start_session"), (False, "submit n1")):
        assert call.next_step(100) == (Connect("site.example", 80), 110)
        call.step_done()
        step, until = call.next_step(101)
        assert (type(step), until) == (Send, 131)
        assert asks(call, 101) == asked_for
        assert call.next_step(102) == (Receive(), 402)
        tell(call, OPENED if is_first else GOOD)
    assert taken(call) == [Live("Hi")]
    assert call.next_step(103) == (Done(), math.inf)
    assert taken(call) == [ANSWERED[1]]
    assert taken(call) == []
    assert call.sent == (0, 0)


def test_an_observer_hears_that_a_step_is_done() -> None:
    heard: list[object] = []
    call = channel(session=Session(), observer=lambda _, item: heard.append(item)).call("Hi?")
    assert call.next_step(0)[0] == Connect("site.example", 80)
    call.step_done()
    assert heard == [Connect("site.example", 80), StepDone()]


def test_a_report_that_does_not_fit_the_step_raises_and_the_answer_goes_on() -> None:
    call = channel(session=Session()).call("Hi?")
    assert (asks(call), asks(call)) == ("submit None", "Receive")
    with pytest.raises(LocalProtocolError, match=r"^Client: step_done is not legal in state RECEIVE$"):
        call.step_done()
    tell(call, GOOD)
    assert ended(call) == ANSWERED


@pytest.mark.parametrize("proxy", ["http://proxy.example:3128", Proxy.parse("proxy.example:3128")])
def test_a_call_connects_through_the_proxy_and_an_http_call_leaves_it_to_its_library(proxy: Proxy | str) -> None:
    site = channel(session=Session(), proxy=proxy)
    assert site.proxy == Proxy("http", "proxy.example", 3128)
    assert site.call("Hi?").next_step(0)[0] == Connect("proxy.example", 3128)
    request = site.http_call("Hi?").next_step(0)[0]
    assert isinstance(request, Request)
    assert request.url == "http://site.example/wp-json/mwai-ui/v1/chats/submit"


def test_a_connection_that_cannot_be_opened_ends_the_question() -> None:
    call = channel(session=Session()).call("Hi?")
    call.next_step(0)
    call.step_failed("refused")
    assert ended(call) == [NO_CONNECTION[type(call)]]
    call.step_failed("late")
    call.step_done()
    assert call.outcome == NO_CONNECTION[type(call)]


def test_after_the_first_event_the_idle_clock_runs() -> None:
    call = channel(session=Session()).call("Hi?")
    asks(call)
    assert call.next_step(0) == (Receive(), 300)
    call.receive_data(b'HTTP/1.1 200 -\r\n\r\ndata: {"type":"live","data":"Hi"}\n\n')
    assert call.next_step(1) == (Receive(), 121)
    call.close()
    assert taken(call)[0] == Live("Hi")
