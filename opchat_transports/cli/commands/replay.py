"""`opchat replay`: a recording, or a raw response, served again on loopback."""

import math
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from opchat_proto import Reason

from .._answer_files import Part, parts, read
from .._terminal import say

if TYPE_CHECKING:
    from ...testing import Script, Step

__all__ = ["replay_command"]

_LONGEST = 1e6  # seconds, which nobody waits for: the slowest speeds lead to numbers that no clock takes
_JSON = (("Content-Type", "application/json; charset=UTF-8"),)
_STREAM = (("Content-Type", "text/event-stream;charset=UTF-8"),)


@click.command("replay")
@click.argument("file", default="-", type=click.Path(allow_dash=True))
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="0 takes a free one.")
@click.option("--speed", type=click.FloatRange(0, 1e6), default=1.0, show_default=True, help="0 is without waiting.")
def replay_command(file: str, port: int, speed: float) -> int:
    """Serve FILE again on 127.0.0.1, as it came, until Ctrl-C (exit code 0).

    FILE is what `opchat record` has written, a raw HTTP response or a bare body;
    the last two have no times. Each submit gets the next recorded answer, over a
    connection of its own; after the last it begins anew. start_session is answered
    with a good session, unless what is recorded ends there.
    """
    from ...testing import FaultServer

    if math.isnan(speed):  # which is in every range
        raise click.BadParameter("expected a number", param_hint="--speed")
    found = list(parts(file, read(file)))
    if not found:
        raise click.UsageError(f"{file}: nothing was answered in this recording")
    try:
        with FaultServer(_script(found, speed), port=port) as server:
            say(f"{file} is replayed until Ctrl-C; ask it with: opchat ask --url {server.url} Hello")
            threading.Event().wait()
    except OSError as error:
        raise click.UsageError(f"cannot listen on 127.0.0.1 port {port}: {error.strerror or error}") from None
    except KeyboardInterrupt:
        pass
    return 0


def _script(found: Sequence[Part], speed: float) -> "Script":
    """What is done about the requests, one after the other; after the last it begins anew."""
    from ...testing import Close, Reset, Stall

    steps: list[Step] = []
    submits = [index for index, part in enumerate(found) if _route(part) != "start_session"]
    last_submit = submits[-1] if submits else -1
    for index, part in enumerate(found):
        if _route(part) == "start_session" and index < last_submit:
            continue
        end = None if part.exchange is None else part.exchange.end
        steps += _steps(part, speed)
        if end is not None and end.event == "failed" and end.more.get("reason") == Reason.LOST.value:
            steps.append(Reset())
        elif (
            index < len(found) - 1
            or part.exchange is None
            or part.answer.is_complete
            or (end is not None and end.event == "closed")
        ):
            steps.append(Close())
        else:
            steps.append(Stall())
    return tuple(steps)


def _steps(part: Part, speed: float) -> "Iterator[Step]":
    from ...testing import Delay, Expect, Write, response

    yield Expect(_route(part))
    if part.exchange is not None:
        now = part.exchange.sent.time
        for happening in part.exchange.received:
            if speed and (pause := (happening.time - now) / speed) > 0:
                yield Delay(min(pause, _LONGEST))
            yield Write(happening.data)
            now = max(now, happening.time)
    elif part.body is not None:
        body, status = part.data[part.body.start : part.body.end], part.body.status
        fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in part.body.headers]
        yield Write(response(body, status=status, headers=fields, framing="close"))
    elif part.is_http:
        yield Write(part.data[part.answer.start : part.answer.end])
    else:
        kind = _JSON if part.data.lstrip().startswith(b"{") else _STREAM
        yield Write(response(part.data, headers=kind, framing="close"))


def _route(part: Part) -> str:
    return "submit" if part.exchange is None else part.exchange.route
