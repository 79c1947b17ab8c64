"""Each kind of question defines its own request, under both forms of the REST root."""

from dataclasses import replace

import pytest

from opchat_proto import Broken, End, Endpoint, Flow, Limits, Reason, Request, Session, __version__
from opchat_proto._askable import Askable, Draft  # only its subclasses are public

SITES = {
    "https://site.example": "https://site.example/wp-json/wp/v2/users/me?context=edit",
    "https://site.example/?rest_route=/": "https://site.example/?rest_route=/wp/v2/users/me&context=edit",
}


class WhoAmI(Askable):
    """A GET with a query."""

    def _draft(self, session: Session | None) -> Draft:
        return Draft("/wp/v2/users/me?context=edit", method="GET")


@pytest.mark.parametrize(("site", "url"), SITES.items())
def test_a_get_has_a_query_and_no_body(site: str, url: str) -> None:
    flow = Flow(site, WhoAmI(), session=Session("n1"), limits=Limits(request_bytes=1))
    request = flow.next_request()
    assert request is not None
    assert (request.method, request.url, request.body) == ("GET", url, b"")
    names = [name for name, _ in request.headers]
    assert names == ["Host", "User-Agent", "Accept", "Accept-Encoding", "Origin", "Referer", "X-WP-Nonce"]


@pytest.mark.parametrize(
    ("body", "last"),
    [
        (b'{"success":true}', End(None, '{"success":true}')),
        (b'{"success":false,"message":"No."}', Broken(Reason.REMOTE, "No.", raw='{"success":false,"message":"No."}')),
    ],
)
def test_by_default_a_question_is_judged_as_a_reply_and_costs_nothing(body: bytes, last: End | Broken) -> None:
    flow = Flow("https://site.example", WhoAmI(), session=Session("n1"))
    assert flow.next_request() is not None
    assert flow.receive_head(200, []) + flow.receive_data(body) + flow.receive_eof() == [last]
    assert not flow.submit_started


SITE = Endpoint.parse("https://site.example/blog/wp-json")
OURS = (
    ("Host", "site.example"),
    ("User-Agent", f"opchat/{__version__}"),
    ("Accept", "application/json"),
    ("Accept-Encoding", "identity"),
    ("Content-Type", "application/json"),
    ("Content-Length", "2"),
    ("Origin", "https://site.example"),
    ("Referer", "https://site.example/blog/"),
)


def test_a_request_uses_its_session() -> None:
    session = replace(Session.from_application_password("ada", "pass"), nonce="n1", cookie="mwai_session_id=s1")
    request = Draft("/x", b"{}").to_request(SITE, session, ())
    own = (("X-WP-Nonce", "n1"), ("Cookie", "mwai_session_id=s1"), ("Authorization", "Basic YWRhOnBhc3M="))
    assert request == Request("POST", "https://site.example/blog/wp-json/x", (*OURS, *own), b"{}")


def test_the_callers_fields_replace_ours_case_insensitively() -> None:
    theirs = (("user-agent", "x"), ("Content-Type", "text/plain"), ("X-A", "b"))
    request = Draft("/x", b"{}").to_request(SITE, Session(), theirs)
    replaced = ("User-Agent", "Content-Type")
    assert request.headers == (*(field for field in OURS if field[0] not in replaced), *theirs)


def test_the_content_type_of_a_form_cannot_be_replaced() -> None:
    kind = ("Content-Type", "multipart/form-data; boundary=b")
    request = Draft("/x", b"{}", content_type=kind[1]).to_request(SITE, Session(), (("content-type", "x"), ("A", "b")))
    assert request.headers == (*OURS[:4], kind, *OURS[5:], ("A", "b"))


def test_a_route_without_a_slash_is_under_the_front_page() -> None:
    request = Draft("wp-admin/admin-ajax.php?action=x", method="GET").to_request(SITE, Session(), ())
    assert request.url == "https://site.example/blog/wp-admin/admin-ajax.php?action=x"


def test_repr_does_not_show_the_body() -> None:
    assert repr(Draft("/mwai-ui/v1/chats/submit", b"secret")) == "Draft(POST /mwai-ui/v1/chats/submit)"
