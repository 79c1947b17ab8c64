"""A page served to a member: its session, and WordPress's directory."""

from typing import Any

import pytest

from opchat_proto import Flow, Page, Submit
from tests.proto.pages import SYSTEM, URL, element


def bot_of(**system: Any) -> Any:
    (bot,) = Page.parse(element(SYSTEM | system), URL).bots
    return bot


def test_a_members_session_is_useless_without_the_cookies() -> None:
    session = bot_of(restNonce="1635c20365", userData={"ID": 2}).session
    assert (session.nonce, session.member, session.is_member) == ("1635c20365", "", True)
    with pytest.raises(ValueError, match=r"^session: a member's session needs cookies"):
        Flow("https://site.example", Submit(new_message="Hi"), session=session)
    assert bot_of(restNonce="1635c20365").session.member is None


@pytest.mark.parametrize(
    ("plugin", "site"),
    [
        ("https://site.example/wp-content/plugins/ai-engine/", "/"),
        ("https://SITE.example/wp-content/plugins/ai-engine", "/"),
        ("http://site.example/blog/wp-content/plugins/ai-engine/", "/blog/"),
        ("https://site.example/a/b/wp-content/plugins/c/wp-content/", "/a/b/"),
        ("https://cdn.example/blog/wp-content/plugins/ai-engine/", "/"),
        ("https://site.example/blog?/wp-content/", "/"),
        ("https://site.example/bl og/wp-content/", "/"),
        ("https://site.example/plugins/", "/"),
        ("https://site.example/" + "x" * 2048 + "/wp-content/", "/"),
        (None, "/"),
        (5, "/"),
    ],
)
def test_the_address_of_the_plugin_gives_wordpresss_directory(plugin: object, site: str) -> None:
    endpoint = bot_of(pluginUrl=plugin).endpoint
    assert (endpoint.root, endpoint.site) == ("/wp-json", site)


@pytest.mark.parametrize(("is_member", "nonce"), [(True, "1635c20365"), (False, "99c1fd16bb")])
def test_on_a_page_with_nonces_of_two_kinds_of_users_each_gets_its_own(is_member: bool, nonce: str) -> None:
    of_member = {"restNonce": "1635c20365", "userData": {"ID": 2}}
    elsewhere = {"restNonce": "0123456789", "restUrl": "https://else.example/wp-json"}
    bots: list[dict[str, Any]] = [{}, elsewhere, of_member, {"restNonce": "99c1fd16bb"}]
    page = Page.parse("".join(element(SYSTEM | system) for system in bots), URL)
    assert page._nonce("https://site.example", is_member) == nonce
    assert page._nonce("https://other.example", is_member) is None
