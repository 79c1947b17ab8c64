"""What the servers share: the events and failures of bots, several bots, bounds and logs."""

import logging
import textwrap
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, final

from opchat_proto import Broken, Event, Limits, Live, OutgoingFile, Reason, Response, Site, Submit

from ._bot_events import BlockingBot, events_of
from ._common import READ
from .page import chat_page

if TYPE_CHECKING:
    from .file_store import FileStore

__all__ = [
    "BODY_BYTES",
    "NOT_KEPT",
    "REJECTED",
    "SLOWEST_UPLOAD",
    "Bodies",
    "OncePerSecond",
    "answer_of",
    "as_mapping",
    "bots_own",
    "by_name",
    "failed",
    "failed_when_closed",
    "log_access",
    "make_site",
    "open_file",
    "read_file",
    "server_url",
    "store_failed",
]

_T = TypeVar("_T")
_Key = TypeVar("_Key")
BODY_BYTES = 64 * 1024 * 1024
SLOWEST_UPLOAD = 64 * 1024  # bytes a second beyond the time that any request has
REJECTED = Broken(Reason.REMOTE, "Sorry, your query has been rejected.")  # for a question to an unknown bot
NOT_KEPT = "The file cannot be kept."
_OOPS = (  # WIRE 5.6
    "Oops! Something went wrong on the server. Please try again, and if you are the site developer, "
    "check the PHP Error Logs for details."
)


# ---------------------------------------------------------------- answers, and bots that fail


def answer_of(bot: BlockingBot, submit: Submit, *, debug: bool = False) -> Generator[Event]:
    """Like `events_of`, but the bot's exceptions are logged and become a `Broken`."""
    events = events_of(bot, submit)
    try:
        while True:
            try:
                event = next(events)
            except BaseException as error:
                if not bots_own(error):
                    raise
                event = failed(error, debug=debug)
            yield event
            if not isinstance(event, Live):
                return
    finally:
        try:
            events.close()
        except BaseException as error:
            if not bots_own(error):
                raise
            failed_when_closed(error)


def bots_own(error: BaseException) -> bool:
    """Whether this exception is a failure of the bot, not a request to stop it.

    A bot that calls a program's main function may raise `SystemExit`; one whose inner
    await was cancelled raises `CancelledError`.
    """
    import asyncio  # imported here to keep `--help` fast

    if isinstance(error, BaseExceptionGroup):
        return all(map(bots_own, error.exceptions))
    return isinstance(error, Exception | SystemExit | asyncio.CancelledError)


def failed(error: BaseException, *, debug: bool = False) -> Broken:
    """Log a bot's exception. Returns the client's view: the plugin's general error, or with `debug` the exception."""
    _LOG.error("the bot failed", exc_info=error)
    told = "".join(traceback.format_exception_only(error)).strip() if debug else _OOPS
    return Broken(Reason.REMOTE, told)


def failed_when_closed(error: BaseException) -> None:
    """Log the exception of a bot whose answer was over or whose client had left."""
    _LOG.error("the bot failed while it was being closed", exc_info=error)


def store_failed(error: OSError) -> None:
    """Log why a client's file could not be stored."""
    _LOG.error("a file cannot be kept: %s", error.strerror or error)


def open_file(store: "FileStore", wanted: OutgoingFile) -> tuple[Response, BinaryIO | None]:
    """The response to a request for a file, and the open file whose bytes follow it, if any."""
    try:
        stored = store.find(wanted.file_id)
        if stored is not None:
            response = wanted.found(stored.name, stored.content_type, stored.size)
            return response, open(stored.path, "rb") if response.file_bytes else None
    except FileNotFoundError:
        pass  # deleted a moment ago
    except OSError as error:
        _LOG.error("a file cannot be read: %s", error.strerror or error)
        return wanted.failed("The file cannot be read.", 500), None
    return wanted.failed(), None


def read_file(file: BinaryIO, left: int) -> bytes:
    """Read the next bytes of a file with this many left. Logs and raises `OSError`."""
    try:
        if data := file.read(min(left, READ)):
            return data
        raise OSError(None, "it has become shorter")
    except OSError as error:
        _LOG.error("the rest of a file cannot be read: %s", error.strerror or error)
        raise


class _Escaped(logging.Filter):
    """Escapes and indents tracebacks, so that they cannot control a terminal or imitate a line of the log."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info:
            lines = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n").split("\n")
            # If this text is set, formatters use it instead of formatting `exc_info`.
            record.exc_text = textwrap.indent("\n".join(map(_escaped, lines)), "    ")
        return True


def _escaped(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


_LOG = logging.getLogger("opchat_transports.serving")
_LOG.addFilter(_Escaped())


# ---------------------------------------------------------------- the site and its bots


def as_mapping(bot: _T | None, bots: Mapping[str, _T] | None) -> dict[str | None, _T]:
    """The bots by name; a bot named None answers to every name. Raises `TypeError`, `ValueError`."""
    if (bot is None) == (bots is None):
        raise TypeError("expected either a bot or bots")
    if bots is None:
        assert bot is not None
        return {None: bot}
    if not bots or not all(isinstance(name, str) and name for name in bots):
        raise ValueError("bots: expected at least one, each under a name")
    return {name: bots[name] for name in bots}


def by_name(
    bots: Mapping[str | None, Callable[[Submit], _T]], otherwise: Callable[[Submit], _T]
) -> Callable[[Submit], _T]:
    """A bot that passes each question to the bot that it names (WIRE 4.2), or to `otherwise`."""

    def ask(submit: Submit) -> _T:
        names = [None, *(str(name) for name in (submit.custom_id, submit.bot_id) if name is not None)]
        return next((bots[name] for name in names if name in bots), otherwise)(submit)

    return ask


def make_site(
    secret: bytes,
    limits: Limits,
    origins: Iterable[str],
    allowed_hosts: Iterable[str],
    bots: Mapping[str | None, Any],
    title: str,
    greeting: str,
    suggestions: Iterable[str],
    files: "FileStore | None",
) -> Site:
    """A site with a chat page, for the bot "default" or the first one with a name. Raises the exceptions of `Site`."""
    name = next(iter(bots))
    suggested = tuple(suggestions)
    if isinstance(suggestions, str) or not all(isinstance(text, str) for text in (title, greeting, *suggested)):
        raise TypeError("title, greeting, suggestions: expected str, str and an iterable of str")
    page = partial(
        chat_page,
        bot_id="default" if name is None or "default" in bots else name,
        title=title,
        greeting=greeting,
        suggestions=suggested,
    )
    hosts = tuple(host.lower() for host in allowed_hosts)
    if files is not None:
        page = partial(page, uploads=True)
    types = () if files is None else files.types
    return Site(secret, limits=limits, origins=tuple(origins), hosts=hosts, page=page, upload_types=types)


def server_url(host: str, port: int) -> str:
    """The URL of a server that listens there."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # listening on all addresses: one to connect to
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


# ---------------------------------------------------------------- bounds


@final
class Bodies:
    """Bounds the bytes that the request bodies of all connections hold together, and says which one to drop.

    The caller chooses a key for each body. Thread-safe.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._sizes: dict[Any, int] = {}
        self._complete: set[Any] = set()
        self._sum = 0

    def resize(self, key: _Key, size: int) -> _Key | None:
        """The body has grown to this size. Returns the key of the body to drop, the largest unfinished one, or None."""
        with self._lock:
            self._sum += size - self._sizes.get(key, 0)
            self._sizes[key] = size
            if self._sum <= self._limit:
                return None
            largest = max(self._sizes.keys() - self._complete, key=self._sizes.__getitem__, default=None)
            self._sum -= self._sizes.pop(largest, 0)
            return largest

    def complete(self, key: object) -> None:
        """This body is complete: it still counts, but is never the one to drop."""
        with self._lock:
            self._complete.add(key)

    def drop(self, key: object) -> None:
        """This body is no longer held."""
        with self._lock:
            self._complete.discard(key)
            self._sum -= self._sizes.pop(key, 0)


# ---------------------------------------------------------------- logs

_ACCESS = logging.getLogger("opchat_transports.access")


def log_access(
    client: str, request: tuple[str, str], status: int | None, seconds: float, *, left: bool = False
) -> None:
    """Log one line at INFO for a finished request. The client's text is escaped, so it cannot add lines."""
    if _ACCESS.isEnabledFor(logging.INFO):
        client, method, target = map(_escaped, (client, *request))  # a proxy's header may name the client
        how = f"{status or '-'}{' left' if left else ''}"
        _ACCESS.info('%s "%s %s" %s %.3f s', client, method, target, how, seconds)


class OncePerSecond(logging.Filter):
    """Lets one warning and one error through per second. The next line says how many were suppressed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: dict[int, tuple[float, int]] = {}  # level: time of the last line, lines suppressed since

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged."""
        if record.levelno < logging.WARNING:
            return True
        now = self._clock()
        with self._lock:
            at, left_out = self._seen.get(record.levelno, (now - 1, 0))
            if now - at < 1:
                self._seen[record.levelno] = at, left_out + 1
                return False
            self._seen[record.levelno] = now, 0
        if left_out:
            record.msg, record.args = f"{record.getMessage()} (and {left_out:,} more lines)", None
        return True
