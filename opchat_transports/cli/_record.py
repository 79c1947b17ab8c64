"""`opchat record`: a question whose exchange is kept, byte for byte."""

import time
from pathlib import Path
from typing import cast, final

import click

from opchat_proto import Client, Conversation, Flow, Reason

from .._common import to_submit
from ._asking import ask, site
from ._exit import EPILOG
from ._options import Settings, asking_options, printing_options
from ._output import Output
from ._printing import Printer
from ._question import whole_question
from ._recording import Happening, write_recording
from ._secrets import replace_secrets
from ._state import check_writable, write_private
from ._watching import Trace, WatchedClient

__all__ = ["record_command"]


@click.command("record", epilog=EPILOG)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("question", nargs=-1)
@asking_options
@click.option("--no-stream", is_flag=True, help="Ask for the answer in one piece.")
@click.option("--secrets", is_flag=True, help="Keep nonces, cookies and credentials in FILE as they are.")
@printing_options
def record_command(
    file: Path,
    question: tuple[str, ...],
    settings: Settings,
    no_stream: bool,
    secrets: bool,
    show: str,
    markdown: bool,
    raw: bool,
) -> int:
    """Ask QUESTION as `ask` does, and keep in FILE what was exchanged.

    That are the raw bytes of both directions, inside of TLS, with their times.
    `opchat decode FILE` explains them, `opchat replay FILE` serves them again.
    Secrets are replaced by text of the same length.
    """
    if settings.via == "asyncio":
        raise click.BadParameter("behind asyncio's HTTP library there are no raw bytes to keep", param_hint="--via")
    submit = to_submit(
        Conversation(bot_id=settings.bot).ask(whole_question(question, settings.limits), stream=not no_stream)
    )
    try:  # rather now than when the question has been asked
        check_writable(file)
    except OSError as error:
        raise _cannot_be_written(file, error) from None
    output = Output(raw=raw)
    recorder = Recorder(Trace(output) if settings.verbose else None)
    with site(settings) as settings:
        assert settings.endpoint is not None
        url = settings.endpoint.origin
        try:
            with Printer(output, url, kinds=show, markdown=markdown, quiet=settings.verbose) as printer:
                ask(settings, submit, None, printer.print, recorder)
        finally:
            if recorder.happenings:
                _write(file, url, recorder.happenings, settings, secrets=secrets)
    return printer.code


def _write(file: Path, url: str, happenings: list[Happening], settings: Settings, *, secrets: bool) -> None:
    if not secrets:
        replace_secrets(happenings, [name for name, _ in settings.headers])
    try:
        write_private(file, write_recording(url, happenings, secrets=secrets))
    except OSError as error:
        raise _cannot_be_written(file, error) from None


def _cannot_be_written(file: Path, error: OSError) -> click.UsageError:
    return click.UsageError(f"{file} cannot be written: {error.strerror or error}")


@final
class Recorder:
    """Keeps what happens, for `Watch` and as an `Observer`; `trace` is told as well."""

    def __init__(self, trace: Trace | None = None) -> None:
        self.happenings: list[Happening] = []
        self._trace = trace
        self._began = time.monotonic()
        self._connection = 0

    def client(self, client: Client) -> Client:
        """A client that is recorded."""
        if self._trace is not None:
            client = self._trace.client(client)
        return cast(Client, WatchedClient(client, self))

    def flow(self, flow: Flow) -> Flow:
        """Here are no bytes to keep."""
        return flow

    def connecting(self, host: str, port: int) -> None:
        """A new connection, perhaps."""
        self._connection += 1

    def connected(self, host: str, port: int) -> None:
        """It is there."""
        self._keep("connected", host=host, port=port)

    def secured(self, server_name: str) -> None:
        """TLS."""
        self._keep("tls", server_name=server_name)

    def sent(self, data: bytes, *, to_proxy: bool) -> None:
        """A request."""
        if not to_proxy:
            self._keep("sent", data)

    def received(self, data: bytes, *, from_proxy: bool) -> None:
        """One read."""
        if not from_proxy:
            self._keep("received", data)

    def ended(self, how: str, reason: Reason = Reason.LOST) -> None:
        """The end of a connection."""
        if how:
            self._keep("failed", detail=how, reason=reason.value)
        else:
            self._keep("closed")

    def _keep(self, event: str, data: bytes = b"", **more: object) -> None:
        now = time.monotonic() - self._began
        self.happenings.append(Happening(now, self._connection, event, data, more))
