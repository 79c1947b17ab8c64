"""`opchat doctor` on recorded responses of real sites, if recordings exist beside the repository."""

import json
import secrets
from typing import Any

import pytest

from opchat_transports.testing import FaultServer
from tests.captures import CAPTURES, RECORDINGS

from .command import opchat
from .examined import page, site

# The response of a good site that is replaced, and the site's version; the problem; a check and its text.
RECORDED = {
    "recordings/2.4.9/rest_index": ("index", "2.4.9", None, "ai_engine", "at least 2.4.4"),
    "recordings/3.6.2/rest_index": ("index", "3.6.2", None, "application_passwords", "not offered"),
    "recordings/3.6.2/rest_index_tls": ("index", "3.6.2", None, "application_passwords", "offered to members"),
    "recordings/3.6.2/plain_wp_json_200_page": ("index", "3.6.2", "rest", "rest", "index.php?rest_route="),
    "recordings/3.6.2/wrong_root_404_page": ("index", "3.6.2", "rest", "rest", "/wp-json"),
    "recordings/3.6.2/notice_before_session_json": ("session", "3.6.2", None, "notices", "prints Warning : "),
    # tinyproxy keeps only the first Set-Cookie.
    "recordings/3.6.2/tinyproxy_start_session": ("session", "3.6.2", "cookie", "cookie", "sets no mwai_session_id"),
    "captures/2.4.9/start_session": ("session", "2.4.9", None, "cookie", "none, as before 2.8.5"),
    "captures/3.6.2/start_session": ("session", "3.6.2", None, "cookie", "sets mwai_session_id"),
    "captures/3.6.2/proxy_403_html": ("session", "3.6.2", "firewall", "firewall", "status 403"),
    "captures/3.6.2/nginx_502": ("session", "3.6.2", "session", "session", "status 502"),
    "captures/3.6.2/proxy_301": ("session", "3.6.2", "session", "session", "status 301"),
    "recordings/2.0.1/start_session_404_201": ("session", "1.9.97", None, "session", "none to start"),
}
SHARED = CAPTURES.parent


def test_the_recordings_exist() -> None:
    assert not SHARED.exists() or [name for name in RECORDED if not (SHARED / f"{name}.response.bin").exists()] == []
    assert RECORDINGS.parent == SHARED


@pytest.mark.parametrize("name", [name for name in RECORDED if (SHARED / f"{name}.response.bin").exists()])
def test_a_recorded_response_gives_its_finding(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "token_hex", lambda _: "1")
    place, version, problem, check, said = RECORDED[name]
    recorded = (SHARED / f"{name}.response.bin").read_bytes()
    answers: dict[str, Any] = {"page": page(version), place: recorded}
    with FaultServer(site(version, **answers)) as server:
        result = opchat("doctor", f"{server.url}/contact", "--json")
    checks = {line["check"]: line for line in map(json.loads, result.stdout.splitlines())}
    assert {line["check"] for line in checks.values() if line["status"] == "problem"} == ({problem} - {None})
    assert said in checks[check]["detail"]
    assert (result.returncode == 0) == (problem in (None, "cookie"))
