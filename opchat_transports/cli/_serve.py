"""`opchat serve`: the library's server."""

import click

from ._output import say

__all__ = ["serve_command"]


@click.command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
def serve_command(host: str, port: int) -> int:
    """Answer as a site would, with the small built-in bot, until Ctrl-C (exit code 0)."""
    from ..blocking_sockets import serve
    from ..bots import small_talk

    try:
        server = serve(small_talk, host, port)
    except OSError as error:
        raise click.UsageError(f"cannot listen on {host} port {port}: {error.strerror or error}") from None
    try:
        with server:
            say(f"the built-in bot answers until Ctrl-C; ask it with: opchat ask --url {server.url} Hello")
            server.wait()
    except KeyboardInterrupt:
        pass
    return 0
