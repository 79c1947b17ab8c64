"""The I/O of `opchat doctor`: gather the facts about a site."""

import math
import re
import secrets
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, final

import click

from opchat_proto import (
    Awaiting,
    Broken,
    Channel,
    Client,
    Connect,
    DataReceived,
    Done,
    End,
    Endpoint,
    EOFReceived,
    Event,
    Flow,
    HeadReceived,
    Live,
    Proxy,
    Reason,
    Receive,
    Request,
    Send,
    Session,
    StartTLS,
    StepDone,
    StepFailed,
    Submit,
    TimedOut,
    Visit,
)

from .._common import load_trust_store, words
from .._proxies import choose_proxy
from .._sockets import Flag, SocketStream, at_once, connect, look_up, set_timeout
from .._tls import TLSStream
from ._diagnosis import diagnose
from ._login import merge
from ._options import Settings, is_rest_root
from ._site_facts import Answer, Contact, Exchange, Facts, Question, choose_bot, is_accepted
from ._terminal import Output, say
from ._trace import Trace
from ._transports import ask, trusting

__all__ = ["examine"]

_QUESTION = "Hello! Please count from one to ten."
_PAGE_WITHIN = 30.0  # seconds for a response that needs no language model, unless an option says otherwise
_CODING = "content-encoding"
_CODING_FIELD = re.compile(rb"\r\ncontent-encoding:[ \t]*([!-~]+)", re.IGNORECASE)
_NO_CHECK_OF_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL
_LATE = {  # the clock of each step, and what is missing
    Connect: ("connect", "no connection"),
    StartTLS: ("connect", "no handshake"),
    Send: ("write", "not all of it was taken"),
    Receive: ("first_event", "no whole answer"),
}


def examine(settings: Settings, url: str, *, with_question: bool) -> Facts:
    """Gather the facts about the site at this address.

    It asks a question only `with_question`, and only if an answer is possible. Every wait
    has its clock in `settings.timeouts` (by default 30 s for an answer that is not the
    question's), and every answer its limit in `settings.limits`. Raises `UsageError` for
    unusable options.
    """
    return _Examination(settings, url).run(with_question=with_question)


@final
class _Examination:
    def __init__(self, settings: Settings, url: str) -> None:
        self._settings = settings
        self._url = url
        assert settings.endpoint is not None
        self._endpoint: Endpoint = settings.endpoint
        try:
            self._proxy: Proxy | None = choose_proxy(self._endpoint, settings.proxy)
            self._origin = Visit(url, headers=settings.headers).origin
            session = merge(settings.login, self._endpoint, None)
            Channel(self._endpoint, session=session, headers=settings.headers, proxy=self._proxy)  # raises
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        is_given = settings.first_event_is_given
        self._timeouts = settings.timeouts if is_given else replace(settings.timeouts, first_event=_PAGE_WITHIN)
        self._context = None if settings.cacert is None else trusting(settings.cacert)
        self._trace = Trace(Output()) if settings.verbose else None

    def run(self, *, with_question: bool) -> Facts:
        name = self._settings.bot if self._settings.bot_is_given else None
        proxy = None if self._proxy is None else str(self._proxy)
        facts = Facts(url=self._url, endpoint=self._endpoint, bot=name, proxy=proxy)
        if not is_rest_root(self._url):
            visit = self._visit(self._url, session=merge(self._settings.login, self._endpoint, None))
            facts = replace(facts, page=visit)
            if visit.page is None:
                return facts
            bot = choose_bot(visit.page, name)
            facts = replace(facts, endpoint=(bot and bot.endpoint) or visit.page.endpoint or self._site_of(visit))
        bot = facts.chosen
        endpoint = facts.endpoint
        facts = replace(facts, index=self._visit(endpoint.origin + endpoint.target("/")))
        assert facts.index is not None
        if not facts.index.answers:
            return facts
        session = None if bot is None else bot.session
        if self._settings.login is not None:
            signed_in = self._sign_in(endpoint, merge(self._settings.login, endpoint, session))
            session = signed_in.session
            facts = replace(facts, session=signed_in, is_member=True)
        elif session is None:
            flow = Flow(endpoint, None, headers=self._headers(endpoint.origin), limits=self._settings.limits)
            started = self._run(flow)
            session = flow.session
            facts = replace(facts, session=replace(started, session=session))
        # Without a login this accepts only a guest's nonce, which shows whether the password has got one.
        if session is not None and session.nonce is not None and (session.authorization or not facts.is_member):
            index = endpoint.origin + endpoint.target("/")
            facts = replace(facts, check=self._visit(index, fresh=secrets.token_hex(8), nonce=session.nonce))
            is_stale = not is_accepted(facts.check) and not facts.is_member
            if is_stale and bot is not None and bot.nonce is not None and facts.page is not None:
                facts = replace(facts, fresh=self._visit(facts.page.last.url, fresh=secrets.token_hex(8)))
        if with_question and not any(finding.exit_code for finding in diagnose(facts)):
            say("one question is asked now, which may cost the site's owner a little")
            found = choose_bot(facts.fresh and facts.fresh.page, name) or bot
            submit = Submit(new_message=_QUESTION, bot_id=self._settings.bot, stream=True)
            given = session
            if found is not None:
                submit, given = found.submit(_QUESTION), session if facts.is_member else found.session or session
            facts = replace(facts, question=self._ask(replace(self._settings, endpoint=endpoint), submit, given))
        return facts

    def _sign_in(self, endpoint: Endpoint, session: Session | None) -> Exchange:
        """Make the requests before a member's question, and not the question."""
        headers, limits = self._headers(endpoint.origin), self._settings.limits
        flow = Flow(endpoint, Submit(new_message=_QUESTION), session=session, headers=headers, limits=limits)
        exchange = self._run(flow, is_enough=lambda: flow.awaiting is Awaiting.FIRST_EVENT)
        return replace(exchange, session=flow.session)

    def _site_of(self, visit: Exchange) -> Endpoint:
        """Where the REST API may be, if the page does not name it."""
        origin = Visit(visit.last.url).origin
        return self._endpoint if origin == self._origin else Endpoint.parse(origin)

    def _headers(self, origin: str) -> tuple[tuple[str, str], ...]:
        """The caller's header fields, sent only to the site of the address."""
        return self._settings.headers if origin == self._origin else ()

    def _visit(
        self, url: str, *, session: Session | None = None, fresh: str | None = None, nonce: str | None = None
    ) -> Exchange:
        headers = self._headers(Visit(url).origin)
        visit = Visit(url, self._settings.limits, session=session, headers=headers, fresh=fresh)
        exchange = self._run(visit, nonce)
        return replace(exchange, page=visit.page)

    def _ask(self, settings: Settings, submit: Submit, session: Any) -> Question:
        events: list[tuple[Event, int]] = []
        reads, began, waited, coding = 0, time.monotonic(), 0.0, ""

        def observe(_: object, item: object) -> None:
            nonlocal reads, began, coding
            match item:
                case Send() | Request():
                    began, coding = time.monotonic(), ""
                case HeadReceived(headers=headers):
                    coding = next((_text(value) for name, value in headers if _text(name).lower() == _CODING), "")
                case DataReceived(data):
                    reads += 1
                    if not coding and (found := _CODING_FIELD.search(data.partition(b"\r\n\r\n")[0])):
                        coding = found[1].decode("latin-1")

        def take(event: Event) -> None:
            nonlocal waited
            waited = waited or time.monotonic() - began
            events.append((event, reads))

        ask(settings, submit, session, take, observe, *([self._trace] if self._trace else []))
        outcome, last = events[-1]
        assert isinstance(outcome, End | Broken)
        pieces = [read for event, read in events if isinstance(event, Live) and event.kind == "content"]
        return Question(outcome=outcome, pieces=len(pieces), at_once=last in pieces[:1], waited=waited, coding=coding)

    # ---------------------------------------------------------------- one exchange

    def _run(
        self, machine: Visit | Flow, nonce: str | None = None, is_enough: Callable[[], bool] = lambda: False
    ) -> Exchange:
        """Drive a machine to its end, or until it is enough, over blocking sockets. Its first request has the nonce."""
        witness: Any = _Witness(machine, self._settings.limits.page_bytes, nonce)
        client = Client(witness, proxy=self._proxy)
        connection = _Connection(self._tls, self._proxy is None)
        events: list[Event] = []
        before: object = None
        until, limit = math.inf, ""
        try:
            while not is_enough() and not isinstance(step := client.next_step(), Done):
                self._tell(step)
                if type(step) is not before or not isinstance(step, Receive):
                    limit = _LATE[type(step)][0]
                    seconds = getattr(self._timeouts, limit)
                    until = math.inf if seconds is None else time.monotonic() + seconds
                before = type(step)
                try:
                    data = connection.take(step, until)
                except (OSError, ValueError) as error:  # ValueError: an impossible name for DNS or a certificate
                    if isinstance(error, TimeoutError) and error.errno is None:
                        late = f"{_LATE[type(step)][1]} within {seconds:g} s (timeout {limit!r})"
                        self._tell(TimedOut(limit))
                        events += client.step_failed(late, Reason.TIMEOUT, limit=limit)
                    else:
                        self._tell(StepFailed(words(error), Reason.LOST))
                        events += client.step_failed(words(error))
                else:
                    if not isinstance(step, Receive):
                        self._tell(StepDone())
                        client.step_done()
                    elif data:
                        self._tell(DataReceived(data))
                        events += client.receive_data(data)
                    else:
                        self._tell(EOFReceived())
                        events += client.receive_eof()
        finally:
            connection.close()
        outcome = events[-1] if events else End(None)
        assert isinstance(outcome, End | Broken)
        return Exchange(outcome=outcome, answers=witness.answers, contacts=tuple(connection.contacts))

    def _tell(self, item: object) -> None:
        if self._trace is not None:
            self._trace(SimpleNamespace(channel=SimpleNamespace(proxy=self._proxy)), item)  # type: ignore[arg-type]  # no call

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            try:
                self._context = load_trust_store()
            except OSError as error:  # from a file that the TLS library is configured to use
                raise click.UsageError(f"{error.filename}: {error.strerror}") from None
        return self._context


@final
class _Witness:
    """A machine, and what it received."""

    def __init__(self, machine: Visit | Flow, most: int, nonce: str | None) -> None:
        self._machine = machine
        self._nonce = nonce  # for the next request; none follows a redirect
        self._most = most  # bytes of a body that are kept
        self._url = ""
        self._answers: list[Answer] = []
        self._bodies: list[bytearray] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._machine, name)

    @property
    def answers(self) -> tuple[Answer, ...]:
        return tuple(
            replace(answer, body=bytes(body)) for answer, body in zip(self._answers, self._bodies, strict=True)
        )

    def next_request(self) -> Request | None:
        request = self._machine.next_request()
        if request is not None:
            self._url = request.url
            if self._nonce is not None:
                request = replace(request, headers=(*request.headers, ("X-WP-Nonce", self._nonce)))
                self._nonce = None
        return request

    def receive_head(self, status: int, headers: Any) -> list[Event]:
        if not 100 <= status < 200:
            fields = tuple((_text(name).lower(), _text(value)) for name, value in headers)
            self._answers.append(Answer(url=self._url, status=status, headers=fields, at=time.time()))
            self._bodies.append(bytearray())
        return self._machine.receive_head(status, headers)

    def receive_data(self, data: bytes) -> list[Event]:
        body = self._bodies[-1]
        body += data[: self._most - len(body)]
        return self._machine.receive_data(data)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else bytes(value).decode("latin-1")


# ---------------------------------------------------------------- one connection


@final
class _Connection:
    """The current connection, and the outcome of all connections."""

    def __init__(self, context: Callable[[], ssl.SSLContext], is_direct: bool) -> None:
        self._context = context
        self._is_direct = is_direct  # not through a proxy
        self.contacts: list[Contact] = []
        self._link: SocketStream | None = None
        self._stream: SocketStream | TLSStream | None = None

    def take(self, step: Connect | StartTLS | Send | Receive, until: float) -> bytes:
        """Perform a step until the deadline. Returns the bytes of a `Receive`."""
        if isinstance(step, Connect):
            self.close()
            self._connect(step.host, step.port, until)
            return b""
        assert self._link is not None
        assert self._stream is not None
        self._link.until = until
        match step:
            case StartTLS(server_name):
                self._start_tls(server_name, until)
            case Send(data):
                at_once(self._stream.send_all, data)
            case Receive():
                return at_once(self._stream.receive_some)
        return b""

    def close(self) -> None:
        if self._link is not None:
            self._link.abort()
            self._link = self._stream = None

    def _connect(self, host: str, port: int, until: float) -> None:
        self.contacts.append(Contact(host=host, port=port, failed_at="name"))
        found = look_up(host, port, until, Flag())
        addresses = tuple(dict.fromkeys(str(address[0]) for *_, address in found))
        self._note(addresses=addresses, failed_at="connection")
        self._link = SocketStream(connect(found, until))
        self._stream = self._link
        self._note(failed_at="")

    def _start_tls(self, server_name: str, until: float) -> None:
        assert self._stream is not None
        self._note(host=server_name, failed_at="tls")
        stream = TLSStream(self._stream, self._context(), server_name)
        try:
            at_once(stream.do_handshake)
        except ssl.SSLCertVerificationError:
            if self._is_direct:
                self._note(certificate=_untrusted(self.contacts[-1], server_name, until))
            raise
        self._note(failed_at="", certificate=stream.certificate)
        self._stream = stream

    def _note(self, **changes: Any) -> None:
        self.contacts[-1] = replace(self.contacts[-1], **changes)


def _untrusted(contact: Contact, server_name: str, until: float) -> Mapping[str, Any] | None:
    """Return the untrusted certificate of a handshake, read over separate connections without data; None on failure.

    Python parses only a certificate that it trusts. So this one is trusted, with any name
    and dates, only to be read.
    """
    reading = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    reading.check_hostname, reading.verify_mode = False, ssl.CERT_NONE
    with suppress(OSError, ValueError):
        _, data = _shake_hands(contact, reading, server_name, until)
        trusting_it = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting_it.check_hostname = False
        trusting_it.verify_flags = ssl.VerifyFlags(ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_OF_TIME)
        trusting_it.load_verify_locations(cadata=data)
        certificate, _ = _shake_hands(contact, trusting_it, server_name, until)
        return certificate
    return None


def _shake_hands(
    contact: Contact, context: ssl.SSLContext, server_name: str, until: float
) -> tuple[Mapping[str, Any], bytes]:
    opened = connect(socket.getaddrinfo(contact.addresses[0], contact.port, type=socket.SOCK_STREAM), until)
    with opened:
        set_timeout(opened, until)
        with context.wrap_socket(opened, server_hostname=server_name) as encrypted:
            return encrypted.getpeercert() or {}, encrypted.getpeercert(binary_form=True) or b""
