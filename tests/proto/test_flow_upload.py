"""An upload works like a question, with its own request, limit and renewal, but costs no question."""

import pytest

from opchat_proto import Broken, End, Event, Flow, Limits, Reason, Request, Session
from tests.proto.uploads import CAT, FORM, KEPT, OPENED, REFUSAL, SITE, STALE

TOO_LARGE = "; is the file larger than the site takes?"


def answered(flow: Flow, *answers: tuple[int, bytes]) -> tuple[list[Request], list[Event]]:
    """The requests, and the events for these responses."""
    requests, events = [], []
    for status, body in answers:
        request = flow.next_request()
        assert request is not None
        requests.append(request)
        events += flow.receive_head(status, [])
        events += flow.receive_data(body)
        events += flow.receive_eof()
    assert flow.next_request() is None
    return requests, events


def test_an_upload_starts_a_session_and_ends_with_the_file_id() -> None:
    flow = Flow(SITE, CAT)
    [opening, request], events = answered(flow, (200, OPENED), (200, KEPT))
    headers = dict(request.headers)
    assert opening.url == "https://site.example/wp-json/mwai/v1/start_session"
    assert (request.method, request.url) == ("POST", "https://site.example/wp-json/mwai-ui/v1/files/upload")
    assert request.body == FORM
    assert headers["Content-Type"] == 'multipart/form-data; boundary="edge"'
    assert (headers["Accept"], headers["X-WP-Nonce"]) == ("application/json", "n1")
    assert headers["Content-Length"] == str(len(FORM))
    [end] = events
    assert isinstance(end, End)
    assert (end.reply, end.file_id) == (None, "2fa164266b033ad1d46fd522303ab310")
    assert not flow.submit_started


def test_a_stale_nonce_is_renewed_once() -> None:
    requests, events = answered(Flow(SITE, CAT, session=Session("n0")), (403, STALE), (200, OPENED), (200, KEPT))
    assert [dict(request.headers).get("X-WP-Nonce") for request in requests] == ["n0", None, "n1"]
    assert requests[0].body == requests[2].body == FORM
    assert events == [End(None, KEPT.decode())]
    flow = Flow(SITE, CAT, session=Session("n0"))
    assert flow.refusal is None
    _, events = answered(flow, (403, STALE), (200, OPENED), (403, STALE))
    assert events == [REFUSAL]
    assert flow.refusal == REFUSAL


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b'{"success":false,"message":"Invalid file type."}', Broken(Reason.REMOTE, "Invalid file type.")),
        (400, b'{"success":false,"message":"No."}', Broken(Reason.REFUSED, "No.", 400)),
        (500, b'{"success":false,"message":"No."}', Broken(Reason.REFUSED, "No.", 500)),
        (500, b'{"code":"x","message":"No."}', Broken(Reason.REFUSED, "No.", 500, "x")),
        (
            400,
            b'{"success":false,"message":"No file provided."}',
            Broken(Reason.REFUSED, f"No file provided.{TOO_LARGE}", 400),
        ),
        (
            500,
            b'{"code":"internal_server_error","message":"Critical."}',
            Broken(Reason.REFUSED, f"Critical.{TOO_LARGE}", 500, "internal_server_error"),
        ),
        (500, b"<br />\n<b>Fatal</b> error", Broken(Reason.REFUSED, f"Fatal error{TOO_LARGE}", 500)),
    ],
)
def test_a_refusal_has_the_sites_words(status: int, body: bytes, expected: Broken) -> None:
    _, events = answered(Flow(SITE, CAT, session=Session("n0")), (status, body))
    [broken] = events
    assert isinstance(broken, Broken)
    assert (broken.reason, broken.detail, broken.status, broken.code, broken.asked) == (
        expected.reason,
        expected.detail,
        expected.status,
        expected.code,
        False,
    )


def test_an_upload_has_a_limit_of_its_own() -> None:
    limits = Limits(request_bytes=1, upload_bytes=len(FORM))
    assert Flow(SITE, CAT, limits=limits).next_request() is not None
    with pytest.raises(
        ValueError, match=rf"^submit: expected at most {len(FORM) - 1} bytes, got {len(FORM)} \(Limits\.upload_bytes\)$"
    ):
        Flow(SITE, CAT, limits=Limits(upload_bytes=len(FORM) - 1))


def test_the_content_type_of_the_form_cannot_be_replaced() -> None:
    flow = Flow(SITE, CAT, session=Session("n0"), headers={"content-type": "application/json", "X-Key": "k"})
    request = flow.next_request()
    assert request is not None
    types = [value for name, value in request.headers if name.lower() == "content-type"]
    assert types == ['multipart/form-data; boundary="edge"']
    assert ("X-Key", "k") in request.headers
