"""The server's rules: requests become questions or responses (WIRE 3, 4 and 6).

HTTP <-> [ Site: nonces, routes, checks  |  Question: events -> response ]
"""

import hmac
import re
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, final
from urllib.parse import parse_qsl, unquote

from ._askable import SESSION_ROUTE
from ._discussions import DISCUSSIONS_ROUTE
from ._errors import InvalidMessages
from ._events import Broken, Reason
from ._http import FOLDED_LINE, Headers, decode_headers
from ._incoming import UPLOADS, IncomingFile
from ._json import decode, encode_as_php
from ._limits import Limits
from ._messages import SUBMIT_ROUTE, Submit
from ._outgoing import OutgoingFile
from ._question import Fields, Question, Response, check_now, failure, json_response
from ._session import SESSION_COOKIE, is_token
from ._upload import UPLOAD_ROUTE
from ._value import Value

__all__ = ["PageHandler", "Site"]

_LIST_ROUTE = f"{DISCUSSIONS_ROUTE}/list"
_TICK = 12 * 60 * 60  # seconds; a nonce lives for the rest of its tick and the next (WIRE 3.2)
_ORIGIN = r"https?://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?"  # RFC 6454, 6.2
_PHP_BLANKS = " \t\n\r\0\x0b"  # what PHP's trim() removes (WIRE 4.2)
_SESSION_IN_COOKIES = rf"(?:^|;)[ \t]*{SESSION_COOKIE}=([^;]*)"
_ABSOLUTE_FORM = r"(?i)\Ahttps?://([^/?]*)"  # RFC 9112, 3.2.2
_HOST = r"[a-z0-9._-]*[a-z0-9_-]|\[[0-9a-f:.]+\]"  # without the final dot that a name may have
_FILE = rf"{UPLOADS}([A-Za-z0-9_-]{{1,64}})\.([^/.]+)"
_AUTHORITY = rf"({_HOST})\.?(?::[0-9]*)?"
_VERSION = r"1(?:\.[0-9]+)?|2|3"  # in ASGI's form; h11 accepts any version and gives two digits
_NO_NONCE = "rest_forbidden", "Sorry, you are not allowed to do that."
_REFUSALS = {
    400: "The request cannot be read.",
    408: "The request took too long.",
    413: "The body is larger than {limits.request_bytes} bytes.",
    431: "The head is larger than {limits.head_bytes} bytes.",
    501: "The transfer coding is unknown.",
    503: "Too many requests are being sent at once.",
}
PHRASES = {  # not http.HTTPStatus: it names 413 differently from Python 3.13 on
    200: "OK",
    204: "No Content",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    408: "Request Timeout",
    413: "Content Too Large",
    421: "Misdirected Request",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}


class PageHandler(Protocol):
    """A function for the paths outside a site's REST routes, such as `opchat_transports.page.chat_page`.

    It is called for every GET and HEAD of such a path. `path` has neither the
    site's root nor the query. `origin` is the scheme and name that the request
    used, or "" without a valid name; `nonce` is the guests' current one (WIRE 3.2).
    """

    def __call__(self, path: str, *, root: str, origin: str, nonce: str) -> Response | None:
        """The response, or None if there is nothing at this path. The client then gets status 404."""


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Site(Value):
    """What the connections of one site share: a secret, limits, and the rules of WIRE 3, 4.7 and 6.

    It stores nothing: nonces are computed, and session ids come from the clock.
    All processes with the same secret are the same site.

    Raises `TypeError` for a value of a wrong type, `ValueError` for an empty secret.
    """

    secret: bytes = field(repr=False)
    """The key of the nonces: 32 random bytes, the same for as long as the site exists."""
    limits: Limits = field(default_factory=Limits, kw_only=True)
    https: bool = field(default=False, kw_only=True)
    """Whether clients use https: cookies are then marked Secure."""
    origins: tuple[str, ...] = field(default=(), kw_only=True)
    """The other origins whose pages may ask, as browsers write them: `https://shop.example`.
    WordPress allows every origin, but none can read a stream (WIRE 8); these can."""

    hosts: tuple[str, ...] = field(default=(), kw_only=True)
    """The host names that requests may use, in lower case and without a port: `site.example`, `[::1]`. Any other name
    gets status 421, which protects against DNS rebinding. () allows any name."""
    page: PageHandler | None = field(default=None, kw_only=True, repr=False)
    """Answers the other paths, for example with a chat page. None answers none of them."""
    upload_types: tuple[str, ...] = field(default=(), kw_only=True)
    """The extensions of the files that may be uploaded, in lower case, such as `UPLOAD_TYPES`. With () there are no
    uploads, and no route for them."""

    def __post_init__(self) -> None:
        """Check the types."""
        if not isinstance(self.secret, bytes):
            raise TypeError(f"Site.secret: expected bytes, got {type(self.secret).__name__}")
        if not self.secret:
            raise ValueError("Site.secret: expected at least one byte, better 32 random ones")
        if not isinstance(self.limits, Limits):
            raise TypeError(f"Site.limits: expected Limits, got {type(self.limits).__name__}")
        if type(self.https) is not bool:
            raise TypeError(f"Site.https: expected a bool, got {type(self.https).__name__}")
        if not isinstance(self.origins, tuple) or not all(isinstance(origin, str) for origin in self.origins):
            raise TypeError("Site.origins: expected a tuple of str")
        if not isinstance(self.hosts, tuple) or not all(isinstance(host, str) for host in self.hosts):
            raise TypeError("Site.hosts: expected a tuple of str")
        for host in self.hosts:
            if not re.fullmatch(_HOST, host):
                raise ValueError(f"Site.hosts: expected e.g. site.example, got {host!r}")
        if not isinstance(self.upload_types, tuple) or not all(isinstance(name, str) for name in self.upload_types):
            raise TypeError("Site.upload_types: expected a tuple of str")
        if not (self.page is None or callable(self.page)):
            raise TypeError(f"Site.page: expected a callable or None, got {type(self.page).__name__}")
        for origin in self.origins:
            if not re.fullmatch(_ORIGIN, origin):
                raise ValueError(f"Site.origins: expected e.g. https://shop.example, got {origin!r}")

    def nonce(self, now: float) -> str:
        """The nonce of all guests at this time, in Unix seconds (WIRE 3.2): 10 hex digits."""
        check_now(now)
        return self._nonce(int(now) // _TICK)

    def _nonce(self, tick: int) -> str:
        return hmac.new(self.secret, f"{tick}wp_rest".encode(), "sha256").hexdigest()[:10]

    def receive_request(
        self, method: str, target: str, headers: Headers, body: bytes = b"", *, now: float, root: str = ""
    ) -> Response | Question | OutgoingFile:
        """Judge a request: return the response to send, the question to answer, or the uploaded file to send.

        `target` is the request target as it was sent; `body` has no transfer coding;
        `now` is in Unix seconds; `root` is the path of the site, such as "" or "/blog".
        The checks and their order are in WIRE 4.7, with one difference: a body is read
        as JSON only after a good nonce, and start_session's body is never read. Every
        fault of the request becomes a response.

        GET and HEAD of an uploaded file's URL ask for that file, if the site takes
        uploads. Those of any other path are answered by `page`, if the site has one.

        Raises `TypeError` for wrong types, `ValueError` if `now` is not a time.
        """
        if not all(isinstance(text, str) for text in (method, target, root)):
            raise TypeError("expected method, target and root as str")
        body = bytes(memoryview(body))
        fields = decode_headers(headers)
        fresh = self.nonce(now)
        cors = self._cors(fields)
        outcome: Response | Question | OutgoingFile
        if self.hosts and not self._is_named(target, fields):
            outcome = http_error(421, "This site is not known by that name.")
        elif len(body) > self.limits.request_bytes:
            outcome = too_large(self.limits.request_bytes)
        elif method == "OPTIONS" and len(cors) > 1 and _value(fields, "access-control-request-method") is not None:
            outcome = _PREFLIGHT
        else:
            found = self._find(method, target, fields, root, fresh)
            outcome = found or self._judge(method, target, fields, body, fresh, now)
        return replace(outcome, headers=(*outcome.headers, *cors))

    def receive_upload(
        self, method: str, target: str, headers: Headers, *, now: float, root: str = ""
    ) -> IncomingFile | None:
        """The file that this request uploads, or None for any other request, which `receive_request` judges.

        Ask before the body is read, and pass the body to the file. A request without a
        good nonce is a file too, which ends with that refusal. Raises the same exceptions
        as `receive_request`.
        """
        if not all(isinstance(text, str) for text in (method, target, root)):
            raise TypeError("expected method, target and root as str")
        fields = decode_headers(headers)
        fresh = self.nonce(now)
        if not self.upload_types or method != "POST" or _route(target) != UPLOAD_ROUTE:
            return None
        if self.hosts and not self._is_named(target, fields):
            return None
        cors = self._cors(fields)
        refusal, _, answer = self._check_nonce(fields, fresh, now)
        if refusal is None and not answer:
            refusal = _error(401, *_NO_NONCE)
        session_id, cookies = self._session(_session_cookie(fields), now)
        too_large_ = too_large(self.limits.upload_bytes)
        return IncomingFile(
            _value(fields, "content-type") or "",
            session_id,
            (*answer, *cookies, *cors),
            base=self._origin(fields) + root,
            types=self.upload_types,
            most=self.limits.upload_bytes,
            too_large=replace(too_large_, headers=(*too_large_.headers, *cors)),
            refusal=refusal and replace(refusal, headers=(*refusal.headers, *cors)),
        )

    def check_head(
        self, headers: Headers, *, version: str = "1.1", raw: bytes = b"", upload: bool = False
    ) -> Response | None:
        """The response to send instead of reading the body after this head, or None if the head is good.

        It refuses heads that a proxy and a server might read differently (RFC 9112, 5.2
        and 6.1), versions other than HTTP/1.x, 2 and 3, and heads beyond the limits. `raw`
        is the head as it was sent, for a server that parses HTTP/1.1 itself: only there
        are folded fields and the size visible. `upload` says that `receive_upload` takes
        the body. Close the connection after such a response.
        """
        fields = decode_headers(headers)
        most = self.limits.upload_bytes if upload else self.limits.request_bytes
        response = self._fault_of_head(fields, version, raw, most)
        return response and replace(response, headers=(*response.headers, *self._cors(fields)))

    def _fault_of_head(self, fields: list[tuple[str, str]], version: str, raw: bytes, most: int) -> Response | None:
        limits = self.limits
        if len(raw) > limits.head_bytes:
            return http_error(431, f"The head is larger than {limits.head_bytes} bytes.")
        if max(len(fields), raw.count(b"\n") - 2) > limits.headers:
            return http_error(431, f"There are more than {limits.headers} header fields.")
        if FOLDED_LINE.search(raw):
            return http_error(400, "A header field is folded.")
        if not re.fullmatch(_VERSION, version):  # RFC 9110, 15.6.6
            return http_error(505, "Only HTTP 1.1 is supported.")
        length = _value(fields, "content-length")
        if length is None:
            return None
        if _value(fields, "transfer-encoding") is not None:  # RFC 9112, 6.1: perhaps smuggled
            return http_error(400, "Content-Length and Transfer-Encoding are both present.")
        if not (length.isascii() and length.isdigit()):
            return http_error(400, "The Content-Length cannot be read.")
        return too_large(most) if int(length[:20]) > most else None

    def refuse(self, status: int, headers: Headers = ()) -> Response:
        """The response to send instead of reading the rest of a request.

        400: it is not HTTP. 408: it takes too long. 413: it is larger than
        `limits.request_bytes`. 431: its head is larger than `limits.head_bytes`. 501: it
        has a transfer coding other than chunked. 503: there is no room for it. `headers`
        are those of the request that have come so far. Raises `ValueError` for another
        status.
        """
        if status not in _REFUSALS:
            raise ValueError(f"status: expected one of {', '.join(map(str, _REFUSALS))}, got {status}")
        response = http_error(status, _REFUSALS[status].format(limits=self.limits))
        return replace(response, headers=(*response.headers, *self._cors(decode_headers(headers))))

    def _is_named(self, target: str, fields: list[tuple[str, str]]) -> bool:
        """Whether the Host field, and an absolute target, name this site."""
        named = re.match(_ABSOLUTE_FORM, target)
        names = [name for name in (_value(fields, "host"), named and named[1]) if name is not None]
        found = [re.fullmatch(_AUTHORITY, name.lower()) for name in names]
        return bool(found) and all(match is not None and match[1] in self.hosts for match in found)

    def _cors(self, fields: list[tuple[str, str]]) -> Fields:
        """The header fields that let a page of another origin read this answer."""
        if not self.origins:
            return ()
        origin = _value(fields, "origin")
        vary = ("Vary", "Origin")
        if origin is None or origin not in self.origins:
            return (vary,)
        allow = ("Access-Control-Allow-Origin", origin), ("Access-Control-Allow-Credentials", "true")
        return (vary, *allow, ("Access-Control-Expose-Headers", "X-WP-Nonce"))

    def _check_nonce(
        self, fields: list[tuple[str, str]], fresh: str, now: float
    ) -> tuple[Response | None, str | None, Fields]:
        """The refusal, if any; a fresh nonce for the body; and one for the head, if the request had a good one.

        WordPress checks the nonce first, on every route (WIRE 3.5), and answers a good one with a fresh one (3.4).
        """
        nonce = _value(fields, "x-wp-nonce")
        if nonce is None:
            return None, None, ()
        given = nonce.encode(errors="replace")
        answer = (("X-WP-Nonce", fresh),)
        if hmac.compare_digest(given, self._nonce(int(now) // _TICK - 1).encode()):
            return None, fresh, answer
        if hmac.compare_digest(given, fresh.encode()):
            return None, None, answer
        return _error(403, "rest_cookie_invalid_nonce", "Cookie check failed"), None, ()

    def _judge(
        self, method: str, target: str, fields: list[tuple[str, str]], body: bytes, fresh: str, now: float
    ) -> Response | Question:
        refusal, new_token, answer = self._check_nonce(fields, fresh, now)
        if refusal is not None:
            return refusal
        route = _route(target)
        if method != "POST" or route not in (SESSION_ROUTE, SUBMIT_ROUTE, _LIST_ROUTE):
            text = "No route was found matching the URL and request method."
            return _error(404, "rest_no_route", text, answer)
        # WordPress reads the JSON first (WIRE 4.7). Here a client without a nonce cannot make us parse a megabyte.
        cookie = _session_cookie(fields)
        if route == SESSION_ROUTE:
            return self._start_session(cookie, fresh, new_token, answer, now)
        if route == _LIST_ROUTE:  # the plugin's script requests them on load; guests have none (WIRE 7.7)
            return json_response(200, failure("You need to be connected.", new_token), answer)
        if not answer:
            return _error(401, *_NO_NONCE)
        try:
            values = self._decode(fields, body)
        except ValueError:
            fault = {"json_error_code": 4, "json_error_message": "Syntax error"}
            return _error(400, "rest_invalid_json", "Invalid JSON body passed.", answer, fault)
        return self._submit(values, cookie, new_token, answer, now)

    def _find(
        self, method: str, target: str, fields: list[tuple[str, str]], root: str, fresh: str
    ) -> Response | OutgoingFile | None:
        """The uploaded file or the page at this path."""
        path, _, query = target.partition("?")
        if method not in ("GET", "HEAD") or "rest_route=" in query:
            return None
        path = re.sub(_ABSOLUTE_FORM, "", path).removeprefix(root)
        file = re.fullmatch(_FILE, path)
        if file is not None and file[2] in self.upload_types:
            policy = "cross-origin" if self.origins else "same-origin"  # the pages of these origins may show it
            return OutgoingFile(file[1], file[2], (("Cross-Origin-Resource-Policy", policy),))
        return None if self.page is None else self.page(path, root=root, origin=self._origin(fields), nonce=fresh)

    def _origin(self, fields: list[tuple[str, str]]) -> str:
        """The scheme and name that the request used, or "" without a valid name."""
        origin = f"{'https' if self.https else 'http'}://{(_value(fields, 'host') or '').lower()}"
        return origin if re.fullmatch(_ORIGIN, origin) else ""

    def _decode(self, fields: list[tuple[str, str]], body: bytes) -> dict[str, Any]:
        # WIRE 4.1: a body that is not declared as JSON is ignored. JSON that is not an object has no fields either.
        declared = (_value(fields, "content-type") or "").partition(";")[0].strip().lower()
        if declared != "application/json" or not body:
            return {}
        values = decode(body.decode(), self.limits.json_depth)
        return values if isinstance(values, dict) else {}

    def _start_session(
        self, cookie: str | None, fresh: str, new_token: str | None, answer: Fields, now: float
    ) -> Response:
        session_id, cookies = self._session(cookie, now)
        payload = {"success": True, "sessionId": session_id, "restNonce": fresh}
        if new_token is not None:
            payload["new_token"] = new_token
        return json_response(200, encode_as_php(payload).encode(), (*answer, *cookies))

    def _submit(
        self, values: dict[str, Any], cookie: str | None, new_token: str | None, answer: Fields, now: float
    ) -> Response | Question:
        try:
            given = _given_session(values)
            submit = Submit.from_dict({**values, "messages": None})  # the plugin reads the history after these checks
        except InvalidMessages as error:
            return _fatal(str(error), answer)
        blank = not submit.new_message.strip(_PHP_BLANKS)
        if blank and submit.shortcut_id:  # this site has no shortcuts, so it is not valid
            return json_response(400, failure("Invalid or expired shortcut.", new_token), answer)
        unnamed = submit.bot_id in (None, "") and submit.custom_id in (None, "")
        if unnamed or (blank and not any(submit.file_ids)):
            return json_response(403, failure("Sorry, your query has been rejected.", new_token), answer)
        session_id, cookies = self._session(cookie, now, given)
        question = Question(submit, session_id, new_token, (*answer, *cookies))
        try:
            return replace(question, submit=Submit.from_dict(values))
        except InvalidMessages as error:
            if error.index is None:
                return _fatal(str(error), answer)
            # The first fault that is reported in a stream (WIRE 4.2, 4.7).
            unsupported = question.response(Broken(Reason.REMOTE, "Unsupported message type."))
            assert unsupported is not None  # a Broken always gives bytes
            return unsupported

    def _session(self, cookie: str | None, now: float, given: str | None = None) -> tuple[str, Fields]:
        """The client's session id, and the cookie for a client that has none."""
        session_id = given or cookie or _uniqid(now)
        secure = "secure; " if self.https else ""
        set_cookie = ("Set-Cookie", f"{SESSION_COOKIE}={session_id}; path=/; {secure}HttpOnly")
        return session_id, () if cookie else (set_cookie,)


def _uniqid(now: float) -> str:
    """PHP's uniqid(): eight hex digits of seconds, five of microseconds (WIRE 3.1)."""
    return f"{int(now):08x}{int(now % 1 * 1_000_000):05x}"


def _value(fields: list[tuple[str, str]], name: str, separator: str = ", ") -> str | None:
    """A header field's value. Several are joined as in RFC 9110, 5.3."""
    values = [value for found, value in fields if found == name]
    return separator.join(values) if values else None


def _session_cookie(fields: list[tuple[str, str]]) -> str | None:
    match = re.search(_SESSION_IN_COOKIES, _value(fields, "cookie", "; ") or "")
    value = match[1].strip() if match else None
    return value if is_token(value) else None


def _given_session(values: dict[str, Any]) -> str | None:
    """The session id in the body, or None if it is missing, unusable or "N/A" (WIRE 1.4)."""
    session = values.get("session")
    if isinstance(session, list | dict):
        raise InvalidMessages("session: expected a string, a number or null")
    text = str(session) if type(session) in (str, int, float) else ""
    return text if text != "N/A" and is_token(text) else None


def _route(target: str) -> str:
    """The REST route of a request target in any form of WIRE 2.1, or ""."""
    path, _, query = re.sub(_ABSOLUTE_FORM, "", target).partition("?")
    route = dict(parse_qsl(query)).get("rest_route")
    if route is None:
        _, found, after = unquote(path).rpartition("/wp-json")
        route = after if found else ""
    return route.rstrip("/")


def _error(status: int, code: str, message: str, headers: Fields = (), data: dict[str, Any] | None = None) -> Response:
    """WordPress's form of a refusal (WIRE 6.3)."""
    value = {"code": code, "message": message, "data": {"status": status, **(data or {})}}
    return json_response(status, encode_as_php(value).encode(), headers)


def _fatal(detail: str, headers: Fields) -> Response:
    """PHP's response to a field of a wrong type (WIRE 4.2, 6.4)."""
    value = {
        "code": "internal_server_error",
        "message": "<p>There has been a critical error on this website.</p>",
        "data": {"status": 500, "error": {"message": detail}},
        "additional_errors": [],
    }
    return json_response(500, encode_as_php(value).encode(), headers)


def http_error(status: int, message: str) -> Response:
    """The refusal of a request that would never reach WordPress, in WordPress's form."""
    return _error(status, PHRASES[status].lower().replace(" ", "_"), message)


def too_large(most: int) -> Response:
    return http_error(413, f"The body is larger than {most} bytes.")


_PREFLIGHT = Response(
    204,
    (
        ("Access-Control-Allow-Methods", "POST"),
        ("Access-Control-Allow-Headers", "Content-Type, X-WP-Nonce"),
        ("Access-Control-Max-Age", "600"),
    ),
)
