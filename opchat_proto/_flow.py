"""The inner ring: start_session, submit, and one repetition after a stale nonce. HTTP as values."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, final

from ._askable import SESSION_ROUTE, START_SESSION, Askable, Draft
from ._events import CLOSED, Broken, End, Event, Live, Reason, check_failure
from ._flow_table import TABLE, Awaiting, Input, State
from ._http import Endpoint, Headers, Request, check_headers, decode_head, find_link
from ._limits import Limits
from ._member import FETCH_NONCE, WHO_ASKS, NonceDecoder, explain_guest, explain_nonce, is_usable, read_member
from ._messages import SUBMIT_ROUTE
from ._reply import ReplyDecoder
from ._roots import REST_LINK, explain_missing, explain_start, other_root
from ._session import Session, adopt_headers, adopt_token, check_login, hide_login, is_token, open_session, signs_in

if TYPE_CHECKING:
    from ._visit import Visit

__all__ = ["Flow"]

_STALE = {(401, "rest_forbidden"), (403, "rest_forbidden"), (403, "rest_cookie_invalid_nonce")}  # WIRE 3.5


class TooLarge(ValueError):
    """A question is larger than the limit, possibly only because of its session's id."""


# Looking up a global is much faster than a member of an enum.
_SESSION, _PROOF, _SUBMIT, _DONE = State.SESSION, State.PROOF, State.SUBMIT, State.DONE
_SESSION_BODY, _PROOF_BODY, _SUBMIT_BODY = State.SESSION_BODY, State.PROOF_BODY, State.SUBMIT_BODY
_USE_SESSION, _REQUEST, _HEAD, _CLOSE = Input.USE_SESSION, Input.REQUEST, Input.HEAD, Input.CLOSE
_FIRST_EVENT, _EVENT, _TRUNCATED = Awaiting.FIRST_EVENT, Awaiting.EVENT, Reason.TRUNCATED
_READY_STATES = (_SESSION, _PROOF, _SUBMIT)
_SESSION_STATES = (_SESSION, State.SESSION_HEAD, _SESSION_BODY)
_PROOF_STATES = (_PROOF, State.PROOF_HEAD, _PROOF_BODY)
_OPENING_STATES = _SESSION_STATES + _PROOF_STATES


@final
class Flow:
    """One question from the first request to the last event, over any HTTP library.

        while request := flow.next_request():
            response = library.send(request)
            flow.receive_head(response.status, response.headers)
            for piece in response:
                events = flow.receive_data(piece)
            events = flow.receive_eof()  # or receive_failure("what happened")

    Each input returns the events that it completes: in total `Live* (End | Broken)`.
    After the terminal event every input returns [].

    `endpoint` is an `Endpoint` or a text for `Endpoint.parse`. `headers` are added to
    each request or replace ours.

    `session=None` starts one first; `submit=None` does only that, and ends with
    `End(None)`. An `Upload` and the requests about discussions are sent like a submit,
    but cost no question. A `Query` needs no session but `Session.from_token`; if it names
    a bot, the list of bots is read first. If the nonce is refused, a new session is
    started and the submit repeated. Only then is a question sent twice: the first was
    refused unread.

    A member's question is never asked as a guest's. Before the first question, `GET
    users/me` must name the member, whom `session.member` then remembers. If the site
    takes the member for a guest, nothing is asked, and `Broken.detail` names possible
    causes. A member with cookies gets nonces, also after a refusal, from WordPress's
    `wp-admin/admin-ajax.php?action=rest-nonce`, or from `renewal`.

    `renewal` is an unused visit to the page with the nonce, for sites that give nonces
    only in pages (2.0.1 to 2.4.3) and for members with cookies. After a refusal it
    visits the page instead of calling start_session. The question is repeated only if
    the page has a different nonce, and a member's question only with a member's nonce.

    Raises `ValueError` for a session of another origin, headers that the caller must
    not set, a question larger than `limits.request_bytes`, a file larger than
    `limits.upload_bytes`, a session without a submit, and a used `renewal`. If only the
    id of a later session makes the question too large, the reply is `Broken(TOO_LARGE)`.
    """

    def __init__(
        self,
        endpoint: Endpoint | str,
        submit: Askable | None,
        *,
        session: Session | None = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        limits: Limits = Limits(),
        renewal: "Visit | None" = None,
    ) -> None:
        if isinstance(endpoint, str):
            endpoint = Endpoint.parse(endpoint)
        if not isinstance(endpoint, Endpoint):
            raise TypeError(f"endpoint: expected an Endpoint or a str, got {type(endpoint).__name__}")
        if submit is not None and not isinstance(submit, Askable):
            raise TypeError(f"submit: expected a Submit or another question, or None, got {type(submit).__name__}")
        if session is not None and not isinstance(session, Session):
            raise TypeError(f"session: expected a Session or None, got {type(session).__name__}")
        if renewal is not None and not hasattr(renewal, "page"):
            raise TypeError(f"renewal: expected a Visit or None, got {type(renewal).__name__}")
        if renewal is not None and not renewal.is_ready:
            raise ValueError("renewal: expected a visit that has not begun")
        self._decoder: ReplyDecoder | Visit | NonceDecoder
        self._renewal = renewal
        self.endpoint = endpoint
        """The site."""
        self._submit = submit
        self.limits = limits
        """The given limits."""
        self._headers = check_headers(headers)
        self.session: Session | None = None
        """The current session, or None. Read it after the reply, for the next question.

        A member's session has no `Session.member` until the site has named the member.
        """
        self._opening: Session  # completed by the answer to start_session
        if submit is not None and not submit._needs_session:
            session = session or Session()
        if session is None:
            self._opening = Session(origin=endpoint.origin)
            self._state, self._decoder = _SESSION, ReplyDecoder(limits)
        elif submit is None:
            raise ValueError("session: expected None, since without a submit there is nothing left to do")
        else:
            self._state = _SESSION
            self._take(self._own(session))
        self._draft: Draft | None = None  # of the next submit, once there is a session
        self._before: Askable | None = None  # a query before the submit
        if submit is not None:
            draft, most = submit._draft(session), getattr(limits, submit._limit)
            if draft.size > most:
                raise TooLarge(f"submit: expected at most {most} bytes, got {draft.size} (Limits.{submit._limit})")
            self._before = submit._before()
            self._draft = draft if self._before is None else self._before._draft(None)
        self._site_root: str | None = None  # as named in the answer to start_session
        self._has_no_route = False  # whether start_session is missing
        self._asked_nonce: str | None = None  # the nonce of the last submit
        self.refusal: Broken | None = None
        """The refusal of the nonce with which the reply ends if there is no new session."""
        self.submit_started: bool = False
        """Whether a submit was handed out, so that the server may have acted on it. Stays True; False for an upload."""
        self._event_given = False

    def __repr__(self) -> str:
        """The origin and the state."""
        return f"<Flow to {self.endpoint.origin} {self._state}>"

    @property
    def is_ready(self) -> bool:
        """Whether a request is due: at the beginning, and after an answer that is not the last."""
        return self._state in _READY_STATES

    @property
    def awaiting(self) -> Awaiting | None:
        """What the server owes; None after the terminal event.

        A transport's deadline is an instant. It is set when this changes, or when an input
        returns events.
        """
        if self._state is _SUBMIT_BODY and self._event_given:
            return _EVENT  # the answer of nearly every call
        if self._state is _DONE:
            return None
        if self._state in _OPENING_STATES:
            return Awaiting.SESSION
        return _EVENT if self._event_given else _FIRST_EVENT

    def use_session(self, session: Session | None) -> list[Event]:
        """Use this session instead of starting one: one flow can start it for several questions.

        None means that no session could be started. The reply is then the refusal of the first
        submit, or `Broken(LOST)` if nothing was asked yet. If the session's id makes the
        question larger than `limits.request_bytes`, it is `Broken(TOO_LARGE)`.

        If a member's session has no nonce, or is not proved yet, that comes first.

        Raises `LocalProtocolError` unless start_session, or another request before the
        question, is due and was not handed out, `ValueError` for a session of another origin.
        """
        if not isinstance(session, Session | None):
            raise TypeError(f"session: expected a Session or None, got {type(session).__name__}")
        if self._state is _DONE:
            return []
        TABLE.next(self._state, Input.USE_SESSION)
        if self.refusal is not None and session is not None and session.nonce is None:
            session = None  # without a nonce the question would be refused again
        if session is not None:
            session = self._own(session)
            if self._submit is not None:
                self._take(session)
                return self._prepare(self._submit, session) if self._state is _SUBMIT else []
            self.session = self._opening = session
            return self._end(End(None))
        return self._end(self.refusal or Broken(Reason.LOST, "no session could be started", in_session=True))

    def _take(self, session: Session) -> None:
        """Continue with this session: with the question, or with the requests before it."""
        self.session = self._opening = session
        if is_usable(session) or not self._adopts:
            self._go_on(_USE_SESSION)
        elif session.authorization or session.nonce is not None:
            self._go_on(Input.UNPROVED)
        else:
            self._go_on(Input.NO_NONCE)  # without a nonce, WordPress ignores cookies
            self._decoder = self._nonce_decoder(session)

    def _nonce_decoder(self, session: Session) -> "ReplyDecoder | Visit | NonceDecoder":
        """The decoder for the answer with a nonce for this session: start_session's, WordPress's own, or a page."""
        if self._renewal is not None and self._renewal.is_ready:
            return self._renewal
        return NonceDecoder(self.limits) if signs_in(session) else ReplyDecoder(self.limits)

    def _own(self, session: Session) -> Session:
        if session.origin not in (None, self.endpoint.origin):
            raise ValueError(f"session: it belongs to {session.origin}, not to {self.endpoint.origin}")
        check_login(session, self.endpoint, self._headers)
        return session if session.origin else replace(session, origin=self.endpoint.origin)

    # ---------------------------------------------------------------- output

    def next_request(self) -> Request | None:
        """Return the request to send, once; None while its answer is awaited, and after the end."""
        request: Request | None
        state = self._state
        if state is _SESSION and self._renewal is not None and self._is_visiting:
            request = self._renewal.next_request()
        elif state is _SESSION:
            draft = FETCH_NONCE if isinstance(self._decoder, NonceDecoder) else START_SESSION
            request = draft.to_request(self.endpoint, replace(self._opening, nonce=None), self._headers)
        elif state is _PROOF:
            assert self.session is not None
            self._asked_nonce = self.session.nonce
            request = WHO_ASKS.to_request(self.endpoint, self.session, self._headers)
        elif state is _SUBMIT:
            assert self._submit is not None
            assert self.session is not None
            assert self._draft is not None
            self._asked_nonce = self.session.nonce
            used = self.session if self._submit._needs_session else Session(authorization=self.session.authorization)
            request = self._draft.to_request(self.endpoint, used, self._headers)
            self._draft = None  # it can be large, and the answer can take long
            if self._before is None:
                self.submit_started = self.submit_started or self._submit._is_question
        else:
            return None
        self._state = TABLE.next(state, _REQUEST)
        return request

    # ---------------------------------------------------------------- inputs

    def receive_head(self, status: int, headers: Headers) -> list[Event]:
        """Take the head of the response; see `ReplyDecoder.receive_head`.

        Raises `LocalProtocolError` unless a request waits for it, `TypeError`
        for wrong types.
        """
        fields = decode_head(status, headers)
        if self._state is _DONE:
            return []
        state = TABLE.next(self._state, Input.INTERIM if 100 <= status < 200 else _HEAD)
        events = self._decoder._receive_head(status, fields)
        self._state = state
        if state is _SESSION_BODY and type(self._decoder) is ReplyDecoder:
            self._site_root = find_link(fields, REST_LINK, self.endpoint.origin + self.endpoint.target(SESSION_ROUTE))
            self._opening = adopt_headers(self._opening, fields, self.endpoint, SUBMIT_ROUTE)
        elif (state is _SUBMIT_BODY and self._adopts) or state is _PROOF_BODY:
            assert self.session is not None
            self.session = adopt_headers(self.session, fields, self.endpoint, SUBMIT_ROUTE)
        return self._judge(events)

    def receive_data(self, data: bytes | bytearray | memoryview) -> list[Event]:
        """Take bytes of the response's body. No bytes are always legal.

        Raises `LocalProtocolError` unless a body is awaited, `TypeError` if not
        bytes-like.
        """
        if self._state is _SUBMIT_BODY and type(data) is bytes:
            # The shortest path, for nearly all reads of a stream.
            events = self._decoder.receive_data(data)
            if not events:
                return events
            if type(events[-1]) is Live and self._before is None:
                self._event_given = True
                return events
            return self._judge(events, Input.DATA)
        if not memoryview(data).nbytes or self._state is _DONE:
            return []
        TABLE.next(self._state, Input.DATA)
        return self._judge(self._decoder.receive_data(data), Input.DATA)

    def receive_eof(self) -> list[Event]:
        """The body has ended. Before the head: the connection was closed without an answer.

        Raises `LocalProtocolError` unless an answer is awaited.
        """
        if self._state is _DONE:
            return []
        TABLE.next(self._state, Input.EOF)
        return self._judge(self._decoder.receive_eof(), Input.EOF)

    def receive_failure(self, detail: str, reason: Reason = Reason.LOST, *, limit: str | None = None) -> list[Event]:
        """The exchange cannot go on; see `ReplyDecoder.receive_failure`. Always legal."""
        check_failure(detail, reason)
        if self._state is _DONE:
            return []
        return self._judge(self._decoder.receive_failure(detail, reason, limit=limit))

    def close(self) -> list[Event]:
        """The caller leaves. Unless the reply is over, it ends with `Broken`: TRUNCATED in the answer, LOST before."""
        if self._state is _DONE:
            return []
        reason = _TRUNCATED if self._state is _SUBMIT_BODY else Reason.LOST
        in_session = self._state in _OPENING_STATES
        self._state = TABLE.next(self._state, _CLOSE)
        return [_closed(reason, in_session=in_session, asked=self.submit_started)]

    # ---------------------------------------------------------------- judging

    def _judge(self, events: list[Event], given: Input | None = None) -> list[Event]:
        """Turn a decoder's events into the reply's. `given` is their input: DATA in a session's body, EOF in any."""
        if self._state in _SESSION_STATES:
            if events:
                return self._judge_session(events[-1], given)
            if given is Input.EOF:  # of a visit, which continues elsewhere
                self._state = TABLE.next(self._state, Input.REDIRECTED)
            return []
        if self._state in _PROOF_STATES:
            return self._judge_proof(events[-1], given) if events else []
        if not events:
            return events
        last = events[-1]
        if self._before is not None:
            return [] if isinstance(last, Live) else self._judge_before(self._before, last, given)
        self._event_given = True
        if isinstance(last, Live):
            return events
        assert self.session is not None
        assert self._submit is not None
        last = self._submit._judge(last)
        if isinstance(last, Broken):
            last = replace(last, detail=hide_login(self.session, last.detail), asked=self.submit_started)
            if self._has_no_route and (last.status, last.code) in _STALE:
                last = explain_missing(last, self.endpoint, self.session, self._site_root)
        events[-1] = last
        if isinstance(last, Broken) and given is Input.EOF and self._may_restart(last):
            return self._restart(last, self.session)
        adopts = self._adopts
        if adopts and isinstance(last, Broken):
            self.session = adopt_token(self.session, last.raw, self.limits.json_depth)
        elif adopts and isinstance(self._decoder, ReplyDecoder) and is_token(self._decoder.new_token):
            self.session = replace(self.session, nonce=self._decoder.new_token)
        self._state = TABLE.next(self._state, Input.TERMINAL)
        return events

    def _judge_before(self, before: Askable, last: End | Broken, given: Input | None) -> list[Event]:
        """Ask the question, unless the query before it rules that out."""
        judged = before._judge(last)
        if isinstance(judged, End) and given is Input.DATA:  # the rest would be taken for the next answer
            judged = last if isinstance(last, Broken) else Broken(Reason.MALFORMED, "an event stream instead of JSON")
        if isinstance(judged, Broken):
            return self._end(replace(judged, detail=hide_login(self.session, judged.detail)))
        assert self._submit is not None
        assert self.session is not None
        self._before = None
        self._go_on(Input.PASSED)
        return self._prepare(self._submit, self.session)

    @property
    def _adopts(self) -> bool:
        """Whether the answer belongs to the session, and may renew it."""
        return self._submit is not None and self._submit._needs_session

    def _restart(self, refusal: Broken, session: Session) -> list[Event]:
        """Get a new nonce for the same user in place of the refused one."""
        self.refusal = refusal
        self._event_given = False
        self.session = self._opening = session = replace(session, nonce=None)
        self._go_on(Input.UNPROVED if session.authorization else Input.STALE)
        if not session.authorization:
            self._decoder = self._nonce_decoder(session)
        return []

    def _go_on(self, given: Input) -> None:
        self._state = TABLE.next(self._state, given)
        self._decoder = ReplyDecoder(self.limits)

    def _end(self, last: End | Broken) -> list[Event]:
        self._state = TABLE.next(self._state, Input.TERMINAL)
        return [last]

    def _prepare(self, submit: Askable, session: Session) -> list[Event]:
        """Encode the question for this session, whose id may make it too large."""
        # Otherwise it is already encoded.
        if self._draft is None or session.session_id is not None or session.nonce is None:
            self._draft = None  # freed first, because it can be large
            self._draft = submit._draft(session)
        most = getattr(self.limits, submit._limit)
        if self._draft.size <= most:
            return []
        detail = f"more than {most} bytes in the question (Limits.{submit._limit})"
        return self._end(Broken(Reason.TOO_LARGE, detail, limit=submit._limit, asked=self.submit_started))

    def _may_restart(self, refusal: Broken) -> bool:
        assert self.session is not None
        is_stale = (refusal.status, refusal.code) in _STALE and self._adopts
        if not is_stale or self.refusal or not self.limits.restarts:
            return False
        if self.session.authorization:
            return not self._has_no_route
        if self._renewal is not None:
            return self._renewal.is_ready
        return signs_in(self.session) or not (self._has_no_route or self.session.is_member)

    @property
    def _is_visiting(self) -> bool:
        return self._renewal is not None and self._decoder is self._renewal

    @property
    def _is_renewing(self) -> bool:
        """Whether the nonce comes from elsewhere than start_session."""
        return self._is_visiting or isinstance(self._decoder, NonceDecoder)

    def _without_nonce(self, last: Event) -> Broken:
        """Why there is no nonce: the last event of the visit or of `NonceDecoder`."""
        if isinstance(last, Broken):
            what = "the page" if self._is_visiting else FETCH_NONCE.route
            return replace(last, detail=f"{what}: {last.detail}")
        return explain_nonce(self._renewal.urls[-1] if self._renewal is not None else FETCH_NONCE.route)

    def _renewed(self) -> Session | None:
        """The session with the new nonce from the page or WordPress, if it differs and is for the same kind of user."""
        page = None if self._renewal is None else self._renewal.page
        nonce = page and page._nonce(self.endpoint.origin, self._opening.is_member)
        if isinstance(self._decoder, NonceDecoder):
            nonce = self._decoder.nonce
        return None if nonce in (None, self._asked_nonce) else replace(self._opening, nonce=nonce)

    def _judge_proof(self, last: Event, given: Input | None) -> list[Event]:
        if isinstance(last, Live):
            return []  # not an answer of WordPress; it is judged at its end
        assert self.session is not None
        assert self._submit is not None
        session, known = self.session, self._opening.member
        member = read_member(last, self.limits.json_depth)
        if member is None:
            failure = explain_guest(last, session)
        elif known and member != known:
            failure = Broken(Reason.REFUSED, f"users/me: signed in as {member}, and no longer as {known}")
        else:
            self.session = self._opening = replace(session, member=member)
            if session.nonce is not None:
                self._go_on(Input.PROVED)
                return self._prepare(self._submit, self.session)
            self._go_on(Input.NO_NONCE)
            return []
        failure = replace(failure, detail=hide_login(session, failure.detail), in_session=True)
        if given is Input.EOF and not session.authorization and self._may_restart(failure):
            return self._restart(failure, session)
        return self._end(self.refusal or failure)

    def _judge_session(self, last: Event, given: Input | None) -> list[Event]:
        session: Session | None = None
        failure: Broken
        match last:
            case _ if self._is_renewing:
                session, failure = self._renewed(), self._without_nonce(last)
            case Live():
                return []  # not an answer to start_session; it is judged at its end
            case End():
                # An end event in a stream is not a session, even if its payload looks like one.
                session = None if given is Input.DATA else open_session(self._opening, last.payload())
                failure = Broken(Reason.MALFORMED, "start_session: no nonce and session id that could be sent back")
            case _:
                if given is Input.EOF and (last.status, last.code) == (404, "rest_no_route"):
                    # A plugin older than 2.4.4, or one that does not know this root (WIRE 2.5).
                    self._has_no_route = True
                    session = replace(self._opening, nonce=None)
                failure = explain_start(last, self.endpoint, self._opening, self._site_root)
        failure = replace(failure, detail=failure.detail + other_root(self.endpoint, self._site_root), in_session=True)
        if self.refusal is not None and (session is None or session.nonce is None):
            failure, session = self.refusal, None
            if self._has_no_route and self._asked_nonce is None and not self._is_renewing:
                failure = explain_missing(failure, self.endpoint, self.session, self._site_root)
        if session is not None:
            self.session = session
            if self._submit is not None and self._is_renewing and signs_in(session):
                self._go_on(Input.UNPROVED)
                return []
            if self._submit is not None:
                self._go_on(Input.OPENED)
                return self._prepare(self._submit, session)
        return self._end(failure if session is None else End(None))


@cache  # making one takes long, and there are few
def _closed(reason: Reason, *, in_session: bool, asked: bool) -> Broken:
    return Broken(reason, CLOSED, in_session=in_session, asked=asked)
