"""A visit to a page: its requests, and the responses that count as a page."""

from typing import Any

import pytest

from opchat_proto import Broken, End, Limits, Page, Reason, Session, Visit
from tests.proto.cuts import every_cut
from tests.proto.pages import CHAT, PAGE, URL
from tests.proto.visits import FOUND, HTML, Answer, answer, fields, take, to, visited

# ------------------------------------------------------------------------------ a page


def test_a_page_is_requested_as_a_browser_would() -> None:
    visit, (request,), events = visited(FOUND)
    assert (request.method, request.url, request.body) == ("GET", URL, b"")
    assert {name: value for name, value in request.headers if name != "User-Agent"} == {
        "Host": "site.example",
        "Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8",
        "Accept-Encoding": "identity",
    }
    assert fields(request)["User-Agent"].startswith("opchat/")
    assert events == [End(None)]
    assert visit.page == PAGE
    assert (visit.urls, visit.origin) == ((URL,), "https://site.example")


@pytest.mark.parametrize(
    ("charset", "text"), [("cp1251", "Привет"), ("shift_jis", "表ソ能十予"), ("gb18030", "中㐂"), ("latin-1", "é")]
)
def test_a_page_in_another_charset_has_the_same_bots(charset: str, text: str) -> None:
    page = f"<title>{text}</title><p class='{text}'>{text}</p>{CHAT}".encode(charset)
    visit, _, events = visited((200, [("Content-Type", f"text/html; charset={charset}")], page))
    assert (visit.page, events) == (PAGE, [End(None)])


@pytest.mark.parametrize(
    ("url", "asked", "host"),
    [
        ("http://Site.Example", "http://site.example/", "site.example"),
        (" https://site.example:443/a?b#c ", "https://site.example/a?b", "site.example"),
        ("https://site.example:8443?p=4", "https://site.example:8443/?p=4", "site.example:8443"),
        ("https://site.example/Où ?x=ü y", "https://site.example/O%C3%B9%20?x=%C3%BC%20y", "site.example"),
        ("https://site.example/a%20b/?c=%2F?", "https://site.example/a%20b/?c=%2F?", "site.example"),
        ("http://[::1]:8000/x", "http://[::1]:8000/x", "[::1]:8000"),
    ],
)
def test_the_address_is_normalised_for_http(url: str, asked: str, host: str) -> None:
    visit, (request,), _ = visited(FOUND, visit=Visit(url))
    assert (request.url, fields(request)["Host"]) == (asked, host)
    assert visit.page is not None
    assert visit.page.url == asked


@pytest.mark.parametrize(
    "url",
    [
        *("", "site.example", "127.0.0.1:8000", "/contact/", "ftp://site.example/", "https:///x", "mailto:a@b"),
        *("https://site.example:0/", "https://user:secret@site.example/", "https://s\u00efte.example/"),
        *("https://[::1/", "https://a b/"),
        "https://site.example/\ud800",
    ],
)  # fmt: skip
def test_anything_but_the_address_of_a_page_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"^url: expected the address of a page .*, its host in ASCII ") as raised:
        Visit(url)
    assert str(raised.value).endswith(" (xn--...), without a user name")
    assert "secret" not in str(raised.value)


def test_a_page_without_a_bot_is_a_page() -> None:
    for body in (b"", b"\xff\x00{}", b"0", b'{"code":"rest_no_route"}'):
        visit, _, events = visited((200, [], body))
        assert (events, visit.page) == ([End(None)], Page(URL, None, (), (), ()))


def test_the_head_of_the_page_names_its_root() -> None:
    link = ("Link", '<https://site.example/api/>; rel="https://api.w.org/"')
    visit, _, _ = visited((200, [link], b""))
    assert visit.page is not None
    assert visit.page.root == "https://site.example/api"


def test_interim_responses_are_skipped() -> None:
    visit = Visit(URL)
    take(visit)
    assert visit.receive_head(103, [("Link", "<x>")]) == visit.receive_head(100, []) == []
    assert answer(visit, FOUND) == [End(None)]
    visit = Visit(URL, Limits(interim_responses=0))
    take(visit)
    assert [event.limit for event in visit.receive_head(100, []) if isinstance(event, Broken)] == ["interim_responses"]


@pytest.mark.parametrize("size", [5, 6])
def test_the_limit_of_a_page_is_exact(size: int) -> None:
    large = Broken(Reason.TOO_LARGE, "more than 5 bytes in one page (Limits.page_bytes)", limit="page_bytes")
    for pieces in every_cut(b"x" * size):
        visit = Visit(URL, Limits(page_bytes=5))
        take(visit)
        events = visit.receive_head(200, [])
        for piece in pieces:
            events += visit.receive_data(piece)
        assert events + visit.receive_eof() == ([End(None)] if size == 5 else [large])
        assert (visit.page is None) == (size == 6)


def test_two_mib_are_read_by_default() -> None:
    text = b" " * (2 * 1024 * 1024 - len(CHAT)) + CHAT.encode()
    visit, _, events = visited((200, HTML, text))
    assert (visit.page, events) == (PAGE, [End(None)])
    _, _, (event,) = visited((200, HTML, text + b" "))
    assert isinstance(event, Broken)
    assert event.reason is Reason.TOO_LARGE


# ------------------------------------------------------------------------------ not a page


@pytest.mark.parametrize(
    ("response", "broken"),
    [
        (
            (404, HTML, b"<title>Page not found</title>" + CHAT.encode()),
            Broken(Reason.REFUSED, "Page not found", 404, raw="<title>Page not found</title>" + CHAT),
        ),
        ((503, [("Retry-After", "7")], b"Busy"), Broken(Reason.REFUSED, "Busy", 503, retry_after=7, raw="Busy")),
        ((304, [], b""), Broken(Reason.REFUSED, "status 304 and no text", 304)),
        ((302, [], b""), Broken(Reason.REFUSED, "status 302 and no text", 302)),
        (
            (300, [("Location", "/a")], b""),
            Broken(Reason.REFUSED, "redirected to /a, which is not followed", 300),
        ),
    ],
)
def test_a_response_that_is_not_a_page_is_a_refusal(response: Answer, broken: Broken) -> None:
    visit, _, events = visited(response)
    assert (events, visit.page) == ([broken], None)


@pytest.mark.parametrize(
    ("status", "headers", "broken"),
    [
        (101, [], Broken(Reason.TRUNCATED, "status 101: the server switched protocols, unasked")),
        (
            200,
            [("Content-Encoding", "gzip")],
            Broken(Reason.MALFORMED, "the body is coded as gzip, though identity was asked for"),
        ),
        (
            302,
            [("Location", "/a"), ("Content-Length", "1"), ("Transfer-Encoding", "chunked")],
            Broken(Reason.REFUSED, "redirected to /a, which is not followed", 302),
        ),
    ],
)
def test_a_malformed_head_ends_the_visit(status: int, headers: Any, broken: Broken) -> None:
    visit = Visit(URL)
    take(visit)
    assert visit.receive_head(status, headers) == [broken]
    assert (visit.page, visit.awaiting) == (None, None)


def test_a_long_refusal_is_judged_before_its_end() -> None:
    visit = Visit(URL, Limits(refusal_bytes=4))
    take(visit)
    assert visit.receive_head(500, []) == []
    assert visit.receive_data(b"Oh n") == [Broken(Reason.REFUSED, "Oh n", 500, raw="Oh n")]
    assert visit.receive_data(b"o") == visit.receive_eof() == []


@pytest.mark.parametrize(
    ("given_inputs", "event"),
    [
        ([], Broken(Reason.LOST, "cut")),
        (["next_request"], Broken(Reason.LOST, "cut")),
        (["next_request", (200, CHAT.encode())], Broken(Reason.TRUNCATED, "cut")),
        (["next_request", (500, b"Oh")], Broken(Reason.REFUSED, "Oh", 500, raw="Oh")),
        (
            ["next_request", (302, b"Oh")],
            Broken(Reason.REFUSED, "redirected to /next, which is not followed", 302),
        ),
    ],
)
def test_a_failure_ends_the_visit_at_any_time(given_inputs: list[Any], event: Broken) -> None:
    visit = Visit(URL)
    for one in given_inputs:
        if one == "next_request":
            take(visit)
        else:
            assert visit.receive_head(one[0], [("Location", "/next")]) == visit.receive_data(one[1]) == []
    assert visit.receive_failure("cut") == [event]
    assert (visit.page, visit.next_request()) == (None, None)


def test_a_failure_names_the_limit() -> None:
    expected = Broken(Reason.TIMEOUT, "no answer", limit="first_event")
    assert Visit(URL).receive_failure("no answer", Reason.TIMEOUT, limit="first_event") == [expected]


def test_a_connection_that_closes_without_an_answer_is_lost() -> None:
    visit = Visit(URL)
    take(visit)
    assert visit.receive_eof() == [Broken(Reason.LOST, "the connection was closed before any answer")]


# ------------------------------------------------------------------------------ past the cache


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("https://site.example", "https://site.example/?opchat=r4nd0m"),
        ("https://site.example/?p=4", "https://site.example/?p=4&opchat=r4nd0m"),
    ],
)
def test_a_fresh_page_is_requested_past_the_cache(url: str, asked: str) -> None:
    visit, requests, _ = visited(to("/chat/?opchat=r4nd0m"), FOUND, visit=Visit(url, fresh="r4nd0m"))
    assert [request.url for request in requests] == [asked, "https://site.example/chat/?opchat=r4nd0m"]
    assert [fields(request)["Cache-Control"] for request in requests] == ["no-cache", "no-cache"]
    assert visit.urls == (url if "?" in url else url + "/", requests[1].url)


@pytest.mark.parametrize("fresh", ["", "a b", "a&b", "\u00e9", "x" * 65])
def test_a_fresh_value_that_does_not_fit_into_a_url_is_refused(fresh: str) -> None:
    with pytest.raises(ValueError, match=r"^fresh: expected 1 to 64 letters"):
        Visit(URL, fresh=fresh)


@pytest.mark.parametrize("name", ["User-Agent", "USER-AGENT", "accept"])
def test_a_callers_field_replaces_ours(name: str) -> None:
    request = Visit(URL, headers={name: "Mine"}).next_request()
    assert request is not None
    assert [value for key, value in request.headers if key.lower() == name.lower()] == ["Mine"]


def test_a_cookie_repeated_in_a_page_is_not_quoted() -> None:
    visit = Visit("https://site.example/", session=Session(cookie="wordpress_logged_in_1=alice%7C17%7Chmac"))
    assert visit.next_request() is not None
    visit.receive_head(403, [])
    visit.receive_data(b"Who is alice|17|hmac?")
    (event,) = visit.receive_eof()
    assert isinstance(event, Broken)
    assert event.detail == "Who is ***?"
