"""`--user` and `--cookie-file`: sign a member in. The secrets stay in memory, and are never written to a file."""

import getpass
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

import click

from opchat_proto import Endpoint, Session

from ._stdin import utf8_text
from ._terminal import is_terminal, say
from ._text import NotTextError, decode_text

__all__ = ["Login", "login_of", "login_options", "merge"]

_PASSWORD = "OPCHAT_PASSWORD"
_MOST = 1024 * 1024  # bytes in a file of cookies


@final
@dataclass(frozen=True, slots=True)
class Login:
    """A member's login for the site of --url, and for no other."""

    origin: str
    user: str | None
    """None for a browser's cookies."""
    secret: str = field(repr=False)
    """The application password, or the text of the file of cookies."""

    def session(self, endpoint: Endpoint) -> Session:
        """Make a session with this login. Raises `UsageError` for another site, or if it has no credentials."""
        if endpoint.origin != self.origin:
            raise click.UsageError(
                f"the chat is at {endpoint.origin}, and you sign in at {self.origin}: use the former as --url"
            )
        try:
            if self.user is not None:
                return Session.from_application_password(self.user, self.secret)
            return Session.from_cookies(self.secret, endpoint, now=time.time())
        except ValueError as error:
            what = "--cookie-file: " if self.user is None else "--user: "
            raise click.UsageError(f"{what}{str(error).removeprefix('cookies: ')}") from None

    def secrets(self, endpoint: Endpoint) -> list[str]:
        """The secrets that a recording must not contain."""
        if self.user is None:
            return []
        return [self.secret, self.secret.replace(" ", ""), self.session(endpoint).authorization.rpartition(" ")[2]]


def login_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options of `Login`. Its settings then have a `login`."""
    command = click.option(
        "--cookie-file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Sign in with a browser's cookies: cookies.txt, or a Cookie header.",
    )(command)
    return click.option(
        "--user",
        metavar="NAME",
        help=f"Sign in with an application password of WordPress: {_PASSWORD}, or a prompt.",
    )(command)


def login_of(values: dict[str, Any], endpoint: Endpoint | None) -> Login | None:
    """Remove these options from the values, and return the login. Raises `UsageError`."""
    user, cookie_file = values.pop("user", None), values.pop("cookie_file", None)
    if user is None and cookie_file is None:
        return None
    if user is not None and cookie_file is not None:
        raise click.UsageError("expected --user or --cookie-file, not both")
    if endpoint is None:
        raise click.UsageError(f"{'--user' if user is not None else '--cookie-file'}: expected --url, a site")
    if user is not None:
        login = Login(endpoint.origin, utf8_text(user), _password())
    else:
        login = Login(endpoint.origin, None, _read(cookie_file))
    login.session(endpoint)  # raises now if it is unusable
    return login


def merge(login: Login | None, endpoint: Endpoint, session: Session | None) -> Session | None:
    """The session to ask with: an earlier one or the page's, with the login. Raises `UsageError`."""
    if session is not None and session.is_member and (session.authorization or session.cookie):
        return session  # from an earlier question
    if login is None:
        if session is not None and session.member is not None:
            whose = session.member or "a member"
            raise click.UsageError(f"this conversation is one of {whose}'s: sign in with --user or --cookie-file")
        return session
    own = login.session(endpoint)
    if session is None:
        return own
    if session.member is None:
        return replace(own, session_id=session.session_id)  # without a guest's nonce
    nonce = session.nonce if login.user is None else None
    return replace(own, nonce=nonce, session_id=session.session_id, member=session.member)


def _password() -> str:
    given = os.environ.get(_PASSWORD)
    if given:
        return given
    if not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
        raise click.UsageError(f"--user: expected the application password in the variable {_PASSWORD}")
    try:
        return getpass.getpass("Application password: ", sys.stderr)
    except EOFError:
        say("")
        raise click.UsageError(f"--user: expected the application password, here or in {_PASSWORD}") from None


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST + 1)
        if len(data) > _MOST:
            raise click.UsageError(f"--cookie-file {path}: expected at most {_MOST // 1024} KiB")
        return decode_text(data)
    except OSError as error:
        raise click.UsageError(f"--cookie-file {path}: {error.strerror}") from None
    except NotTextError as error:
        raise click.UsageError(f"--cookie-file {path}: {error}") from None
