"""The request for a file, and the details of refusals."""

import json

import pytest

from opchat_proto import Broken, Flow, Reason, Session
from tests.proto.uploads import CAT, FORM, SITE

PAGE = "<b>Fatal</b> error"
JSON = '{"success":false,"message":"No."}'
EMPTY = '{"success":false,"message":"No file provided."}'


@pytest.mark.parametrize(
    ("status", "body", "detail"),
    [
        (500, PAGE, "Fatal error; is the file larger than the site takes?"),
        (500, "PHP Fatal error: No.", "PHP Fatal error: No.; is the file larger than the site takes?"),
        (500, "", "status 500 and no text; is the file larger than the site takes?"),
        (500, "No.", "No."),
        (503, PAGE, "Fatal error"),
        (500, JSON, "No."),
        (500, '{"code":"internal_server_error","message":"No."}', "No.; is the file larger than the site takes?"),
        (400, EMPTY, "No file provided.; is the file larger than the site takes?"),
    ],
)
def test_a_file_is_posted_as_a_form_and_costs_no_question(status: int, body: str, detail: str) -> None:
    flow = Flow(SITE, CAT, session=Session("n1", "s1"))
    request = flow.next_request()
    assert request is not None
    assert (request.method, request.url) == ("POST", "https://site.example/wp-json/mwai-ui/v1/files/upload")
    assert (request.body, dict(request.headers)["Content-Type"]) == (FORM, 'multipart/form-data; boundary="edge"')
    flow.receive_head(status, [])
    flow.receive_data(body.encode())
    code = json.loads(body).get("code") if body.startswith("{") else None
    assert flow.receive_eof() == [Broken(Reason.REFUSED, detail, status, code, raw=body)]
