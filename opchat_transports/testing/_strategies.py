"""Scripts for property tests."""

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ._faults import FAULTS
from ._scripts import Close, Delay, Expect, Repeat, Reset, Script, Stall, Step, Write, json_object

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = ["scripts"]

_SESSION = json_object(success=True, sessionId="s1", restNonce="n1", keep_alive=True)
_REFUSALS = (
    json_object(status=401, code="rest_forbidden"),
    json_object(status=403, code="rest_cookie_invalid_nonce"),
    json_object(status=404, code="rest_no_route"),
    json_object(status=503, headers=[("Retry-After", "7")]),
)


def scripts() -> "SearchStrategy[Script]":
    """Scripts for one connection of `FaultServer` or `MemoryServer`. Needs the extra `fuzz`.

    A good answer, a faulty one, or one of `FAULTS`; late, in pieces, cut, reset or
    stalled at any byte; after the submit or after start_session. Never an endless
    one. With `FaultServer`, whose time is real, leave out those that stall:
    `scripts().filter(lambda script: Stall() not in script)`.
    """
    # Imported here: the rest of this package does not need Hypothesis.
    from hypothesis import strategies as st

    from opchat_proto.strategies import faulty_bodies, responses

    finite = [it for it in FAULTS.values() if not any(isinstance(step, Repeat) and step.times is None for step in it)]
    close = faulty_bodies().map(lambda body: b"HTTP/1.1 200 OK\r\n\r\n" + body.data)
    answers = responses().map(lambda response: response.data) | close | st.sampled_from(_REFUSALS)

    @st.composite
    def written(draw: Any) -> Script:
        answer = draw(answers)
        end = draw(st.just(len(answer)) | st.integers(0, len(answer)))
        steps: list[Step] = []
        if draw(st.booleans()):
            steps += [Expect("start_session"), Write(draw(st.just(_SESSION) | answers)), Expect()]
        places = sorted(draw(st.lists(st.integers(0, end), max_size=8)))
        for start, stop in pairwise((0, *places, end)):
            steps.append(Write(answer[start:stop], draw(st.none() | st.integers(1, 64))))
            steps += [Delay(0.001)] * draw(st.integers(0, 1))
        return (*steps, draw(st.sampled_from([Close(), Reset(), Stall()])))

    return st.sampled_from(finite) | written()
