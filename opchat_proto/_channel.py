"""The outer ring: one site, and what the questions to it share."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias, TypedDict, Unpack, final

from ._askable import Askable
from ._call import Call
from ._clocks import Timeouts
from ._conversation import Conversation
from ._discussions import DeleteDiscussions, ListDiscussions, RenameDiscussion
from ._flow import Flow
from ._http import Endpoint, check_headers
from ._http_call import HTTPCall
from ._limits import Limits
from ._messages import Message, Scalar, Submit, read_ids
from ._observer import Observer
from ._opening import Opening, Signal
from ._query import Query
from ._retries import RandomSource, Retries
from ._session import Session
from ._tunnel import Proxy
from ._upload import Upload
from ._visit import HARMLESS, Visit

__all__ = ["Channel", "QuestionLike", "QuestionOptions"]

QuestionLike: TypeAlias = (
    Submit
    | Query
    | Upload
    | ListDiscussions
    | RenameDiscussion
    | DeleteDiscussions
    | str
    | Iterable[Message | Mapping[str, Any]]
)
"""What can be asked: a text, a list of messages that ends with the user's, a `Submit` or `Query`; also a file to
upload, or a request about a member's discussions."""


class QuestionOptions(TypedDict, total=False):
    """Keyword arguments for a text or a list of messages. They are fields of `Submit`, which explains them."""

    bot_id: Scalar | None
    """The bot. With a conversation, this and the next two are the conversation's."""
    custom_id: Scalar | None
    context_id: Scalar | None
    file_ids: Iterable[str]
    stream: bool
    shortcut_id: str | None
    shortcut_name: str | None


_OPTIONS = tuple(QuestionOptions.__annotations__)


@final
class Channel:
    """One site, and what the questions to it share: the session, the limits, the clocks.

        channel = Channel("https://site.example")
        call = channel.call([{"role": "user", "content": "Hi"}])

    The first call starts the session while the others wait. A refused nonce is renewed
    once for all calls, and for a member one call asks the site who the member is: see
    `Flow`. If start_session fails, all calls that wait at that moment end with the same
    failure.

    `endpoint` is an `Endpoint` or a text for `Endpoint.parse`. `session` is an earlier
    session. `page` is the address of the page that contains the nonce: if the nonce is
    refused, the page is visited again (`renewal` of `Flow`), with a random query that
    keeps caches out. `headers` are sent with each request. `proxy` is a `Proxy` or its
    URL; an `HTTPCall` leaves proxies to the library.

    `retries` is how often to repeat a question that did not reach the server, or that
    the server postponed with 429 or 503 and a Retry-After of at most `longest_wait`
    seconds. The pause grows from 0.5 to 8 seconds; `random`, a `random.Random` or its
    method `random`, varies it between calls.

    `signal` makes the object that a driver waits for at `Wait`: `trio.Event`,
    `asyncio.Event` or `threading.Event`. Without it, drivers ask again from time to time.
    `lock`, such as a `threading.RLock()`, is held during each change, for calls in
    several threads. `observer(call, item)` receives each step, report and event, in
    order, after the change and outside the lock. If it raises, the method that was
    called raises, and no event is lost.

    Raises `ValueError` for an unusable address, session, header field, proxy or number,
    `TypeError` for wrong types.
    """

    def __init__(
        self,
        endpoint: Endpoint | str,
        *,
        session: Session | None = None,
        page: str | None = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        limits: Limits = Limits(),
        timeouts: Timeouts = Timeouts(),
        proxy: Proxy | str | None = None,
        retries: int = 0,
        longest_wait: float = 30,
        random: RandomSource | Callable[[], float] | None = None,
        signal: Callable[[], Signal] | None = None,
        lock: AbstractContextManager[Any] | None = None,
        observer: Observer | None = None,
    ) -> None:
        if not isinstance(timeouts, Timeouts):
            raise TypeError(f"timeouts: expected Timeouts, got {type(timeouts).__name__}")
        if not isinstance(proxy, Proxy | str | None):
            raise TypeError(f"proxy: expected a Proxy, a str or None, got {type(proxy).__name__}")
        if lock is not None and not hasattr(lock, "__exit__"):
            raise TypeError(f"lock: expected a lock or None, got {type(lock).__name__}")
        for name, function in (("signal", signal), ("observer", observer)):
            if function is not None and not callable(function):
                raise TypeError(f"{name}: expected a callable or None, got {type(function).__name__}")
        self.endpoint: Endpoint = Endpoint.parse(endpoint) if isinstance(endpoint, str) else endpoint
        """The site."""
        self.limits = limits
        self.timeouts = timeouts
        self.proxy: Proxy | None = Proxy.parse(proxy) if isinstance(proxy, str) else proxy
        """The proxy, or None."""
        self._headers = check_headers(headers)
        self._retries = Retries(retries, longest_wait, random)
        self._new_signal: Callable[[], Signal | None] = signal or (lambda: None)
        self._lock: AbstractContextManager[Any] = nullcontext() if lock is None else lock
        self._observer = observer
        self._opening: Opening | None = None
        self._page = page
        self._session = session
        # Raises now rather than with each question.
        self._session = self._flow(Submit(new_message="?"), session).session

    def __repr__(self) -> str:
        """The site."""
        return f"<Channel to {self.endpoint.origin}>"

    @property
    def session(self) -> Session | None:
        """The current session, for the next channel; None until a call has started one."""
        return self._session

    def call(
        self,
        question: QuestionLike,
        conversation: Conversation | None = None,
        *,
        chat_id: str | None = None,
        files: Iterable[Upload] = (),
        **options: Unpack[QuestionOptions],
    ) -> Call:
        """Ask over your own connections: a text, a list of messages, a `Submit`, a `Query` or an `Upload`.

        With a `conversation`, a text is asked with its messages. A complete answer is
        added; a broken one changes nothing, except that a response id which the server
        did not accept is dropped. `chat_id` is for a question without a chat id, and a
        new conversation keeps it; the core draws nothing at random. `options` are fields
        of `Submit`: `call("Hi", bot_id="sales")`.

        `files` are uploaded first, one after the other, in the question's session, and
        the question names their ids. If the site refuses a file, the reply ends with that
        `Broken`, and the question is not asked. If the nonce is renewed meanwhile, the
        files stay valid: they belong to the session id, which start_session returns again
        (WIRE 3.1, 7.5). Of several files, sites read all since 3.1.2, one from 2.9.7 on, and
        none before that: see `Bot.max_files`. Uploads exist since 1.9.94.

        Raises `InvalidMessages` or another `ValueError` for a question that cannot be
        sent, `TypeError` for wrong types and for options that the question or conversation
        already has, `RuntimeError` if the conversation is being asked another question.
        """
        asked, attached = self._to_question(question, conversation, chat_id, files, options)
        return Call(self, asked, conversation, attached)

    def http_call(
        self,
        question: QuestionLike,
        conversation: Conversation | None = None,
        *,
        chat_id: str | None = None,
        files: Iterable[Upload] = (),
        **options: Unpack[QuestionOptions],
    ) -> HTTPCall:
        """Like `call`, over an HTTP library."""
        asked, attached = self._to_question(question, conversation, chat_id, files, options)
        return HTTPCall(self, asked, conversation, attached)

    def _to_question(
        self,
        question: QuestionLike,
        conversation: Conversation | None,
        chat_id: str | None,
        files: Iterable[Upload],
        options: QuestionOptions,
    ) -> tuple[Askable, tuple[Upload, ...]]:
        submit = _to_submit(question, conversation, chat_id, options)
        attached = self._check_files(files, submit)
        if attached:
            self._flow(submit)  # raises if it is too large, before any upload
        return submit, attached

    def _check_files(self, files: Iterable[Upload], question: object) -> tuple[Upload, ...]:
        attached = tuple(files)
        if not all(isinstance(file, Upload) for file in attached):
            raise TypeError("files: expected each to be an Upload")
        if attached and not isinstance(question, Submit):
            raise TypeError(f"files: expected a question that they belong to, got {type(question).__name__}")
        most = self.limits.upload_bytes
        for file in attached:
            if file.size > most:
                raise ValueError(f"files: expected at most {most} bytes (Limits.upload_bytes) in {file.name!r}")
        return attached

    def visit(self, url: str, *, fresh: str | None = None, file: bool = False) -> Call:
        """Visit a page of this site or another. The one event is `End(None)`, with `call.page` set, or `Broken`.

        For a page on this site, the session's cookies and the header fields are sent: see
        `Visit`, also for `fresh` and `file`. Raises `ValueError` for anything but a page's
        address.
        """
        return Call(self, self._visits(url, fresh, file=file))

    def http_visit(self, url: str, *, fresh: str | None = None, file: bool = False) -> HTTPCall:
        """Like `visit`, over an HTTP library, which must not follow redirects itself."""
        return HTTPCall(self, self._visits(url, fresh, file=file))

    def _visits(
        self, url: str, fresh: str | None, *, file: bool, session: Session | None = None
    ) -> Callable[[], Visit]:
        is_own = Visit(url).origin == self.endpoint.origin
        session = (session or self._session) if is_own else None
        headers = [field for field in self._headers if is_own or field[0].lower() in HARMLESS]
        return partial(Visit, url, self.limits, session=session, headers=headers, fresh=fresh, file=file)

    def _flow(self, submit: Askable, session: Session | None = None) -> Flow:
        renewal = None
        if self._page is not None:
            fresh = f"{int(self._retries.draw(0.0) * 10**16):x}"
            renewal = self._visits(self._page, fresh, file=False, session=session)()
        flow = Flow(self.endpoint, submit, session=session, headers=self._headers, limits=self.limits, renewal=renewal)
        if session is not None and session.authorization and self.proxy and self.endpoint.scheme == "http":
            raise ValueError("session: credentials go through a proxy only to an https site")
        return flow


def _to_submit(
    question: QuestionLike, conversation: Conversation | None, chat_id: str | None, options: QuestionOptions
) -> Askable:
    if conversation is not None and not isinstance(conversation, Conversation):
        raise TypeError(f"conversation: expected a Conversation or None, got {type(conversation).__name__}")
    if isinstance(question, Submit):
        if options:
            raise TypeError(f"{min(options)}: the Submit has its own")
        submit = question
    elif isinstance(question, Askable):
        if options or conversation is not None:
            raise TypeError(f"question: this {type(question).__name__} takes no options and belongs to no conversation")
        return question
    else:
        submit = _new_submit(question, conversation, chat_id, {**options})
    if conversation is not None and conversation.chat_id is not None:
        chat_id = conversation.chat_id
    return replace(submit, chat_id=chat_id) if submit.chat_id is None else submit


def _new_submit(question: Any, conversation: Conversation | None, chat_id: str | None, given: dict[str, Any]) -> Submit:
    if unknown := given.keys() - _OPTIONS:
        raise TypeError(f"{min(unknown)}: a question has no such option, only {', '.join(_OPTIONS)}")
    if conversation is not None:
        if of_bot := given.keys() & {"bot_id", "custom_id", "context_id"}:
            raise TypeError(f"{min(of_bot)}: the conversation has its own")
        if not isinstance(question, str):
            raise TypeError("question: expected a str or a Submit, since the conversation has the messages before it")
        return conversation.ask(question, **given)
    if isinstance(question, str):
        file_ids = read_ids(given.pop("file_ids", ()))
        return Submit(new_message=question, chat_id=chat_id, file_ids=file_ids, **given)
    return Submit.from_messages(question, chat_id=chat_id, **given)
