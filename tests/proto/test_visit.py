"""A visit to a page: any bytes, any cuts, any redirects give a page or one `Broken`, and no secret leaves its site."""

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opchat_proto import (
    Awaiting,
    Broken,
    Client,
    Connect,
    End,
    Event,
    Limits,
    LocalProtocolError,
    Page,
    Reason,
    Request,
    Send,
    Session,
    StartTLS,
    Visit,
)
from opchat_proto._visit import TABLE, Input, State  # the table itself is not public, and is walked over here
from tests.proto.cuts import clones, every_cut, random_cuts
from tests.proto.pages import CHAT, PAGE, URL

Answer = tuple[int, list[tuple[str, str]], bytes]

HTML = [("Content-Type", "text/html; charset=UTF-8")]
FOUND: Answer = (200, HTML, CHAT.encode())
MEMBER = Session("secretnonce", None, "wordpress_logged_in_1=secretcookie")


def to(location: str, status: int = 302) -> Answer:
    return status, [("Location", location)], b"<p>Moved</p>"


def take(visit: Visit) -> Request:
    request = visit.next_request()
    assert request is not None
    return request


def answer(visit: Visit, response: Answer) -> list[Event]:
    """The whole response to the request that was handed out."""
    status, headers, body = response
    return visit.receive_head(status, headers) + visit.receive_data(body) + visit.receive_eof()


def visited(*answers: Answer, visit: Visit | None = None) -> tuple[Visit, list[Request], list[Event]]:
    """A visit that gets these answers: with its requests and events."""
    visit = visit or Visit(URL)
    requests, events = [], []
    for response in answers:
        requests.append(take(visit))
        events += answer(visit, response)
    return visit, requests, events


def fields(request: Request) -> dict[str, str]:
    return dict(request.headers)


# ---------------------------------------------------------------- a page


def test_a_page_is_asked_for_as_a_browser_does() -> None:
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
def test_the_address_is_asked_for_as_http_wants_it(url: str, asked: str, host: str) -> None:
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
def test_what_is_no_address_of_a_page_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"^url: expected the address of a page .*, without a user name$") as raised:
        Visit(url)
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


def test_interim_responses_are_passed_over() -> None:
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


# ---------------------------------------------------------------- no page


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
def test_an_answer_that_is_no_page_is_a_refusal(response: Answer, broken: Broken) -> None:
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
def test_a_head_that_cannot_be_followed_ends_the_visit(status: int, headers: Any, broken: Broken) -> None:
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


def test_a_failure_says_which_limit_was_met() -> None:
    expected = Broken(Reason.TIMEOUT, "no answer", limit="first_event")
    assert Visit(URL).receive_failure("no answer", Reason.TIMEOUT, limit="first_event") == [expected]


def test_a_connection_that_closes_without_an_answer_is_lost() -> None:
    visit = Visit(URL)
    take(visit)
    assert visit.receive_eof() == [Broken(Reason.LOST, "the connection was closed before any answer")]


# ---------------------------------------------------------------- redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("https://site.example/chat/", "https://site.example/chat/"),
        ("/chat/?a=b#c", "https://site.example/chat/?a=b"),
        ("chat", "https://site.example/contact/chat"),
        ("?p=4", "https://site.example/contact/?p=4"),
        ("//www.site.example", "https://www.site.example/"),
        ("http://site.example:8080/", "http://site.example:8080/"),
        ("/caf\u00c3\u00a9", "https://site.example/caf%C3%A9"),  # UTF-8 read as Latin-1
        ("/caf\u00e9", "https://site.example/caf%C3%A9"),
        ("/\u20ac", "https://site.example/%E2%82%AC"),
    ],
)
def test_a_redirect_is_followed(status: int, location: str, url: str) -> None:
    visit, (first, second), events = visited(to(location, status), FOUND)
    assert (first.url, second.url, second.method, second.body) == (URL, url, "GET", b"")
    assert fields(second)["Host"] == url.split("/")[2]
    assert events == [End(None)]
    assert visit.urls == (URL, url)
    assert visit.page is not None
    assert visit.page.url == url


def test_another_origin_is_named_in_the_page() -> None:
    visit, _, _ = visited(to("/a"), to("https://other.example/b"), FOUND)
    assert visit.page is not None
    assert visit.page.notes == ("redirected from https://site.example to https://other.example",)
    visit, _, _ = visited(to("https://other.example/b"), to(URL), FOUND)
    assert visit.page == PAGE


def test_at_most_five_redirects_are_followed() -> None:
    visit, requests, events = visited(*[to("/a")] * 5, FOUND)
    assert (len(requests), events) == (6, [End(None)])
    visit, requests, events = visited(*[to("/a")] * 6)
    assert (len(requests), visit.page) == (6, None)
    assert events == [Broken(Reason.REFUSED, "more than 5 redirects, the last to /a", 302)]


@pytest.mark.parametrize(
    "location", ["ftp://a/", "javascript:alert(1)", "https://u:p@a/", "https://[", "//:0/", "\ud800"]
)
def test_a_redirect_to_nowhere_is_a_refusal(location: str) -> None:
    shown = location.replace("\ud800", "\ufffd").replace("u:p@", "")
    expected = Broken(Reason.REFUSED, f"redirected to {shown}, which is not an address of a page", 301)
    assert visited(to(location, 301))[2] == [expected]


def test_a_redirect_shows_no_secrets() -> None:
    _, _, [broken] = visited(to("ftp://site.example/?_wpnonce=SECRET1234&mwai_session_id=SECRET5678", 301))
    assert isinstance(broken, Broken)
    assert "SECRET" not in broken.detail


def test_the_text_of_a_redirect_is_bounded() -> None:
    visit = Visit(URL, Limits(page_bytes=3))
    take(visit)
    assert visit.receive_head(302, [("Location", "/a")]) == visit.receive_data(b"abc") == []
    (event,) = visit.receive_data(b"d")
    assert isinstance(event, Broken)
    assert event.limit == "page_bytes"
    assert visited((302, [("Location", "/a")], b"abc"), (200, [], b"abc"), visit=Visit(URL, Limits(page_bytes=3)))[
        2
    ] == [End(None)]


# ---------------------------------------------------------------- secrets

AUTHORIZED = {"Authorization": "Basic secret", "X-Key": "secret", "User-Agent": "Mine", "Accept-Language": "fr"}


def test_a_members_cookies_go_with_each_request_to_the_site_and_the_nonce_with_none() -> None:
    visit, requests, events = visited(to("/a"), FOUND, visit=Visit(URL, session=MEMBER, headers=AUTHORIZED))
    assert events == [End(None)]
    for request in requests:
        assert fields(request)["Cookie"] == MEMBER.cookie
        assert fields(request).items() >= AUTHORIZED.items()
        assert "secretnonce" not in repr(request.headers)
    assert "secret" not in repr(visit) + repr(requests) + repr(visit.page)
    assert visit.session == MEMBER


@pytest.mark.parametrize(
    "place",
    ["https://other.example/", "http://site.example/", "https://site.example:8443/", "https://www.site.example/"],
)
@pytest.mark.parametrize("options", [{"session": MEMBER}, {"headers": [("AUTHORIZATION", "Basic secret")]}])
def test_a_member_is_not_redirected_to_another_origin(place: str, options: Any) -> None:
    visit, _, events = visited(to(place), visit=Visit(URL, **options))
    why = f"redirected to {place.rstrip('/')}, where what signs you in at https://site.example must not go"
    assert events == [Broken(Reason.REFUSED, why, 302)]
    assert visit.next_request() is None


def test_nothing_that_is_secret_goes_to_another_origin() -> None:
    session = Session("secretnonce", "secretid", "mwai_session_id=secret")
    headers = {"X-Key": "secret", "User-Agent": "Mine", "Accept-Language": "fr"}
    visit = Visit(URL, session=session, headers=headers)
    _, (first, away, back), _ = visited(to("http://site.example/"), to(URL), FOUND, visit=visit)
    assert fields(first) == fields(back)
    assert fields(first).items() >= {**headers, "Cookie": session.cookie}.items()
    assert "secret" not in repr(away.headers)
    assert (fields(away)["User-Agent"], fields(away)["Accept-Language"]) == ("Mine", "fr")


def test_what_is_not_the_callers_is_refused() -> None:
    with pytest.raises(ValueError, match="X-WP-Nonce is not yours to set"):
        Visit(URL, headers=[("X-WP-Nonce", "x")])
    with pytest.raises(
        ValueError, match=r"^session: it belongs to https://other\.example, not to https://site\.example$"
    ):
        Visit(URL, session=Session(origin="https://other.example"))
    Visit(URL, session=Session(origin="https://site.example"))


# ---------------------------------------------------------------- the nonce of a page that came out of a cache


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("https://site.example", "https://site.example/?opchat=r4nd0m"),
        ("https://site.example/?p=4", "https://site.example/?p=4&opchat=r4nd0m"),
    ],
)
def test_a_fresh_page_is_asked_for_past_the_cache(url: str, asked: str) -> None:
    visit, requests, _ = visited(to("/chat/?opchat=r4nd0m"), FOUND, visit=Visit(url, fresh="r4nd0m"))
    assert [request.url for request in requests] == [asked, "https://site.example/chat/?opchat=r4nd0m"]
    assert [fields(request)["Cache-Control"] for request in requests] == ["no-cache", "no-cache"]
    assert visit.urls == (url if "?" in url else url + "/", requests[1].url)


@pytest.mark.parametrize("fresh", ["", "a b", "a&b", "\u00e9", "x" * 65])
def test_what_would_not_fit_into_a_url_is_not_fresh(fresh: str) -> None:
    with pytest.raises(ValueError, match=r"^fresh: expected 1 to 64 letters"):
        Visit(URL, fresh=fresh)


# ---------------------------------------------------------------- any bytes, any cuts, any order


def state_of(visit: Visit) -> State:
    return State(repr(visit).split()[-1].rstrip(">"))


def in_state(state: State) -> Visit:
    visit = Visit(URL)
    if state is not State.GET:
        take(visit)
    match state:
        case State.PAGE:
            visit.receive_head(200, [])
        case State.REDIRECT:
            visit.receive_head(302, [("Location", "/a")])
        case State.REFUSAL:
            visit.receive_head(404, [])
        case State.DONE:
            answer(visit, FOUND)
    assert state_of(visit) is state
    return visit


CALLS: dict[Input, tuple[str, tuple[Any, ...]]] = {
    Input.REQUEST: ("next_request", ()),
    Input.INTERIM: ("receive_head", (103, [])),
    Input.PAGE: ("receive_head", (200, [])),
    Input.REDIRECT: ("receive_head", (302, [("location", "/a")])),
    Input.REFUSAL: ("receive_head", (302, [])),
    Input.DATA: ("receive_data", (b"x",)),
    Input.EOF: ("receive_eof", ()),
    Input.FAILURE: ("receive_failure", ("cut",)),
    Input.CLOSE: ("close", ()),
}


def test_the_table_names_every_state_and_input() -> None:
    assert list(TABLE.rows) == list(State)
    assert TABLE.start == (State.GET,)
    assert {given_input for row in TABLE.rows.values() for given_input in row} == set(Input)
    assert set(Input) - set(CALLS) == {Input.FOLLOWED, Input.TERMINAL}


@pytest.mark.parametrize("given_input", CALLS)
@pytest.mark.parametrize("state", State)
def test_every_input_in_every_state_does_what_the_table_says(state: State, given_input: Input) -> None:
    visit = in_state(state)
    row = TABLE.rows[state]
    before = pickle.dumps(visit)
    name, arguments = CALLS[given_input]
    if given_input in row:
        getattr(visit, name)(*arguments)
        leads_to = {row[given_input]}
        if given_input in (Input.EOF, Input.FAILURE):  # it stays where it is until the answer is judged
            assert leads_to == {state}
            leads_to = {row[Input.FOLLOWED if state is State.REDIRECT and given_input is Input.EOF else Input.TERMINAL]}
        assert {state_of(visit)} == leads_to
        return
    if given_input is Input.REQUEST:
        assert visit.next_request() is None
    elif state is State.DONE:
        assert getattr(visit, name)(*arguments) == []
    else:
        with pytest.raises(LocalProtocolError, match=rf"^Visit: .* is not legal in state {state}$"):
            getattr(visit, name)(*arguments)
    assert pickle.dumps(visit) == before


@pytest.mark.parametrize("state", State)
def test_what_is_always_legal_and_what_never(state: State) -> None:
    visit = in_state(state)
    before = pickle.dumps(visit)
    assert visit.receive_data(b"") == visit.receive_data(memoryview(b"")) == []
    for name, arguments in (
        ("receive_head", ("200", [])),
        ("receive_head", (200, {"ab": "c"})),
        ("receive_data", ("x",)),
        ("receive_failure", (5,)),
        ("receive_failure", ("cut", "lost")),
    ):
        with pytest.raises(TypeError):
            getattr(visit, name)(*arguments)
    assert pickle.dumps(visit) == before
    assert visit.is_ready == (state is State.GET)
    assert visit.awaiting is (None if state is State.DONE else Awaiting.FIRST_EVENT)
    assert visit.submit_started is False
    assert visit.limits == Limits()


@pytest.mark.parametrize("state", State)
def test_leaving_ends_the_visit_once(state: State) -> None:
    visit = in_state(state)
    reason = Reason.TRUNCATED if state is State.PAGE else Reason.LOST
    assert visit.close() == ([] if state is State.DONE else [Broken(reason, "closed by the caller")])
    assert visit.close() == visit.receive_data(b"x") == visit.receive_eof() == visit.receive_failure("x") == []
    assert visit.next_request() is None


@pytest.mark.parametrize("arguments", [(b"https://site.example", {}), (URL, {"session": "x"}), (URL, {"fresh": 5})])
def test_wrong_types_are_refused(arguments: tuple[Any, dict[str, Any]]) -> None:
    with pytest.raises(TypeError, match=r"^(url|session|fresh): expected .*, got (bytes|str|int)$"):
        Visit(arguments[0], **arguments[1])


def test_all_cuts_and_copies_of_a_page_give_the_same() -> None:
    body = ("<p>é</p>" + CHAT).encode()
    for pieces in every_cut(body):
        visit = Visit(URL)
        take(visit)
        assert visit.receive_head(200, []) == []
        for piece in pieces:
            assert visit.receive_data(memoryview(piece)) == []
        for clone in clones(visit):
            assert (clone.receive_eof(), clone.page) == ([End(None)], PAGE)


ANYTHING = st.binary(max_size=40) | st.sampled_from([CHAT.encode(), b"<!--", b"{", b"HTTP/1.1 200 OK\r\n\r\n"])
HEADS = st.tuples(
    st.sampled_from([200, 200, 100, 101, 204, 301, 302, 308, 404, 500, 0, 999]),
    st.lists(
        st.sampled_from(
            [
                ("Location", "/a"),
                ("Location", "https://other.example/"),
                ("location", "x:y"),
                ("Content-Encoding", "br"),
                ("Link", "<//x/wp-json/>; rel=https://api.w.org/"),
            ]
        ),
        max_size=2,
    ),
)


@given(st.lists(st.tuples(HEADS, ANYTHING.flatmap(random_cuts), st.booleans()), max_size=9), st.data())
def test_any_answers_give_a_page_or_one_broken(answers: Any, data: st.DataObject) -> None:
    visit = Visit(URL, Limits(page_bytes=data.draw(st.sampled_from([30, 1000]))))
    events: list[Event] = []
    for (status, headers), pieces, ends_well in answers:
        if visit.next_request() is None:
            break
        events += visit.receive_head(status, headers)
        if 100 <= status < 200 and not events:
            events += visit.receive_head(200, headers)
        visit = copy.deepcopy(visit)
        for piece in pieces:
            events += visit.receive_data(piece)
        events += visit.receive_eof() if ends_well else visit.receive_failure("cut")
    events += visit.close()
    (event,) = events
    assert isinstance(event, End | Broken)
    assert (visit.page is not None) == isinstance(event, End)
    assert len(visit.urls) <= 6


# ---------------------------------------------------------------- over connections


def bytes_of(response: Answer) -> bytes:
    status, headers, body = response
    lines = [f"HTTP/1.1 {status} x", *(f"{name}: {value}" for name, value in headers), f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def steps(client: Client, answers: Iterator[Answer]) -> Iterator[Any]:
    """What a client does with these answers, step by step; then its events."""
    while True:
        step = client.next_step()
        match step:
            case Connect() | StartTLS():
                yield step
                client.step_done()
            case Send(data):
                yield data.split(b"\r\n")[0].decode()
                client.step_done()
                events = client.receive_data(bytes_of(next(answers)))
                if events:
                    yield events
            case _:
                return


def test_a_client_drives_a_visit_to_each_host_on_the_way() -> None:
    visit = Visit("http://site.example/contact/")
    client = Client(visit)
    done = list(steps(client, iter([to("https://www.site.example/chat"), FOUND])))
    assert done == [
        Connect("site.example", 80),
        "GET /contact/ HTTP/1.1",
        Connect("www.site.example", 443),
        StartTLS("www.site.example"),
        "GET /chat HTTP/1.1",
        [End(None)],
    ]
    assert visit.page is not None
    assert [bot.bot_id for bot in visit.page.bots] == ["default"]
