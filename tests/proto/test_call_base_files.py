"""A question with files: they are uploaded first, in the session of the question."""

import json
from dataclasses import replace
from typing import Any

import pytest

from opchat_proto import (
    Broken,
    Call,
    Conversation,
    Limits,
    LocalProtocolError,
    Reason,
    Receive,
    Request,
    Send,
    Session,
    StepDone,
    Submit,
)
from tests.proto.asking import ANSWERED
from tests.proto.calls import (
    DOWN,
    GOOD,
    KEPT,
    NO_ROUTE,
    NO_SESSION,
    OPENED,
    OPENED_AGAIN,
    REFUSAL,
    STALE,
    AnyCall,
    Make,
    Reply,
    asks,
    begin,
    both,
    channel,
    ended,
    put_off,
    tell,
)
from tests.proto.uploads import CAT

DOG = replace(CAT, name="dog.png")
NOT_TAKEN = Reply(b'{"success":false,"message":"Invalid file type."}', 400)


def kept(file_id: object) -> Reply:
    return Reply(json.dumps({"success": True, "data": {"id": file_id}}).encode())


def body_of(call: AnyCall) -> dict[str, Any]:
    """The next request, as JSON."""
    while True:
        step, _ = call.next_step(0)
        match step:
            case Request(body=body):
                break
            case Send(data) if data.startswith(b"POST "):
                body = data.partition(b"\r\n\r\n")[2]
                break
        assert isinstance(call, Call)
        call.step_done()
    if isinstance(call, Call):
        call.step_done()
    values: dict[str, Any] = json.loads(body)
    return values


@both
def test_files_may_be_attached_until_the_call_is_asked(make: Make) -> None:
    call = make(channel(), "What are these?", files=[CAT])
    call.attach(iter([DOG]))
    for opened in (OPENED, KEPT):
        asks(call)
        tell(call, opened)
    assert (asks(call), call.upload) == ("upload n1", DOG)
    with pytest.raises(LocalProtocolError, match=r"^Call: attach is not legal in state UPLOAD$"):
        call.attach([CAT])
    tell(call, kept("f2"))
    assert body_of(call)["newFileIds"] == ["f1", "f2"]


@both
def test_an_invalid_attachment_changes_nothing(make: Make) -> None:
    call = make(channel(limits=Limits(upload_bytes=CAT.size)), "What is this?", files=[CAT])
    with pytest.raises(ValueError, match=r"^files: expected at most \d+ bytes \(Limits\.upload_bytes\) in 'long"):
        call.attach([replace(CAT, name="longer.png")])
    with pytest.raises(TypeError, match=r"^files: expected each to be an Upload$"):
        call.attach(["cat.png"])  # type: ignore[list-item]  # wrong on purpose
    with pytest.raises(TypeError, match=r"^files: expected a question that they belong to, got Upload$"):
        make(channel(), CAT).attach([CAT])
    assert (asks(call), call.upload) == ("start_session", CAT)


@both
def test_nothing_can_be_attached_after_a_nonce_was_refused(make: Make) -> None:
    call = make(channel(session=Session("n0")), "What is this?")
    assert asks(call) == "submit n0"
    tell(call, STALE)
    for files in ([], [CAT]):
        with pytest.raises(LocalProtocolError, match=r"^Call: attach is not legal in state ASK$"):
            call.attach(files)
    assert asks(call) == "start_session"
    tell(call, OPENED)
    assert asks(call) == "submit n1"
    tell(call, STALE)
    assert ended(call) == [REFUSAL]


@both
def test_a_call_that_is_over_ignores_files(make: Make) -> None:
    call = make(channel(), "What is this?")
    call.close()
    call.attach([CAT])
    assert call.upload is None


@both
def test_files_are_uploaded_one_after_the_other_and_then_named(make: Make) -> None:
    site = channel()
    call = make(site, "What are these?", files=[CAT, DOG])
    assert asks(call) == "start_session"
    tell(call, OPENED)
    assert (asks(call), call.upload) == ("upload n1", CAT)
    tell(call, KEPT)
    assert (asks(call), call.upload) == ("upload n1", DOG)
    tell(call, kept("f2"))
    assert call.upload is None
    body = body_of(call)
    assert (body["newFileId"], body["newFileIds"], body["session"]) == (None, ["f1", "f2"], "s1")
    assert call.submit.file_ids == ("f1", "f2")
    tell(call, GOOD)
    assert ended(call) == ANSWERED


@both
def test_a_file_can_go_with_a_conversation_and_with_earlier_ids(make: Make) -> None:
    conversation = Conversation(chat_id="c1")
    call = make(channel(session=Session("n0")), "Hi?", conversation, files=[CAT], file_ids=["f0"])
    assert asks(call) == "upload n0"
    tell(call, KEPT)
    assert body_of(call)["newFileIds"] == ["f0", "f1"]
    tell(call, GOOD)
    assert ended(call) == ANSWERED
    assert [message.content for message in conversation.messages] == ["Hi?", "Hi"]


@both
def test_an_uploaded_file_is_kept_when_the_nonce_is_renewed_before_the_question(make: Make) -> None:
    """It belongs to the session id, which start_session returns again for the session's cookie (WIRE 3.1, 7.5)."""
    site = channel(session=Session("n0", "s0", "mwai_session_id=s0"))
    call = make(site, "Hi?", files=[CAT])
    assert asks(call) == "upload n0"
    tell(call, KEPT)
    assert asks(call) == "submit n0"
    tell(call, STALE)
    assert asks(call) == "start_session"
    tell(call, OPENED)
    assert body_of(call)["newFileId"] == "f1"
    tell(call, GOOD)
    assert ended(call) == ANSWERED
    assert site.session == Session("n1", "s1", "mwai_session_id=s0")


@both
def test_the_question_uses_a_session_that_another_call_has_renewed(make: Make) -> None:
    site = channel(session=Session("n0"))
    call, other = make(site, "Hi?", files=[CAT]), make(site, "Hi?")
    assert (asks(call), asks(other)) == ("upload n0", "submit n0")
    tell(other, STALE)
    assert asks(other) == "start_session"
    tell(call, KEPT)
    tell(other, OPENED_AGAIN)
    assert asks(call) == "submit n2"


@both
@pytest.mark.parametrize(
    ("reply", "broken"),
    [
        (NOT_TAKEN, Broken(Reason.REFUSED, "file 'cat.png': Invalid file type.", 400, raw=NOT_TAKEN.body.decode())),
        (
            Reply(NOT_TAKEN.body),
            Broken(Reason.REMOTE, "file 'cat.png': Invalid file type.", raw=NOT_TAKEN.body.decode()),
        ),
        *(
            (reply, Broken(Reason.MALFORMED, f"file 'cat.png': {NO_ID}", raw=reply.body.decode()))
            for NO_ID in ["the site accepted the file but returned no id"]
            for reply in [kept(None), kept(True), kept(""), kept("a b"), kept("x" * 257), Reply(b'{"success":true}')]
        ),
    ],
)
def test_a_refused_file_ends_the_reply_before_anything_is_asked(make: Make, reply: Reply, broken: Broken) -> None:
    call = make(channel(session=Session("n0"), retries=5), "Hi?", files=[CAT, DOG])
    assert asks(call) == "upload n0"
    tell(call, reply)
    assert ended(call) == [broken]
    assert not broken.asked


@both
def test_a_file_id_may_be_a_number(make: Make) -> None:
    call = make(channel(session=Session("n0")), "Hi?", files=[CAT])
    assert asks(call) == "upload n0"
    tell(call, kept(17))
    assert body_of(call)["newFileId"] == "17"


@both
def test_a_site_that_is_down_is_not_reported_as_a_refused_file(make: Make) -> None:
    call = make(channel(), "Hi?", files=[CAT])
    assert asks(call) == "start_session"
    tell(call, DOWN)
    assert ended(call) == [NO_SESSION]


@both
def test_retries_repeat_the_lost_upload_and_not_earlier_ones(make: Make) -> None:
    call = make(channel(session=Session("n0"), retries=3), "Hi?", files=[CAT, DOG])
    assert asks(call) == "upload n0"
    tell(call, KEPT)
    assert asks(call) == "upload n0"
    begin(call, b"{")
    call.step_failed("reset")
    assert asks(call) == "Done"  # a broken answer is not a lost connection
    call = make(channel(session=Session("n0"), retries=3), "Hi?", files=[CAT, DOG])
    assert asks(call) == "upload n0"
    tell(call, KEPT)
    assert asks(call) == "upload n0"
    call.step_failed("reset")
    assert (asks(call), asks(call, 60), call.upload) == ("Wait", "upload n0", DOG)
    tell(call, put_off(1))
    assert (asks(call, 60), asks(call, 61)) == ("Wait", "upload n0")
    tell(call, kept("f2"))
    assert asks(call, 61) == "submit n0"
    assert (call.retries, call.submit.file_ids) == (2, ("f1", "f2"))


@both
def test_an_event_stream_in_reply_to_an_upload_is_not_part_of_the_reply(make: Make) -> None:
    call = make(channel(session=Session("n0")), "Hi?", files=[CAT])
    assert asks(call) == "upload n0"
    begin(call, b'data: {"type":"live","data":"not the answer"}\n\n')
    assert call.next_event() is None
    call.receive_data(b'data: {"type":"live","data":"nor this"}\n\ndata: {"type":"error","data":"no"}\n\n')
    assert ended(call) == [Broken(Reason.REMOTE, "file 'cat.png': no")]


@both
def test_closing_during_an_upload_asks_nothing(make: Make) -> None:
    call = make(channel(session=Session("n0")), "Hi?", files=[CAT])
    assert asks(call) == "upload n0"
    call.close()
    assert ended(call) == [Broken(Reason.LOST, "closed by the caller")]


@both
def test_an_old_site_without_a_nonce_also_gets_the_old_field_name(make: Make) -> None:
    call = make(channel(), "Hi?", files=[CAT])
    assert asks(call) == "start_session"
    tell(call, NO_ROUTE)
    assert asks(call) == "upload None"
    tell(call, KEPT)
    body = body_of(call)
    assert (body["newFileId"], body["newImageId"]) == ("f1", "f1")
    assert "newImageId" not in Submit(new_message="Hi?", file_ids=("f1",)).to_dict()


@both
def test_file_ids_that_make_the_question_too_large_break_the_reply(make: Make) -> None:
    submit = Submit(new_message="x" * 100)
    most = len(submit.encode()) + 100
    call = make(channel(session=Session("n0"), limits=Limits(request_bytes=most)), submit, files=[CAT])
    assert asks(call) == "upload n0"
    tell(call, kept("f" * 250))
    size = len(replace(submit, file_ids=("f" * 250,)).encode())
    words = f"submit: expected at most {most} bytes, got {size} (Limits.request_bytes)"
    assert ended(call) == [Broken(Reason.TOO_LARGE, words, limit="request_bytes")]


def test_an_observer_sees_how_many_bytes_were_sent() -> None:
    seen: list[tuple[str, int, int]] = []

    def observe(call: AnyCall, item: object) -> None:
        if isinstance(item, StepDone) and isinstance(call, Call) and call.upload is not None:
            seen.append((call.upload.name, *call.sent))

    large = replace(CAT, data=b"x" * 600_000)
    call = channel(session=Session("n0"), observer=observe).call("Hi?", files=[large])
    while not isinstance(call.next_step(0)[0], Receive):
        call.step_done()
    total = len(large.encode())
    (connect, first, second, last) = seen
    assert connect == ("cat.png", 0, 0)
    assert (first[1], second[1], first[2] > total, second[2]) == (262_144, 524_288, True, first[2])
    assert last == ("cat.png", 0, 0)


def test_only_a_fetched_file_is_content() -> None:
    assert (channel().call("Hi?").content, channel().visit("http://site.example/a.png", file=True).content) == (
        None,
    ) * 2
