"""The REST root: advice where the given one seems wrong."""

import pytest

from opchat_proto import Broken, Endpoint, Reason, Session
from opchat_proto._roots import explain_missing, explain_start, other_root  # not public; a flow's details end with them

PRETTY = Endpoint.parse("https://site.example/blog/wp-json")
PLAIN = Endpoint.parse("https://site.example/?rest_route=")


@pytest.mark.parametrize("named", [None, "https://site.example/blog/wp-json/", "http://site.example/blog/wp-json"])
def test_the_root_that_the_site_names_needs_no_advice_if_it_is_the_given_one(named: str | None) -> None:
    assert other_root(PRETTY, named) == ""


def test_another_root_that_the_site_names_is_passed_on() -> None:
    advice = "; the site names another REST root: https://site.example/wp-json/"
    assert other_root(PLAIN, "https://site.example/wp-json/") == advice


MEMBER = Session.from_application_password("ada", "pass word")
NO_REST = "; no REST API here; with plain permalinks the root is https://site.example/blog/index.php?rest_route="
NO_NONCE = "; an application password gets no nonce there: sign in with a browser's cookies"


@pytest.mark.parametrize(
    ("status", "raw", "endpoint", "session", "named", "advice"),
    [
        (404, "<html>", PRETTY, Session(), None, NO_REST),
        (None, "<html>", PRETTY, Session(), None, NO_REST),
        (500, "<html>", PRETTY, Session(), None, ""),
        (404, "{}", PRETTY, Session(), None, ""),
        (404, "<html>", PRETTY, Session(), "https://site.example/wp-json", ""),
        (404, "<html>", PLAIN, Session(), None, ""),
        (403, "{}", PRETTY, MEMBER, None, NO_NONCE),
        (403, "{}", PRETTY, Session(), None, ""),
        (500, "{}", PRETTY, MEMBER, None, ""),
    ],
)
def test_a_failed_start_session_gives_advice_about_the_root_or_the_password(
    status: int | None, raw: str, endpoint: Endpoint, session: Session, named: str | None, advice: str
) -> None:
    answer = Broken(Reason.REFUSED, "gone", status, raw=raw)
    assert explain_start(answer, endpoint, session, named).detail == f"start_session: gone{advice}"


@pytest.mark.parametrize(
    ("endpoint", "session", "advice"),
    [
        (
            PLAIN,
            Session(),
            "versions up to 3.0.2 know start_session only under another root: "
            "https://site.example/index.php?rest_route=",
        ),
        (
            PRETTY,
            None,
            "the plugin has no start_session: for versions 2.0.1 to 2.4.3 the nonce is in the site's page",
        ),
        (
            PRETTY,
            MEMBER,
            "the plugin has no start_session: for versions 2.0.1 to 2.4.3 the nonce is in the site's page; "
            "an application password gets no nonce there: sign in with a browser's cookies",
        ),
    ],
)
def test_a_site_without_start_session_is_explained(endpoint: Endpoint, session: Session | None, advice: str) -> None:
    refusal = Broken(Reason.REFUSED, "refused", 403)
    assert explain_missing(refusal, endpoint, session, None).detail == f"refused; {advice}"
    other = "; the site names another REST root: https://else.example/"
    assert explain_missing(refusal, endpoint, session, "https://else.example/").detail == f"refused; {advice}{other}"
