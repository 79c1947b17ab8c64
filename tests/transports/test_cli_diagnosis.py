"""`opchat doctor` with any bytes, cut anywhere: always findings, never an exception."""

import json
import secrets
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opchat_proto import Broken, End, Endpoint, Flow, Limits, Reason, Visit
from opchat_transports.blocking_server import serve
from opchat_transports.bots import small_talk
from opchat_transports.cli import _examination  # not part of the library
from opchat_transports.cli._diagnosis import diagnose  # not part of the library
from opchat_transports.cli._site_facts import Answer, Contact, Exchange, Facts, Question, read_index  # private
from opchat_transports.testing import FAULTS, Accept, Expect, FaultServer, Script, Stall

from .command import opchat
from .examined import FRESH, at, check, html, index, page, session

SITE = "https://site.example"
PAGE = f"{SITE}/contact/"
INDEX = json.dumps({"namespaces": ["mwai-ui/v1", "mwai/v1"], "routes": {}, "authentication": []})

_BODIES = (
    *(html("3.6.2").encode(), html("2.4.3").encode(), INDEX.encode(), b'{"namespaces":[{}]}', b"[" * 100_000),
    *(b'{"success":true,"sessionId":"x","restNonce":"y"}', b'{"code":"rest_no_route"}', b'{"namespaces":[1' * 9),
    *(b"<b>captcha</b><!-- WP Rocket", b'{"code":"rest_cookie_invalid_nonce"}', b"\xef\xbb\xbf{", b"9" * 9999),
)
_NAMES = ("Date", "Age", "X-Cache", "Content-Encoding", "Location", "Link", "Set-Cookie", "CF-Mitigated")
_VALUES = (
    *("", "0", "9" * 5000, "-1", "HIT", "gzip", "/a", "https://other.example/", "\u00ff\x1b[2J", "\u00b2"),
    *("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 99 Nov 1994", '</r>; rel="https://api.w.org/"'),
)
_bodies = st.binary(max_size=60) | st.sampled_from(_BODIES)
_values = st.sampled_from(_VALUES) | st.text(st.characters(max_codepoint=255), max_size=9)
_fields = st.lists(st.tuples(st.sampled_from(_NAMES), _values), max_size=3)
_statuses = st.sampled_from([200, 200, 200, 301, 401, 403, 404, 429, 500, 503])
_certificates = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "subject": st.just(((("commonName", "site.example"),),)),
        "issuer": st.just(((("organizationName", "CA"),),)),
        "notAfter": st.sampled_from(["Jan  1 00:00:00 3000 GMT", "", "x", "Jan  1 00:00:00 99999 GMT"]),
        "subjectAltName": st.just((("DNS", "a"), ("DNS", "b"), ("IP Address", "::1"), ("DNS", "c"), ("URI", "d"))),
    },
)
_contacts = st.builds(
    Contact,
    host=st.just("site.example"),
    port=st.just(443),
    addresses=st.just(("192.0.2.1",)),
    failed_at=st.sampled_from(["", "", "name", "connection", "tls"]),
    certificate=_certificates,
)
_Heads = st.tuples(_statuses, _fields, _bodies, st.sampled_from(["eof", "cut", "late", "proxy", "none"]))


def heard(machine: Visit | Flow, answers: list[Any], contact: Contact) -> Exchange:
    """The outcome of a machine that gets these responses."""
    kept: list[Answer] = []
    events: list[Any] = []
    for status, fields, body, ends in answers:
        request = machine.next_request()
        if request is None:
            break
        if ends == "none" or contact.failed_at:
            events += machine.receive_failure("Connection refused")
            break
        headers = tuple((name.lower(), value) for name, value in fields)
        kept.append(Answer(url=request.url, status=status, headers=headers, body=body, at=1e9))
        events += machine.receive_head(status, fields)
        events += machine.receive_data(body)
        reasons = {"cut": Reason.LOST, "late": Reason.TIMEOUT, "proxy": Reason.PROXY}
        events += machine.receive_failure("cut", reasons[ends]) if ends in reasons else machine.receive_eof()
    events += machine.close()
    exchange = Exchange(outcome=events[-1], answers=tuple(kept), contacts=(contact,))
    if isinstance(machine, Visit):
        return replace(exchange, page=machine.page)
    return replace(exchange, session=machine.session)


@st.composite
def facts(draw: st.DrawFn) -> Facts:
    def visit(url: str) -> Exchange:
        return heard(Visit(url), draw(st.lists(_Heads, min_size=1, max_size=3)), draw(_contacts))

    optional: dict[str, Any] = {}
    endpoint = draw(st.sampled_from([Endpoint.parse(SITE), Endpoint.parse(f"{SITE}/index.php?rest_route=")]))
    if draw(st.booleans()):
        optional["session"] = heard(Flow(endpoint, None), draw(st.lists(_Heads, min_size=1)), draw(_contacts))
    for name, url in (("check", f"{SITE}/wp-json/"), ("fresh", PAGE), ("page", PAGE)):
        if draw(st.booleans()):
            optional[name] = visit(url)
    if draw(st.booleans()):
        outcomes: list[End | Broken] = [End("Hi"), End(None), Broken(Reason.TIMEOUT, limit="idle")]
        outcome = draw(st.sampled_from(outcomes))
        how: dict[str, Any] = {"at_once": draw(st.booleans()), "waited": draw(st.floats(0, 9))}
        optional["question"] = Question(outcome=outcome, pieces=draw(st.integers(0, 3)), **how)
    bot, proxy = draw(st.sampled_from([None, "default", "x"])), draw(st.sampled_from([None, "http://proxy.example"]))
    return Facts(url=PAGE, endpoint=endpoint, bot=bot, proxy=proxy, index=visit(f"{SITE}/wp-json/"), **optional)


@given(facts())
def test_any_facts_give_findings(seen: Facts) -> None:
    findings = diagnose(seen)
    assert findings != []
    checks = [finding.check for finding in findings if finding.check != "tls"]
    assert len(checks) == len(set(checks))
    for finding in findings:
        assert finding.text
        assert finding.is_problem or not finding.exit_code
    first = seen.page or seen.index
    assert first is not None
    if isinstance(first.outcome, Broken) and seen.page is not None:
        assert findings[-1].is_problem
        assert findings[-1].exit_code != 0


@pytest.mark.parametrize(
    ("question", "said"),
    [
        (Question(outcome=End("Hi"), pieces=2, waited=5), ["ok"]),
        (Question(outcome=End("Hi"), pieces=2, at_once=True, waited=5), ["problem"]),
        (Question(outcome=End("Hi"), pieces=2, at_once=True, waited=0.1), ["ok"]),
        (Question(outcome=End("Hi"), pieces=1, at_once=True, waited=5), []),
    ],
)
def test_pieces_that_arrive_together_after_a_while_were_buffered(question: Question, said: list[str]) -> None:
    index = heard(Visit(SITE), [(200, [], INDEX.encode(), "eof")], Contact(host="site.example", port=443))
    found = diagnose(Facts(url=SITE, endpoint=Endpoint.parse(SITE), index=index, question=question))
    shown = ["problem" if finding.is_problem else "ok" for finding in found if finding.check == "buffering"]
    assert shown == said
    [answered] = [finding.text for finding in found if finding.check == "question"]
    assert answered == {1: "answered, in 1 piece", 2: "answered, in 2 pieces"}[question.pieces]


def test_the_certificate_of_a_proxy_does_not_make_the_site_encrypted() -> None:
    proxy = Contact(host="proxy.example", port=443, certificate={"subjectAltName": (("DNS", "proxy.example"),)})
    url = "http://site.example"
    visit = heard(Visit(url), [(200, [], INDEX.encode(), "eof")], proxy)
    facts = Facts(url=url, endpoint=Endpoint.parse(url), proxy="https://proxy.example", index=visit)
    [said] = [finding.text for finding in diagnose(facts) if finding.check == "tls"]
    assert said == (
        "the certificate of proxy.example is for proxy.example; "
        "none for the site: what is asked and answered can be read on the way"
    )


def test_a_rest_root_does_not_show_whether_a_nonce_is_needed() -> None:
    def answer(body: str, status: int = 200) -> list[Any]:
        return [(status, [], body.encode(), "eof")]

    contact, endpoint = Contact(host="site.example", port=443), Endpoint.parse(SITE)
    session = heard(Flow(endpoint, None), answer('{"code":"rest_no_route"}', 404), contact)
    index = heard(Visit(SITE), answer(INDEX), contact)
    found = diagnose(Facts(url=f"{SITE}/wp-json", endpoint=endpoint, index=index, session=session))
    [said] = [finding.text for finding in found if finding.check == "session"]
    assert said == "none to start: no nonce is needed before 2.0.0, and later only a page gives it"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (INDEX, json.loads(INDEX)),
        (f"<br />\n<b>Warning</b>: x<br />\n{INDEX}<!-- cached -->", json.loads(INDEX)),
        (f"Notice: in {{closure}}\n{INDEX}", json.loads(INDEX)),
        ("", None),
        ("<html>", None),
        ("[]", None),
        ('{"namespaces":1}', None),
        ("[" * 100_000, None),
        ('{"a":' * 100_000, None),
        ('{"namespaces":[' + "9" * 10_000, None),
    ],
)
def test_an_index_is_read_after_php_notices(body: str, expected: Any) -> None:
    answer = Answer(url=f"{SITE}/wp-json/", status=200, body=body.encode())
    assert read_index(Exchange(outcome=End(None), answers=(answer,))) == expected


HOSTILE = ["<!-- WP Rocket ", "<!--", "wp-", "/wp-content", "just a moment ", "{", '{"a":', "<", "https://api.w.org/"]


@pytest.mark.parametrize("part", HOSTILE)
def test_a_hostile_page_is_judged_like_any_other(part: str) -> None:
    size = Limits().page_bytes
    body = (part * (size // len(part))).encode()
    visit = heard(Visit(PAGE), [(200, [], body, "eof")], Contact(host="site.example", port=443))
    found = diagnose(Facts(url=PAGE, endpoint=Endpoint.parse(SITE), page=visit, index=visit))
    assert [finding.check for finding in found if finding.is_problem] in (["wordpress"], ["firewall"], ["rest"])


PARTS = {
    "contact": at("contact", page("3.6.2")),
    "": at("", index("3.6.2")),
    "start_session": at("start_session", session("3.6.2")),
    f"?{FRESH}": at(f"?{FRESH}", check("3.6.2")),
}


@pytest.mark.parametrize("route", PARTS)
@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_at_every_request_gives_a_report(name: str, route: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "token_hex", lambda _: "1")
    fault = FAULTS[name]
    if isinstance(fault[0], Expect | Accept):
        fault = fault[1:]
    before: Script = ()
    for other, part in PARTS.items():
        if other == route:
            break
        before += part
    with FaultServer((*before, Expect(route), *fault)) as server:
        result = opchat("doctor", f"{server.url}/contact", "--json", "--timeout", "0.2")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert lines
    assert (result.returncode != 0) == any(line["blocks"] for line in lines)
    assert server.questions == ()


def test_an_answer_shows_that_the_nonce_is_accepted() -> None:
    with serve(small_talk) as server:
        shown = opchat("doctor", "--ask", f"{server.url}/").stdout
    assert "ok       session: none to start: the page gives the nonce\nok       nonce: it is accepted\n" in shown


@pytest.mark.parametrize(
    ("arguments", "waited"), [((), "0.5"), (("--timeout", "0.6"), "0.6"), (("--timeout-first-event", "0.7"), "0.7")]
)
def test_a_page_is_not_waited_for_as_long_as_the_answer_to_a_question(
    arguments: tuple[str, ...], waited: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_examination, "_PAGE_WITHIN", 0.5)
    with FaultServer((Accept(), Stall())) as server:
        result = opchat("doctor", f"{server.url}/contact", *arguments)
    assert f"problem  page: timed out: no whole answer within {waited} s" in result.stdout
    assert result.returncode == 6
