"""`opchat batch`: many questions from a file, with a record of what was asked."""

import ipaddress
import math
import re
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

import click

from opchat_proto import Call, Endpoint, HTTPCall

from ..._files import check_writable, write_private
from ...many import BatchQuestion, QuestionId, Result, Results, ask, on_dask, read_questions, resume
from .._batch_summary import progress_bar, summary_lines
from .._comparison import changes
from .._login import login_options, merge
from .._options import AskingCommand, Settings, asking_options
from .._page_bots import find_bot
from .._result_file import ResultFile, read_result_file
from .._result_report import report_page
from .._stdin import read_input
from .._terminal import Output, is_lively, is_terminal, say
from .._text import NotTextError, decode_text
from .._trace import Trace
from .._transports import gives_nonce, site, trusting

if TYPE_CHECKING:
    from ...many._dask import DaskResults

__all__ = ["batch_command"]

_NOT_ALL_GOOD = 10
_CLUSTER_WITHIN = 10  # seconds
_FREE = 20  # questions to a site of somebody else that need no confirmation
_EPILOG = """\b
Exit codes:
  0   all answers came, all expectations held; with --compare: nothing changed
  2   wrong usage
  10  an answer or an expectation failed; with --compare: something changed
  130 interrupted   143 terminated   141 output closed
"""


def _rate(value: str) -> float:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(?:/(min|s|h))?", value)
    if match is None or not 0 < float(match[1]) < math.inf:
        raise click.BadParameter(f"{value!r}: expected a number, as in 30/min; also /s and /h")
    return float(match[1]) * {None: 1, "min": 1, "s": 60, "h": 1 / 60}[match[2]]


_at_least_one = click.IntRange(1)
_file = click.Path(path_type=Path, dir_okay=False)


@click.command("batch", cls=AskingCommand, epilog=_EPILOG)
@click.argument("file", required=False, type=click.Path(path_type=Path, allow_dash=True))
@asking_options
@login_options
@click.option("--output", type=_file, metavar="FILE", help="Write the results to FILE.")
@click.option("--resume", "resuming", is_flag=True, help="Continue --output: ask the rest.")
@click.option("--again", type=click.Choice(["maybe", "broken"]), help="With --resume: ask these again.")
@click.option("--concurrency", type=_at_least_one, default=4, show_default=True, metavar="N", help="Questions at once.")
@click.option("--rate", type=_rate, metavar="N/min", help="Most questions to one site.")
@click.option("--repeat", type=_at_least_one, default=1, metavar="N", help="Ask every question N times.")
@click.option(
    "--retries", type=click.IntRange(0), default=0, metavar="N", help="Repeat questions that did not reach the server."
)
@click.option("--stop-after", type=_at_least_one, metavar="N", help="Stop after N broken replies in a row.")
@click.option("--max", "most", type=click.IntRange(0), metavar="N", help="Ask at most N questions now.")
@click.option("--report", type=_file, metavar="FILE", help="Write an HTML page: outcomes, times, broken replies.")
@click.option("--compare", nargs=2, type=_file, metavar="OLD NEW", help="Ask nothing; show which results changed.")
@click.option("--dask", metavar="ADDRESS", help="Ask from the workers of this Dask scheduler: tcp://host:8786.")
@click.option("--yes", is_flag=True, help=f"Send more than {_FREE} questions to a site without confirmation.")
def batch_command(
    file: Path | None,
    settings: Settings,
    output: Path | None,
    resuming: bool,
    again: Literal["maybe", "broken"] | None,
    repeat: int,
    report: Path | None,
    compare: tuple[Path, Path] | None,
    dask: str | None,
    yes: bool,
    **options: Any,
) -> int:
    """Ask the questions in FILE, and print one result a line.

    FILE has one question a line: a text, or a JSON object with "id" and "question" or
    "messages". Optional fields: "url", "bot", "conversation", "expect" ({"contains":
    ...} or {"regex": ...}), and your own, which are copied to the result. "-" is
    standard input.

    A question is never asked twice: --resume skips questions that have an answer or
    may have been asked.
    """
    if (file is None) == (compare is None):
        raise click.UsageError("expected a FILE with questions, or --compare OLD NEW")
    if compare is not None:
        return _compare(*compare)
    assert file is not None
    if report is not None:
        _check_writable(report)
    if dask is not None and (settings.verbose or settings.cacert is not None or settings.via != "asyncio"):
        raise click.UsageError("--dask: workers take no --verbose, --cacert and --via")
    if dask is not None and settings.login is not None:
        raise click.UsageError("--dask: credentials are not sent to workers")
    questions = _read_questions(file, repeat)
    size = output.stat().st_size if output is not None and output.exists() else 0
    settled, unwritten = _find_settled(questions, output, resuming=resuming, again=again)
    with ExitStack() as stack:
        if any(question.url is None and question.id not in settled for question in questions):
            settings = find_bot(stack.enter_context(site(settings)))
        _check_sites(questions, settled, settings, options["most"], yes=yes, is_free_to_ask=str(file) != "-")
        record = None if output is None else stack.enter_context(ResultFile(output, size))
        for result in unwritten:
            if record is not None:
                record.add(result)
        given: dict[str, Any] = {
            **options,
            **_for_transports(settings),
            "url": settings.endpoint,
            "bot": settings.found or settings.bot,
            "page": settings.page if gives_nonce(settings) else None,
            "settled": settled,
            "conversations": len(questions) + 1,
            "before_ask": None if record is None else record.begin,
        }
        results = dict[QuestionId, Result](settled)
        show = record.add if record is not None else _show_on(Output())
        is_quiet = settings.verbose or not is_lively(sys.stderr) or (record is None and is_terminal(sys.stdout))
        with nullcontext(lambda result: None) if is_quiet else progress_bar(len(questions) - len(settled)) as progress:

            def take(result: Result) -> None:
                results[result.id] = result
                show(result)
                progress(result)

            def start() -> AbstractAsyncContextManager["Results | DaskResults"]:
                return ask(questions, **given) if dask is None else _on_cluster(dask, questions, given)

            interrupted = _run(settings.via, start, take)
    for line in summary_lines(results.values(), len(questions)):
        say(line)
    if report is not None:
        _write_report(report, results.values(), str(file))
    if interrupted is not None:
        return 128 + interrupted
    is_good = len(results) == len(questions) and all(result.is_good for result in results.values())
    return 0 if is_good else _NOT_ALL_GOOD


for _option in batch_command.params:
    if _option.name == "via":
        _option.type, _option.default = click.Choice(["asyncio", "trio"]), "asyncio"


# ---------------------------------------------------------------- questions


def _read_questions(file: Path, repeat: int) -> list[BatchQuestion]:
    try:
        data = read_input() if str(file) == "-" else file.read_bytes()
        return read_questions(decode_text(data).split("\n"), repeat=repeat)
    except OSError as error:
        raise click.UsageError(f"{file}: {error.strerror}") from None
    except NotTextError as error:
        raise click.UsageError(f"{file}: {error}") from None
    except ValueError as error:
        raise click.UsageError(f"{file}, {error}") from None


def _find_settled(
    questions: list[BatchQuestion], output: Path | None, *, resuming: bool, again: Literal["maybe", "broken"] | None
) -> tuple[dict[QuestionId, Result], list[Result]]:
    if not resuming:
        if again is not None:
            raise click.UsageError("--again needs --resume")
        if output is not None and output.exists() and output.stat().st_size:
            raise click.UsageError(f"--output {output}: it exists; --resume continues it")
        return {}, []
    if output is None:
        raise click.UsageError("--resume needs --output, the file to continue")
    if not output.exists():
        return {}, []
    try:
        return resume(questions, read_result_file(output), again)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _check_sites(
    questions: list[BatchQuestion],
    settled: Mapping[QuestionId, Result],
    settings: Settings,
    most: int | None,
    *,
    yes: bool,
    is_free_to_ask: bool,
) -> None:
    """Ask for confirmation before many questions are sent to sites that are not on this machine."""
    counts: Counter[str] = Counter()
    for question in questions:
        endpoint = settings.endpoint if question.url is None else Endpoint.parse(question.url)
        if endpoint is not None and question.id not in settled and not _is_loopback(endpoint.host):
            counts[endpoint.origin] += 1
    for origin, count in counts.items():
        count = count if most is None else min(count, most)
        if count <= _FREE or yes:
            continue
        text = f"Send {count} questions to {origin}? Each may cost its owner money."
        if not is_free_to_ask or not is_terminal(sys.stdin):
            raise click.UsageError(f"{text} --yes says so; --max sends less")
        if not click.confirm(text, err=True):
            raise click.Abort


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _for_transports(settings: Settings) -> dict[str, Any]:
    """The options of the transports. Raises `UsageError` for those that they would refuse."""
    from ...asyncio_streams import AsyncioTransport

    options: dict[str, Any] = {
        "headers": settings.headers,
        "limits": settings.limits,
        "timeouts": settings.timeouts,
        "proxy": settings.proxy,
    }
    if settings.cacert is not None:
        options["ssl_context"] = trusting(settings.cacert)
    session = None
    if settings.login is not None and settings.endpoint is not None:
        session = merge(settings.login, settings.endpoint, settings.found and settings.found.session)
    try:
        AsyncioTransport(settings.endpoint or Endpoint.parse("https://site.example"), session=session, **options)
    except OSError as error:  # a file that the TLS library was told to use
        raise click.UsageError(f"{error.filename}: {error.strerror}") from None
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if settings.verbose:
        traces: WeakKeyDictionary[Call | HTTPCall, Trace] = WeakKeyDictionary()
        output = Output()

        def observe(call: Call | HTTPCall, item: object) -> None:
            if call not in traces:
                traces[call] = Trace(output)
            traces[call](call, item)

        options["observer"] = observe
    return options if session is None else {**options, "session": session}


def _show_on(output: Output) -> Callable[[Result], None]:
    return lambda result: output.json(result.to_dict())


# ---------------------------------------------------------------- files of results


def _compare(old: Path, new: Path) -> int:
    before, after = read_result_file(old), read_result_file(new)
    output = Output()
    count = 0
    for count, (name, lines) in enumerate(changes(before, after), 1):  # noqa: B007  # used below
        output.text("".join(f"{line}\n" for line in (f"{name}:", *(f"  {line}" for line in lines))))
    say(f"{count} of {len(before.keys() | after.keys())} changed")
    return _NOT_ALL_GOOD if count else 0


def _check_writable(report: Path) -> None:
    try:
        check_writable(report)
    except OSError as error:
        raise click.UsageError(f"--report {report}: {error.strerror or error}") from None


def _write_report(report: Path, results: Iterable[Result], title: str) -> None:
    try:
        write_private(report, report_page(results, title))
    except OSError as error:
        say(f"the report could not be written: {error}")


# ---------------------------------------------------------------- asking


@asynccontextmanager
async def _on_cluster(
    address: str, questions: list[BatchQuestion], options: dict[str, Any]
) -> AsyncIterator["DaskResults"]:
    try:
        from distributed import Client
    except ModuleNotFoundError:
        raise click.UsageError('--dask needs more packages: pip install "opchat[dask]"') from None
    client = Client(address, asynchronous=True, timeout=_CLUSTER_WITHIN)
    try:
        await client
    except (OSError, ValueError) as error:
        await client.close()
        raise click.UsageError(f"--dask {address}: {error}") from None
    async with client, on_dask(client, questions, **options) as results:
        yield results


def _run(
    via: str, start: Callable[[], AbstractAsyncContextManager["Results | DaskResults"]], take: Callable[[Result], None]
) -> int | None:
    """Give each result to `take`. Returns the signal that has ended the run early.

    After a first Ctrl-C or SIGTERM nothing more is asked, and open questions are closed.
    A second one has its usual effect.
    """
    seen = SimpleNamespace(signal=None)
    numbers = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]
    if via == "trio":
        try:
            import trio
        except ModuleNotFoundError:
            raise click.UsageError('--via trio needs more packages: pip install "opchat[trio]"') from None

        async def on_trio() -> None:
            async with trio.open_nursery() as nursery, start() as results:

                async def watch(*, task_status: trio.TaskStatus[None]) -> None:
                    with trio.open_signal_receiver(*numbers) as signals:
                        task_status.started()
                        seen.signal = await anext(signals)
                        results.stop()

                await nursery.start(watch)
                async for result in results:
                    take(result)
                nursery.cancel_scope.cancel()

        try:
            trio.run(on_trio)
        except BaseExceptionGroup as group:  # Ctrl-C inside a nursery
            raise group.exceptions[0] from None
    else:
        import asyncio

        async def on_asyncio() -> None:
            loop = asyncio.get_running_loop()

            def stop(number: int) -> None:
                seen.signal = number
                for each in numbers:
                    loop.remove_signal_handler(each)
                results.stop()

            async with start() as results:
                if sys.platform != "win32":
                    for number in numbers:
                        loop.add_signal_handler(number, stop, number)
                async for result in results:
                    take(result)

        asyncio.run(on_asyncio())
    caught: int | None = seen.signal
    return caught
