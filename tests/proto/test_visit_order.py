"""Calls in any order, any bytes in any cuts, and a visit over connections."""

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
    Reason,
    Send,
    StartTLS,
    Visit,
)
from opchat_proto._visit import TABLE, Input, State  # the table is not public, and this test walks it
from tests.proto.cuts import clones, every_cut, random_cuts
from tests.proto.pages import CHAT, PAGE, URL
from tests.proto.visits import FOUND, Answer, answer, take, to

# ------------------------------------------------------------------------------ any bytes, any cuts, any order


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
def test_every_input_in_every_state_follows_the_table(state: State, given_input: Input) -> None:
    visit = in_state(state)
    row = TABLE.rows[state]
    before = pickle.dumps(visit)
    name, arguments = CALLS[given_input]
    if given_input in row:
        getattr(visit, name)(*arguments)
        leads_to = {row[given_input]}
        if given_input in (Input.EOF, Input.FAILURE):  # it stays until the answer is judged
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
def test_some_inputs_are_always_legal_and_some_never(state: State) -> None:
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
def test_close_ends_the_visit_once(state: State) -> None:
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


# ------------------------------------------------------------------------------ over connections


def bytes_of(response: Answer) -> bytes:
    status, headers, body = response
    lines = [f"HTTP/1.1 {status} x", *(f"{name}: {value}" for name, value in headers), f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def steps(client: Client, answers: Iterator[Answer]) -> Iterator[Any]:
    """The steps of a client with these responses, then its events."""
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
