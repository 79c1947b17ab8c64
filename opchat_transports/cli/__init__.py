"""The command `opchat`: questions at a terminal, in pipes and in scripts.

    commands            one file for each: ask, batch, bots, chat, decode, discussions, doctor, record, replay, serve

    _options            --url, --bot, --timeout and the other options of the commands that ask a site
    _login              --user and --cookie-file: sign a member in
    _stdin              the question from the arguments and standard input; standard input as lines or bytes
    _text               the user's text: UTF-8, UTF-16, any line ends
    _line_editing       lines typed at a terminal: editing, history, completion, pasting
    _page_bots          finds the bot to ask from the address of a page
    _transports         asks a question, or visits a page, over the transport of --via; the built-in bot without --url
    _conversations      begins or continues a conversation, asks, and saves it
    _owner              asks through the official REST API, as the site's owner
    _store              private files below the state directory, for --continue
    _history            files of messages, for --history and /save

    _terminal           prints to standard output and error
    _escaping           makes a server's text safe to show
    _standard_streams   standard streams that wait even if their descriptor is non-blocking
    _signals            SIGTERM and SIGHUP end the command as Ctrl-C does
    _printer            prints the events of an answer as they come
    _attachments        files for a question, and images in an answer
    _markdown           renders Markdown on a terminal while it grows, for --markdown
    _exits              exit codes, and the line about what went wrong and what to try
    _trace              the lines of -v

    _result_file        the record of `batch`: questions asked, and results
    _batch_summary      the progress bar of `batch`, and the figures at its end
    _comparison         the differences between two result files
    _result_report      the page of `batch --report`

    _site_facts         what `doctor` has seen of a site
    _examination        the requests and connections that it makes for this
    _diagnosis          what it finds wrong
    _finding            one line of that, and the lines that any request may need
    _least_version      the lowest version that the plugin can have

    _recording_format   the file that `record` writes
    _redaction          replaces secrets in a recording
    _answer_files       the input of `decode` and `replay`: a recording, a raw response or a bare body
    _undone_framing     a response whose framing or coding a tool has decoded, as `curl -i` does
    _fault_location     judges an answer in a file, and finds the faulty line

Help and completion are fast, because a command imports what it needs beyond click and
the core only when it runs.
"""

import errno
from collections.abc import Sequence

import click

from opchat_proto import __version__

from ._exits import EPILOG, EXIT_CODES, INTERRUPTED, OUTPUT_CLOSED
from ._signals import ending_signal, signals_end_as_ctrl_c
from ._standard_streams import waiting_streams
from ._terminal import OutputClosedError, drop_output, say
from .commands.ask import ask_command
from .commands.batch import batch_command
from .commands.bots import bots_command
from .commands.chat import chat_command
from .commands.decode import decode_command
from .commands.discussions import discussions_command
from .commands.doctor import doctor_command
from .commands.record import record_command
from .commands.replay import replay_command
from .commands.serve import serve_command

__all__ = ["COMMANDS", "EXIT_CODES", "run"]

COMMANDS: dict[str, click.Command] = {
    str(command.name): command
    for command in (
        ask_command,
        batch_command,
        bots_command,
        chat_command,
        decode_command,
        discussions_command,
        doctor_command,
        record_command,
        replay_command,
        serve_command,
    )
}
"""The commands by their names."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, by default those of the process. Returns its exit code."""
    with waiting_streams(), signals_end_as_ctrl_c():
        code = _run(arguments)
        ended_by = ending_signal()
        return code if ended_by is None else 128 + ended_by  # as in shells


def _run(arguments: Sequence[str] | None) -> int:
    try:
        return _command.main(arguments, "opchat", standalone_mode=False) or 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx is not None else "opchat"
        say(f"{' '.join(error.format_message().split())} (see {path} --help)")
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        drop_output()  # a reader that does not read must not block the exit
        return INTERRUPTED
    except OutputClosedError:
        return OUTPUT_CLOSED
    except OSError as error:  # from click, which prints help and version itself
        if error.errno != errno.ENOSPC:
            raise
        drop_output()
        say(f"the output cannot be written: {error.strerror}")
        return OUTPUT_CLOSED
    except SystemExit as left:
        if isinstance(left.__context__, BrokenPipeError):  # click raises it when its help meets a closed pipe
            drop_output()
            return OUTPUT_CLOSED
        return left.code if isinstance(left.code, int) else 1  # for example after shell completion


@click.group(commands=COMMANDS, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="opchat")
def _command() -> None:
    """Talk with the chatbots of WordPress sites that run AI Engine."""
