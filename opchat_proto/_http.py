"""HTTP as values: where a site's REST API is, and requests to it."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import TypeAlias, final
from urllib.parse import quote, urljoin, urlsplit

from ._value import Value

__all__ = ["Endpoint", "Headers", "Request"]

Headers: TypeAlias = Iterable[tuple[str | bytes, str | bytes]]
"""Header fields as any HTTP library gives them; bytes are read as Latin-1 (RFC 9110, 5.5)."""

_EXPECTED = (
    "expected a site (https://site.example, https://site.example/blog), its REST root "
    "(https://site.example/wp-json, https://site.example/index.php?rest_route=) or a host with port (127.0.0.1:8000)"
)
HOST = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_.])?|[0-9a-f:.]*:[0-9a-f:.]*", re.ASCII)
_AUTHORITY = re.compile(r"(?:\[[0-9A-Fa-f:.]*\]|[^\[\]:]*)(?::[0-9]*)?")  # urlsplit accepts more with brackets
_USER = re.compile(r"(?:[^/?#@]*/+)?[^/?#]*@")  # one slash is accepted too, if the other was forgotten
FOLDED_LINE = re.compile(rb"\n[ \t]")
"""A folded field in the head of a message (RFC 9112, 5.2). h11 unfolds it, while other parsers see two fields or none,
which allows request smuggling. Client and server refuse it."""
PORTS = {"http": 80, "https": 443}
_LONGEST_NAME = 254  # characters, with a trailing dot (RFC 1035, 2.3.4). SOCKS5 allows 255.
PATH_CHARACTERS = "/:@!$&'()*+,;=~%-._"  # RFC 3986, 3.3; "%" so that nothing is encoded twice


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Endpoint(Value):
    """A site's REST root (WIRE 2.1). Make one with `Endpoint.parse`.

    The constructor takes any root, for a site that has renamed its "wp-json";
    `site` is then the address of the site's front page.
    """

    scheme: str
    """"http" or "https"."""
    host: str
    """The name or address to connect to, lower case, an IPv6 address without brackets."""
    port: int
    root: str
    """The request target in front of a route: "/wp-json", "/blog/index.php?rest_route="."""
    site: str = "/"
    """The path of the site's front page, for the Referer, and of WordPress's `wp-admin`."""
    authority: str = field(init=False, repr=False, compare=False)
    """Host and port as in the Host header: without the scheme's default port."""
    origin: str = field(init=False, repr=False, compare=False)
    """Scheme, host and port, as in the Origin header (RFC 6454, 6.2)."""

    def __post_init__(self) -> None:
        """Check that nothing here could end a line or a header. Every request needs the last two fields."""
        if self.scheme not in PORTS:
            raise ValueError(f"Endpoint.scheme: expected 'http' or 'https', got {self.scheme!r}")
        if not HOST.fullmatch(self.host):
            raise ValueError(f"Endpoint.host: expected an ASCII host name or an address, got {self.host!r}")
        if len(self.host) > _LONGEST_NAME:
            raise ValueError(f"Endpoint.host: expected at most {_LONGEST_NAME} characters, got {len(self.host)}")
        if type(self.port) is not int or not 0 < self.port < 65536:
            raise ValueError(f"Endpoint.port: expected 1 to 65535, got {self.port!r}")
        for name, path in (("root", self.root), ("site", self.site)):
            if not re.fullmatch('/[!"$-~]*', path):
                raise ValueError(f"Endpoint.{name}: expected a path of printable ASCII, got {path!r}")
        host = f"[{self.host}]" if ":" in self.host else self.host
        authority = host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"
        object.__setattr__(self, "authority", authority)
        object.__setattr__(self, "origin", f"{self.scheme}://{authority}")

    @classmethod
    def parse(cls, text: str) -> "Endpoint":
        """The endpoint of a site, from an address that people have at hand.

        A site (`https://site.example`, `https://site.example/blog`), a REST root
        (`.../wp-json`, `.../index.php?rest_route=`), or a host with port
        (`127.0.0.1:8000`: https for port 443, else http). A trailing slash makes
        no difference. Raises `ValueError` for anything else, and says what was expected.
        """
        if not isinstance(text, str):
            raise TypeError(f"expected a str, got {type(text).__name__}")
        if _USER.match(text):
            raise ValueError(f"{_EXPECTED}, without a user name")  # without showing the password
        if re.search(r"[\x00-\x20\x7f\\\ud800-\udfff]", text):
            raise ValueError(f"{text!r}: {_EXPECTED}, without blanks, control characters and backslashes")
        bare = "://" not in text
        try:
            parts = urlsplit(f"//{text}" if bare else text)
            host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise ValueError(f"{text!r}: {error}; {_EXPECTED}") from None
        scheme = parts.scheme
        if bare:
            if port is None or parts.path.strip("/") or parts.query:
                raise ValueError(f"{text!r}: no https:// in front; {_EXPECTED}")
            scheme = "https" if port == 443 else "http"
        if scheme not in PORTS or "#" in text:
            raise ValueError(f"{text!r}: {_EXPECTED}")
        if not parts.netloc.isascii():  # not `host`: it is in lower case, and the Kelvin sign becomes an ASCII k
            raise ValueError(f"{text!r}: expected the host name in its ASCII form (xn--...)")
        if not HOST.fullmatch(host) or not _AUTHORITY.fullmatch(parts.netloc) or port == 0:
            raise ValueError(f"{text!r}: {_EXPECTED}")
        path = quote(parts.path, safe=PATH_CHARACTERS).rstrip("/")
        query = quote(parts.query, safe=PATH_CHARACTERS + "?")
        return cls(scheme, host, port or PORTS[scheme], *_root_and_site(text, path, query))

    @property
    def is_secure(self) -> bool:
        """Whether nobody can eavesdrop on the way: https, or a host that is this machine itself.

        The latter are "localhost", names that end in ".localhost" and addresses of
        the loopback interface (W3C, Secure Contexts, 3.1).
        """
        host = self.host.removesuffix(".")
        if self.scheme == "https" or host == "localhost" or host.endswith(".localhost"):
            return True
        try:
            return ip_address(host).is_loopback
        except ValueError:
            return False

    def target(self, route: str) -> str:
        """The request target of a route such as "/mwai/v1/start_session" or "/wp/v2/users/me?context=edit"."""
        if not isinstance(route, str):
            raise TypeError(f"route: expected a str, got {type(route).__name__}")
        if "?" in self.root:  # plain permalinks: the route is a parameter, and its own parameters follow it
            route = route.replace("?", "&", 1)
        return self.root.removesuffix("/") + route


def _root_and_site(text: str, path: str, query: str) -> tuple[str, str]:
    if query:
        # Plain permalinks: the route is the value of rest_route, so nothing may follow it.
        query = re.sub("(?i)(?<=rest_route=)%2F$", "/", query)
        if not re.search(r"(?:^|&)rest_route=/?$", query):
            raise ValueError(f"{text!r}: {_EXPECTED}")
        site = path.removesuffix("/index.php")
        if not path:
            path = "/"
        elif not path.endswith(".php"):
            path += "/"
        return f"{path}?{query.removesuffix('/')}", f"{site}/"
    root, found, route = path.partition("/wp-json/")
    if found:
        raise ValueError(f"{text!r}: expected the REST root alone, {root}/wp-json, without the route /{route}")
    if path.endswith("/wp-json"):
        return path, path.removesuffix("/wp-json").removesuffix("/index.php") + "/"
    return f"{path}/wp-json", f"{path.removesuffix('/index.php')}/"


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Request(Value):
    """One HTTP request, for any HTTP library: `library(request.method, request.url, request.headers, request.body)`.

    The header fields are complete, with Host and Content-Length. Leave those two
    out if the library writes them itself.
    """

    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)  # they contain the nonce and the cookie
    body: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        """Check the type of the URL. It is parsed later."""
        if not isinstance(self.url, str):
            raise TypeError(f"Request.url: expected a str, got {type(self.url).__name__}")

    @property
    def target(self) -> str:
        """The request target: path and query of `url` (RFC 9112, 3.2.1)."""
        return "/" + self.url.partition("://")[2].partition("/")[2]


_PAIR = (tuple, list)  # a global is looked up faster than a tuple is made
_TEXT = (str, bytes, bytearray)


def _pair(field: object) -> tuple[object, object]:
    # Iterating over a mapping gives its names, and a name of two letters unpacks like a pair.
    if not isinstance(field, _PAIR) or len(field) != 2:
        raise TypeError(f"headers: expected pairs of name and value, got {type(field).__name__}")
    return field[0], field[1]


# Patterns that few questions need are texts, here and in other modules: `re` compiles and caches one on first use.
# Together they took a sixth of the package's import.
_STRING = r'"(?:(?>[^"\\]|\\.))*+(?:"|\Z)'
_LINK = rf"<([^<>]*)>((?:(?>[^\",]|{_STRING}))*+)"
_LINK_PARAMETER = rf";\s*([^\s;,=\"]+)\s*(?:=\s*({_STRING}|[^;,\s]*))?"


def decode_headers(headers: Headers) -> list[tuple[str, str]]:
    """The header fields as text, names in lower case. Raises `TypeError` for anything but pairs of str or bytes."""
    decoded = []
    for pair in headers:
        name, value = pair if type(pair) is tuple and len(pair) == 2 else _pair(pair)
        if type(name) is bytes is type(value):
            name, value = name.decode("latin-1"), value.decode("latin-1")
        elif type(name) is not str or type(value) is not str:
            name, value = _as_texts(name, value)
        decoded.append((name.lower(), value))
    return decoded


def _as_texts(name: object, value: object) -> tuple[str, str]:
    if not isinstance(name, _TEXT) or not isinstance(value, _TEXT):
        raise TypeError(
            f"headers: expected pairs of str or bytes, got {type(name).__name__} and {type(value).__name__}"
        )
    name = name if isinstance(name, str) else name.decode("latin-1")
    return name, value if isinstance(value, str) else value.decode("latin-1")


def decode_head(status: int, headers: Headers) -> list[tuple[str, str]]:
    """The header fields of a response, as `decode_headers`. Also raises `TypeError` for a status that is not an int."""
    if not isinstance(status, int) or isinstance(status, bool):
        raise TypeError(f"status: expected an int, got {type(status).__name__}")
    return decode_headers(headers)


def find_links(headers: list[tuple[str, str]], relation: str) -> Iterator[str]:
    """The targets of all links of this relation, as written (RFC 8288, 3). `headers` have names in lower case."""
    for target, parameters in (
        match.groups() for name, value in headers if name == "link" for match in re.finditer(_LINK, value)
    ):
        # The first "rel" counts. It is a case-insensitive list of relations.
        given = (match[2] or "" for match in re.finditer(_LINK_PARAMETER, parameters) if match[1].lower() == "rel")
        relations = re.sub(r"\\(.)", r"\1", next(given, "").strip('"'))
        if relation in relations.lower().split():
            yield target


def find_link(headers: list[tuple[str, str]], relation: str, base: str) -> str | None:
    """The first of these links that is an http or https URL, resolved against `base`; else None."""
    for target in find_links(headers, relation):
        try:
            address: str = urljoin(base, target.strip())
        except ValueError:
            continue
        if re.fullmatch(r"https?://[!-~]{1,200}", address):
            return address
    return None


# The fields that a caller cannot set, and what to do instead.
_NOT_THE_CALLERS = dict.fromkeys(
    ("host", "content-length", "transfer-encoding", "connection", "expect"), "opchat sets it"
)
_NOT_THE_CALLERS |= {
    "accept-encoding": "opchat sets it, and reads no compressed answers",
    "cookie": "use Session.from_cookies",
    "x-wp-nonce": "use Session(nonce)",
    "proxy-authorization": "use the URL of the proxy, as in http://name:password@host:port",
}


def check_headers(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """A copy of the caller's extra header fields. Raises `ValueError` for one that breaks its line or is not theirs."""
    checked = []
    if not isinstance(headers, Iterable):
        raise TypeError(f"headers: expected a dict or pairs of name and value, got {type(headers).__name__}")
    for name, value in map(_pair, headers.items() if hasattr(headers, "items") else headers):
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"headers: expected pairs of str, got {type(name).__name__} and {type(value).__name__}")
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):  # a token: RFC 9110, 5.6.2
            raise ValueError(f"headers: expected a field name, got {name!r}")
        if not re.fullmatch(r"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?", value):  # RFC 9110, 5.5
            raise ValueError(f"headers: {name}: expected a value without control characters and blanks at its ends")
        if name.lower() in _NOT_THE_CALLERS:
            raise ValueError(f"headers: {name} cannot be set here: {_NOT_THE_CALLERS[name.lower()]}")
        checked.append((name, value))
    return tuple(checked)


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DATES = (  # RFC 9110, 5.6.7: one format to write, and two obsolete ones to read
    r"(?a)[A-Z][a-z]{2}, (?P<day>\d\d) (?P<month>[A-Z][a-z]{2}) (?P<year>\d{4}) (?P<clock>[\d:]{8}) GMT",
    # also with a short day and a four-digit year, as in Netscape's cookies and older PHP
    r"(?a)[A-Z][a-z]+, (?P<day>\d\d)-(?P<month>[A-Z][a-z]{2})-(?P<year>\d{2}|\d{4}) (?P<clock>[\d:]{8}) GMT",
    r"(?a)[A-Z][a-z]{2} (?P<month>[A-Z][a-z]{2}) (?P<day>[ \d]\d) (?P<clock>[\d:]{8}) (?P<year>\d{4})",
)
# RFC 6265, 5.1.1: the delimiters in a cookie's date, and its kinds of tokens. Anything may follow a token.
_COOKIE_DATE_DELIMITERS = r"[\t -/;-@\[-`{-~]+"
_COOKIE_CLOCK = r"([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(?![0-9])"
_COOKIE_DAY = r"([0-9]{1,2})(?![0-9])"
_COOKIE_MONTH = "(?ai)" + "|".join(_MONTHS)
_COOKIE_YEAR = r"([0-9]{2,4})(?![0-9])"


def format_date(now: float) -> str:
    """Unix seconds as a Date field. Not strftime: its names of days depend on the locale."""
    date = datetime(1970, 1, 1) + timedelta(seconds=now)
    return f"{_DAYS[date.weekday()]}, {date:%d} {_MONTHS[date.month - 1]} {date.year:04} {date:%H:%M:%S} GMT"


def read_date(value: str, now: datetime | None = None) -> datetime | None:
    """A date in a format of RFC 9110, 5.6.7, or None.

    A two-digit year means the latest year that is at most 50 years after `now`;
    without `now`, a year from 1970 to 2069.
    """
    match = next(filter(None, (re.fullmatch(form, value) for form in _DATES)), None)
    if match is None:
        return None
    try:
        hour, minute, second = map(int, match["clock"].split(":"))
        rest = _MONTHS.index(match["month"]) + 1, int(match["day"]), hour, minute, second
        year = int(match["year"])
        if len(match["year"]) == 2:
            latest = 2069 if now is None else now.year + 50
            year = latest - (latest - year) % 100
            if now is not None and (year, *rest) > (latest, *now.timetuple()[1:6]):
                year -= 100
        return datetime(year, *rest)
    except ValueError:
        return None


def read_cookie_date(value: str) -> datetime | None:
    """The date of a cookie, parsed leniently as in RFC 6265, 5.1.1, or None."""
    forms = [_COOKIE_CLOCK, _COOKIE_DAY, _COOKIE_MONTH, _COOKIE_YEAR]
    found: dict[str, re.Match[str]] = {}
    for token in re.split(_COOKIE_DATE_DELIMITERS, value):
        form = next((form for form in forms if form not in found and re.match(form, token)), None)
        if form is not None and (match := re.match(form, token)):
            found[form] = match
    try:
        clock, day, month, given = (found[form] for form in forms)
        year = int(given[1])
        if year < 100:
            year += 1900 if year >= 70 else 2000
        if year < 1601:
            return None
        hour, minute, second = map(int, clock.groups())
        return datetime(year, _MONTHS.index(month[0].capitalize()) + 1, int(day[1]), hour, minute, second)
    except (KeyError, ValueError):
        return None
