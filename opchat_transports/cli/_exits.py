"""How the command ends: exit codes, and the line that says why there is no answer."""

import re

from opchat_proto import Broken, Reason

from .._broken import broken_line
from .._common import NO_TLS, NOT_TRUSTED

__all__ = [
    "EPILOG",
    "EXIT_CODES",
    "INTERRUPTED",
    "NONCE_REFUSED",
    "NOT_SAVED",
    "OUTPUT_CLOSED",
    "exit_code",
    "failure_line",
    "is_challenge_text",
    "what_to_try",
]

INTERRUPTED = 130
OUTPUT_CLOSED = 141  # what a shell reports for a program that died of a closed pipe
NONCE_REFUSED = 4
NOT_SAVED = 7
EXIT_CODES: dict[Reason, int] = {
    Reason.REFUSED: 3,
    Reason.MALFORMED: 5,
    Reason.TIMEOUT: 6,
    Reason.TRUNCATED: 7,
    Reason.LOST: 7,
    Reason.PROXY: 7,
    Reason.REMOTE: 8,
    Reason.TOO_LARGE: 9,
}
"""The exit code for a broken answer; 4 instead of 3 if the nonce or the session was refused."""

EPILOG = """\b
Exit codes:
  0  whole answer    4  nonce refused   7  lost, cut off   130  interrupted
  2  wrong usage     5  not an answer   8  server's error  141  output closed
  3  server refused  6  timed out       9  too large
"""

_NONCE_CODES = ("rest_forbidden", "rest_cookie_invalid_nonce")

# Phrases on the challenge pages of firewalls (Cloudflare, Sucuri, Imunify360, SiteGround, AWS, Anubis, ...).
_CHALLENGE = re.compile(
    r"just a moment|attention required|checking your browser|checking if the site connection is secure|"
    r"verify(?:ing)? (?:that )?you are (?:a )?human|are you (?:a )?human|(?:enable|need) javascript and cookies|"
    r"cf[-_]chl|challenge-platform|captcha|ddos-guard|sucuri|imunify|incapsula|datadome|perimeterx|bot protection|"
    r"wordfence|access to this site has been limited|awswaf|security checkpoint|making sure you.{1,8}re not a bot",
    re.IGNORECASE,
)

_CHALLENGE_WITHIN = 64 * 1024  # characters

# How the core's detail begins when a site does not recognise a member.
_IS_MEMBERS = re.compile(r"users/me: |the page: |wp-admin/|https?://\S+: no nonce for a member")

_TO_ROUTE = re.compile(r"redirected to (https?://\S+?)/mwai(?:-ui)?/v1/")

_IS_FILES = re.compile("file ['\"]")  # how the core's detail begins when an upload fails

_TRY = {
    Reason.REMOTE: "this message is from the site: ask its owner, or try another --bot",
    Reason.REFUSED: "-v shows what was exchanged",
    Reason.MALFORMED: "check --url; `opchat record` keeps what came, `opchat decode` explains it",
    Reason.TRUNCATED: "ask again, which may cost another answer",
    Reason.LOST: "check --url and the network",
    Reason.TIMEOUT: "a higher --timeout waits longer",
    Reason.PROXY: "check --proxy, or the variables http_proxy, https_proxy and all_proxy",
    Reason.TOO_LARGE: "ask for less",
}


def is_challenge(broken: Broken) -> bool:
    """Whether a firewall answered instead of the site, with a challenge page."""
    return (
        broken.reason in (Reason.REFUSED, Reason.MALFORMED)
        and broken.raw.lstrip().startswith("<")
        and is_challenge_text(broken.raw)
    )


def is_challenge_text(page: str) -> bool:
    """Whether the text of an unexpected page is a firewall's challenge."""
    return _CHALLENGE.search(page, 0, _CHALLENGE_WITHIN) is not None


def exit_code(broken: Broken) -> int:
    """The exit code for a broken answer."""
    if is_challenge(broken):
        return EXIT_CODES[Reason.REFUSED]
    if broken.reason is Reason.REFUSED and _is_for_nonce(broken):
        return NONCE_REFUSED
    return EXIT_CODES[broken.reason]


def failure_line(broken: Broken, where: str) -> str:
    """One line: what happened, where, and what to try. It quotes the server: untrusted text."""
    line = broken_line(broken)
    if is_challenge(broken):
        line += "; this is a firewall's challenge page"
    return f"{line} (at {where}; {what_to_try(broken, where)})"


def _is_for_nonce(broken: Broken) -> bool:
    return broken.status in (401, 403) and (broken.in_session or broken.code in _NONCE_CODES)


def what_to_try(broken: Broken, where: str) -> str:
    """A hint about what may help."""
    if is_challenge(broken):
        return "ask the site's owner to let its REST API through"
    if broken.in_session and _IS_MEMBERS.match(broken.detail) and broken.reason in (Reason.REFUSED, Reason.MALFORMED):
        return "nothing was asked; --user and --cookie-file sign in"
    option = (broken.limit or "").replace("_", "-")
    if broken.reason is Reason.TOO_LARGE and option:
        return f"--limit-{option} allows more"
    if broken.reason is Reason.TIMEOUT and option:
        return f"--timeout-{option} waits longer"
    if (advice := _about_tls(broken, where)) is not None:
        return advice
    if broken.reason is Reason.LOST and broken.asked:
        return "the server may have read the question; ask again, which may cost another answer"
    if broken.reason is Reason.REFUSED:
        if broken.retry_after is not None:
            return f"ask again in {broken.retry_after} s"
        if broken.status is not None and 300 <= broken.status < 400:
            to_route = _TO_ROUTE.search(broken.detail)
            return f"give --url {to_route[1] if to_route else 'the address that it redirects to'}"
    is_from_site = broken.code is not None or broken.raw.lstrip().startswith('{"success":')  # WordPress or the plugin
    if broken.in_session and not is_from_site and broken.reason in (Reason.REFUSED, Reason.MALFORMED):
        return "is this a site with AI Engine? check --url"
    if broken.reason is Reason.REMOTE and (broken.in_session or _IS_FILES.match(broken.detail)):
        return "this message is from the site: ask its owner"  # no bot has said it
    if broken.reason is Reason.TRUNCATED and not broken.asked:
        return "nothing was asked yet; check --url, or try again"
    if broken.reason is Reason.REFUSED:
        if _is_for_nonce(broken):
            if "start_session" in broken.detail and not broken.in_session:  # the detail says what to do
                return "this address gives no nonces"
            return "the site's chat may be for signed-in members, or its REST API closed to others"
        if broken.status in (429, 500, 502, 503, 504):
            return "ask again later"
        if broken.status == 404 and _IS_FILES.match(broken.detail):
            return "the site may not take files"
        if broken.status == 404:
            return "check --url: is this the site's address, and does it run AI Engine?"
    return _TRY[broken.reason]


_NO_PLAIN_HTTP = re.compile(r"plain HTTP request|speaking plain HTTP|HTTP request to an HTTPS", re.I)
_UNKNOWN_ISSUER = re.compile(r"self[- ]signed|issuer certificate|verify the first certificate", re.I)


def _about_tls(broken: Broken, where: str) -> str | None:
    if broken.status == 400 and where.startswith("http:") and _NO_PLAIN_HTTP.search(broken.raw or broken.detail):
        return f"try https:{where.removeprefix('http:')}"
    if broken.reason not in (Reason.LOST, Reason.PROXY):
        return None
    if NOT_TRUSTED in broken.detail:
        if _UNKNOWN_ISSUER.search(broken.detail):
            return "if you trust it, name its certificate with --cacert FILE or in the variable SSL_CERT_FILE"
        return "the certificate must be valid for this name and date: ask its owner, or check --url and the clock"
    if NO_TLS.search(broken.detail):
        is_proxys = broken.reason is Reason.PROXY
        return "try http:// in --proxy" if is_proxys else f"try http:{where.removeprefix('https:')}"
    return None
