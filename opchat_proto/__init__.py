"""The chat protocol of WordPress's AI Engine plugin, without I/O.

    bytes <-> [ Client:  Connect, StartTLS, Send, Receive | proxy | HTTP/1.1 on h11 ]    sockets, trio, your own loop
                    |  Request ^   v head, body, eof, failure
              [ Flow:   start_session -> submit -> (stale nonce? again, once) -> ReplyDecoder -> SSEDecoder ]
    HTTP  <->       |  Request ^   v head, body, eof, failure                          httpx, fetch, any HTTP library
              list[Live | End | Broken]

Any bytes, cut anywhere, then the end: `Live* (End | Broken)`, exactly one
terminal event, always the same for the same bytes.
"""

from ._client import Client
from ._conversation import Conversation
from ._errors import InvalidMessages, LocalProtocolError
from ._events import Broken, End, Event, Live, Reason
from ._flow import Awaiting, Flow
from ._http import Endpoint, Headers, Request
from ._limits import Limits
from ._messages import Message, Scalar, Submit
from ._reply import ReplyDecoder
from ._server import Answer, Server
from ._session import Session
from ._site import Question, Response, Site
from ._sse import ServerSentEvent, SSEDecoder
from ._steps import Connect, Done, Receive, Send, StartTLS
from ._tunnel import Proxy
from ._version import __version__

__all__ = [
    "Answer",
    "Awaiting",
    "Broken",
    "Client",
    "Connect",
    "Conversation",
    "Done",
    "End",
    "Endpoint",
    "Event",
    "Flow",
    "Headers",
    "InvalidMessages",
    "Limits",
    "Live",
    "LocalProtocolError",
    "Message",
    "Proxy",
    "Question",
    "Reason",
    "Receive",
    "ReplyDecoder",
    "Request",
    "Response",
    "SSEDecoder",
    "Scalar",
    "Send",
    "Server",
    "ServerSentEvent",
    "Session",
    "Site",
    "StartTLS",
    "Submit",
    "__version__",
]
