"""The same questions through real proxies on loopback. `pytest tests/external` runs this; plain `pytest` does not.

Needs tinyproxy, squid and microsocks (Debian: tinyproxy-bin, squid, microsocks), which .ci/run installs.
"""

import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest
import trustme

from opchat_proto import End, Live, Reason, Session
from opchat_transports.testing import FaultServer

from ..transports.asking import ASKS, Ask
from ..transports.peer import free_port, refusing_port
from ..transports.tls import tls_server, trusting
from ..transports.wire import LAST, STREAM, end, live, serves, tells

STARTS_WITHIN = 60.0


@pytest.fixture(autouse=True)
def no_proxy_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.fixture(params=ASKS)
def ask(request: pytest.FixtureRequest) -> Ask:
    return ASKS[request.param]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def trust(authority: trustme.CA) -> ssl.SSLContext:
    return trusting(authority)


@contextmanager
def running(port: int, *command: str | Path) -> Iterator[None]:
    """Run a server as a process. Yields once it listens."""
    program = shutil.which(str(command[0]), path=f"{os.environ['PATH']}:/usr/sbin")
    assert program is not None, f"{command[0]} is not installed; see .ci/run"
    process = subprocess.Popen([program, *command[1:]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + STARTS_WITHIN
        while True:
            try:
                with closing(socket.create_connection(("127.0.0.1", port))):
                    break
            except ConnectionRefusedError:
                assert time.monotonic() < end, f"{program} does not listen"
            with suppress(subprocess.TimeoutExpired):
                raise AssertionError(f"{program} has ended: {process.wait(0.05)}")
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def tinyproxy(folder: Path, authority: trustme.CA) -> tuple[ExitStack, str]:
    """CONNECT and absolute-form requests, with a password."""
    port = free_port()
    config = folder / "tinyproxy.conf"
    config.write_text(f"Port {port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 20\nBasicAuth ulla s3cret\n")
    return started(port, "tinyproxy", "-d", "-c", config), f"http://ulla:s3cret@127.0.0.1:{port}"


def squid(folder: Path, authority: trustme.CA, *, tls: bool = False) -> tuple[ExitStack, str]:
    port = free_port()
    folder.chmod(0o755)
    pem = folder / "proxy.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(pem))
    pem.chmod(0o644)  # started by root, it switches to another user
    listens = f"https_port 127.0.0.1:{port} tls-cert={pem}" if tls else f"http_port 127.0.0.1:{port}"
    config = folder / "squid.conf"
    config.write_text(
        f"{listens}\nhttp_access allow all\ncache deny all\naccess_log none\ncache_log /dev/null\n"
        "server_persistent_connections off\npid_filename none\n"
        "shutdown_lifetime 0 seconds\npinger_enable off\nnetdb_filename none\n"
    )
    return started(port, "squid", "-N", "-f", config), f"{'https' if tls else 'http'}://localhost:{port}"


def squid_with_tls(folder: Path, authority: trustme.CA) -> tuple[ExitStack, str]:
    return squid(folder, authority, tls=True)


def microsocks(folder: Path, authority: trustme.CA) -> tuple[ExitStack, str]:
    port = free_port()
    return started(port, "microsocks", "-i", "127.0.0.1", "-p", str(port)), f"socks5://127.0.0.1:{port}"


def microsocks_with_password(folder: Path, authority: trustme.CA) -> tuple[ExitStack, str]:
    port = free_port()
    command = ("microsocks", "-i", "127.0.0.1", "-p", str(port), "-u", "ulla", "-P", "s3cret")
    return started(port, *command), f"socks5h://ulla:s3cret@127.0.0.1:{port}"


def started(port: int, *command: str | Path) -> ExitStack:
    stack = ExitStack()
    stack.enter_context(running(port, *command))
    return stack


PROXIES: list[Callable[[Path, trustme.CA], tuple[ExitStack, str]]] = [
    tinyproxy,
    squid,
    squid_with_tls,
    microsocks,
    microsocks_with_password,
]


@pytest.fixture(scope="module", params=PROXIES, ids=lambda start: start.__name__)
def proxy(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA
) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("proxy")
    folder.parent.chmod(0o755)
    folder.parent.parent.chmod(0o755)
    stack, url = request.param(folder, authority)
    with stack:
        yield url


ANSWERS_ANY = serves(STREAM, live("Hel"), live("lo"), end("Hello"), LAST)  # a proxy may keep a connection


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_question_is_answered(
    ask: Ask, proxy: str, scheme: str, authority: trustme.CA, trust: ssl.SSLContext
) -> None:
    with FaultServer(ANSWERS_ANY, ssl_context=tls_server(authority) if scheme == "https" else None) as server:
        events = ask(f"{scheme}://localhost:{server.port}", proxy=proxy, ssl_context=trust)
    assert events[:-1] == [Live("Hel"), Live("lo")]
    assert events[-1].reply == "Hello"
    assert server.routes == ("start_session", "submit")
    assert b"Proxy-Auth" not in b"".join(request.raw for request in server.requests)


# tinyproxy closes after each answer without announcing it, so it reveals questions lost on reused connections.
@pytest.mark.parametrize("proxy", [tinyproxy], indirect=True, ids=["tinyproxy"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_two_hundred_questions_are_all_answered(
    ask: Ask, proxy: str, scheme: str, authority: trustme.CA, trust: ssl.SSLContext
) -> None:
    with FaultServer(ANSWERS_ANY, ssl_context=tls_server(authority) if scheme == "https" else None) as server:
        url = f"{scheme}://localhost:{server.port}"
        last = [ask(url, proxy=proxy, ssl_context=trust)[-1] for _ in range(200)]
    assert [type(event) for event in last] == [End] * 200
    assert server.routes == ("start_session", "submit") * 200


def test_a_site_with_an_untrusted_certificate_is_refused(
    ask: Ask, proxy: str, authority: trustme.CA, trust: ssl.SSLContext
) -> None:
    with FaultServer(tells("a"), ssl_context=tls_server(authority, "other.example")) as server:
        url = f"https://localhost:{server.port}"
        [broken] = ask(url, proxy=proxy, ssl_context=trust, session=Session())
    assert broken.reason is Reason.LOST
    assert broken.detail.startswith("TLS with localhost failed: the certificate is not trusted: ")
    assert server.requests == ()


def test_an_unreachable_site_fails(ask: Ask, proxy: str, trust: ssl.SSLContext) -> None:
    with refusing_port() as port:
        [broken] = ask(f"https://localhost:{port}", proxy=proxy, ssl_context=trust, session=Session())
    assert broken.reason is Reason.PROXY
    assert "s3cret" not in repr(broken)


def test_a_wrong_password_is_refused(ask: Ask, proxy: str, trust: ssl.SSLContext) -> None:
    scheme, _, rest = proxy.partition("://")
    wrong = f"{scheme}://ulla:an0ther@{rest.rpartition('@')[2]}"
    with refusing_port() as port:
        [broken] = ask(f"https://localhost:{port}", proxy=wrong, ssl_context=trust, session=Session())
    assert broken.reason is Reason.PROXY
    assert "an0ther" not in repr(broken)
