"""Hypothesis strategies for this protocol: values, bodies with their events, and ways to cut bytes.

    from opchat_proto import strategies

    @given(st.data(), strategies.responses())
    def test_my_wrapper(data, response):
        assert my_wrapper(data.draw(strategies.cuts(response.data))) == response.events

Needs the extra `fuzz`. With the distribution installed, Hypothesis imports this
package by itself, so that `st.from_type(Live)` works without an import.

    _values.py   texts, questions, sessions, sites, limits, events; cuts of bytes
    _bodies.py   complete and faulty bodies, and HTTP responses around them
    _pages.py    pages of sites, with their bots
    _rules.py    client_rules and call_rules: any calls in any order
"""

try:
    from hypothesis import strategies as st
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError(f'{_error}: pip install "opchat[fuzz]"', name=_error.name) from None

from .._discussions import Discussion
from .._events import Broken, End, Live
from .._http import Endpoint, Request
from .._limits import Limits
from .._messages import Message, Submit
from .._query import Query
from .._session import Session
from .._sse import ServerSentEvent
from .._upload import Upload
from ._bodies import Body, FaultyBody, HTTPResponse, bodies, faulty_bodies, responses
from ._pages import HTMLPage, pages
from ._rules import call_rules, client_rules
from ._values import (
    brokens,
    cuts,
    discussions,
    endpoints,
    ends,
    events,
    limits,
    lives,
    messages,
    queries,
    replies,
    requests,
    server_sent_events,
    sessions,
    submits,
    texts,
    uploads,
)

__all__ = [
    "Body",
    "FaultyBody",
    "HTMLPage",
    "HTTPResponse",
    "bodies",
    "call_rules",
    "client_rules",
    "cuts",
    "discussions",
    "endpoints",
    "events",
    "faulty_bodies",
    "limits",
    "messages",
    "pages",
    "queries",
    "replies",
    "responses",
    "sessions",
    "submits",
    "texts",
    "uploads",
]

for _name in __all__:  # as in opchat_proto
    if isinstance(_public := globals()[_name], type) and _public.__module__.startswith(f"{__name__}."):
        _public.__module__ = __name__

# If both are installed, Hypothesis loads this package at the end of its own import ("Integration via entry points").
# So nothing is drawn or evaluated here. The entry point names the package and not a function: if this package is
# imported first and imports Hypothesis, the function would not exist yet.
st.register_type_strategy(Message, lambda _: messages())
st.register_type_strategy(Submit, lambda _: submits())
st.register_type_strategy(Query, lambda _: queries())
st.register_type_strategy(Upload, lambda _: uploads())
st.register_type_strategy(Discussion, lambda _: discussions())
st.register_type_strategy(Session, lambda _: sessions())
st.register_type_strategy(Endpoint, lambda _: endpoints())
st.register_type_strategy(Limits, lambda _: limits())
st.register_type_strategy(Live, lambda _: lives())
st.register_type_strategy(End, lambda _: ends())
st.register_type_strategy(Broken, lambda _: brokens())
st.register_type_strategy(ServerSentEvent, lambda _: server_sent_events())
st.register_type_strategy(Request, lambda _: requests())
