"""The chat protocol of WordPress's AI Engine plugin, without I/O.

    time     [ Call:    waits, deadlines, the shared session, retries, leaving early        one question on a Channel ]
    bytes    [ Client:  Connect, StartTLS, Send, Receive | proxy tunnel | HTTP/1.1 on h11  one connection per request ]
    values   [ Flow:    start_session -> submit -> (stale nonce? once more) -> ReplyDecoder -> SSEDecoder             ]

Each ring is a complete machine, and each outer ring adds one thing to the ring
inside it. Drive a `Call` if you have connections and a clock, an `HTTPCall` if
you have an HTTP library, and a `Client` or a `Flow` if you bring your own time.

Any bytes, cut anywhere, then the end: `Live* (End | Broken)`, exactly one
terminal event, always the same for the same bytes.
"""

from ._call import Call
from ._channel import Channel, QuestionLike
from ._client import Client
from ._clocks import Timeouts
from ._conversation import Conversation
from ._errors import InvalidMessages, LocalProtocolError
from ._events import Broken, End, Event, Live, Reason
from ._flow import Awaiting, Flow, FlowLike
from ._http import Endpoint, Headers, Request
from ._http_call import HTTPCall
from ._limits import Limits
from ._messages import Message, Scalar, Submit
from ._observer import Observer
from ._opening import Signal
from ._pages import Bot, Page
from ._reply import ReplyDecoder
from ._reports import (
    Closed,
    DataReceived,
    EOFReceived,
    HeadReceived,
    Report,
    StepDone,
    StepFailed,
    TimedOut,
)
from ._retries import RandomSource
from ._server import Answer, Server
from ._session import Session
from ._site import PageHandler, Question, Response, Site
from ._sse import ServerSentEvent, SSEDecoder
from ._steps import Connect, Done, Receive, Send, StartTLS, Wait
from ._tunnel import Proxy
from ._version import __version__

__all__ = [
    "Answer",
    "Awaiting",
    "Bot",
    "Broken",
    "Call",
    "Channel",
    "Client",
    "Closed",
    "Connect",
    "Conversation",
    "DataReceived",
    "Done",
    "EOFReceived",
    "End",
    "Endpoint",
    "Event",
    "Flow",
    "FlowLike",
    "HTTPCall",
    "HeadReceived",
    "Headers",
    "InvalidMessages",
    "Limits",
    "Live",
    "LocalProtocolError",
    "Message",
    "Observer",
    "Page",
    "PageHandler",
    "Proxy",
    "Question",
    "QuestionLike",
    "RandomSource",
    "Reason",
    "Receive",
    "ReplyDecoder",
    "Report",
    "Request",
    "Response",
    "SSEDecoder",
    "Scalar",
    "Send",
    "Server",
    "ServerSentEvent",
    "Session",
    "Signal",
    "Site",
    "StartTLS",
    "StepDone",
    "StepFailed",
    "Submit",
    "TimedOut",
    "Timeouts",
    "Wait",
    "__version__",
]
