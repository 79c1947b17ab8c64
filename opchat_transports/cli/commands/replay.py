"""`opchat replay`: serves a recording or a raw response again on loopback."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from opchat_proto import Reason

from .._answer_files import Part, parts, read
from .._terminal import say

if TYPE_CHECKING:
    from ...testing import Script, Step

__all__ = ["replay_command"]

_LONGEST = 1e6  # seconds; the slowest speeds would give numbers too large for clocks
_JSON = (("Content-Type", "application/json; charset=UTF-8"),)
_STREAM = (("Content-Type", "text/event-stream;charset=UTF-8"),)


@click.command("replay", short_help="Serve FILE again on 127.0.0.1, with its timing.")
@click.argument("file", default="-", type=click.Path(allow_dash=True))
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="0: any free port.")
@click.option("--speed", type=click.FloatRange(0, 1e6), default=1.0, show_default=True, help="Factor; 0: no wait.")
def replay_command(file: str, port: int, speed: float) -> int:
    """Serve FILE again on 127.0.0.1, with its timing, until Ctrl-C (exit code 0).

    FILE is a recording from `opchat record`, a raw HTTP response or a bare body;
    the last two have no timing. Each submit gets the next recorded answer, over its
    own connection; after the last one comes the first again. start_session gets a
    good session, unless the recording ends there.
    """
    from ..._sockets import Flag
    from ...testing import FaultServer

    if math.isnan(speed):  # NaN passes every range check
        raise click.BadParameter("expected a number", param_hint="--speed")
    found = list(parts(file, read(file)))
    if not found:
        raise click.UsageError(f"{file}: this recording contains no answer")
    try:
        with FaultServer(_script(found, speed), port=port) as server:
            say(f"{file} is replayed until Ctrl-C; ask it with: opchat ask --url {server.url} Hello")
            Flag().wait(math.inf)
    except OSError as error:
        raise click.UsageError(f"cannot listen on 127.0.0.1 port {port}: {error.strerror or error}") from None
    except KeyboardInterrupt:
        pass
    return 0


def _script(found: Sequence[Part], speed: float) -> "Script":
    """The script that answers the requests in order, and starts again after the last."""
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
