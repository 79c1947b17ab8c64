"""The command `opchat serve`: a site with a bot, under uvicorn, or under the small server where that is missing."""

import json
import os
import secrets
import socket
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import click

from opchat_proto import Site

from ..._serving import as_async, as_sync, load_bot, server_url
from .._terminal import say

if TYPE_CHECKING:
    from ...asgi import Application

__all__ = ["application_of_command", "serve_command"]

_BUILT_IN = "opchat_transports.bots:small_talk"
_VARIABLE = "OPCHAT_SERVE"  # tells the worker processes what the command was told
_STOPS_WITHIN = 5  # seconds, for answers under way
_BACKLOG = 2048


@click.command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option("--bot", metavar="MODULE:CALLABLE", help="Who answers. Without it: a small built-in bot.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="How many processes.")
@click.option(
    "--origin", "origins", multiple=True, metavar="ORIGIN", help="Another origin whose pages may ask. Can be repeated."
)
@click.option(
    "--secret",
    envvar="OPCHAT_SECRET",
    show_envvar=True,
    help="The key of the nonces. The same one on all machines of a site, and after a restart. Default: a random one.",
)
@click.option("--debug", is_flag=True, help="Tell clients what a bot that failed has raised.")
def serve_command(
    host: str, port: int, bot: str | None, workers: int, origins: tuple[str, ...], secret: str | None, debug: bool
) -> int:
    """Answer as a site would, until Ctrl-C (exit code 0).

    A bot is called with each question and gives pieces of the answer; it may be
    async or not. It runs under uvicorn (pip install 'opchat[serve]') or, where
    that is missing, under a small server with a thread for each connection.
    """
    name = _BUILT_IN if bot is None else bot
    try:
        load_bot(name)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--bot") from None
    key = secrets.token_bytes() if secret is None else secret.encode(errors="surrogateescape")
    try:
        Site(key, origins=origins)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    told = {"bot": name, "secret": key.hex(), "origins": origins, "debug": debug}
    who = bot or "the built-in bot"
    try:
        if find_spec("uvicorn") is not None and find_spec("anyio") is not None:
            _run_uvicorn(host, port, workers, told, who)
        elif workers > 1 or debug:
            raise click.UsageError("--workers and --debug need uvicorn: pip install 'opchat[serve]'")
        else:
            _run_small(host, port, told, who)
    except OSError as error:
        raise click.UsageError(f"cannot listen on {host} port {port}: {error.strerror or error}") from None
    return 0


def application_of_command() -> "Application":
    """The application of this process, as the command was told by its user: uvicorn calls it in each worker."""
    from ...asgi import application

    told: dict[str, Any] = json.loads(os.environ[_VARIABLE])
    bot = as_async(load_bot(told["bot"]))
    return application(bot, secret=bytes.fromhex(told["secret"]), origins=told["origins"], debug=told["debug"])


def _run_uvicorn(host: str, port: int, workers: int, told: dict[str, Any], who: str) -> None:
    import uvicorn

    os.environ[_VARIABLE] = json.dumps(told)
    options: dict[str, Any] = {
        "app": f"{__name__}:{application_of_command.__name__}",
        "factory": True,
        "http": "h11",  # httptools puts no limit on a head
        "ws": "none",
        "log_level": "warning",
        "timeout_graceful_shutdown": _STOPS_WITHIN,
    }
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=_BACKLOG) as listener:
        port = listener.getsockname()[1]
        _announce(who, server_url(host, port))
        if workers == 1:
            with suppress(KeyboardInterrupt):
                uvicorn.Server(uvicorn.Config(**options)).run(sockets=[listener])
            return
    uvicorn.run(**options, host=host, port=port, workers=workers)  # it listens itself


def _run_small(host: str, port: int, told: dict[str, Any], who: str) -> None:
    from ...blocking_server import serve

    key = bytes.fromhex(told["secret"])
    with serve(as_sync(load_bot(told["bot"])), host, port, secret=key, origins=told["origins"]) as server:
        _announce(who, server.url)
        with suppress(KeyboardInterrupt):
            server.wait()


def _announce(who: str, url: str) -> None:
    say(f"{who} answers until Ctrl-C, in browsers at {url}/, or to: opchat ask --url {url} Hello")
