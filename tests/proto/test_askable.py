"""Each kind of question defines its own request, under both forms of root."""

import pytest

from opchat_proto import Broken, End, Flow, Limits, Reason, Session
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
def test_what_says_nothing_else_is_judged_as_a_reply_and_costs_nothing(body: bytes, last: End | Broken) -> None:
    flow = Flow("https://site.example", WhoAmI(), session=Session("n1"))
    assert flow.next_request() is not None
    assert flow.receive_head(200, []) + flow.receive_data(body) + flow.receive_eof() == [last]
    assert not flow.submit_started
