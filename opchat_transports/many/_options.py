"""The keyword arguments of `ask` and `on_dask`."""

import random
import ssl
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypedDict, final

from opchat_proto import Bot, Endpoint, Limits, Observer, Scalar, Session, Timeouts

from .._common import new_chat_id
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


@final
class Choices:
    """The options, grouped by purpose. Raises `ValueError` for wrong numbers, `TypeError` for unknown names."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        if unknown := set(options) - set(AskOptions.__annotations__):
            raise TypeError(f"{min(unknown)}: unknown option")
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
        if session is not None and endpoint is not None:
            self.for_own_site = endpoint, {"session": session, "page": options.get("page")}
