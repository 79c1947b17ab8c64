"""The values of this protocol, and ways to cut bytes."""

import json
from functools import cache
from itertools import pairwise
from typing import Any, TypeAlias

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from .._askable import SESSION_ROUTE
from .._discussions import Discussion
from .._events import Broken, End, Event, Live, Reason
from .._http import Endpoint, Request
from .._limits import Limits
from .._messages import ROLES, SUBMIT_ROUTE, Message, Scalar, Submit
from .._query import Query
from .._session import SESSION_COOKIE, Session
from .._sse import ServerSentEvent
from .._upload import Upload

__all__ = [
    "cuts",
    "discussions",
    "endpoints",
    "events",
    "limits",
    "messages",
    "queries",
    "replies",
    "sessions",
    "submits",
    "texts",
]

Payload: TypeAlias = dict[str, Any]

# Making a strategy takes longer than drawing from it, so strategies used inside draws are cached.

# Texts that have broken splitters, parsers or escaping: line ends that an event stream does not have, byte order marks,
# markup, and texts that resemble the protocol itself.
_AWKWARD = (
    *("\n", "\r", "\r\n", "  \n", "\0", "\x0b", "\x1c", "\x7f", "\x85", "\u2028", "\ufeff", "\ufffd"),
    *("é", "🚉", "/", '"', "\\", "\\n", "\\ud83d", "&lt;", "<b>", "data: ", "data: {}\n\n", ": ", "{", "[DONE]", "0"),
)


def texts() -> SearchStrategy[str]:
    """Any text, with awkward pieces. No lone surrogates: it always encodes to UTF-8."""
    return st.lists(st.text(max_size=20) | st.sampled_from(_AWKWARD), max_size=4).map("".join)


def messages() -> SearchStrategy[Message]:
    """A turn of a conversation. Never a role other than "user", "assistant" and "system"."""
    return st.builds(Message, st.sampled_from(ROLES), texts())


def submits() -> SearchStrategy[Submit]:
    """A question with any of its parts. Never one that a server refuses unread: a blank one, or one without a bot."""
    return st.builds(
        Submit,
        new_message=st.builds("{}{}{}".format, texts(), st.sampled_from("?é🚉"), texts()),
        messages=st.lists(messages(), max_size=4).map(tuple),
        chat_id=maybe(texts()),
        bot_id=st.just("default") | _scalars(),
        custom_id=maybe(_scalars()),
        context_id=maybe(_scalars()),
        file_ids=st.lists(texts(), max_size=3).map(tuple),
        stream=st.booleans(),
        shortcut_id=maybe(texts()),
        shortcut_name=maybe(texts()),
        previous_response_id=maybe(texts()),
    )


def uploads() -> SearchStrategy[Upload]:
    """A small file for a bot, with content that may look like the lines of a form."""
    parts = st.sampled_from([b"\r\n", b"--", b"--edge", b"\r", b"Content-Type: a/b\r\n\r\n", b"\0", b"\xff"])
    data = st.lists(parts | st.binary(max_size=20), max_size=8).map(b"".join)
    names = texts().map(lambda text: text.replace("\0", "")).map("{}.png".format)
    boundaries = st.text("0123456789abcdef", min_size=32, max_size=32).map("opchat-{}".format)
    return st.builds(Upload, name=names, data=data, content_type=st.just("image/png"), boundary=boundaries)


def queries() -> SearchStrategy[Query]:
    """A question through the official API. Never a blank one."""
    return st.builds(Query, texts().filter(str.strip), maybe(_scalars()), maybe(texts().filter(bool)))


def discussions() -> SearchStrategy[Discussion]:
    """A member's discussion, as a site may list it. Never one with a response id that a conversation would drop."""
    return st.builds(
        Discussion,
        texts().filter(bool),
        maybe(texts()),
        maybe(texts()),
        st.lists(messages(), max_size=4).map(tuple),
        maybe(texts().filter(bool)),
        st.sampled_from(["", "2026-11-28 14:03:36"]),
        st.sampled_from(["", "2026-11-28 14:05:00"]),
    )


def sessions() -> SearchStrategy[Session]:
    """A guest's or a member's session, with or without each of its parts. Never one that is already bound to a site.

    Never one with an application password either, which is sent only to a site with https.
    """
    guest = st.builds(f"{SESSION_COOKIE}={{}}".format, tokens())
    member = st.builds("wordpress_logged_in_0={}".format, tokens())
    of_member = member | st.builds("{}; {}".format, member, guest)
    names = st.sampled_from([None, "", "alice"])
    return st.builds(Session, maybe(tokens()), maybe(tokens()), st.just("") | guest) | st.builds(
        Session, maybe(tokens()), maybe(tokens()), of_member, member=names
    )


def endpoints() -> SearchStrategy[Endpoint]:
    """A site over http or https, at any path, with any kind of permalinks. Never a renamed "wp-json"."""
    return st.builds(
        "{}://{}{}{}{}".format,
        st.sampled_from(["http", "https"]),
        st.sampled_from(["site.example", "xn--bcher-kva.example", "127.0.0.1", "[::1]"]),
        st.just("") | st.integers(1, 65535).map(":{}".format),
        st.sampled_from(["", "/blog", "/a/b"]),
        st.sampled_from(["", "/wp-json", "/index.php/wp-json", "/index.php?rest_route="]),
    ).map(Endpoint.parse)


def limits() -> SearchStrategy[Limits]:
    """Limits, each at its default or so small that a short answer exceeds it. Never a small `request_bytes`."""
    small = st.integers(1, 300)
    return st.fixed_dictionaries(
        {},
        optional={
            "head_bytes": small,
            "headers": st.integers(1, 8),
            "interim_responses": st.integers(0, 3),
            "event_bytes": small,
            "reply_bytes": small,
            "refusal_bytes": small,
            "page_bytes": small,
            "json_depth": st.integers(1, 4),
            "restarts": st.integers(0, 1),
        },
    ).map(lambda values: Limits(**values))


def events() -> SearchStrategy[Event]:
    """One event of a reply. Never an `End` whose `raw` is not a payload."""
    return lives() | terminals()


def replies() -> SearchStrategy[list[Event]]:
    """A complete reply: any number of `Live`, then exactly one `End` or `Broken`."""
    pieces: SearchStrategy[list[Event]] = st.lists(lives(), max_size=5)
    return st.builds(lambda before, last: [*before, last], pieces, terminals())


def maybe(strategy: SearchStrategy[Any]) -> SearchStrategy[Any]:
    return st.none() | strategy


@cache
def tokens() -> SearchStrategy[str]:
    """A nonce or a session id that `Session` accepts."""
    return st.text([chr(code) for code in range(0x21, 0x7F) if chr(code) not in ",;"], min_size=1, max_size=13)


def _scalars() -> SearchStrategy[Scalar]:
    return st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts().filter(bool)


SUBTYPES = ("status", "thinking", "tool_call", "mcp_tool_result", "embeddings", "debug", "start", "end", "error")


@cache
def lives() -> SearchStrategy[Live]:
    return (
        st.builds(Live, texts())
        | st.builds(Live, texts(), st.sampled_from(SUBTYPES))
        | st.just(Live("", "unreadable"))
        | texts().map(lambda text: Live(text, "unknown", json.dumps({"type": "ping", "data": text})))
    )


@cache
def terminals() -> SearchStrategy[End | Broken]:
    # Not `st.from_type`: users may have registered another strategy for `End`.
    return ends() | brokens()


@cache
def ends() -> SearchStrategy[End]:
    return st.builds(End, maybe(texts())) | payloads().map(lambda payload: end(payload, json.dumps(payload)))


@cache
def brokens() -> SearchStrategy[Broken]:
    circumstances: dict[str, SearchStrategy[Any]] = {
        "limit": st.sampled_from([None, "idle", "event_bytes"]),
        "in_session": st.booleans(),
        "asked": st.booleans(),
    }
    return st.builds(Broken, st.sampled_from(Reason), texts(), **circumstances) | st.builds(
        Broken,
        st.just(Reason.REFUSED),
        texts(),
        status=st.sampled_from([301, 401, 403, 404, 429, 500, 503]),
        code=maybe(st.sampled_from(["rest_forbidden", "rest_cookie_invalid_nonce", "wp_die"])),
        retry_after=maybe(st.integers(0, 10**9 - 1)),
        raw=texts(),
        **circumstances,
    )


def server_sent_events() -> SearchStrategy[ServerSentEvent]:
    # A line end, or a NUL in an id, cannot be encoded.
    field = texts().map(lambda text: "".join(character for character in text if character not in "\r\n\0"))
    data = texts().map(lambda text: text.replace("\r", ""))
    retry = maybe(st.integers(0, 10**18 - 1))
    return st.builds(ServerSentEvent, field.map(lambda name: name or "message"), data, field, retry)


def requests() -> SearchStrategy[Request]:
    url = st.builds(
        lambda endpoint, route: endpoint.origin + endpoint.target(route),
        endpoints(),
        st.sampled_from([SESSION_ROUTE, SUBMIT_ROUTE]),
    )
    fields = st.tuples(st.sampled_from(["X-WP-Nonce", "Cookie", "Accept"]), tokens())
    headers = st.lists(fields, max_size=3).map(tuple)
    return st.builds(Request, st.just("POST"), url, headers, submits().map(Submit.encode))


@cache
def payloads() -> SearchStrategy[Payload]:
    """The end payload of a successful answer, in either dialect (WIRE 5.5)."""
    call = st.builds(lambda name: {"type": "function", "data": {"name": name}}, texts())
    items = st.none() | st.lists(call, max_size=2)
    return st.fixed_dictionaries(
        {
            "success": st.just(True),
            "reply": texts() | st.sampled_from([None, 7]),
            "images": st.sampled_from([None, ["/a.png"]]),
        },
        optional={
            "actions": items,
            "shortcuts": items,
            "blocks": items,
            "usage": st.sampled_from([None, {"total_tokens": 30, "price": None, "accuracy": "tokens"}]),
            "responseId": texts(),
            "new_token": tokens(),
        },
    )


def end(payload: Payload, raw: str) -> End:
    reply = payload["reply"]
    return End(reply if isinstance(reply, str) else None, raw)


def cuts(data: bytes) -> SearchStrategy[list[bytes]]:
    """The bytes in pieces, as a network may deliver them: whole, in a few, byte by byte. Some may be empty."""
    places = st.lists(st.integers(0, len(data)), max_size=8).map(sorted)
    few = places.map(lambda found: [data[start:end] for start, end in pairwise((0, *found, len(data)))])
    return few | st.just([data[place : place + 1] for place in range(len(data))])
