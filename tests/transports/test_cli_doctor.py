"""`opchat doctor`: a healthy site has no problem, and each planted fault, and only that one, is named."""

import gzip
import re
import secrets
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from opchat_transports.blocking_server import serve
from opchat_transports.bots import small_talk
from opchat_transports.testing import (
    ANSWER,
    Delay,
    Expect,
    FaultServer,
    Script,
    Stall,
    Write,
    answer,
    refused,
    response,
)

from . import examined
from .command import opchat
from .examined import (
    FRESH,
    NONCE,
    VERSIONS,
    at,
    date,
    examine,
    found,
    html,
    index,
    no_route,
    page,
    problems,
    question,
    session,
    site,
    text,
)
from .pages import PageSite, served
from .proxies import Journal, proxy_of
from .tls import NAME

CHALLENGE = "<!doctype html><title>Just a moment...</title><script src=/cdn-cgi/challenge-platform/x></script>"
CHECKS = [
    *("name", "connection", "tls", "page", "wordpress", "rest", "ai_engine", "bots", "session", "nonce", "cookie"),
    *("cache", "clock", "application_passwords"),
]


@pytest.fixture(autouse=True)
def nothing_random(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "token_hex", lambda _: "1")


# ---------------------------------------------------------------- healthy sites


@pytest.mark.parametrize("version", VERSIONS)
def test_a_healthy_site_has_no_problem(version: str) -> None:
    checks, code = examine(site(version))
    assert (problems(checks), code) == (set(), 0)
    missing = {"1.9.97": {"nonce", "cookie"}, "2.1.9": {"cookie"}, "2.4.3": {"cookie"}}.get(version, set())
    assert [*checks] == [check for check in CHECKS if check not in missing]


@pytest.mark.parametrize(
    ("version", "least"),
    [
        ("1.9.97", "1.9.96"),
        ("2.1.9", "2.1.6"),
        ("2.4.3", "2.1.6"),
        ("2.4.9", "2.4.4"),
        ("2.9.9", "2.9.9"),
        ("3.6.2", "2.9.9"),
    ],
)
def test_the_least_version_is_inferred_from_signs(version: str, least: str) -> None:
    checks, _ = examine(site(version))
    assert checks["ai_engine"]["detail"] == f"at least {least}"


def test_each_request_is_made_once_and_nothing_is_asked() -> None:
    with FaultServer(site()) as server:
        assert opchat("doctor", f"{server.url}/contact").returncode == 0
    assert examined.seen(server) == [
        "GET /contact",
        "GET /wp-json/",
        "POST /wp-json/mwai/v1/start_session",
        f"GET /wp-json/?{FRESH}",
    ]
    assert [request.nonce for request in server.requests] == [None, None, None, NONCE]
    assert server.questions == ()


def test_a_rest_root_is_examined_without_a_page() -> None:
    checks, code = examine(site(page=None), path="/wp-json")
    assert (problems(checks), code) == (set(), 0)
    assert "page" not in checks
    assert checks["bots"]["detail"].startswith("not looked at")


def test_a_server_that_only_speaks_the_protocol_has_no_problem() -> None:
    with serve(small_talk) as server:
        result = opchat("doctor", f"{server.url}/wp-json", "--json", "--ask")
    checks = found(result.stdout)
    assert (problems(checks), result.returncode) == (set(), 0)


def test_tls_names_the_owner_and_the_expiry_of_the_certificate(
    certificates: dict[str, ssl.SSLContext], authority: trustme.CA, tmp_path: Path
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    arguments = ("--cacert", str(tmp_path / "ca.pem"))
    checks, code = examine(site(), *arguments, ssl_context=certificates["good"])
    assert (problems(checks), code) == (set(), 0)
    said = checks["tls"]["detail"]
    assert said.startswith("the certificate of localhost is for localhost, site.example, ")
    assert said.endswith(", good until 3000-01-01")


def test_ask_shows_whether_pieces_arrive_as_they_are_made() -> None:
    with FaultServer(site() + at("submit", question())) as server:
        result = opchat("doctor", f"{server.url}/contact", "--ask", "--json")
    checks = found(result.stdout)
    assert (problems(checks), result.returncode) == (set(), 0)
    assert checks["question"]["detail"] == "answered, in 2 pieces"
    assert checks["buffering"]["detail"] == "the first piece came before the last"
    assert result.stderr == "opchat: one question is asked now, which may cost the site's owner a little\n"
    (submit,) = server.questions
    assert (submit.bot_id, submit.context_id) == ("default", 4)
    (request,) = [request for request in server.requests if request.route == "submit"]
    assert request.nonce == NONCE


@pytest.mark.parametrize("via", ["blocking", "trio", "asyncio", "httpx"])
@pytest.mark.parametrize("version", VERSIONS)
def test_the_question_is_answered_by_each_version_over_each_transport(version: str, via: str) -> None:
    checks, code = examine(site(version) + at("submit", question()), "--ask", "--via", via)
    assert (problems(checks), code) == (set(), 0)


def test_a_cache_and_application_passwords_are_reported() -> None:
    fields = [("Age", "30"), ("X-Cache", "HIT from edge"), ("CF-Cache-Status", "DYNAMIC")]
    offered: dict[str, Any] = {"application-passwords": {"endpoints": {}}}
    cached = text(html("3.6.2") + "<!-- Performance optimized by W3 Total Cache -->", 200, date(-30), *fields)
    checks, code = examine(site(page=cached, index=index("3.6.2", authentication=offered)))
    assert (problems(checks), code) == (set(), 0)
    assert checks["cache"]["detail"] == "signs of one: Age: 30; X-Cache: HIT from edge; W3 Total Cache"
    assert checks["application_passwords"]["detail"] == "offered to members"


def test_of_several_bots_the_named_one_or_the_first_is_examined() -> None:
    two = text(html("3.6.2", "default", "sales"), 200, examined.LINK)
    checks, code = examine(site(page=two))
    assert (problems(checks), code) == (set(), 0)
    assert checks["bots"]["detail"] == "default, sales; --bot chooses one"
    checks, _ = examine(site(page=two), "--bot", "sales")
    assert checks["bots"]["detail"] == "sales"


def test_a_closed_index_does_not_hide_a_working_session() -> None:
    checks, code = examine(site(index=examined.refused(401, "rest_login_required"), check=None) + at("", no_route()))
    assert (problems(checks), code) == (set(), 0)
    assert checks["rest"]["detail"].endswith("its index is not shown to guests")


# ---------------------------------------------------------------- planted faults

_MOVED = text("", 301, ("Location", "/elsewhere"))
_NO_CHAT = text("<title>Hi</title><link href=/wp-content/a.css>", 200, examined.LINK)
_FORBIDDEN = text("<html><title>403 Forbidden</title>Request blocked.</html>", 403)
_BUSY = text("<html><title>503</title>Security check.</html>", 503)
_PLAIN_LINK = ("Link", '</index.php?rest_route=/>; rel="https://api.w.org/"')
_GZIPPED = response(gzip.compress(html("3.6.2").encode()), headers=[("Content-Encoding", "gzip")], framing="length")
_OLD = index("1.9.97", namespaces=["ai-chatbot/v1", "mwai-bot/v1"])
_WITHOUT = index("3.6.2", namespaces=["oembed/1.0", "wp/v2"], routes={})
_OFF = index("3.6.2", namespaces=["mwai/v1", "wp/v2"])
_STOPS: dict[str, bytes | None] = {"session": session("3.6.2"), "check": None}
_STALE = examined.refused(403, "rest_cookie_invalid_nonce", "Cookie check failed")


def faults() -> dict[str, tuple[str, int, Script]]:
    """Made anew for each test, because responses have the time."""
    return {
        "no such page": ("page", 3, at("contact", no_route())),
        "the server fails": ("page", 3, at("contact", text("<title>Oh</title>", 500))),
        "maintenance": ("page", 3, at("contact", text("<h1>Maintenance</h1>", 503, ("Retry-After", "600")))),
        "the page is cut": ("page", 7, at("contact", page("3.6.2")[:-10])),
        "the page never comes": ("page", 6, (Expect("contact"), Stall())),
        "no HTTP": ("page", 7, at("contact", b"220 mail.example ESMTP\r\n")),
        "closed without an answer": ("page", 7, at("contact", b"")),
        "redirects for ever": ("page", 3, at("contact", _MOVED) + at("elsewhere", _MOVED) * 5),
        "challenge page 403": ("firewall", 3, at("contact", text(CHALLENGE, 403))),
        "challenge page 503": ("firewall", 3, at("contact", text(CHALLENGE, 503))),
        "challenge page 200": (
            "firewall", 3, site(page=text(CHALLENGE), index=text(CHALLENGE), session=text(CHALLENGE), check=None)
        ),
        "blocked": ("firewall", 3, at("contact", _FORBIDDEN)),
        "compressed page": ("compression", 5, at("contact", _GZIPPED)),
        "not WordPress": (
            "wordpress", 5, site(page=text("<h1>Hi</h1>"), index=text("", 404), session=text("", 404), check=None)
        ),
        "REST API closed": (
            "rest", 3,
            site(
                index=examined.refused(401, "rest_disabled"), session=examined.refused(401, "rest_disabled"), check=None
            ),
        ),
        "REST API switched off": ("rest", 3, site(index=text("", 404), session=text("", 404), check=None)),
        "REST API behind a firewall": ("firewall", 3, site(index=_FORBIDDEN, session=_FORBIDDEN, check=None)),
        "REST API never answers": ("rest", 6, (*at("contact", page("3.6.2")), Expect(""), Stall())),
        "plain permalinks": (
            "rest", 5,
            site(index=text("<title>Home</title>", 200, _PLAIN_LINK), session=text("<title>Home</title>"), check=None),
        ),
        "AI Engine absent": ("ai_engine", 5, site(page=_NO_CHAT, index=_WITHOUT, session=no_route(), check=None)),
        "AI Engine too old": ("ai_engine", 5, site("1.9.97", index=_OLD)),
        "chatbots switched off": ("ai_engine", 5, site(page=_NO_CHAT, index=_OFF)),
        "no bot on the page": ("bots", 5, site(page=_NO_CHAT)),
        "shortcode not expanded": ("bots", 5, site(page=text("[mwai_chatbot]", 200, examined.LINK))),
        "start_session challenged": ("firewall", 3, site(session=text(CHALLENGE, 403), check=None)),
        "start_session blocked": ("firewall", 3, site(session=_BUSY, check=None)),
        "start_session refuses": (
            "session", 4, site("2.9.9", session=examined.refused(401, "rest_forbidden"), check=None)
        ),
        "start_session under another root": ("session", 4, site("2.4.9", session=no_route(), check=None)),
        "start_session challenged with 200": ("firewall", 3, site(session=text(CHALLENGE), check=None)),
        "start_session is a page": ("session", 5, site(session=text("<title>Home</title>"), check=None)),
        "start_session fails": ("session", 8, site(session=examined.object_({"success": False, "message": "Oh"}, 200),
                                                   check=None)),
        "start_session gives no nonce": ("session", 5, site(session=session("3.6.2", restNonce=None), check=None)),
        "no nonce anywhere": (
            "nonce", 4, site("2.1.9", page=page("2.1.9", restNonce=None), session=no_route(), check=None)
        ),
        "a nonce that is refused": ("nonce", 4, site(check=_STALE)),
        "cookie taken away": ("cookie", 0, site(session=session("3.6.2", sessionId="6b03011591785"))),
        "headers already out": ("cookie", 0, site("2.9.9", session=session("2.9.9", sessionId="N/A"))),
        "clock ahead": ("clock", 0, site(
            page=text(html("3.6.2"), 200, examined.LINK), index=index("3.6.2", date(3600)),
            session=re.sub(rb"Date: [^\r]*", b"Date: " + date(3600)[1].encode(), session("3.6.2")),
            check=index("3.6.2", date(3600)),
        )),
    }  # fmt: skip


@pytest.mark.parametrize("name", faults())
def test_a_planted_fault_is_named_and_nothing_else(name: str) -> None:
    check, expected, script = faults()[name]
    arguments = ("--timeout-first-event", "1") if any(isinstance(step, Stall) for step in script) else ()
    checks, code = examine(script, *arguments)
    assert (problems(checks), code) == ({check}, expected)
    assert checks[check]["advice"]
    assert checks[check]["blocks"] is (expected != 0)


def test_a_stale_nonce_from_a_cache_is_named() -> None:
    cached = page("2.4.3", ("Age", "90000"), ("X-Cache", "HIT"))
    fresh = at(f"contact?{FRESH}", page("2.4.3", restNonce="1111111111"))
    checks, code = examine(site("2.4.3", page=cached, check=_STALE) + fresh)
    assert (problems(checks), code) == ({"cache"}, 0)
    assert checks["cache"]["detail"] == "the nonce in the page is stale; signs of one: Age: 90000; X-Cache: HIT"


def test_a_stale_nonce_on_every_page_is_named() -> None:
    checks, code = examine(site("2.4.3", check=_STALE) + at(f"contact?{FRESH}", page("2.4.3")))
    assert (problems(checks), code) == ({"nonce"}, 4)


def test_a_stale_nonce_is_noticed_without_an_index() -> None:
    fresh = at(f"contact?{FRESH}", page("2.4.3", restNonce="1111111111"))
    checks, code = examine(site("2.4.3", index=no_route(), check=no_route()) + fresh)
    assert (problems(checks), code) == ({"cache"}, 0)


def test_a_site_without_an_index_has_no_problem() -> None:
    checks, code = examine(site(index=no_route(), check=no_route()))
    assert (problems(checks), code) == (set(), 0)
    assert checks["nonce"]["detail"] == "only a question would tell whether it is accepted"
    fresh = at(f"contact?{FRESH}", page("2.4.3"))
    checks, code = examine(site("2.4.3", index=no_route(), check=no_route()) + fresh)
    assert (problems(checks), code) == (set(), 0)


def test_without_an_index_page_and_session_reveal_the_plugin() -> None:
    checks, code = examine(site(page=_NO_CHAT, index=no_route(), session=no_route(), check=None))
    assert (problems(checks), code) == ({"ai_engine"}, 5)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_pages_address_is_enough_to_find_a_site_of_each_version_healthy(version: str) -> None:
    with served(PageSite(version)) as healthy:
        result = opchat("doctor", f"{healthy.url}/contact/", "--json", "--ask")
    checks = found(result.stdout)
    assert (problems(checks), result.returncode) == (set(), 0)
    assert checks["question"]["status"] == "ok"


def test_a_bot_that_is_not_on_the_page_is_named() -> None:
    checks, code = examine(site(), "--bot", "sales")
    assert (problems(checks), code) == ({"bots"}, 5)
    assert checks["bots"]["detail"] == "no 'sales' on this page, but default"


def test_a_redirect_to_another_site_is_named() -> None:
    with FaultServer(site()) as other:
        away = other.url
        checks, code = examine(at("contact", text("", 301, ("Location", f"{away}/contact"))))
    assert (problems(checks), code) == ({"redirects"}, 0)
    assert away in checks["redirects"]["detail"]


def test_a_redirect_on_the_same_site_is_not_a_problem() -> None:
    checks, code = examine(at("contact", _MOVED) + site(url="elsewhere"))
    assert (problems(checks), code) == (set(), 0)
    assert checks["redirects"]["detail"].startswith("1 to http://127.0.0.1:")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("expired", "certificate has expired; it is for localhost, site.example, issued by trustme "),
        ("wrong name", "; it is for other.example, issued by trustme "),
        ("self-signed", "self-signed certificate; it is for trustme "),
    ],
)
def test_a_bad_certificate_is_named_and_read(
    certificates: dict[str, ssl.SSLContext], authority: trustme.CA, tmp_path: Path, kind: str, said: str
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with FaultServer(site(), ssl_context=certificates[kind]) as server:
        result = opchat("doctor", f"{server.url}/contact", "--json", "--cacert", str(tmp_path / "ca.pem"))
    checks = found(result.stdout)
    assert (problems(checks), result.returncode) == ({"tls"}, 7)
    assert said in checks["tls"]["detail"]
    assert ", good until " in checks["tls"]["detail"]
    assert server.requests == ()


def test_plain_http_on_a_tls_port_is_named() -> None:
    with FaultServer(site()) as server:
        result = opchat("doctor", f"https://127.0.0.1:{server.port}/contact", "--json", "--timeout", "2")
    checks = found(result.stdout)
    assert (problems(checks), result.returncode) in (({"tls"}, 7), ({"tls"}, 6))


def test_an_unknown_host_name_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    result = opchat("doctor", "https://nobody.example/contact", "--json")
    checks = found(result.stdout)
    assert ([*checks], problems(checks), result.returncode) == (["name"], {"name"}, 7)


def test_a_port_that_refuses_is_named() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        result = opchat("doctor", f"http://127.0.0.1:{closed.getsockname()[1]}/contact", "--json")
    checks = found(result.stdout)
    assert ([*checks], problems(checks), result.returncode) == (["name", "connection"], {"connection"}, 7)


def test_a_silent_port_is_named(full_port: int) -> None:
    result = opchat("doctor", f"http://127.0.0.1:{full_port}/contact", "--json", "--timeout-connect", "0.5")
    checks = found(result.stdout)
    assert (problems(checks), result.returncode) == ({"connection"}, 6)


def test_an_unreachable_proxy_is_named() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{closed.getsockname()[1]}"
        result = opchat("doctor", "https://site.example/contact", "--json", "--proxy", proxy)
    checks = found(result.stdout)
    assert ([*checks], problems(checks), result.returncode) == (["proxy"], {"proxy"}, 7)


@pytest.mark.parametrize(
    ("script", "check", "expected"),
    [
        ((Delay(1.1), Write(ANSWER)), "buffering", 0),
        (refused(403, "Your query has been rejected."), "question", 3),
        ((Write(answer(b"x", headers=[("Content-Encoding", "gzip")])),), "compression", 5),
        ((Write(text("<title>Home</title>")),), "question", 5),
    ],
)
def test_faults_that_only_a_question_reveals_are_named(script: Script, check: str, expected: int) -> None:
    checks, code = examine((*site(), Expect("submit"), *script), "--ask")
    assert (problems(checks), code) == ({check}, expected)


def test_nothing_is_asked_if_no_answer_would_come() -> None:
    with FaultServer(site(check=_STALE)) as server:
        result = opchat("doctor", f"{server.url}/contact", "--json", "--ask")
    assert (problems(found(result.stdout)), result.returncode, result.stderr) == ({"nonce"}, 4, "")
    assert server.questions == ()


# ---------------------------------------------------------------- how it is shown


def test_the_report_is_readable_lines() -> None:
    with FaultServer(site(check=_STALE)) as server:
        result = opchat("doctor", f"{server.url}/contact")
    first, *_ = lines = result.stdout.splitlines()
    assert first == "ok       name: 127.0.0.1 is 127.0.0.1"
    assert "problem  nonce: it is refused at once (rest_cookie_invalid_nonce)" in lines
    assert lines[lines.index("problem  nonce: it is refused at once (rest_cookie_invalid_nonce)") + 1].startswith(
        "         -> ask the site's owner to keep caches away"
    )
    assert (result.stderr, result.returncode) == ("", 4)


def test_text_from_a_site_cannot_control_the_terminal() -> None:
    hostile = "\x1b]0;owned\x07\x9b2J\u202e"
    closed = examined.refused(401, f"code{hostile}", f"line\n{hostile}line")
    with FaultServer(site(index=closed, session=closed, check=None)) as server:
        result = opchat("doctor", f"{server.url}/contact")
    assert not set(hostile) & set(result.stdout) - set("0;owned2J]")
    assert result.stdout.count("problem") == 1
    assert "line line" not in result.stdout.splitlines()[0]


def test_verbose_shows_the_exchange_without_secrets() -> None:
    with FaultServer(site()) as server:
        result = opchat("doctor", f"{server.url}/contact", "-v")
    assert "> GET /contact, " in result.stderr
    assert "< status 200; " in result.stderr
    assert NONCE not in result.stdout + result.stderr


@pytest.mark.parametrize("route", ["http", "socks5"])
def test_doctor_goes_through_a_proxy(
    certificates: dict[str, ssl.SSLContext], authority: trustme.CA, tmp_path: Path, route: str
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    journal = Journal()
    with (
        FaultServer(site(), ssl_context=certificates["good"]) as server,
        FaultServer(proxy_of(route, journal)) as proxy,
    ):
        by = f"{route}://127.0.0.1:{proxy.port}"
        arguments = ("--proxy", by, "--cacert", str(tmp_path / "ca.pem"))
        result = opchat("doctor", f"https://{NAME}:{server.port}/contact", "--json", *arguments)
    checks = found(result.stdout)
    assert (problems(checks), result.returncode) == (set(), 0)
    assert checks["proxy"]["detail"] == f"through {by}"
    assert checks["tls"]["detail"].startswith(f"the certificate of {NAME} is for localhost, {NAME}, ")
    assert "name" not in checks
    assert journal.targets == [f"{NAME}:{server.port}"] * 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--proxy", "ftp://user:secret@proxy.example"], "proxy"),
        (["--header", "Host: other.example"], "headers: Host cannot be set here"),
        (["--cacert", "/nowhere/ca.pem"], "--cacert /nowhere/ca.pem: No such file or directory"),
    ],
)
def test_unusable_options_are_wrong_usage(options: list[str], said: str) -> None:
    result = opchat("doctor", "http://127.0.0.1:9/contact", *options)
    assert (result.stdout, result.returncode) == ("", 2)
    assert said in result.stderr
    assert "secret" not in result.stderr


@pytest.mark.parametrize("url", ["ftp://site.example/", "https://u:secret@site.example/", "contact"])
def test_a_malformed_address_is_wrong_usage(url: str) -> None:
    result = opchat("doctor", url)
    assert (result.stdout, result.returncode) == ("", 2)
    assert "secret" not in result.stderr
