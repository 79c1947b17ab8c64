"""Recorded responses of real sites to uploads, if recordings exist, as responses to the file of a question."""

import re

import pytest

from opchat_proto import Broken, Channel, Limits, Reason, Receive, Session
from tests.captures import CAPTURES, RECORDINGS
from tests.proto.uploads import CAT

PATHS = [*RECORDINGS.glob("*/upload_*.response.bin"), *CAPTURES.glob("*/file_upload.response.bin")]
RECORDED = {f"{path.parent.name}/{path.name.partition('.')[0]}": path for path in sorted(PATHS)}
REFUSED = {
    "upload_bad_nonce": (403, "Cookie check failed"),
    "upload_no_nonce": (401, "Sorry, you are not allowed to do that."),
    "upload_no_purpose": (400, "Purpose is required."),
    "upload_php": (400, "Invalid file type."),
    "upload_too_big": (500, "WordPress \u203a Error; is the file larger than the site takes?"),
}


@pytest.mark.parametrize("name", RECORDED)
@pytest.mark.parametrize("size", [1, 100, 1 << 20])
def test_a_recorded_response_to_an_upload_is_an_id_or_a_refusal(name: str, size: int) -> None:
    data = RECORDED[name].read_bytes()
    channel = Channel("http://site.example", session=Session("n0"), limits=Limits(restarts=0))
    call = channel.call("What is this?", files=[CAT])
    while not isinstance(call.next_step(0)[0], Receive):
        call.step_done()
    for at in range(0, len(data), size):
        call.receive_data(data[at : at + size])
    call.next_step(0)
    broken = call.next_event()
    status, detail = REFUSED.get(name.partition("/")[2], (200, ""))
    if status == 200:
        (file_id,) = call.submit.file_ids
        assert (re.fullmatch("[0-9a-f]{32}", file_id) is not None, broken, call.upload) == (True, None, None)
    else:
        assert isinstance(broken, Broken)
        assert (broken.reason, broken.status, broken.asked) == (Reason.REFUSED, status, False)
        assert broken.detail == f"file 'cat.png': {detail}"
