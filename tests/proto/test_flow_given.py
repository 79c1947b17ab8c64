"""A session that the caller provides: instead of start_session, or for many flows."""

import pickle

import pytest

from opchat_proto import Awaiting, Broken, End, Endpoint, Flow, Reason, Session
from tests.proto.flows import (
    ASK,
    CHAT,
    END,
    EXPIRED,
    GIVEN,
    RENEWED,
    REPLIED,
    REPLY,
    SESSION,
    SITE,
    STALE,
    STALE_IDS,
    START,
    Answer,
    answer,
    header,
    ignores_everything,
    refusal,
    refused_flow,
    routes,
    run,
    seen,
    take,
)

# ------------------------------------------------------------------------------ a session that another call started


@pytest.mark.parametrize("session", [GIVEN, Session(), Session("theirs", origin="https://site.example")])
def test_use_session_is_like_giving_the_session_at_the_start(session: Session) -> None:
    flow, told = Flow(SITE, ASK), Flow(SITE, ASK, session=session)
    assert flow.use_session(session) == []
    assert (flow.session, seen(flow)) == (told.session, seen(told))
    assert take(flow) == take(told)
    assert answer(flow, REPLY) == REPLIED


def test_a_flow_with_a_used_session_renews_it_once() -> None:
    flow = Flow(SITE, ASK)
    assert flow.use_session(GIVEN) == []
    requests, events = run(flow, STALE[1], RENEWED, STALE[1])
    assert (routes(requests), events) == ([CHAT, START, CHAT], [refusal(403, EXPIRED)])


@pytest.mark.parametrize("stale", STALE, ids=STALE_IDS)
def test_after_a_refusal_the_question_is_repeated_with_the_used_session(stale: Answer) -> None:
    for response, expected in ((REPLY, REPLIED), (stale, [refusal(stale[0], stale[2].decode())])):
        flow = refused_flow()
        assert flow.use_session(Session("fresh", "second")) == []
        assert seen(flow) == (Awaiting.FIRST_EVENT, True, True)
        requests, events = run(flow, response)
        assert (routes(requests), header(requests[0], "X-WP-Nonce"), events) == ([CHAT], "fresh", expected)
        assert requests[0].body == ASK.encode("second")
        assert flow.session == Session("fresh", "second")


def test_a_question_refused_for_its_nonce_is_not_repeated_without_one() -> None:
    assert refused_flow().use_session(Session()) == [refusal(403, EXPIRED)]


def test_use_session_none_leaves_the_first_refusal_or_a_loss() -> None:
    nothing_asked = [Broken(Reason.LOST, "no session could be started", in_session=True)]
    for flow, expected in (
        (Flow(SITE, ASK), nothing_asked),
        (Flow(SITE, None), nothing_asked),
        (refused_flow(), [refusal(403, EXPIRED)]),
    ):
        assert flow.use_session(None) == expected
        assert ignores_everything(flow)


def test_a_flow_without_a_question_ends_with_the_used_session() -> None:
    flow = Flow(SITE, None)
    assert flow.use_session(GIVEN) == [End(None)]
    assert (flow.session, flow.submit_started) == (GIVEN, False)
    assert ignores_everything(flow)


def test_a_value_that_is_not_a_session_is_named_by_its_type() -> None:
    with pytest.raises(TypeError, match=r"^session: expected a Session or None, got str$"):
        Flow(SITE, ASK).use_session("0b2576d756")  # type: ignore[arg-type]  # wrong on purpose


def test_use_session_refuses_a_session_of_another_origin() -> None:
    for flow in (Flow(SITE, ASK), Flow(SITE, None), refused_flow()):
        before = pickle.dumps(flow)
        with pytest.raises(
            ValueError, match=r"^session: it belongs to https://evil\.example, not to https://site\.exam"
        ):
            flow.use_session(Session("theirs", origin="https://evil.example"))
        assert pickle.dumps(flow) == before


# ------------------------------------------------------------------------------ one session, many flows


def test_a_given_session_is_not_changed_and_serves_many_flows() -> None:
    flows = [Flow(SITE, ASK, session=GIVEN) for _ in range(3)]
    for number, flow in enumerate(flows):
        run(flow, (200, [("X-WP-Nonce", f"nonce{number}")], END))
    assert (GIVEN.nonce, GIVEN.cookie, GIVEN.origin) == ("0b2576d756", "mwai_session_id=6b02fc304cdb0", None)
    assert [flow.session and flow.session.nonce for flow in flows] == ["nonce0", "nonce1", "nonce2"]
    assert run(Flow(SITE, ASK, session=flows[2].session), REPLY)[1] == REPLIED


def test_a_session_is_sent_to_its_own_origin_only() -> None:
    flow = Flow(SITE, None)
    run(flow, SESSION)
    session = flow.session
    assert session is not None
    for same in ("https://site.example:443/blog", "https://SITE.example/index.php?rest_route="):
        assert Flow(Endpoint.parse(same), ASK, session=session).session == session
    for other in (
        "http://site.example",
        "https://site.example:8443",
        "https://www.site.example",
        "https://evil.example",
    ):
        with pytest.raises(ValueError, match=r"^session: it belongs to https://site\.example, not to http"):
            Flow(Endpoint.parse(other), ASK, session=session)


def test_a_session_is_bound_to_the_origin_of_its_first_flow() -> None:
    flow = Flow(SITE, ASK, session=Session("theirs"))
    assert flow.session is not None
    assert flow.session.origin == "https://site.example"
    with pytest.raises(ValueError, match=r"^session: it belongs to"):
        Flow(Endpoint.parse("http://site.example"), ASK, session=flow.session)


@pytest.mark.parametrize("stale", STALE, ids=STALE_IDS)
def test_after_a_renewal_the_session_is_bound_to_its_origin(stale: Answer) -> None:
    for responses in ([stale, RENEWED, REPLY], [stale, (500, [], b"")]):
        flow = Flow(SITE, ASK, session=GIVEN)
        run(flow, *responses)
        assert flow.session is not None
        assert flow.session.origin == "https://site.example"
