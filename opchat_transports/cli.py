"""The command `opchat`: questions at a terminal, in pipes and in scripts."""

import os
import select
import stat
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress

import click

from opchat_proto import Broken, End, Endpoint, Limits, Live, Reason, Submit, __version__

from ._common import Timeouts, broken_line
from ._serve_command import serve_command
from .blocking_sockets import BlockingReply, BlockingTransport, serve
from .bots import small_talk

__all__ = ["run"]

_INTERRUPTED = 130
_OUTPUT_CLOSED = 141  # what a shell reports for a program that a closed pipe has ended
_NONCE_REFUSED = 4
EXIT_CODES = {
    Reason.REFUSED: 3,
    Reason.MALFORMED: 5,
    Reason.TIMEOUT: 6,
    Reason.TRUNCATED: 7,
    Reason.LOST: 7,
    Reason.PROXY: 7,
    Reason.REMOTE: 8,
    Reason.TOO_LARGE: 9,
}
"""The exit code of `ask` for a broken answer; 4 instead of 3 where the nonce or the session was refused."""
_NONCE_CODES = ("rest_forbidden", "rest_cookie_invalid_nonce")

_EPILOG = """\b
Exit codes of ask:
  0  the whole answer came         6  timed out
  2  wrong usage                   7  no connection, or the answer broke off
  3  the server refused            8  the server reported an error
  4  it refused nonce or session   9  the answer is too large
  5  not an answer of the chat     130  interrupted   141  output closed
"""

# What moves the cursor, colours, renames windows or turns lines around is shown instead of obeyed: C0 but tab and
# newline, DEL, C1, and the bidirectional overrides and isolates. A character at a time, so pieces need not be joined.
_SHOWN = {
    code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    for code in (*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
    if chr(code) not in "\t\n"
}

_FIRST_BYTE_WITHIN = 1.0  # seconds


class _OutputClosedError(Exception):
    """Standard output takes no more."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, by default those of the process. Returns its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal without Unicode is no reason to fail
    try:
        return _command.main(arguments, "opchat", standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except _OutputClosedError:
        return _OUTPUT_CLOSED
    except SystemExit:  # click's way to leave when its help meets a closed pipe
        _drop_output()
        return _OUTPUT_CLOSED


@click.group(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="opchat")
def _command() -> None:
    """Talk with the chatbots of WordPress sites that run AI Engine."""


@_command.command("ask", epilog=_EPILOG)
@click.argument("question", nargs=-1)
@click.option("--url", envvar="OPCHAT_URL", show_envvar=True, help="The site. Without it: a small built-in bot.")
@click.option("--bot", default="default", show_default=True, metavar="ID", help="Which of the site's bots.")
@click.option(
    "--timeout",
    type=click.FloatRange(0, 1_000_000, min_open=True),
    metavar="SECONDS",
    help="Longest wait for anything. Default: 10 to connect, 300 for the first piece, 120 for each that follows.",
)
def _ask(question: tuple[str, ...], url: str | None, bot: str, timeout: float | None) -> int:
    """Ask QUESTION and print the answer as it comes.

    Standard input, unless it is a terminal, is put behind QUESTION or takes its
    place. Beside a QUESTION, a pipe must bring its first byte within a second, or
    it is taken for one that is open by accident; "-" waits for it.
    """
    text = _whole_question(question)
    if not text.strip():
        raise click.UsageError("expected a question, as an argument or on standard input")
    timeouts = (
        Timeouts() if timeout is None else Timeouts(connect=timeout, write=timeout, first_event=timeout, idle=timeout)
    )
    with ExitStack() as stack:
        if url is None:
            url = stack.enter_context(serve(small_talk)).url
            _say(f"no --url, so the built-in bot answers, at {url}")
        try:
            transport = stack.enter_context(BlockingTransport(Endpoint.parse(url), timeouts=timeouts))
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--url") from None
        try:
            reply = stack.enter_context(transport.ask(Submit(new_message=text, bot_id=bot)))
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        return _print_answer(reply)


def _print_answer(reply: BlockingReply) -> int:
    printed = ""
    code = 0
    for event in reply:
        match event:
            case Live(text, kind="content") if text:
                printed = text
                _put(text)
            case End(text):
                if not printed and text:
                    printed = text
                    _put(text)
                if not printed.endswith("\n"):
                    _put("\n")
            case Broken():
                if printed and not printed.endswith("\n"):
                    _put("\n")
                _say(broken_line(event))
                code = _exit_code(event)
    return code


def _exit_code(broken: Broken) -> int:
    if broken.reason is Reason.REFUSED and (
        broken.detail.startswith("start_session:") or (broken.status in (401, 403) and broken.code in _NONCE_CODES)
    ):
        return _NONCE_REFUSED
    return EXIT_CODES[broken.reason]


_command.add_command(serve_command)


# -------------------------------------------------------------------- standard input and output


def _whole_question(arguments: tuple[str, ...]) -> str:
    question = " ".join(argument for argument in arguments if argument != "-")
    if sys.stdin is not None and ("-" in arguments or (_brings_input() if question else not sys.stdin.isatty())):
        try:
            piped = sys.stdin.buffer.read(Limits().request_bytes + 1)  # one byte more is refused
        except OSError as error:
            raise click.UsageError(f"standard input cannot be read: {error.strerror}") from None
        text = piped.decode("utf-8-sig", "replace").strip("\r\n")
        return f"{question}\n\n{text}" if question and text.strip() else question or text
    return question


def _brings_input() -> bool:
    """Whether to read standard input although there is a question already.

    Programs that start this one often leave it a pipe or a socket of theirs,
    open and silent: reading that would wait forever.
    """
    if sys.stdin.isatty():
        return False
    mode = os.fstat(sys.stdin.fileno()).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return True
    try:
        ready, _, _ = select.select([sys.stdin], [], [], _FIRST_BYTE_WITHIN)
    except (OSError, ValueError):  # a system that can only wait for sockets
        return True
    if not ready:
        _say('nothing on standard input within a second, so it is not waited for ("-" as an argument waits)')
    return bool(ready)


def _put(text: str) -> None:
    """Print at once what came from a server."""
    try:
        print(text.translate(_SHOWN), end="", flush=True)
    except OSError as error:
        _drop_output()
        if not isinstance(error, BrokenPipeError):
            _say(f"the answer cannot be written: {error.strerror}")
        raise _OutputClosedError from None


def _drop_output() -> None:
    # What is left in the buffer would raise again, with a traceback, when the interpreter flushes it at the end.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _say(line: str) -> None:
    """One line on standard error, which may hold text from a server."""
    if sys.stderr is not None:
        with suppress(OSError):  # nobody listens
            print(f"opchat: {line.translate(_SHOWN)}", file=sys.stderr, flush=True)
