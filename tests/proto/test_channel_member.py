"""A member's channel: where the password may be sent."""

import pytest

from opchat_proto import Channel, Proxy, Session

ALICE = Session.from_application_password("alice", "abcd EFGH ijkl 1234")


def test_a_password_goes_through_no_proxy_in_the_clear() -> None:
    proxy = Proxy.parse("http://proxy.example:3128")
    with pytest.raises(ValueError, match=r"^session: credentials go through a proxy only"):
        Channel("http://localhost:8000", session=ALICE, proxy=proxy)
    assert Channel("https://site.example", session=ALICE, proxy=proxy).session == ALICE
