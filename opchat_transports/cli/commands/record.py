"""`opchat record`: asks a question and records the exchange, byte for byte."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import final

import click

from opchat_proto import (
    Call,
    Connect,
    DataReceived,
    EOFReceived,
    HeadReceived,
    HTTPCall,
    Reason,
    Request,
    Send,
    StartTLS,
    StepDone,
    StepFailed,
    TimedOut,
)

from ..._files import check_writable, write_private
from .._conversations import new_conversation
from .._exits import EPILOG
from .._login import login_options
from .._options import AskingCommand, Settings, asking_options, printing_options
from .._page_bots import find_bot
from .._printer import Printer
from .._recording_format import Happening, write_recording
from .._redaction import replace_secrets
from .._stdin import stdin_option, whole_question
from .._terminal import Output, say
from .._trace import Trace, is_to_site
from .._transports import ask, site

__all__ = ["record_command"]

_REST = 10  # wait this many times the duration of a write before the next one


@click.command("record", cls=AskingCommand, epilog=EPILOG)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("question", nargs=-1)
@asking_options
@login_options
@stdin_option
@click.option("--no-stream", is_flag=True, help="Ask for the answer in one piece.")
@click.option("--secrets", is_flag=True, help="Keep nonces, cookies and credentials in FILE as they are.")
@printing_options
def record_command(
    file: Path,
    question: tuple[str, ...],
    settings: Settings,
    no_stdin: bool,
    no_stream: bool,
    secrets: bool,
    show: str,
    markdown: bool,
    raw: bool,
) -> int:
    """Ask QUESTION as `ask` does, and record the exchange in FILE.

    FILE holds the raw bytes of both directions, as seen inside TLS, with timestamps.
    httpx does not show them, so with it they are rebuilt from its values.
    `opchat decode FILE` explains the bytes, `opchat replay FILE` serves them again.
    Secrets are replaced by text of the same length. FILE is written as the bytes
    come, so it is useful even if the command is killed.
    """
    text = whole_question(question, settings.limits, no_stdin=no_stdin)
    settings = find_bot(settings)
    conversation = new_conversation(settings)
    submit = conversation.ask(text, stream=not no_stream)
    try:  # fail now rather than after the question was asked
        check_writable(file)
    except OSError as error:
        raise _cannot_be_written(file, error) from None
    output = Output(raw=raw)
    recorder = Recorder()
    observers = [recorder, Trace(output)] if settings.verbose else [recorder]
    if settings.via == "httpx":
        say("httpx shows no bytes: the recording is rebuilt from values, each answer without a length")
    with site(settings) as settings:
        url = settings.where

        def write() -> None:
            happenings = [replace(happening) for happening in recorder.happenings]
            if not secrets:
                login, endpoint = settings.login, settings.endpoint
                values = [] if login is None or endpoint is None else login.secrets(endpoint)
                replace_secrets(happenings, [name for name, _ in settings.headers], values)
            write_private(file, write_recording(url, happenings, secrets=secrets, rebuilt=settings.via == "httpx"))

        try:
            with (
                _written_as_it_comes(file, write, recorder.changed),
                Printer(output, url, kinds=show, markdown=markdown, quiet=settings.verbose) as printer,
            ):
                ask(settings, submit, conversation.session, printer.print, *observers)
        finally:
            if recorder.happenings:
                try:
                    write()
                except OSError as error:
                    raise _cannot_be_written(file, error) from None
    return printer.code


@contextmanager
def _written_as_it_comes(file: Path, write: Callable[[], None], changed: threading.Event) -> Iterator[None]:
    """During the block, write the file soon after each change, without spending most of the time on it.

    Each write is a complete one, because a secret may be recognised only later.
    Anything but a regular file, such as a pipe, is written once, at the end.
    """
    over = threading.Event()

    def follow() -> None:
        while changed.wait():
            changed.clear()  # before the check for the end, whose signal would otherwise be lost
            if over.is_set():
                return
            began = time.monotonic()
            with suppress(OSError):  # reported at the end
                write()
            over.wait(_REST * (time.monotonic() - began))

    if file.exists() and not file.is_file():
        yield
        return
    writer = threading.Thread(target=follow, daemon=True)
    writer.start()
    try:
        yield
    finally:
        over.set()
        changed.set()
        writer.join()


def _cannot_be_written(file: Path, error: OSError) -> click.UsageError:
    return click.UsageError(f"{file} cannot be written: {error.strerror or error}")


@final
class Recorder:
    """An observer that records steps and reports."""

    def __init__(self) -> None:
        self.happenings: list[Happening] = []
        self.changed: threading.Event = threading.Event()
        """Set after each event."""
        self._began = time.monotonic()
        self._connection = 0
        self._step: object = None  # the step that a report belongs to
        self._asked = False  # whether sending the request has begun on this connection

    def __call__(self, call: Call | HTTPCall, item: object) -> None:
        """The observer, for `Channel`."""
        match self._step, item:
            case _, Connect() | Request():
                self._connection += 1
                self._asked = isinstance(item, Request)
                if isinstance(item, Request):
                    self._keep("sent", _message(f"{item.method} {item.target} HTTP/1.1", item.headers, item.body))
            case Connect(host, port), StepDone():
                self._keep("connected", host=host, port=port)
            case StartTLS(server_name), StepDone():
                self._keep("tls", server_name=server_name)
            case _, Send(data) if is_to_site(data):
                self._asked = True
                self._keep("sent", data)
            case _, HeadReceived(status, headers):
                self._keep("received", _message(f"HTTP/1.1 {status} ", headers))
            case _, DataReceived(data) if self._asked:
                self._keep("received", data)
            case _, EOFReceived():
                self._keep("closed")
            case step, StepFailed(detail, reason):
                where = {Connect: "could not connect: ", StartTLS: "TLS failed: "}.get(type(step), "")
                self._keep("failed", detail=f"{where}{detail}", reason=reason.value)
            case _, TimedOut(limit):
                self._keep("failed", detail=f"not in time (timeout {limit!r})", reason=Reason.TIMEOUT.value)
        if isinstance(item, Connect | StartTLS | Send):
            self._step = item

    def _keep(self, event: str, data: bytes = b"", **more: object) -> None:
        now = time.monotonic() - self._began
        self.happenings.append(Happening(now, self._connection, event, data, more))
        self.changed.set()


def _message(line: str, headers: Iterable[tuple[str | bytes, str | bytes]], body: bytes = b"") -> bytes:
    """The HTTP/1.1 equivalent of a message of an HTTP library. An answer ends with its connection."""
    head = line.encode("latin-1") + b"\r\n"
    for field in headers:
        name, value = (part.encode("latin-1") if isinstance(part, str) else part for part in field)
        if not line.startswith("HTTP/") or name.lower() not in (b"content-length", b"transfer-encoding"):
            head += name + b": " + value + b"\r\n"
    return head + b"\r\n" + body
