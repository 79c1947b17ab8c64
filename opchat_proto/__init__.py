"""The chat protocol of WordPress's AI Engine plugin, without I/O.

    time     [ Call:    waits, deadlines, the shared session, retries, leaving early        one question on a Channel ]
    bytes    [ Client:  Connect, StartTLS, Send, Receive | proxy tunnel | HTTP/1.1 on h11  one connection per request ]
    values   [ Flow:    start_session -> submit -> (stale nonce? once more) -> ReplyDecoder -> SSEDecoder             ]

Each ring is a complete machine, and each outer ring adds one thing to the ring
inside it. Drive a `Call` if you have connections and a clock, an `HTTPCall` if
you have an HTTP library, and a `Client` or a `Flow` if you bring your own time.

Any bytes, cut anywhere, then the end: `Live* (End | Broken)`, exactly one
terminal event, always the same for the same bytes.

The modules. All names are imported from here:

    time        _channel       Channel: one site, and what the questions to it share
                _call_base     the life of a question, to its last event
                _call_table    the states of a call, and its transitions
                _call          Call: a question over connections
                _http_call     HTTPCall: a question over an HTTP library
                _opening       one start_session that several calls share
                _clocks        Timeouts, and the deadline of each step
                _retries       whether and when to repeat a failed question
                _observer      tells the observer of a call each step, report and event
                _reports       a driver's reports as values
    bytes       _client        Client: a flow over HTTP/1.1, one connection for each request
                _exchange      one HTTP/1.1 request and its response, on h11
                _tunnel        Proxy: a tunnel by CONNECT or SOCKS5
                _steps         Connect, StartTLS, Send, Receive, Wait, Done: the steps for a driver
    values      _flow          Flow: start_session, submit, and one repetition after a stale nonce
                _flow_table    Awaiting; the states of a flow, and its transitions
                _askable       the interface of everything that a flow can ask
                _roots         the site's REST root, and advice where the given one seems wrong
                _member        proves that a member asks as a member: users/me, and WordPress's nonce
                _session       Session: nonce, session id and cookies
                _cookies       a browser's cookies from a file, for a site
                _reply         ReplyDecoder: judges one response, Live* (End | Broken)
                _sse           SSEDecoder: server-sent events, by the WHATWG rules
                _events        Live, End, Broken and the Reason
                _messages      Submit and Message: a question
                _query         Query: a question through the official API, as the site's owner
                _upload        Upload: a file that a question can name
                _conversation  Conversation: the memory between two questions
                _discussions   Discussion: a conversation that a site keeps for a member; list, rename, delete
                _http          Endpoint and Request: the place of a site, and a request to it
                _pages         Page: the bots that a page's HTML names
                _visit         Visit: fetches a page, with its redirects
    other side  _site          Site: requests become questions, or responses
                _question      Question, Response: events become answers
                _server        Server: one HTTP/1.1 connection of a site
                _incoming      IncomingFile: an upload that arrives
                _outgoing      OutgoingFile: an uploaded file that a client fetches
                _form          multipart/form-data, piece by piece
    all         _limits        Limits: how much a peer may make us hold or read
                _errors        exceptions for the caller's mistakes
                _json          strict JSON from hostile text
                _quote         quotes a peer without tags and secrets
                _table         one state machine as one table
                _value         equality, hash and repr of all values
                _version       the version
    testing     strategies     Hypothesis strategies, for the extra `fuzz`; not imported from here

WIRE.md describes the protocol; comments cite its sections ("WIRE 5.5").
"""

from ._call import Call
from ._channel import Channel, QuestionLike, QuestionOptions
from ._client import Client, FlowLike
from ._clocks import Timeouts
from ._conversation import Conversation
from ._discussions import DeleteDiscussions, Discussion, DiscussionPage, ListDiscussions, RenameDiscussion
from ._errors import InvalidMessages, LocalProtocolError
from ._events import Broken, End, Event, Live, Reason
from ._flow import Flow
from ._flow_table import Awaiting
from ._http import Endpoint, Headers, Request
from ._http_call import HTTPCall
from ._incoming import UPLOAD_TYPES, IncomingFile
from ._limits import Limits
from ._messages import Message, Scalar, Submit
from ._observer import Observer
from ._opening import Signal
from ._outgoing import OutgoingFile
from ._pages import Bot, Page
from ._query import Query
from ._question import Question, Response
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
from ._server import Answer, Find, Keep, Kept, SendFile, Server
from ._session import Session
from ._site import PageHandler, Site
from ._sse import ServerSentEvent, SSEDecoder
from ._steps import Connect, Done, Receive, Send, StartTLS, Wait
from ._tunnel import Proxy
from ._upload import Upload
from ._version import __version__
from ._visit import Visit

__all__ = [
    "UPLOAD_TYPES",
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
    "DeleteDiscussions",
    "Discussion",
    "DiscussionPage",
    "Done",
    "EOFReceived",
    "End",
    "Endpoint",
    "Event",
    "Find",
    "Flow",
    "FlowLike",
    "HTTPCall",
    "HeadReceived",
    "Headers",
    "IncomingFile",
    "InvalidMessages",
    "Keep",
    "Kept",
    "Limits",
    "ListDiscussions",
    "Live",
    "LocalProtocolError",
    "Message",
    "Observer",
    "OutgoingFile",
    "Page",
    "PageHandler",
    "Proxy",
    "Query",
    "Question",
    "QuestionLike",
    "QuestionOptions",
    "RandomSource",
    "Reason",
    "Receive",
    "RenameDiscussion",
    "ReplyDecoder",
    "Report",
    "Request",
    "Response",
    "SSEDecoder",
    "Scalar",
    "Send",
    "SendFile",
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
    "Upload",
    "Visit",
    "Wait",
    "__version__",
]

for _name in __all__:  # what is public shows this package in its repr and in tracebacks, not the file that it is in
    if isinstance(_public := globals()[_name], type) and _public.__module__.startswith(f"{__name__}."):
        _public.__module__ = __name__
