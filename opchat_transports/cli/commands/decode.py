"""`opchat decode`: shows the events in a recording, a raw response or a body, and the first fault."""

import json
from dataclasses import replace
from typing import Any

import click

from opchat_proto import Broken, End, Event, Live, Reason

from ..._broken import broken_line
from .._answer_files import Part, parts, read
from .._exits import EPILOG, EXIT_CODES, exit_code
from .._printer import event_fields
from .._terminal import Output

__all__ = ["decode_command"]


# What a member asks WordPress before a question: its answers are not for the chat, and only a refusal is a fault.
_NOT_OF_THE_CHAT = ("me", "admin-ajax.php?action=rest-nonce")


@click.command("decode", epilog=EPILOG, short_help="Print the events in FILE, and explain the first fault.")
@click.argument("file", default="-", type=click.Path(allow_dash=True))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per answer and per event.")
@click.option("--raw", is_flag=True, help="Do not escape control characters.")
def decode_command(file: str, as_json: bool, raw: bool) -> int:
    """Print the events in FILE, with byte offsets, and explain the first fault.

    FILE is a recording from `opchat record`, a raw HTTP response, or a bare body as
    `curl -N` writes it; "-" is standard input. Its bytes show which it is. The
    offset of an event is the number of bytes up to its end: in the file, or in a
    recording, received on its connection. The exit code is the one of the first
    broken answer.
    """
    output = Output(raw=raw)
    code = number = 0
    for number, part in enumerate(parts(file, read(file)), 1):
        head = _answer_fields(number, part)
        if as_json:
            output.json(head)
        else:
            output.text(_answer_line(head))
        if part.exchange is not None and part.exchange.route in _NOT_OF_THE_CHAT and part.answer.status == 200:
            continue
        for event, offset in part.answer.events:
            fault = _fault_fields(part, event) if isinstance(event, Broken) else {}
            if as_json:
                output.json({**event_fields(event), "answer": number, "offset": offset, **fault})
            else:
                output.text(f"{offset:>9}  {_event_line(event)}\n")
                if isinstance(event, Broken):
                    output.text(f"           at byte {offset}, line {fault['line']}: {fault['line_text']}\n")
            if isinstance(event, Broken):
                code = code or _exit_code(event, part)
    if not number:
        output.say(f"{file}: this recording contains no answer")
        return EXIT_CODES[Reason.LOST]
    return code


def _answer_fields(number: int, part: Part) -> dict[str, Any]:
    fields: dict[str, Any] = {"type": "answer", "answer": number, "start": part.answer.start, "end": part.answer.end}
    if part.is_http:
        fields["status"] = part.answer.status
    if part.body is not None:
        fields["undone"] = part.body.why
    if part.exchange is not None:
        fields |= {"connection": part.connection, "route": part.exchange.route}
    return fields


def _answer_line(fields: dict[str, Any]) -> str:
    what = f"answer {fields['answer']}, bytes {fields['start']} to {fields['end']}"
    if "route" in fields:
        what += f" of connection {fields['connection']}, to {fields['route']}"
    if "status" in fields:
        what += f", status {fields['status']}" if fields["status"] is not None else ", without a whole head"
    if "undone" in fields:
        what += f"; already decoded by a tool: {fields['undone']}"
    return f"{what}:\n"


def _event_line(event: Event) -> str:
    match event:
        case Live(text, kind="content"):
            return f"live    {json.dumps(text, ensure_ascii=False)}"
        case Live(text, kind):
            return f"live    ({json.dumps(kind, ensure_ascii=False)[1:-1]}) {json.dumps(text, ensure_ascii=False)}"
        case End(reply):
            return f"end     {json.dumps(reply, ensure_ascii=False)}"
        case Broken(reason):
            return f"broken  {reason.name}: {broken_line(event)}"


def _fault_fields(part: Part, event: Broken) -> dict[str, Any]:
    assert part.answer.fault is not None
    number, text = part.answer.fault
    return {"line": number, "line_text": text, "why": broken_line(event), "exit_code": _exit_code(event, part)}


def _exit_code(broken: Broken, part: Part) -> int:
    return exit_code(replace(broken, in_session=part.exchange is not None and part.exchange.route == "start_session"))
