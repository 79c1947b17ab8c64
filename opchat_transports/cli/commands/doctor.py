"""`opchat doctor`: finds out why a site does not answer."""

import click

from .._exits import EPILOG
from .._login import login_options
from .._options import AskingCommand, Settings, examining_options
from .._terminal import Output

__all__ = ["doctor_command"]

_LONGEST = 1000  # characters; a site may have written the text

_EXAMPLES = """\b
Examples:
  opchat doctor https://site.example/contact/
  opchat doctor --ask --bot sales site.example/contact/
  opchat doctor --json site.example | jq 'select(.status == "problem")'
"""


@click.command("doctor", cls=AskingCommand, epilog=f"{_EXAMPLES}\n{EPILOG}")
@examining_options
@login_options
@click.option("--ask", "with_question", is_flag=True, help="Also ask one short question, to see its answer arrive.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per check.")
def doctor_command(url: str, settings: Settings, with_question: bool, as_json: bool) -> int:
    """Find out what prevents an answer from the chat at URL.

    URL is a page with the chat, a site or a REST root. Each line is one check, ok or a
    problem, with what to do about it. Nothing is asked without --ask. Any other answer
    must come within 30 seconds, unless a timeout is given. With --user or
    --cookie-file it also finds out whether the site takes you for a member. The exit
    code is 0 only if a question would be answered.
    """
    from .._diagnosis import diagnose
    from .._examination import examine

    output = Output()
    findings = diagnose(examine(settings, url, with_question=with_question))
    for finding in findings:
        text, advice = _line(finding.text), _line(finding.advice)
        status = "problem" if finding.is_problem else "ok"
        if as_json:
            shown = {"check": finding.check, "status": status, "detail": text, "advice": advice or None}
            output.json({**shown, "blocks": finding.exit_code != 0})
        else:
            output.text(f"{status:7}  {finding.check.replace('_', ' ')}: {text}\n")
            if advice:
                output.text(f"         -> {advice}\n")
    return next((finding.exit_code for finding in findings if finding.exit_code), 0)


def _line(text: str) -> str:
    return " ".join(text.split())[:_LONGEST]
