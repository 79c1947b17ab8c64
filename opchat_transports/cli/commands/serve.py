"""`opchat serve`: a site with bots, under uvicorn, or under the small server without it."""

import ipaddress
import json
import logging
import os
import secrets
import socket
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import click

from opchat_proto import Site

from ..._bot_kinds import as_sync, load_bot, with_files
from ..._serving import OncePerSecond, as_mapping, server_url
from .._terminal import say

if TYPE_CHECKING:
    from ...asgi import Application
    from ...file_store import FileStore

__all__ = ["application_of_command", "serve_command"]

_BUILT_IN = "opchat_transports.bots:small_talk"
_VARIABLE = "OPCHAT_SERVE"  # passes the options to the worker processes
_STOPS_WITHIN = 5  # seconds, for open answers
_BACKLOG = 512  # asyncio accepts this many in one turn, before it can close an excess one
_OTHER_FILES = 100
_OF_BOTH = ("allowed_hosts", "debug", "greeting", "origins", "suggestions", "title")  # arguments of both servers


@click.command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any free port.")
@click.option(
    "--bot",
    "bots",
    multiple=True,
    metavar="[NAME=]MODULE:CALLABLE",
    help="The bot that answers. Repeat it, with names, for several bots. Without it: a small built-in bot.",
)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="How many processes.")
@click.option("--connections", type=click.IntRange(1), default=500, show_default=True, help="Most in each process.")
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=40,
    show_default=True,
    help="Most questions that blocking bots answer at once, in each process (under uvicorn).",
)
@click.option(
    "--allowed-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    help="A host name that requests may use; * is any. Can be repeated. "
    "Default on a loopback address: this machine's own names; else any.",
)
@click.option(
    "--origin", "origins", multiple=True, metavar="ORIGIN", help="Another origin whose pages may ask. Can be repeated."
)
@click.option(
    "--files",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Take uploads, and keep each there for an hour. Bots are called with the question and its files.",
)
@click.option(
    "--secret",
    envvar="OPCHAT_SECRET",
    show_envvar=True,
    help="The key of the nonces. The same one on all machines of a site, and after a restart. Default: a random one.",
)
@click.option("--title", default="Chat", show_default=True, help="The title of the chat page.")
@click.option("--greeting", default="", metavar="MARKDOWN", help="The first message of each chat.")
@click.option(
    "--suggestion",
    "suggestions",
    multiple=True,
    metavar="QUESTION",
    help="A question that the chat page offers. Can be repeated.",
)
@click.option("--debug", is_flag=True, help="Show a failed bot's exception to clients.")
@click.option("--quiet", is_flag=True, help="Do not log requests.")
def serve_command(
    host: str, port: int, bots: tuple[str, ...], workers: int, allowed_hosts: tuple[str, ...], secret: str | None,
    **told: Any,
) -> int:  # fmt: skip
    """Answer as a site would, until Ctrl-C (exit code 0).

    A bot takes a question and yields pieces of the answer; it may be async or
    blocking. It runs under uvicorn (pip install 'opchat[serve]'), or without uvicorn
    under a small server with a thread for each connection.
    """
    # Before the current directory is searched for modules.
    has_uvicorn = find_spec("uvicorn") is not None and find_spec("anyio") is not None
    if has_uvicorn:
        from ... import asgi, uvicorn_protocol  # noqa: F401  # loaded before that search
    named = _names(bots)
    try:
        loaded = _load(named)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--bot") from None
    try:
        with_files(as_mapping(loaded.get("bot"), loaded.get("bots")), _store(told.get("files")))
    except OSError as error:
        raise click.BadParameter(f"{error.filename}: {error.strerror}", param_hint="--files") from None
    except TypeError as error:
        raise click.BadParameter(str(error), param_hint="--bot") from None
    key = secrets.token_bytes() if secret is None else secret.encode(errors="surrogateescape")
    hosts = _hosts(host, allowed_hosts)
    try:
        Site(key, origins=told["origins"], hosts=hosts)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    told |= {"bots": named, "secret": key.hex(), "allowed_hosts": hosts}
    told["connections"] = _with_files(told["connections"])
    who = ", ".join(bots) or "the built-in bot"
    try:
        if has_uvicorn:
            _run_uvicorn(host, port, workers, told, who)
        elif workers > 1:
            raise click.UsageError("--workers needs uvicorn: pip install 'opchat[serve]'")
        else:
            _run_small(host, port, told, who)
    except KeyboardInterrupt:  # also right after the line that says where it answers
        pass
    except OSError as error:
        raise click.UsageError(f"cannot listen on {host} port {port}: {error.strerror or error}") from None
    return 0


def application_of_command() -> "Application":
    """The application of this process, with the options of the command. uvicorn calls it in each worker."""
    from ...asgi import application
    from ...uvicorn_protocol import BoundedProtocol

    told: dict[str, Any] = json.loads(os.environ[_VARIABLE])
    _log_to_stderr(quiet=told["quiet"])
    BoundedProtocol.connections_at_most = told["connections"]
    options = {name: told[name] for name in (*_OF_BOTH, "threads")}
    options["files"] = _store(told.get("files"))
    return application(**_load(told["bots"]), secret=bytes.fromhex(told["secret"]), **options)


def _run_uvicorn(host: str, port: int, workers: int, told: dict[str, Any], who: str) -> None:
    import uvicorn

    from ...uvicorn_protocol import BoundedProtocol

    os.environ[_VARIABLE] = json.dumps(told)
    options: dict[str, Any] = {
        "app": f"{__name__}:{application_of_command.__name__}",
        "factory": True,
        "http": BoundedProtocol,
        "ws": "none",
        "log_config": None,
        "log_level": "warning",
        "access_log": False,  # the application has its own
        "backlog": _BACKLOG,
        "timeout_graceful_shutdown": _STOPS_WITHIN,
    }
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=_BACKLOG) as listener:
        port = listener.getsockname()[1]
        _announce(who, server_url(host, port))
        if workers == 1:
            uvicorn.Server(uvicorn.Config(**options)).run(sockets=[listener])
            return
    uvicorn.run(**options, host=host, port=port, workers=workers)  # it listens itself


def _run_small(host: str, port: int, told: dict[str, Any], who: str) -> None:
    from ...blocking_server import serve

    _log_to_stderr(quiet=told["quiet"])
    options = {name: told[name] for name in (*_OF_BOTH, "connections")}
    options["files"] = _store(told.get("files"))
    loaded = _load(told["bots"])
    bots = (
        {"bot": as_sync(loaded["bot"])}
        if "bot" in loaded
        else {"bots": {name: as_sync(bot) for name, bot in loaded["bots"].items()}}
    )
    with serve(**bots, host=host, port=port, secret=bytes.fromhex(told["secret"]), **options) as server:
        _announce(who, server.url)
        server.wait()


def _announce(who: str, url: str) -> None:
    say(f"{who} answers until Ctrl-C, in browsers at {url}/, or to: opchat ask --url {url} Hello")


def _store(directory: str | None) -> "FileStore | None":
    from ...file_store import FileStore

    return None if directory is None else FileStore(directory)


def _names(bots: tuple[str, ...]) -> dict[str, str]:
    """The location of each bot by its name; "" for a bot without a name. Raises `click.BadParameter`."""
    pairs = [bot.rpartition("=") for bot in bots]
    named = {name: where for name, _, where in pairs}
    if len(bots) > 1 and (len(named) < len(bots) or "" in named):
        text = "each of several bots needs a name of its own: --bot sales=mybot:sales --bot help=mybot:help"
        raise click.BadParameter(text, param_hint="--bot")
    return named


def _load(named: dict[str, str]) -> dict[str, Any]:
    """The bots, as the argument of a server. Raises `ValueError`."""
    if not named:
        return {"bot": load_bot(_BUILT_IN)}
    if "" not in sys.path:
        sys.path.append("")  # a module in the current directory; installed ones come first
    loaded = {name: load_bot(where) for name, where in named.items()}
    return {"bot": loaded[""]} if "" in loaded else {"bots": loaded}


def _hosts(host: str, allowed: tuple[str, ...]) -> tuple[str, ...]:
    """The host names that requests to this address may use; () allows any."""
    if "*" in allowed or not (allowed or _is_loopback(host)):
        return ()
    own = ("localhost", "127.0.0.1", "[::1]", f"[{host}]" if ":" in host else host) if _is_loopback(host) else ()
    return tuple(dict.fromkeys(name.lower() for name in (*own, *allowed)))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _with_files(connections: int) -> int:
    """How many connections this process has descriptors for, after asking the system for as many as it needs."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return connections
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + _BACKLOG + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return max(1, min(connections, soft - _BACKLOG - _OTHER_FILES))
    return connections


def _log_to_stderr(*, quiet: bool) -> None:
    logging.basicConfig(format="%(asctime)s %(levelname)s: %(message)s")  # unless the bot has chosen otherwise
    logging.getLogger("asyncio").addFilter(OncePerSecond())
    if not quiet:
        logging.getLogger("opchat_transports.access").setLevel(logging.INFO)
