"""The command's messages about failing sites, how it reads addresses, and its help."""

import json
import re
import socket
import ssl
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme

from opchat_transports.cli import COMMANDS
from opchat_transports.testing import Expect, FaultServer

from .command import ENVIRONMENT, Terminal, asking, opchat
from .peer import Peer, takes
from .wire import answer, answers, object_, tells

VIAS = ["blocking", "trio", "asyncio", "httpx"]


@pytest.fixture(params=VIAS)
def via(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def names(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> list[str]:
    """Make these names resolve to this machine. Returns the list of lookups."""
    asked: list[str] = []
    look_up = socket.getaddrinfo

    def getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else str(host)
        asked.append(name)
        return look_up("127.0.0.1" if name in hosts else host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


# ------------------------------------------------------------------------------------------------ TLS

TRUST_IT = "if you trust it, name its certificate with --cacert FILE or in the variable SSL_CERT_FILE"


def test_a_self_signed_certificate_gives_advice(
    via: str, certificates: dict[str, ssl.SSLContext], authority: trustme.CA, tmp_path: Path
) -> None:
    with FaultServer(tells("a"), ssl_context=certificates["good"]) as server:
        url = f"https://localhost:{server.port}"
        result = opchat("ask", "--via", via, "--url", url, "Hi")
        assert result.returncode == 7
        assert "the certificate is not trusted" in result.stderr
        assert result.stderr.endswith(f"{TRUST_IT})\n")
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        for command in (["ask"], ["record", str(tmp_path / "a")]):
            result = opchat(*command, "--cacert", str(tmp_path / "ca.pem"), "--via", via, "--url", url, "Hi")
            assert (result.stdout, result.returncode) == ("a\n", 0)


@pytest.mark.parametrize("kind", ["expired", "wrong name"])
def test_a_certificate_for_another_name_or_day_gives_advice(
    kind: str, certificates: dict[str, ssl.SSLContext], authority: trustme.CA, tmp_path: Path
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with FaultServer(tells("a"), ssl_context=certificates[kind]) as server:
        url = f"https://localhost:{server.port}"
        result = opchat("ask", "--cacert", str(tmp_path / "ca.pem"), "--url", url, "Hi")
    assert result.returncode == 7
    assert "the certificate must be valid for this name and date" in result.stderr


@pytest.mark.parametrize(
    ("content", "line"),
    [(None, "No such file or directory"), ("no certificate", "expected certificates in PEM"), ("", "expected")],
)
def test_a_malformed_cacert_is_wrong_usage(content: str | None, line: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)
    result = opchat("ask", "--cacert", str(tmp_path / "ca.pem"), "--url", "https://127.0.0.1:1", "Hi")
    assert (result.stdout, result.returncode, result.stderr.count("\n")) == ("", 2, 1)
    assert line in result.stderr


def test_a_variable_that_names_no_file_gives_one_line(tmp_path: Path) -> None:
    environment = ENVIRONMENT | {"SSL_CERT_FILE": str(tmp_path / "none")}
    result = opchat("ask", "--url", "https://127.0.0.1:1", "Hi", env=environment)
    assert (result.stdout, result.returncode, result.stderr.count("\n")) == ("", 2, 1)
    assert "SSL_CERT_FILE" in result.stderr


def test_https_to_a_plain_port_says_to_try_http(via: str) -> None:

    @takes
    def refuses(peer: Peer) -> None:
        peer.socket.recv(65536)  # not HTTP
        peer.send(answer(b"Bad request", 400))

    with FaultServer(refuses) as server:
        secure = server.url.replace("http:", "https:")
        result = opchat("ask", "--via", via, "--url", f"{secure}/blog", "Hi")
    assert result.returncode == 7
    assert result.stderr.endswith(f"(at {secure}/blog; try {server.url}/blog)\n")


def test_http_to_a_secure_port_says_to_try_https() -> None:
    page = b"<html><title>400 The plain HTTP request was sent to HTTPS port</title>"
    with FaultServer((Expect("start_session"), *answers(answer(page, 400)))) as server:
        result = opchat("ask", "--url", server.url, "Hi")
    assert result.stderr.endswith(f"; try {server.url.replace('http:', 'https:')})\n")


# ------------------------------------------------------------------------------------------------ no WordPress


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 405, 418, 500, 501, 503])
def test_a_site_without_wordpress_is_named_as_a_possible_cause(status: int) -> None:
    result = asking(answers(answer(b"<html><title>Hello</title>", status)), session=False)
    assert result.returncode in (3, 4, 5)
    assert "is this a site with AI Engine? check --url)" in result.stderr


@pytest.mark.parametrize(
    ("response", "line"),
    [
        (object_(403, code="rest_disabled", message="No.", data={"status": 403}), "may be for signed-in members"),
        (answer(b"Later.", 503).replace(b"\r\n", b"\r\nRetry-After: 7\r\n", 1), "ask again in 7 s"),
        (answer(b"", 301).replace(b"\r\n", b"\r\nLocation: https://x/\r\n", 1), "the address that it redirects to"),
    ],
)
def test_a_more_specific_answer_is_not_called_a_missing_wordpress(response: bytes, line: str) -> None:
    result = asking(answers(response), session=False)
    assert line in result.stderr
    assert "AI Engine" not in result.stderr


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("", ""),
        ("/", ""),
        ("/wp-json", ""),
        ("/blog/wp-json", "/blog"),  # /blog alone would be visited
        ("/index.php?rest_route=", "/index.php?rest_route="),
    ],
)
@pytest.mark.parametrize("command", [["ask", "Hi"], ["record", "FILE", "Hi"], ["chat"]])
def test_the_line_names_the_path_of_the_site(command: list[str], path: str, shown: str, tmp_path: Path) -> None:
    words = [word.replace("FILE", str(tmp_path / "a")) for word in command]
    with FaultServer(answers(object_(500, code="x", message="No."))) as server:
        result = opchat(*words, "--url", f"{server.url}{path}", input="Hi" if words == ["chat"] else "")
    assert f"(at {server.url}{shown}; " in result.stderr


# ------------------------------------------------------------------------------------------------ addresses


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("site.example", "https://site.example"),
        ("SITE.example/", "https://site.example"),
        ("site.example/blog/wp-json", "https://site.example/blog"),
        ("//site.example/blog/wp-json", "https://site.example/blog"),
        ("site.example:443/blog/wp-json", "https://site.example/blog"),
        ("site.example:8080/blog/wp-json", "http://site.example:8080/blog"),
        ("site.example:8080", "http://site.example:8080"),
        ("http://site.example", "http://site.example"),
        ("192.0.2.1", "https://192.0.2.1"),
        ("[2001:db8::1]/blog/wp-json", "https://[2001:db8::1]/blog"),
        ("https://b\u00fccher.example", "https://xn--bcher-kva.example"),
        ("b\u00fccher.example/b\u00fccher/wp-json", "https://xn--bcher-kva.example/b%C3%BCcher"),
        ("https://B\u00dcCHER.example:8443/x/wp-json", "https://xn--bcher-kva.example:8443/x"),
        ("https://fa\u00df.example", "https://xn--fa-hia.example"),
    ],
)
@pytest.mark.parametrize("command", ["ask", "record"])
def test_an_address_is_read_as_its_site(url: str, where: str, command: str, tmp_path: Path) -> None:
    arguments = [command, *[str(tmp_path / "a")] * (command == "record"), "--url", url, "--proxy", "http://127.0.0.1:1"]
    result = opchat(*arguments, "Hi")
    assert result.returncode == 7
    assert f"(at {where}; " in result.stderr


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("nowhere", "expected a site"),
        ("ftp://site.example", "expected a site"),
        ("https://\u2028.example", "is not a host name"),
        ("https://-\u00fc.example", "is not a host name"),
        ("user:SECRET@site.example", "without a user name"),
        ("", "expected a site"),
        ("site example", "expected"),
    ],
)
def test_a_malformed_address_is_wrong_usage(url: str, line: str) -> None:
    result = opchat("ask", "--url", url, "Hi")
    assert (result.stdout, result.returncode, result.stderr.count("\n")) == ("", 2, 1)
    assert line in result.stderr
    assert "SECRET" not in result.stderr


def test_an_internationalised_name_is_looked_up_in_its_ascii_form(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = names(monkeypatch, "xn--bcher-kva.example")
    with FaultServer(tells("a")) as server:
        assert opchat("ask", "--url", f"http://b\u00fccher.example:{server.port}", "Hi").stdout == "a\n"
    assert "xn--bcher-kva.example" in asked
    assert f"\r\nHost: xn--bcher-kva.example:{server.port}\r\n".encode() in server.requests[0].raw


def test_without_idna_the_pip_command_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "idna", None)
    result = opchat("ask", "--url", "https://b\u00fccher.example", "Hi")
    assert (result.returncode, 'pip install "opchat[cli]"' in result.stderr) == (2, True)


# ------------------------------------------------------------------------------------------------ rich, and help


def without_rich(directory: Path) -> dict[str, str]:
    (directory / "rich.py").write_text("raise ModuleNotFoundError('No module named rich', name='rich')")
    return {"PYTHONPATH": str(directory)}


def test_without_rich_there_is_no_spinner(tmp_path: Path) -> None:
    environment = without_rich(tmp_path)
    with FaultServer(tells("Hello")) as server:
        with Terminal("ask", "--url", server.url, "Hi", **environment) as terminal:
            assert terminal.wait() == 0
        assert terminal.shown == "Hello\r\n"
        with Terminal("ask", "--markdown", "--url", server.url, "Hi", **environment) as terminal:
            assert terminal.wait() == 2
        assert '--markdown needs rich: pip install "opchat[cli]"' in terminal.shown


ASKING = [name for name, command in COMMANDS.items() if any(option.name == "via" for option in command.params)]


@pytest.mark.parametrize("command", ASKING)
def test_help_lists_each_option_once_in_sections(command: str) -> None:
    text = opchat(command, "--help").stdout
    listed = re.findall(r"(?m)^  (?:-\w, )?(--[a-z0-9-]+)", text)
    there = [option.opts[-1] for option in COMMANDS[command].params if option.param_type_name == "option"]
    assert sorted(listed) == sorted([*there, "--help"])
    assert re.search(r"(?m)^Site:\n", text)
    assert re.search(r"(?m)^Timeouts, in seconds, or none:\n", text)
    assert re.search(r"(?m)^Limits, as a number, also with KiB or MiB:\n", text)
    assert all(len(line) <= 80 for line in text.splitlines())


def test_each_of_the_four_examples_of_ask_is_valid() -> None:
    examples = re.findall(r"(?m)^  (.*\bopchat ask .*)$", opchat("ask", "--help").stdout)
    assert len(examples) == 4
    for example in examples:
        words = [a or b for a, b in re.findall(r'"([^"]*)"|(\S+)', example.partition("opchat ")[2])]
        if "--file" in words:  # test_cli_files.py sends files
            assert COMMANDS["ask"].make_context("ask", words[1:]).params["question"] == ("What is this?",)
            continue
        with FaultServer(tells("a")) as server:
            given = [server.url if word == "https://site.example" else word for word in words]
            assert opchat(*given, input="text").stdout == "a\n"


# ------------------------------------------------------------------------------------------------ transports


@pytest.mark.parametrize("command", [["ask", "Hi"], ["ask", "--json", "Hi"], ["chat"], ["record", "FILE", "Hi"]])
def test_each_command_that_asks_works_over_each_transport(command: list[str], via: str, tmp_path: Path) -> None:
    words = [word.replace("FILE", str(tmp_path / "a")) for word in command]
    with FaultServer(tells("Hel", "lo")) as server:
        result = opchat(*words, "-v", "--via", via, "--url", server.url, input="Hi" if words == ["chat"] else "")
    assert result.returncode == 0
    assert result.stderr.count("> POST /wp-json/mwai") == 2
    assert result.stderr.count("< status 200; ") == 2
    if "--json" in words:
        assert [json.loads(line)["type"] for line in result.stdout.splitlines()] == ["live", "live", "end"]
    else:
        assert result.stdout == "Hello\n"
    assert ("the recording is rebuilt from values" in result.stderr) is (words[0] == "record" and via == "httpx")
    if words[0] == "record":
        assert opchat("decode", str(tmp_path / "a")).stdout.count("live    ") == 2
