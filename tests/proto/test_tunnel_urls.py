"""Proxies from their URLs, and their credentials."""

import base64
from typing import Any

import pytest

from opchat_proto import (
    Endpoint,
    Proxy,
    StartTLS,
)
from tests.proto.asking import ESTABLISHED, PROXY, client, connect, follow
from tests.proto.cuts import copies


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://proxy.example", Proxy("http", "proxy.example", 80)),
        ("https://proxy.example", Proxy("https", "proxy.example", 443)),
        ("socks5://proxy.example", Proxy("socks5", "proxy.example", 1080)),
        ("socks5h://proxy.example", Proxy("socks5h", "proxy.example", 1080)),
        ("http://proxy.example:3128", Proxy("http", "proxy.example", 3128)),
        ("https://proxy.example:1", Proxy("https", "proxy.example", 1)),
        ("socks5://proxy.example:65535", Proxy("socks5", "proxy.example", 65535)),
        ("socks5h://proxy.example:00080", Proxy("socks5h", "proxy.example", 80)),
        ("http://proxy.example/", Proxy("http", "proxy.example", 80)),
        ("http://proxy.example:3128//", Proxy("http", "proxy.example", 3128)),
        ("HTTP://Proxy.EXAMPLE:3128", Proxy("http", "proxy.example", 3128)),
        ("Socks5H://PROXY", Proxy("socks5h", "proxy", 1080)),
        ("http://X.example", Proxy("http", "x.example", 80)),
        ("proxy.example:3128", Proxy("http", "proxy.example", 3128)),
        ("proxy.example:3128/", Proxy("http", "proxy.example", 3128)),
        ("proxy.example", Proxy("http", "proxy.example", 80)),
        ("localhost:8080", Proxy("http", "localhost", 8080)),
        ("127.0.0.1:8080", Proxy("http", "127.0.0.1", 8080)),
        ("[::1]:8080", Proxy("http", "::1", 8080)),
        ("[::1]", Proxy("http", "::1", 80)),
        ("socks5://[2001:DB8::1]", Proxy("socks5", "2001:db8::1", 1080)),
        ("https://[::ffff:192.0.2.1]:8443/", Proxy("https", "::ffff:192.0.2.1", 8443)),
        ("http://_proxy_:80", Proxy("http", "_proxy_", 80)),
        ("http://xn--bcher-kva.example.:80", Proxy("http", "xn--bcher-kva.example.", 80)),
        ("http://user:pass@proxy.example:3128", Proxy("http", "proxy.example", 3128, "user", "pass")),
        ("user:pass@proxy.example:3128", Proxy("http", "proxy.example", 3128, "user", "pass")),
        ("socks5://user:pass@[::1]:9050", Proxy("socks5", "::1", 9050, "user", "pass")),
        ("http://user@proxy.example", Proxy("http", "proxy.example", 80, "user", "")),
        ("http://user:@proxy.example", Proxy("http", "proxy.example", 80, "user", "")),
        ("http://:pass@proxy.example", Proxy("http", "proxy.example", 80, "", "pass")),
        ("http://:@proxy.example", Proxy("http", "proxy.example", 80)),
        ("http://@proxy.example", Proxy("http", "proxy.example", 80)),
        ("http://user:pa:ss@proxy.example", Proxy("http", "proxy.example", 80, "user", "pa:ss")),
        ("http://user@there:p@ss@proxy.example", Proxy("http", "proxy.example", 80, "user@there", "p@ss")),
        ("http://us%40er:p%3a%2F%3f%23%25@proxy.example", Proxy("http", "proxy.example", 80, "us@er", "p:/?#%")),
        ("http://user:pass%20word@proxy.example", Proxy("http", "proxy.example", 80, "user", "pass word")),
        ("http://user:100%@proxy.example", Proxy("http", "proxy.example", 80, "user", "100%")),
        ("http://user:a+b@proxy.example", Proxy("http", "proxy.example", 80, "user", "a+b")),
        ("http://J%C3%B6rg:%E2%82%AC@proxy.example", Proxy("http", "proxy.example", 80, "Jörg", "€")),
        ("http://Jörg:€@proxy.example", Proxy("http", "proxy.example", 80, "Jörg", "€")),
        ("http://user:[pass]@proxy.example", Proxy("http", "proxy.example", 80, "user", "[pass]")),
        ("http://user:pass@[::1]", Proxy("http", "::1", 80, "user", "pass")),
        ("socks5://us%3Aer:pass@proxy.example", Proxy("socks5", "proxy.example", 1080, "us:er", "pass")),
        (f"socks5://{255 * 'u'}:{255 * 'p'}@h", Proxy("socks5", "h", 1080, 255 * "u", 255 * "p")),
        (f"http://{300 * 'u'}:{5000 * 'p'}@h", Proxy("http", "h", 80, 300 * "u", 5000 * "p")),
    ],
)
def test_a_proxy_is_read_from_its_url(text: str, expected: Proxy) -> None:
    assert Proxy.parse(text) == expected


EXPECTED = (
    "expected a proxy (http://proxy.example:3128, https://..., socks5://user:password@127.0.0.1:1080, socks5h://...)"
)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "http://",
        "http:",
        "://proxy.example",
        "//proxy.example",
        "http:proxy.example",
        "http:/proxy.example",
        "http:/",
        "http://proxy.example:",
        "proxy.example:",
        "socks://proxy.example",
        "socks4://proxy.example",
        "socks4a://us3r:s3cr3t@proxy.example",
        "ftp://us3r:s3cr3t@proxy.example",
        "direct://",
        "http\u017f://us3r:s3cr3t@proxy.example",
        "http//us3r:s3cr3t@proxy.example",
        "http://us3r:s3cr3t@",
        "http://us3r:s3cr3t",
        "us3r:s3cr3t",
        "us3r:s3cr3t@",
        "http://us3r:s3cr3t@:3128",
        "http://us3r:s3cr3t@proxy.example:0",
        "http://us3r:s3cr3t@proxy.example:65536",
        "http://us3r:s3cr3t@proxy.example:999999999999999999999999999999",
        "http://us3r:s3cr3t@proxy.example:" + 5000 * "9",
        "http://us3r:s3cr3t@proxy.example:-1",
        "http://us3r:s3cr3t@proxy.example:+80",
        "http://us3r:s3cr3t@proxy.example:8_0",
        "http://us3r:s3cr3t@proxy.example:\uff18\uff10",
        "http://us3r:s3cr3t@proxy.example:80:80",
        "http://us3r:s3cr3t@proxy.example:http",
        "http://us3r:s3cr3t@proxy.example/path",
        "http://us3r:s3cr3t@proxy.example?query",
        "http://us3r:s3cr3t@proxy.example/?",
        "http://us3r:s3cr3t@proxy.example#fragment",
        "http://us3r:s3cr3t@proxy.example/#",
        "http://s3cr3t#us3r:pass@proxy.example",
        "http://us3r:12#s3cr3t@proxy.example",
        "http://us3r:12/s3cr3t@proxy.example",
        "http://us3r:12?s3cr3t@proxy.example",
        "http://us3r:s3cr3t\\@proxy.example",
        "http://us3r:s3cr3t@proxy.example\\",
        "http://us3r:s3cr3t@proxy.example ",
        " http://us3r:s3cr3t@proxy.example",
        "http://us3r:s3cr3t@proxy.example\n",
        "http://us3r:s3cr3t@pro\txy.example",
        "http://us er:s3cr3t@proxy.example",
        "http://us3r:s3cr3t\r\nX-Evil: yes@proxy.example",
        "http://us3r:s3cr3t\x00@proxy.example",
        "http://us3r:s3cr3t\x7f@proxy.example",
        "http://us3r:s3cr3t%0d%0aX-Evil:%20yes@proxy.example",
        "http://us3%00er:s3cr3t@proxy.example",
        "http://us3r:s3cr3t\x85@proxy.example",
        "http://us3r:s3cr3t%C2%85@proxy.example",
        "http://us3r:s3cr3t%E2%80%AE@proxy.example",
        "http://us3r:s3cr3t\ud800@proxy.example",
        "http://us3r:s3cr3t%ff@proxy.example",
        "http://us%ffer:s3cr3t@proxy.example",
        "http://us%3aer:s3cr3t@proxy.example",
        "https://us%3Aer:s3cr3t@proxy.example",
        "http://us3r:s3cr3t@pröxy.example",
        "http://us3r:s3cr3t@proxy\u2024example",
        "http://us3r:s3cr3t@\u212aelvin.example",
        "http://us3r:s3cr3t@pro%78y.example",
        "http://us3r:s3cr3t@-proxy.example",
        "http://us3r:s3cr3t@proxy-",
        "http://us3r:s3cr3t@.example",
        "http://us3r:s3cr3t@[::1",
        "http://us3r:s3cr3t@::1]",
        "http://us3r:s3cr3t@::1",
        "http://us3r:s3cr3t@[]",
        "http://us3r:s3cr3t@[127.0.0.1]",
        "http://us3r:s3cr3t@[proxy.example]",
        "http://us3r:s3cr3t@[::1%25eth0]",
        "http://us3r:s3cr3t@[::1%eth0]",
        "http://us3r:s3cr3t@[::1]x:80",
        "http://us3r:s3cr3t@x[::1]:80",
        "http://us3r:s3cr3t@[v1.x]:80",
        f"socks5://us3r:{'s3cr3t' + 250 * 'x'}@proxy.example",
        f"socks5h://{'s3cr3t' + 250 * 'x'}:pass@proxy.example",
        f"socks5://us3r:{'s3cr3t' + 125 * 'ö'}@proxy.example",
    ],
)
def test_a_malformed_proxy_is_refused_without_showing_credentials(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(?:Proxy(?:\.host|\.port|\.username)?: )?expected ") as caught:
        Proxy.parse(text)
    assert not any(secret in str(caught.value) for secret in ("s3cr3t", "us3r", "X-Evil"))
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("proxy.example:http", EXPECTED),
        ("us3r:s3cr3t@", EXPECTED),
        ("socks4://us3r:s3cr3t@proxy.example", f"{EXPECTED}, got the scheme 'socks4'"),
        ("http2://", f"{EXPECTED}, got the scheme 'http2'"),
        ("http://", EXPECTED),
        ("us3r:s3cr3t://proxy.example", EXPECTED),
        ("proxy.example:0", "Proxy.port: expected 1 to 65535, got 0"),
        ("proxy.example:65536", "Proxy.port: expected 1 to 65535, got 65536"),
        ("-proxy", "Proxy.host: expected an ASCII host name or an address, got '-proxy'"),
        ("u%ff@proxy.example", "Proxy: expected a username and a password in UTF-8"),
        ("u%00@proxy.example", "Proxy: expected a printable username and password"),
        ("u%3a@proxy.example", "Proxy.username: expected no colon, which ends it in HTTP (RFC 7617, 2)"),
        (f"socks5://u:{256 * 'p'}@h", "Proxy: expected a username and a password of at most 255 bytes each"),
    ],
)
def test_a_refusal_says_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        Proxy.parse(text)
    assert str(caught.value) == message


@pytest.mark.parametrize("text", [None, b"http://proxy.example", 5, Proxy("http", "proxy.example", 80)])
def test_a_url_of_another_type_than_str_is_refused(text: Any) -> None:
    with pytest.raises(TypeError, match=f"^expected a str, got {type(text).__name__}$"):
        Proxy.parse(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ftp", "h", 80), "Proxy.scheme: expected one of http, https, socks5, socks5h, got 'ftp'"),
        (("HTTP", "h", 80), "Proxy.scheme: expected one of http, https, socks5, socks5h, got 'HTTP'"),
        (("http", "", 80), "Proxy.host: expected an ASCII host name or an address, got ''"),
        (("http", "H", 80), "Proxy.host: expected an ASCII host name or an address, got 'H'"),
        (("http", "h\r\nX: y", 80), r"Proxy.host: expected an ASCII host name or an address, got 'h\r\nX: y'"),
        (("http", "h\n", 80), r"Proxy.host: expected an ASCII host name or an address, got 'h\n'"),
        (("http", "[::1]", 80), "Proxy.host: expected an ASCII host name or an address, got '[::1]'"),
        (("http", "h", 0), "Proxy.port: expected 1 to 65535, got 0"),
        (("http", "h", 65536), "Proxy.port: expected 1 to 65535, got 65536"),
        (("http", "h", "80"), "Proxy.port: expected 1 to 65535, got '80'"),
        (("http", "h", True), "Proxy.port: expected 1 to 65535, got True"),
        (("http", "h", None), "Proxy.port: expected 1 to 65535, got None"),
        (("http", "h", 80, "s3cr3t"), "Proxy: expected a username and a password, or neither"),
        (("http", "h", 80, None, "s3cr3t"), "Proxy: expected a username and a password, or neither"),
        (("http", "h", 80, "s3cr3t\n", ""), "Proxy: expected a printable username and password"),
        (("socks5", "h", 80, "", "s3cr3t\x00"), "Proxy: expected a printable username and password"),
        (("socks5", "h", 80, "", "\udcff"), "Proxy: expected a printable username and password"),
        (("socks5", "h", 80, "", 256 * "s"), "Proxy: expected a username and a password of at most 255 bytes each"),
        (("socks5", "h", 80, 128 * "ö", ""), "Proxy: expected a username and a password of at most 255 bytes each"),
        (("https", "h", 80, "s3cr3t:", ""), "Proxy.username: expected no colon, which ends it in HTTP (RFC 7617, 2)"),
    ],
)
def test_a_proxy_with_forbidden_characters_is_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        Proxy(*arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize(("username", "password"), [(b"u", b"p"), ("u", 5), (b"u", "p")])
def test_credentials_are_strings(username: Any, password: Any) -> None:
    with pytest.raises(TypeError, match=r"^Proxy: expected a str or None as username and password, got (bytes|int)$"):
        Proxy("http", "h", 80, username, password)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://us3r:s3cr3t@proxy.example", "http://proxy.example:80"),
        ("socks5h://us3r:s3cr3t@[::1]:9050", "socks5h://[::1]:9050"),
        ("https://192.0.2.1", "https://192.0.2.1:443"),
    ],
)
def test_a_proxy_is_shown_without_credentials_and_can_be_parsed_again(text: str, shown: str) -> None:
    proxy = Proxy.parse(text)
    assert (str(proxy), f"{proxy}") == (shown, shown)
    assert Proxy.parse(shown) == Proxy(proxy.scheme, proxy.host, proxy.port)
    assert repr(proxy) == f"Proxy(scheme={proxy.scheme!r}, host={proxy.host!r}, port={proxy.port})"
    for twin in copies(proxy):
        assert (twin, hash(twin)) == (proxy, hash(proxy))
        assert (twin.username, twin.password) == (proxy.username, proxy.password)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://proxy.example", ()),
        ("http://Aladdin:open%20sesame@h", (("Proxy-Authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),)),
        ("http://test:123%C2%A3@h", (("Proxy-Authorization", "Basic dGVzdDoxMjPCow=="),)),  # RFC 7617, 2.1
        ("http://user@h", (("Proxy-Authorization", "Basic dXNlcjo="),)),
    ],
)
def test_credentials_for_http_follow_rfc_7617(text: str, expected: tuple[tuple[str, str], ...]) -> None:
    assert Proxy.parse(text).authorization == expected


@pytest.mark.parametrize("scheme", ["http", "https", "socks5", "socks5h"])
def test_requests_to_an_http_site_are_relayed_and_all_else_is_tunnelled(scheme: str) -> None:
    proxy = Proxy.parse(f"{scheme}://proxy.example:3128")
    assert (proxy.relays("http"), proxy.relays("https")) == (scheme in ("http", "https"), False)


def test_credentials_of_any_length_make_one_header_line() -> None:
    proxy = Proxy.parse(f"http://us3r:{3000 * 'p'}@proxy.example:3128")
    asking = client(endpoint=Endpoint.parse("https://site.example"), proxy=proxy)
    credentials = base64.b64encode(b"us3r:" + 3000 * b"p")
    follow(asking, (PROXY, connect(b"site.example:443", credentials), ESTABLISHED, StartTLS("site.example")))
