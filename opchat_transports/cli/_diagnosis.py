"""The judgement of `opchat doctor`: whether a question would be answered, and what prevents it. No I/O."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from opchat_proto import Broken, End, Endpoint, Page, Reason, Session

from .._broken import broken_line
from ._exits import EXIT_CODES, NONCE_REFUSED, exit_code, is_challenge_text, what_to_try
from ._finding import SHOWN, Finding, certificate_text, compression, failure, firewall, ok, problem
from ._least_version import NONCE_NEEDED, least_version
from ._page_bots import bot_name
from ._site_facts import Answer, Exchange, Facts, Question, choose_bot, is_accepted, read_index

__all__ = ["diagnose"]

_NOT_THE_CHAT = EXIT_CODES[Reason.MALFORMED]
_MOST_SKEW = 300  # seconds
_TELLING = 1.0  # seconds; pieces that arrive together after that time were buffered
_STALE, _NO_ROUTE = "rest_cookie_invalid_nonce", "rest_no_route"

_WORDPRESS = re.compile(r"/wp-(?:content|includes|json)/|https://api\.w\.org/|content=.WordPress ", re.IGNORECASE)
# At the end of a page, in a comment.
_CACHE_PLUGIN = re.compile(
    "WP Super Cache|W3 Total Cache|WP Rocket|LiteSpeed Cache|WP Fastest Cache|Cache Enabler|Hummingbird", re.IGNORECASE
)
_PAGE_END = 2000  # characters
_MOST_PRINTED = 64 * 1024  # characters
_CACHES = (
    "x-cache",
    "x-cache-status",
    "x-proxy-cache",
    "cf-cache-status",
    "x-litespeed-cache",
    "x-fastcgi-cache",
)
_HIT = re.compile("hit|stale|updating", re.IGNORECASE)

_OLD_NAMESPACES = ("ai-engine/v1", "ai-chatbot/v1", "mwai-bot/v1")  # up to 1.6.75
_TO_GUESTS = "ask the site's owner to open the REST API to guests: a security plugin may have closed it"
_PASSWORD_FORM = "post-password-form"  # the class of WordPress's form on a protected page
_ABOUT_NOTES = (
    ("AI Engine: Chatbot ", "ask the site's owner to correct the page, which names a bot that does not exist"),
    ("the shortcode ", "ask the site's owner why the page shows its shortcode as text, or give another page"),
)
_NO_SIGNS = ("redirected from ", "the shortcode ")  # notes of pages without the plugin
_HAS_START_SESSION, _COOKIE_SET, _OPEN_AGAIN = (2, 4, 4), (2, 8, 5), (2, 9, 2)


# ---------------------------------------------------------------- the report


def diagnose(facts: Facts) -> list[Finding]:
    """The findings in order of importance, without those that depend on a problem."""
    return list(_diagnose(facts))


def _diagnose(facts: Facts) -> Iterator[Finding]:
    first = facts.page or facts.index
    assert first is not None
    yield from _way(facts, first)
    if not first.answers or (facts.page is not None and facts.page.page is None):
        yield failure(first, "page" if facts.page is not None else "rest", facts.url, is_first=True)
        return
    if facts.page is not None:
        if _is_challenge_page(facts):
            yield firewall("what looks like a challenge page, in place of the page", facts.page.outcome)
            return
        yield from _visit(facts, facts.page)
    site = _site(facts)
    yield from site
    if any(finding.exit_code for finding in site):
        return
    yield from _bots(facts)
    yield from _member(facts) if facts.is_member else _session(facts)
    yield from _notices(facts)
    yield from _caches(facts)
    if facts.question is not None:
        yield from _question(facts.question, facts.endpoint.origin)
    yield from _clock(facts)
    yield from _passwords(facts)


# ---------------------------------------------------------------- the way there


def _way(facts: Facts, first: Exchange) -> Iterator[Finding]:
    if facts.proxy is not None:
        if isinstance(first.outcome, Broken) and first.outcome.reason is Reason.PROXY:
            return
        yield ok("proxy", f"through {facts.proxy}")
    elif first.contacts and first.contacts[0].failed_at != "name":
        contact = first.contacts[0]
        yield ok("name", f"{contact.host} is {', '.join(contact.addresses)}")
        if contact.failed_at != "connection":
            yield ok("connection", f"port {contact.port} is open")
    if not first.answers or first.contacts[-1].failed_at:
        return
    seen = {contact.host: contact.certificate for contact in first.contacts if contact.certificate is not None}
    said = [f"the certificate of {host} is {certificate_text(certificate)}" for host, certificate in seen.items()]
    if not said or first.last.url.startswith("http:"):  # in that case the certificate is the proxy's
        said.append("none for the site: what is asked and answered can be read on the way")
    yield ok("tls", "; ".join(said))


def _visit(facts: Facts, visit: Exchange) -> Iterator[Finding]:
    page = visit.page
    assert page is not None
    yield ok("page", f"{len(visit.last.body)} bytes of {page.url}")
    urls = [answer.url for answer in visit.answers]
    if len(urls) > 1:
        way = f"{len(urls) - 1} to {page.url}"
        if _is_same_site(urls[0], page.url):
            yield ok("redirects", way)
        else:
            yield problem(
                "redirects",
                f"{way}, which is another site",
                "check that this is meant, and give the address that it leads to",
            )


def _is_same_site(url: str, other: str) -> bool:
    """Whether two addresses are the same site: with or without "www." and TLS."""
    one, two = (Endpoint.parse("/".join(it.split("/", 3)[:3])) for it in (url, other))
    ports = {one.port, two.port}
    return one.host.removeprefix("www.") == two.host.removeprefix("www.") and (len(ports) == 1 or ports == {80, 443})


def _is_challenge_page(facts: Facts) -> bool:
    assert facts.page is not None
    return is_challenge_text(facts.page.last.text) and not _is_wordpress(facts)


# ---------------------------------------------------------------- the site


def _is_wordpress(facts: Facts) -> bool:
    visit = facts.page
    if visit is not None and visit.page is not None and (visit.page.root or _WORDPRESS.search(visit.last.text)):
        return True
    index = facts.index
    if index is not None and (read_index(index) is not None or _linked_root(index) is not None):
        return True
    return _gives_nonce(facts)  # another server that speaks the protocol


def _gives_nonce(facts: Facts) -> bool:
    session = facts.session and facts.session.session
    return session is not None and session.nonce is not None


def _linked_root(exchange: Exchange) -> str | None:
    """The REST root in the Link field of a response."""
    page = Page.parse("", exchange.last.url, exchange.last.headers)
    return page.root


def _site(facts: Facts) -> list[Finding]:
    """Whether it is WordPress, where its REST API is, and whether AI Engine is there."""
    if not _is_wordpress(facts):
        return [
            problem(
                "wordpress", "no sign of it", "check the address: AI Engine is a plugin of WordPress", _NOT_THE_CHAT
            )
        ]
    return [ok("wordpress", "WordPress, or a server that answers as it does"), *_rest(facts)]


def _rest(facts: Facts) -> Iterator[Finding]:
    index, exchange, root = read_index(facts.index), facts.index, _root(facts.endpoint)
    links = "plain permalinks" if "?" in root else "pretty permalinks"
    if index is not None:
        if root.startswith("http:") and facts.page is not None and facts.page.last.url.startswith("https:"):
            yield problem(
                "rest",
                f"its root is {root}, without https, though the page has it: browsers refuse that",
                "ask the site's owner to correct the address of the site in WordPress's settings",
            )
        else:
            yield ok("rest", f"its root is {root} ({links})")
        yield _ai_engine(facts, index)
        return
    assert exchange is not None
    linked = _linked_root(exchange)
    if exchange.last.status in (200, 404) and linked is not None and linked != root:
        yield problem(
            "rest",
            f"nothing at {root}: the site has its REST API at {linked}{' (plain permalinks)' if '?' in linked else ''}",
            f"give --url {linked}",
            _NOT_THE_CHAT,
        )
    elif _gives_nonce(facts) or _code(exchange) == _NO_ROUTE:
        if coding := exchange.last.header("content-encoding"):
            yield compression(coding, 0)
        yield ok("rest", f"its root is {root} ({links}); its index is not shown to guests")
        yield _ai_engine(facts, None)
    elif isinstance(exchange.outcome, Broken):
        finding = failure(exchange, "rest", root)
        if finding.check == "rest" and exchange.last.status in (401, 403):
            finding = replace(finding, advice=_TO_GUESTS)
        elif finding.check == "rest" and exchange.last.status == 404:
            advice = "ask the site's owner whether the REST API is switched off, and which address it has"
            finding = replace(finding, advice=advice)
        elif facts.page is not None and not _is_same_site(facts.page.last.url, root) and not exchange.answers:
            text = f"{finding.text}; the page says that its REST API is there"
            advice = "ask the site's owner to correct the address of the site in WordPress's settings"
            finding = replace(finding, text=text, advice=advice)
        yield finding
    elif _is_login(exchange.last):
        yield problem("rest", f"{root} redirects to the login page", _TO_GUESTS, _NOT_THE_CHAT)
    else:
        advice = f"try --url {facts.endpoint.origin}{facts.endpoint.site}index.php?rest_route="
        if "?" in root:
            advice = "check the address, or ask the site's owner whether the REST API is switched off"
        yield problem("rest", f"what is at {root} is no REST API", advice, _NOT_THE_CHAT)


def _is_login(answer: Answer) -> bool:
    return answer.url.partition("?")[0].endswith("/wp-login.php")


def _root(endpoint: Endpoint) -> str:
    return endpoint.origin + endpoint.root


def _code(exchange: Exchange | None) -> str | None:
    """WordPress's code of the refusal."""
    return exchange.outcome.code if exchange is not None and isinstance(exchange.outcome, Broken) else None


def _ai_engine(facts: Facts, index: dict[str, Any] | None) -> Finding:
    namespaces = (index or {}).get("namespaces", [])
    fault = ""
    if "mwai-ui/v1" not in namespaces and not (index is None and _shows_plugin(facts)):
        old = [name for name in _OLD_NAMESPACES if name in namespaces]
        fault, advice = "it is not there", "check the address, or ask the site's owner whether AI Engine is active"
        if old:
            fault, advice = "it is older than 1.6.76, with another protocol", "ask the site's owner to update it"
        elif "mwai/v1" in namespaces:
            fault, advice = "its chatbots are switched off", "ask the site's owner to switch on the module Chatbots"
    if fault:
        return problem("ai_engine", fault, advice, _NOT_THE_CHAT)
    version = least_version(facts)
    return ok("ai_engine", f"at least {'.'.join(map(str, version))}" if version else "it is there")


def _shows_plugin(facts: Facts) -> bool:
    page = facts.page and facts.page.page
    if page is None:
        return _gives_nonce(facts)
    notes = [note for note in page.notes if not note.startswith(_NO_SIGNS)]
    return bool(page.bots or page.discussions or notes) or _gives_nonce(facts)


def _bots(facts: Facts) -> Iterator[Finding]:
    if facts.page is None:
        yield ok("bots", "not looked at: the address is a REST root, and no page")
        return
    page = facts.page.page
    assert page is not None
    names = list(dict.fromkeys(bot_name(bot) for bot in page.bots if bot.endpoint is not None))
    shown = ", ".join(name[:SHOWN] for name in names)
    if not names:
        text, advice = "none on this page", "give the address of a page that shows the chat"
        if _is_login(facts.page.last):
            text, advice = "none: this is the login page", "give a page for guests; for members, ask with --cookie-file"
        elif _PASSWORD_FORM in facts.page.last.text:
            text, advice = "none: the page is protected by a password", "give the address of a page without one"
        else:
            advice = next((told for note in page.notes for sign, told in _ABOUT_NOTES if note.startswith(sign)), advice)
        yield problem("bots", "; ".join((text, *page.notes)), advice, _NOT_THE_CHAT)
    elif facts.chosen is None:
        yield problem(
            "bots", f"no {facts.bot!r} on this page, but {shown}", "choose one of them with --bot", _NOT_THE_CHAT
        )
    elif facts.bot is None and len(names) > 1:
        yield ok("bots", f"{shown}; --bot chooses one")
    else:
        yield ok("bots", facts.bot or shown)


# ---------------------------------------------------------------- the session


def _session(facts: Facts) -> Iterator[Finding]:
    bot, exchange = facts.chosen, facts.session
    version = least_version(facts)
    if exchange is None:
        if bot is not None and bot.nonce is not None:
            yield ok("session", "none to start: the page gives the nonce")
            yield from _nonce(facts)
        return
    if isinstance(broken := exchange.outcome, Broken):
        finding = failure(exchange, "session", facts.endpoint.origin)
        if finding.check == "session" and broken.status in (401, 403):
            plugins = "ask the site's owner whether a security plugin refuses it"
            old = "; versions 2.9.0 and 2.9.1 refuse it to everybody" if version < _OPEN_AGAIN else ""
            finding = replace(finding, advice=plugins + old)
        yield finding
        return
    session = exchange.session
    if session is None or session.nonce is None:
        yield _without_start_session(facts, version)
        return
    yield ok("session", "start_session gives one")
    yield from _nonce(facts)
    yield from _cookie(exchange, session, version)


def _member(facts: Facts) -> Iterator[Finding]:
    exchange = facts.session
    assert exchange is not None
    session = exchange.session
    assert session is not None
    if session.member:
        yield ok("member", f"the site takes you for {session.member}")
    if isinstance(exchange.outcome, Broken):
        yield failure(exchange, "session" if session.member else "member", facts.endpoint.origin)
    elif session.nonce is None and least_version(facts) >= NONCE_NEEDED:
        advice = "sign in with a browser's cookies (--cookie-file), and give the address of a page that shows the chat"
        yield problem("nonce", "an application password gets none from this version", advice, NONCE_REFUSED)
    elif is_accepted(facts.check):
        text = "start_session gives a guest's, so a question would be a guest's: Authorization does not reach it"
        advice = "sign in with a browser's cookies (--cookie-file), or ask the site's owner what takes that field away"
        yield problem("nonce", text, advice, NONCE_REFUSED)


def _without_start_session(facts: Facts, version: tuple[int, ...]) -> Finding:
    """Why start_session may be missing (WIRE 2.1, 2.5)."""
    check = "nonce"
    if version >= _HAS_START_SESSION:
        check, text = "session", f"start_session is not there under {_root(facts.endpoint)}"
        advice = "give the root as the site writes it, such as index.php?rest_route=, or the address of a page"
        if facts.page is not None and facts.page.page is not None and facts.page.page.root is not None:
            advice = "ask the site's owner whether a security plugin has removed it"
    elif version >= NONCE_NEEDED:
        text = "neither the page nor start_session gives one, and this version demands it"
        advice = "give the address of a page that shows the chat, or ask the site's owner to update AI Engine"
    elif facts.chosen is None:
        return ok("session", "none to start: no nonce is needed before 2.0.0, and later only a page gives it")
    else:
        return ok("session", "none to start: before 2.0.0 no nonce is needed (2.0.0 itself answers no guest)")
    return problem(check, text, advice, NONCE_REFUSED)


def _nonce(facts: Facts) -> Iterator[Finding]:
    if _is_renewed(facts):
        return  # the cache is the problem
    if _code(facts.check) == _STALE:
        yield problem(
            "nonce",
            f"it is refused at once ({_STALE})",
            "ask the site's owner to keep caches away from pages with the chat, and from the REST API",
            NONCE_REFUSED,
        )
    elif is_accepted(facts.check) or (facts.question is not None and isinstance(facts.question.outcome, End)):
        yield ok("nonce", "it is accepted")
    else:
        yield ok("nonce", "only a question would tell whether it is accepted")


def _is_renewed(facts: Facts) -> bool:
    """Whether an uncached page has a different nonce than the first page, whose nonce was refused."""
    bot, fresh = facts.chosen, choose_bot(facts.fresh and facts.fresh.page, facts.bot)
    return bot is not None and fresh is not None and fresh.nonce not in (None, bot.nonce)


def _cookie(exchange: Exchange, session: Session, version: tuple[int, ...]) -> Iterator[Finding]:
    if "mwai_session_id=" in session.cookie:
        yield ok("cookie", "start_session sets mwai_session_id")
    elif any(name == "set-cookie" and "mwai_session_id=" in value for name, value in exchange.last.headers):
        yield problem(
            "cookie",
            "start_session sets mwai_session_id, but its Domain, Path, Secure or expiry keeps it from this address",
            "give the address as the site's owner writes it, with https",
        )
    elif session.session_id not in (None, "N/A") or version >= _COOKIE_SET:
        yield problem(
            "cookie",
            "start_session sets no mwai_session_id: files and discussions would not be remembered as yours",
            "look for a proxy that takes Set-Cookie away, or a plugin that prints before the headers",
        )
    else:
        yield ok("cookie", "none, as before 2.8.5")


# ---------------------------------------------------------------- what is on the way


def _notices(facts: Facts) -> Iterator[Finding]:
    """Output of the site before its JSON. opchat skips it, a browser does not."""
    for exchange, is_json in ((facts.session, _gives_nonce(facts)), (facts.index, read_index(facts.index) is not None)):
        begin = re.search(r'\{\s*"', exchange.last.text[:_MOST_PRINTED]) if exchange is not None and is_json else None
        before = exchange.last.text[: begin.start()] if exchange is not None and begin is not None else ""
        if not before.strip(" \t\r\n"):
            continue
        printed = " ".join(re.sub("<[^>]*>", " ", before.replace("\ufeff", "")).split())
        text = f"before its JSON the site prints {printed[:SHOWN] or 'a byte order mark'}"
        yield ok("notices", f"{text}; opchat reads past that, but a browser may not: its owner should switch it off")
        return


def _caches(facts: Facts) -> Iterator[Finding]:
    signs = [sign for visit in (facts.page, facts.index) if visit is not None for sign in _cache_signs(visit.last)]
    text = f"signs of one: {'; '.join(dict.fromkeys(signs))}" if signs else "no sign of one"
    if _is_renewed(facts):
        yield problem(
            "cache",
            f"the nonce in the page is stale; {text}",
            "ask the site's owner to keep the page for less than 12 hours (opchat visits it anew by itself)",
        )
    else:
        yield ok("cache", text)


def _cache_signs(answer: Answer) -> Iterator[str]:
    age = answer.header("age").strip()
    if age.isdecimal() and age.strip("0"):
        yield f"Age: {age[:SHOWN]}"
    for name in _CACHES:
        if _HIT.search(value := answer.header(name)):
            yield f"{name.title()}: {value[:SHOWN]}"
    if found := _CACHE_PLUGIN.search(answer.text[-_PAGE_END:].rpartition("<!--")[2]):
        yield found[0]


def _question(question: Question, where: str) -> Iterator[Finding]:
    outcome = question.outcome
    if isinstance(outcome, Broken) and outcome.reason is Reason.MALFORMED and question.coding:
        yield compression(question.coding, exit_code(outcome))
        return
    if isinstance(outcome, Broken):
        yield problem("question", broken_line(outcome), what_to_try(outcome, where), exit_code(outcome))
        return
    yield ok("question", f"answered, in {question.pieces} piece{'s' * (question.pieces != 1)}")
    if question.pieces < 2:
        return
    if not question.at_once:
        yield ok("buffering", "the first piece came before the last")
    elif question.waited < _TELLING:
        yield ok("buffering", "cannot be told: the answer was too fast")
    else:
        yield problem(
            "buffering",
            "all pieces of the answer came at once, with its end",
            "ask the site's owner to switch off buffering for the REST API (nginx: X-Accel-Buffering, proxies)",
        )


def _clock(facts: Facts) -> Iterator[Finding]:
    exchanges = (facts.check, facts.session, facts.index, facts.page)
    answers = [answer for exchange in exchanges if exchange is not None for answer in exchange.answers]
    skews = [skew for skew in map(_skew, answers) if skew is not None]
    if not skews:
        return
    skew = min(skews, key=abs)
    if abs(skew) <= _MOST_SKEW:
        yield ok("clock", f"the server's differs by {abs(skew):.0f} s")
    else:
        yield problem(
            "clock",
            f"the server's is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} this computer's",
            "set this computer's clock, or ask the site's owner to set the server's",
        )


def _skew(answer: Answer) -> float | None:
    try:
        date = parsedate_to_datetime(answer.header("date"))
        age = int(answer.header("age") or 0)  # a cache keeps the original date (RFC 9111, 5.1)
        return date.replace(tzinfo=date.tzinfo or UTC).timestamp() + age - answer.at
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _passwords(facts: Facts) -> Iterator[Finding]:
    index = read_index(facts.index)
    if index is None:
        return
    given = index.get("authentication")
    offered = isinstance(given, dict) and "application-passwords" in given
    yield ok("application_passwords", "offered to members" if offered else "not offered")
