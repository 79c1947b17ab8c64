"""The findings of `opchat doctor`, and those that any of its requests can have: no answer, a firewall. No I/O."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, final

from opchat_proto import Broken, End, Reason

from .._broken import broken_line
from ._exits import EXIT_CODES, NONCE_REFUSED, exit_code, is_challenge_text, what_to_try
from ._site_facts import Answer, Exchange

__all__ = ["SHOWN", "Finding", "certificate_text", "compression", "failure", "firewall", "ok", "problem"]

_REFUSED = EXIT_CODES[Reason.REFUSED]
SHOWN = 200  # characters quoted from a text of the site


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the report. `text` and `advice` may quote the site: untrusted."""

    check: str
    """The name of the check. These names do not change."""
    text: str
    advice: str = ""
    """What to do about a problem; "" if there is no problem."""
    exit_code: int = 0
    """The exit code if this prevents an answer; 0 if a question would still be answered."""

    @property
    def is_problem(self) -> bool:
        """Whether something should be done."""
        return self.advice != ""


def ok(check: str, text: str) -> Finding:
    return Finding(check=check, text=text)


def problem(check: str, text: str, advice: str, code: int = 0) -> Finding:
    return Finding(check=check, text=text, advice=advice, exit_code=code)


def firewall(what: str, outcome: End | Broken) -> Finding:
    code = exit_code(outcome) if isinstance(outcome, Broken) else _REFUSED
    who, advice = "a firewall", "ask the site's owner to let this address, and the REST API, through the firewall"
    if isinstance(outcome, Broken) and outcome.status in (429, 503) and not is_challenge_text(outcome.raw):
        who, advice = (
            "a firewall, or a server that has too much to do or is being maintained,",
            f"try later, or {advice}",
        )
    return problem("firewall", f"{who} answers with {what}", advice, _REFUSED if code == NONCE_REFUSED else code)


def failure(exchange: Exchange, check: str, where: str, *, is_first: bool = False) -> Finding:
    """The finding about an exchange without an answer, under the name of its check.

    For the first exchange, the way to the site is checked too: name, connection and TLS.
    """
    broken = exchange.outcome
    assert isinstance(broken, Broken)
    last, text, advice = exchange.last, broken_line(broken), what_to_try(broken, where)
    if broken.reason is Reason.PROXY:
        check = "proxy"
    elif exchange.contacts and exchange.contacts[-1].failed_at:
        contact = exchange.contacts[-1]
        check = contact.failed_at if is_first else check
        if contact.certificate is not None:
            text += f"; it is {certificate_text(contact.certificate)}"
        if check == "name":
            advice = "check the spelling of the address, and this computer's network"
        elif check == "connection":
            advice = "check the address and its port, this computer's network, and firewalls on the way"
    elif broken.reason is Reason.MALFORMED and (coding := last.header("content-encoding")):
        return compression(coding, exit_code(broken))
    elif _is_from_firewall(last, check):
        return firewall(f"status {last.status}: {broken.detail}" if broken.detail else f"status {last.status}", broken)
    elif check == "page" and broken.status == 404:
        advice = "check the address: the site has no such page"
    elif check == "page" and broken.status == 401:
        advice = "ask the site's owner: the web server wants a password for this address"
    elif check == "page" and broken.reason is Reason.REFUSED and broken.detail.startswith("more than"):
        advice = "open the address in a browser, and give the one where it ends: the site may want cookies first"
    return problem(check, text, advice, exit_code(broken))


def _is_from_firewall(answer: Answer, check: str) -> bool:
    """Whether something in front of the site answered: WordPress refuses a request to its REST API with JSON."""
    is_page = check == "page"
    statuses = (403, 406) if is_page else (401, 403, 405, 406, 429, 503)
    if answer.header("cf-mitigated"):
        return True
    if not answer.is_html or (is_page and answer.status == 200):
        return False
    return answer.status in statuses or is_challenge_text(answer.text)


def compression(coding: str, code: int) -> Finding:
    return problem(
        "compression",
        f"answers are coded as {coding[:SHOWN]}, though none was asked for",
        "let the server leave answers alone where the request says Accept-Encoding: identity",
        code,
    )


def certificate_text(certificate: Mapping[str, Any]) -> str:
    """The names in a certificate, and its expiry."""
    names = [str(name) for kind, name in certificate.get("subjectAltName", ()) if kind in ("DNS", "IP Address")]
    owner = ", ".join(names[:3]) or _name(certificate.get("subject", ())) or "nobody"
    text = f"for {owner}{', ...' if len(names) > 3 else ''}"
    if issuer := _name(certificate.get("issuer", ())):
        text += f", issued by {issuer}"
    try:
        until = datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate.get("notAfter", "")), UTC)
    except (ValueError, OverflowError):
        return text
    return f"{text}, good until {until:%Y-%m-%d}"


def _name(parts: Any) -> str:
    given = {key: value for part in parts for key, value in part}
    return str(given.get("organizationName") or given.get("commonName") or "")
