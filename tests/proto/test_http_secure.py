"""Where a password may be sent: over https, and to this machine."""

import pytest

from opchat_proto import Endpoint


@pytest.mark.parametrize(
    ("site", "is_secure"),
    [
        ("https://site.example", True),
        ("http://localhost:8000", True),
        ("http://LOCALHOST.:8000", True),
        ("http://a.localhost", True),
        ("http://127.0.0.1", True),
        ("http://127.1.2.3:80", True),
        ("http://[::1]:8000", True),
        ("http://site.example", False),
        ("http://127.0.0.1.site.example", False),
        ("http://localhost.example", False),
        ("http://notlocalhost", False),
        ("http://192.0.2.7", False),
        ("http://[2001:db8::1]", False),
    ],
)
def test_an_endpoint_is_secure_over_https_or_on_this_machine(site: str, is_secure: bool) -> None:
    assert Endpoint.parse(site).is_secure is is_secure
