"""A browser's cookies: a file, reduced to those that the browser would send to the site."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opchat_proto import Session
from opchat_proto._cookies import (
    _Cookie,  # private: only a traceback with local variables shows it
    domain_matches,  # private: of a site's answers, only its session cookie needs it
)

NOW = 1_795_357_744
LOGIN = "wordpress_logged_in_1=alice%7C1"
HEAD = "# Netscape HTTP Cookie File\n# This is a generated file!\n\n"


def line(
    domain: str = "site.example",
    subdomains: str = "FALSE",
    path: str = "/",
    secure: str = "TRUE",
    expires: object = 0,
    pair: str = LOGIN,
) -> str:
    return "\t".join([domain, subdomains, path, secure, str(expires), *pair.split("=", 1)])


def cookie(text: str, site: str = "https://site.example") -> str:
    return Session.from_cookies(text, site, now=NOW).cookie


@pytest.mark.parametrize(
    "text",
    [
        line(),
        HEAD + line() + "\n",
        "\ufeff" + HEAD.replace("\n", "\r\n") + line() + "\r\n",
        line("#HttpOnly_site.example"),
        line(".site.example", "TRUE"),
        line("SITE.example", "false", secure="FALSE"),
        line("site.example", "TRUE", expires=NOW + 1),
        line("site.example", "TRUE", expires=f"{NOW + 1}.5"),
        line(expires=""),
        line("example", "TRUE"),
        "\n".join([line(), line()]),
        "\n".join([line(expires=NOW), line(), line("other.example", pair="a=b")]),
    ],
)
def test_a_file_gives_the_cookies_that_the_browser_would_send(text: str) -> None:
    assert cookie(text) == LOGIN


@pytest.mark.parametrize(
    ("given", "site", "why"),
    [
        (line("other.example"), "https://site.example", "1 of other sites"),
        (line("site.example"), "https://www.site.example", "1 of other sites"),
        (line(".site.example"), "https://www.site.example", "1 of other sites"),
        (line("ite.example", "TRUE"), "https://site.example", "1 of other sites"),
        (line("0.0.1", "TRUE"), "https://127.0.0.1", "1 of other sites"),
        (line(""), "https://site.example", "1 of other sites"),
        (line("", "TRUE"), "https://site.example", "1 of other sites"),
        (line(path="/blog"), "https://site.example", "1 for other paths"),
        (line(path="/wp"), "https://site.example", "1 for other paths"),
        (line(), "http://site.example", "1 for https only"),
        (line(expires=NOW), "https://site.example", "1 expired"),
        (line(expires=-1), "https://site.example", "1 expired"),
        (line(pair="a=b;c"), "https://site.example", "1 unusable"),
        (line(pair="a=é"), "https://site.example", "1 unusable"),
        (line(pair="=b"), "https://site.example", "1 unusable"),
        ("\t".join(["site.example", "FALSE", "/", "TRUE", "0", "a=b", "c"]), "https://site.example", "1 unusable"),
        ("\n".join([line("o.example"), line(expires=1), line("o.example")]), "https://site.example",
         "2 of other sites, 1 expired"),
    ],
)  # fmt: skip
def test_cookies_that_the_browser_would_not_send_are_left_out(given: str, site: str, why: str) -> None:
    with pytest.raises(ValueError, match=rf"^cookies: none for \S+ \({why}\)$"):
        cookie(given, site)


@pytest.mark.parametrize(
    ("given", "site"),
    [
        (line("site.example", "TRUE"), "https://www.site.example"),
        (line(path="/blog"), "https://site.example/blog"),
        (line(path="/blog/"), "https://site.example/blog"),
        (line(path="/wp-json"), "https://site.example"),
        (line(path="/"), "https://site.example/index.php?rest_route="),
        (line(secure="FALSE"), "http://site.example"),
        (line(), "https://site.example."),
        (line("::1"), "https://[::1]"),
        (line("[::1]"), "https://[::1]"),
        (line("127.0.0.1", secure="FALSE"), "http://127.0.0.1:8000"),
    ],
)
def test_domain_path_and_scheme_must_fit_the_site(given: str, site: str) -> None:
    assert cookie(given, site) == LOGIN


@pytest.mark.parametrize("host", ["site.example", "site.example."])
def test_the_dot_after_a_host_and_a_domain_left_out_match(host: str) -> None:
    domains = ["", "site.example", "example", "www.site.example", "ite.example"]
    assert [domain for domain in domains if domain_matches(host, domain)] == ["", "site.example", "example"]


def test_longer_paths_come_first_and_values_are_unchanged() -> None:
    given = [line(pair="a=1"), line(pair='b="x y", z'), line(path="/wp-json", pair="a=2"), line(pair="c=")]
    assert cookie("\n".join(given)) == 'a=2; a=1; b="x y", z; c='
    assert cookie(line(pair="c=").rstrip("\t")) == "c="


@pytest.mark.parametrize(
    "text", [LOGIN, f"Cookie: {LOGIN}", f"cookie:{LOGIN}\n", f" {LOGIN} ; ", f"\ufeff{LOGIN};\r\n"]
)
def test_a_cookie_header_is_taken_whole(text: str) -> None:
    assert cookie(text) == LOGIN


def test_the_cookies_of_a_header_keep_their_order() -> None:
    assert cookie('Cookie: b=2;a=1 ; c="x y"') == 'b=2; a=1; c="x y"'


@pytest.mark.parametrize(
    "text", ["", "\n", ";", "secret", '[{"name":"secret"}]', "a=secret\nb=secret", "a=sécret", "Cookie:", "a=b; secret"]
)
def test_other_text_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(ValueError, match=r"^cookies: expected a file in Netscape's format") as raised:
        cookie(text)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (f"{HEAD}{line()}\tmore", "cookies: line 4: expected 7 fields with tabs between them"),
        ("a\tsecret", "cookies: line 1: expected 7 fields with tabs between them"),
        (line(expires="secret"), "cookies: line 1: expected the time in Unix seconds, or 0, in field 5"),
        (line(expires="1" * 400), "cookies: line 1: expected the time in Unix seconds, or 0, in field 5"),
        ("# a comment\twith a tab", "cookies: none for site.example"),
    ],
)
def test_an_unreadable_line_is_named_and_not_shown(text: str, error: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(error)}$"):
        cookie(text)


@given(st.text() | st.text("\t\n;=# abTRUE019./") | st.lists(st.text("\tTRUE019./a=\n")).map("\t".join))
def test_any_text_gives_a_header_or_a_value_error(text: str) -> None:
    said = ""
    try:
        assert cookie(text) != ""
    except ValueError as error:
        said = str(error)
    assert said == "" or said.startswith("cookies: ")


def test_repr_does_not_show_the_cookie() -> None:
    assert repr(_Cookie("site.example", True, "/", True, 0, "a=secret")) == "_Cookie(domain='site.example')"
