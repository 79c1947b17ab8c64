"""The keyword arguments of `ask` and `on_dask`."""

import random
import ssl
import threading
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from typing import Any, TypedDict, final

from opchat_proto import Bot, Endpoint, Limits, Observer, Scalar, Session, Timeouts

from .._common import make_channel, make_ssl_context, new_chat_id
from .._proxies import ProxyLike
from ._plan import Plan
from ._questions import BatchQuestion, QuestionId, Result

__all__ = ["AskOptions", "Choices"]


class AskOptions(TypedDict, total=False):
    """The keyword arguments of `ask`. The last six are passed to the transport of each site."""

    url: Endpoint | str | None
    """The site of questions without a `url`; by default the site of a `Bot`."""
    bot: Bot | Scalar | None
    """The bot of questions without a `bot`, by default "default". A `Bot` from a page is asked with the page's nonce,
    and only for questions without a `url`."""
    page: str | None
    """The address of the page of a `Bot`, which is visited again if its nonce is refused."""
    session: Session | None
    """The session for the site of `url`, such as a member's; by default the one in a `Bot`. It is used at no other
    site, and cannot be sent to Dask workers."""
    concurrency: int
    """The most questions open at once. By default 4."""
    rate: float | None
    """The most questions a minute to one site. By default unbounded."""
    retries: int
    """How often to repeat a question that did not reach the server, or was answered with 429 or 503 and a
    Retry-After. By default 0."""
    stop_after: int | None
    """Ask no more after this many broken replies in a row."""
    most: int | None
    """Ask at most this many questions."""
    settled: Mapping[QuestionId, Result]
    """Results of an earlier run. Their questions are not asked and give no result; their conversations continue
    from them."""
    conversations: int
    """How many conversations are remembered at once, by default 1000. A forgotten conversation begins anew."""
    before_ask: Callable[[BatchQuestion], object] | None
    """Called before each question is asked. An exception from it ends the run."""
    headers: Mapping[str, str] | Iterable[tuple[str, str]]
    """Sent to all sites."""
    limits: Limits
    timeouts: Timeouts
    proxy: ProxyLike
    observer: Observer | None
    ssl_context: ssl.SSLContext | None


_FOR_SITES = {"headers", "limits", "timeouts", "proxy", "observer", "ssl_context"}
_FOR_RUNS = {"concurrency", "before_ask", "page", "session"}
_TYPES: dict[str, Any] = {
    **dict.fromkeys(("concurrency", "retries", "conversations"), int),
    **dict.fromkeys(("stop_after", "most"), int | None),
    "rate": int | float | None,
    "bot": Bot | str | int | float | None,
    "settled": Mapping | None,
    "before_ask": Callable | None,
}


@final
class Choices:
    """The options, grouped by purpose. Raises `ValueError` for wrong values, `TypeError` for wrong types and names."""

    def __init__(self, questions: object, options: Mapping[str, Any]) -> None:
        if isinstance(questions, str | bytes | Mapping | BatchQuestion):  # its characters or keys would be asked
            raise TypeError("questions: expected several, got one")
        if not isinstance(questions, Iterable | AsyncIterable):
            raise TypeError(f"questions: expected an iterable or async iterable, got {type(questions).__name__}")
        if unknown := set(options) - set(AskOptions.__annotations__):
            raise TypeError(f"{min(unknown)}: unknown option")
        for name, value in options.items():
            if not isinstance(value, _TYPES.get(name, object)):
                expected = getattr(_TYPES[name], "__name__", _TYPES[name])
                raise TypeError(f"{name}: expected {expected}, got {type(value).__name__}")
        self.for_sites = {name: value for name, value in options.items() if name in _FOR_SITES}
        self.concurrency: int = options.get("concurrency", 4)
        self.before_ask: Callable[[BatchQuestion], object] | None = options.get("before_ask")
        if self.concurrency < 1:
            raise ValueError(f"concurrency: expected 1 or more, got {self.concurrency}")
        for_plan = {name: value for name, value in options.items() if name not in _FOR_SITES | _FOR_RUNS}
        self.plan = Plan(**for_plan, chat_id=new_chat_id, random=random.random)
        bot, session, endpoint = options.get("bot"), options.get("session"), self.plan.endpoint
        if session is not None and endpoint is None:
            raise ValueError("session: expected a url, the site that it is for")
        if session is None and isinstance(bot, Bot):
            session, endpoint = bot.session, bot.endpoint
        self.for_own_site: tuple[Endpoint, dict[str, Any]] | None = None
        """The site with a session of its own, and the additional options of its transport."""
        own: dict[str, Any] = {}
        if session is not None and endpoint is not None:
            own = {"session": session, "page": options.get("page")}
            self.for_own_site = endpoint, own
        # Raises now rather than in the middle of a run. Without the environment's proxies, since a worker has its own.
        given: Any = {"proxy": None, **self.for_sites, **own}
        context = given.pop("ssl_context", None)
        channel = make_channel(endpoint or "https://site.example", given, signal=threading.Event)
        if context is not None:
            make_ssl_context(channel, context)
