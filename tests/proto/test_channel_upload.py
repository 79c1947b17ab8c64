"""An upload over a channel."""

from dataclasses import replace
from typing import Any

import pytest

from opchat_proto import (
    Broken,
    Call,
    Channel,
    Conversation,
    Done,
    End,
    HTTPCall,
    Limits,
    Live,
    Request,
    Send,
    Session,
    Submit,
    Wait,
)
from tests.proto.uploads import CAT, KEPT


@pytest.mark.parametrize("make", [Channel.call, Channel.http_call])
def test_an_upload_is_sent_and_retries_repeat_it(make: Any) -> None:
    channel = Channel("http://site.example", session=Session("n0"), retries=1)
    call = make(channel, CAT)
    assert not hasattr(call, "submit")

    def go_on(now: float) -> None:
        while not isinstance(step := call.next_step(now)[0], Request) and not (isinstance(step, Send)):
            call.step_done()
        if isinstance(call, Call):
            call.step_done()

    go_on(0)
    call.step_failed("reset")
    assert isinstance(call.next_step(1)[0], Wait)
    go_on(30)
    assert call.retries == 1
    if isinstance(call, HTTPCall):
        call.receive_head(200, [])
        call.receive_data(KEPT)
        call.receive_eof()
    else:
        call.receive_data(b"HTTP/1.1 200 x\r\nContent-Length: %d\r\n\r\n%b" % (len(KEPT), KEPT))
    assert isinstance(call.next_step(31)[0], Done)
    assert call.next_event() == End(None, KEPT.decode())


def test_an_upload_takes_no_options_and_no_conversation() -> None:
    channel = Channel("http://site.example")
    with pytest.raises(TypeError, match=r"^question: this Upload takes no options and belongs to no conversation$"):
        channel.call(CAT, stream=False)
    with pytest.raises(TypeError, match=r"^question: this Upload takes no options and belongs to no conversation$"):
        channel.call(CAT, Conversation())
    assert channel.call(Submit(new_message="Hi")).submit == Submit(new_message="Hi")


def test_an_upload_is_not_repeated_once_its_answer_has_begun() -> None:
    call = Channel("http://site.example", session=Session("n0"), retries=1).http_call(CAT)
    assert isinstance(call.next_step(0)[0], Request)
    call.receive_head(200, [])
    call.receive_data(b'data: {"type":"live","data":"one"}\n\n')
    call.step_failed("reset")
    assert isinstance(call.next_step(1)[0], Done)
    assert [call.next_event(), type(call.next_event())] == [Live("one"), Broken]


@pytest.mark.parametrize("make", [Channel.call, Channel.http_call])
def test_the_files_of_a_question_are_bounded_by_upload_bytes(make: Any) -> None:
    channel = Channel("http://site.example", limits=Limits(upload_bytes=CAT.size))
    call = make(channel, "Hi?", files=iter([CAT]))
    assert (call.upload, call.submit) == (CAT, Submit(new_message="Hi?"))


@pytest.mark.parametrize("make", [Channel.call, Channel.http_call])
@pytest.mark.parametrize(
    ("question", "files", "error", "match"),
    [
        ("Hi?", ["cat.png"], TypeError, r"^files: expected each to be an Upload$"),
        (CAT, [CAT], TypeError, r"^files: expected a question that they belong to, got Upload$"),
        ("Hi?", [CAT, replace(CAT, data=b"x" * 999)], ValueError, r"^files: expected at most 600 bytes \(Limits\.upl"),
        ("x" * 600, [CAT], ValueError, r"^submit: expected at most 500 bytes, got "),
    ],
)
def test_a_question_with_an_invalid_file_raises_at_once(
    make: Any, question: Any, files: Any, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        make(Channel("http://site.example", limits=Limits(request_bytes=500, upload_bytes=600)), question, files=files)
