"""A request before the question, and a question without a session."""

import pytest

from opchat_proto import Awaiting, Broken, Channel, End, Flow, Limits, LocalProtocolError, Query, Reason, Session
from opchat_proto._flow_table import TABLE, Input, State  # the table is not public, and this test walks it
from tests.proto.calls import AnyCall, Make, Reply, both, ended, tell
from tests.proto.flows import take

SITE = "https://site.example"
OWNER = Session.from_token("throwaway-token")
BOTS = b'{"success":true,"data":[{"id":"sales"}]}'
ANSWER = b'{"success":true,"data":"Hi","new_token":"n2"}'
STREAM = b'data: {"type":"live","data":"a"}\n\ndata: {"type":"end","data":"{\\"success\\":true}"}\n\n'
NAMED = Query("Hi", "sales")


def test_the_request_before_a_question_costs_nothing_and_has_no_event() -> None:
    flow = Flow(SITE, NAMED, session=OWNER)
    take(flow)
    assert (flow.awaiting, flow.submit_started) == (Awaiting.FIRST_EVENT, False)
    assert flow.receive_head(200, []) + flow.receive_data(BOTS) + flow.receive_eof() == []
    assert flow.is_ready
    assert repr(flow).endswith(f" {TABLE.rows[State.SUBMIT_BODY][Input.PASSED]}>")
    take(flow)
    assert (flow.awaiting, flow.submit_started) == (Awaiting.FIRST_EVENT, True)
    assert flow.receive_head(200, [("X-WP-Nonce", "n3")]) + flow.receive_data(ANSWER) + flow.receive_eof() == [
        End("Hi", ANSWER.decode())
    ]
    assert flow.session == OWNER


def test_a_complete_list_counts_although_the_connection_fails() -> None:
    flow = Flow(SITE, NAMED, session=OWNER)
    take(flow)
    assert flow.receive_head(200, []) + flow.receive_data(BOTS) + flow.receive_failure("reset") == []
    assert take(flow).method == "POST"


def test_an_event_stream_is_not_a_list_and_its_pieces_are_not_events() -> None:
    flow = Flow(SITE, NAMED, session=OWNER)
    take(flow)
    live, end = STREAM[:35], STREAM[35:]
    assert flow.receive_head(200, []) + flow.receive_data(live) == []
    (broken,) = flow.receive_data(end)
    assert broken == Broken(Reason.MALFORMED, "listChatbots: no list of bots", raw='{"success":true}')


def test_a_judgement_before_the_end_of_the_body_is_final() -> None:
    missing = b'{"code":"rest_no_route","message":"No route for throwaway-token"}'
    for body, detail in (
        (missing + b" " * 100, "No route for ***"),
        (b'data: {"type":"end","data":"' + BOTS.replace(b'"', b'\\"') + b'"}\n\n', "an event stream instead of JSON"),
    ):
        flow = Flow(SITE, NAMED, session=OWNER, limits=Limits(refusal_bytes=80))
        take(flow)
        flow.receive_head(404 if body.startswith(missing) else 200, [])
        (broken,) = flow.receive_data(body)
        assert isinstance(broken, Broken)
        reason = Reason.REFUSED if body.startswith(missing) else Reason.MALFORMED
        assert (broken.reason, broken.detail) == (reason, detail)
        assert flow.next_request() is None
        assert flow.receive_data(b"more") == []


def test_a_token_that_a_site_repeats_is_hidden() -> None:
    said = b'{"success":false,"message":"no such: throwaway-token"}'
    for query in (NAMED, Query("Hi")):
        flow = Flow(SITE, query, session=OWNER)
        take(flow)
        flow.receive_head(500, [])
        flow.receive_data(said)
        (broken,) = flow.receive_eof()
        assert isinstance(broken, Broken)
        assert broken.detail.endswith("no such: ***")


def test_a_query_sends_neither_nonce_nor_cookies() -> None:
    session = Session("n1", "s1", "mwai_session_id=s1", authorization=OWNER.authorization)
    flow = Flow(SITE, Query("Hi"), session=session)
    request = take(flow)
    assert request.body == b'{"botId":"default","message":"Hi"}'
    assert not {"X-WP-Nonce", "Cookie"} & set(dict(request.headers))
    assert dict(request.headers)["Authorization"] == "Bearer throwaway-token"


def test_without_any_session_it_is_still_asked() -> None:
    flow = Flow(SITE, Query("Hi"))
    assert "Authorization" not in dict(take(flow).headers)
    with pytest.raises(LocalProtocolError):
        flow.use_session(OWNER)


@pytest.mark.parametrize("most", [1, 33])
def test_its_size_is_checked_at_once(most: int) -> None:
    with pytest.raises(ValueError, match=rf"^submit: expected at most {most} bytes, got 34 \(Limits\.request_bytes\)$"):
        Flow(SITE, Query("Hi"), session=OWNER, limits=Limits(request_bytes=most))


def test_over_http_a_token_is_sent_to_this_machine_only() -> None:
    assert Flow("http://127.0.0.1:8000", NAMED, session=OWNER).is_ready
    with pytest.raises(ValueError, match=r"^session: credentials are sent only over https"):
        Flow("http://site.example", NAMED, session=OWNER)
    with pytest.raises(ValueError, match=r"^session: it belongs to https://site\.example"):
        Flow("https://other.example", NAMED, session=Flow(SITE, NAMED, session=OWNER).session)


def ask(call: AnyCall) -> list[str]:
    """Answer all requests. Returns their routes."""
    routes = []
    while True:
        step, _ = call.next_step(0)
        data = getattr(step, "data", b"").decode() or getattr(step, "target", "")
        if data:
            routes.append(data.split("/wp-json")[1].split()[0])
        if hasattr(call, "step_done") and type(step).__name__ != "Receive":
            call.step_done()
        if data:
            tell(call, Reply(BOTS if "listChatbots" in data else ANSWER))
        if type(step).__name__ in ("Done", "Wait"):
            return routes


@both
def test_a_call_neither_waits_for_a_session_nor_changes_the_channels(make: Make) -> None:
    channel = Channel(SITE, session=OWNER)
    before = channel.session
    call = make(channel, NAMED)
    assert ask(call) == ["/mwai/v1/listChatbots", "/mwai/v1/simpleChatbotQuery"]
    assert ended(call) == [End("Hi", ANSWER.decode())]
    assert channel.session is before
    channel = Channel(SITE)
    assert ask(make(channel, Query("Hi"))) == ["/mwai/v1/simpleChatbotQuery"]
    assert channel.session is None
