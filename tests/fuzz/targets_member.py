"""Any cookies of a browser, and any responses to a member who needs a nonce and a proof."""

import json
import re
from typing import Any

from opchat_proto import Broken, Flow, Session
from opchat_proto._cookies import domain_matches  # decides independently what a browser would send
from tests.fuzz.drawing import ENDPOINTS, NOW, QUESTION
from tests.fuzz.oracles import Again, Choices, Cut, check_all_ways

_PAIR = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+=(?:[!-:<-~](?:[ -:<-~]*[!-:<-~])?)?")


def member(data: bytes) -> None:
    """Cookies are sent only where they belong, and a question only with a nonce and after the proof."""
    choices = Choices(data)
    text, nonce, user = [*choices.strings, b"", b""][:3]
    _cookies(text.decode("utf-8", "replace"), choices)

    def run(cut: Cut, again: Again) -> tuple[Any, ...]:
        flow = Flow(ENDPOINTS[0], QUESTION, session=Session(cookie="wordpress_logged_in_1=x"))
        events, targets = [], []
        for body in (nonce, user):
            request = flow.next_request()
            if request is None:
                break
            targets.append(request.target)
            events += flow.receive_head(200, [])
            for piece in cut(body):
                flow = again(flow)
                if flow.awaiting is not None and not flow.is_ready:
                    events += flow.receive_data(piece)
            if flow.awaiting is not None and not flow.is_ready:
                events += flow.receive_eof()
        request = flow.next_request()
        is_asked = request is not None and request.target.endswith("/submit")
        assert is_asked == flow.submit_started
        if is_asked:
            assert events == []
            assert re.search(rb"[0-9a-f]{10}\s*\Z", nonce)
            assert b'"id"' in user or b"\\u" in user
            assert flow.session is not None
            assert flow.session.member
        else:
            (event,) = events
            assert isinstance(event, Broken)
            assert event.in_session
            found = re.search(rb"[0-9a-f]{10}", nonce)
            assert found is None or found[0] in user or found[0].decode() not in str(event)
        return targets, events, flow.session

    check_all_ways(choices, run)


def _cookies(text: str, choices: Choices) -> None:
    endpoint = choices.one_of(ENDPOINTS)
    try:
        session = Session.from_cookies(text, endpoint, now=NOW)
    except ValueError as error:
        if not str(error).startswith("cookies: "):
            raise
        return
    pairs = session.cookie.split("; ")
    assert all(map(_PAIR.fullmatch, pairs))
    assert Session.from_cookies(session.cookie, endpoint, now=NOW) == session
    if "\t" not in text:
        return
    for pair in pairs:
        name, _, value = pair.partition("=")
        rows = [line.removeprefix("#HttpOnly_").split("\t") for line in re.split(r"\r?\n", text.removeprefix("\ufeff"))]
        assert any(
            [*row, ""][5:7] == [name, value]
            and domain_matches(endpoint.host.removesuffix("."), row[0].removeprefix(".").lower())
            and (not row[4] or float(row[4]) == 0 or float(row[4]) > NOW)
            and (endpoint.scheme == "https" or row[3].upper() != "TRUE")
            for row in rows
            if len(row) in (6, 7)
        ), json.dumps(pair)
