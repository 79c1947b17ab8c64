"""The REST root: advice where the given one seems wrong."""

import pytest

from opchat_proto import Endpoint, Session
from opchat_proto._roots import explain_missing, no_rest, other_root  # not public; a flow's details end with them

PRETTY = Endpoint.parse("https://site.example/blog/wp-json")
PLAIN = Endpoint.parse("https://site.example/?rest_route=")


@pytest.mark.parametrize("named", [None, "https://site.example/blog/wp-json/", "http://site.example/blog/wp-json"])
def test_the_root_that_the_site_names_needs_no_advice_if_it_is_the_given_one(named: str | None) -> None:
    assert other_root(PRETTY, named) == ""


def test_another_root_that_the_site_names_is_passed_on() -> None:
    advice = "; the site names another REST root: https://site.example/wp-json/"
    assert other_root(PLAIN, "https://site.example/wp-json/") == advice


def test_a_page_instead_of_the_rest_api_suggests_the_root_for_plain_permalinks() -> None:
    advice = "no REST API here; with plain permalinks the root is https://site.example/blog/index.php?rest_route="
    assert no_rest(PRETTY) == advice


MEMBER = Session.from_application_password("ada", "pass word")


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
    assert explain_missing(endpoint, session) == advice
