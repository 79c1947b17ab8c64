"""Read a file in Netscape's format, and select the cookies that a browser would send to a site (RFC 6265, 5.4).

Python's `MozillaCookieJar` treats session cookies (expiry 0) as expired, requires a
certain first line, and refuses the whole file if the second field of a line does not
match the dot of its first field. Browsers and their extensions write all of these.
"""

import re
from collections import Counter
from typing import NamedTuple

__all__: list[str] = []

_ADDRESS = r"[0-9.]+|.*:.*"  # IPv4 or IPv6: never below a domain
_HTTP_ONLY = "#HttpOnly_"
_FIELDS = 7
_NUMBER = r"-?[0-9]{1,18}(?:\.[0-9]*)?"
_PAIR = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+=(?:[!-:<-~](?:[ -:<-~]*[!-:<-~])?)?"
_HEADER = r"(?i:cookie[ \t]*:)?[ \t]*([^\r\n]+)"
_EXPECTED = "cookies: expected a file in Netscape's format (cookies.txt), or the value of a Cookie header"


def domain_matches(host: str, domain: str) -> bool:
    """RFC 6265, 5.1.3. Without a domain, the cookie belongs to this host alone."""
    host = host.removesuffix(".")
    if domain in ("", host, f"[{host}]"):
        return True
    return host.endswith("." + domain) and not re.fullmatch(_ADDRESS, host)


def path_matches(target: str, path: str) -> bool:
    """RFC 6265, 5.1.4. Without a path, the cookie applies everywhere: start_session is in a directory of its own."""
    return target == path or target.startswith(path if path.endswith("/") else path + "/")


class _Cookie(NamedTuple):
    domain: str
    has_subdomains: bool
    path: str
    is_secure: bool
    expires: float  # in Unix seconds; 0 for the end of the browser's session
    pair: str

    def __repr__(self) -> str:
        """Without the cookie."""
        return f"_Cookie(domain={self.domain!r})"

    def problem(self, host: str, target: str, now: float, *, is_https: bool) -> str:
        """Why a browser would not send it to this site; "" if it would."""
        domain = self.domain.removeprefix(".").lower()
        matches = domain_matches(host, domain) if self.has_subdomains else domain in (host, f"[{host}]")
        if not domain or not matches:
            return "of other sites"
        if not path_matches(target, self.path):
            return "for other paths"
        if self.is_secure and not is_https:
            return "for https only"
        if self.expires and self.expires <= now:
            return "expired"
        return "" if re.fullmatch(_PAIR, self.pair) else "unusable"


def read_cookies(text: str, host: str, target: str, now: float, *, is_https: bool) -> str:
    """The Cookie header for this site. Raises `ValueError`, whose text shows no cookie, if no cookie is left."""
    text, host = text.removeprefix("\ufeff"), host.removesuffix(".")
    if "\t" not in text:
        return _read_header(text)
    lines = ((number, line.removeprefix(_HTTP_ONLY)) for number, line in enumerate(re.split(r"\r?\n", text), 1))
    given = [_read_line(number, line) for number, line in lines if line.strip() and not line.startswith("#")]
    good, problems = [], Counter[str]()
    for cookie in given:
        if problem := cookie.problem(host, target, now, is_https=is_https):
            problems[problem] += 1
        else:
            good.append(cookie)
    if not good:
        why = ", ".join(f"{count} {problem}" for problem, count in problems.items())
        raise ValueError(f"cookies: none for {host}{why and f' ({why})'}")
    good.sort(key=lambda cookie: len(cookie.path), reverse=True)  # RFC 6265, 5.4: longer paths come first
    return "; ".join(dict.fromkeys(cookie.pair for cookie in good))


def _read_header(text: str) -> str:
    match = re.fullmatch(_HEADER, text.strip())
    pairs = [pair.strip() for pair in match[1].split(";")] if match else []
    pairs = [pair for pair in pairs if pair]
    if not pairs or not all(re.fullmatch(_PAIR, pair) for pair in pairs):
        raise ValueError(_EXPECTED)
    return "; ".join(pairs)


def _read_line(number: int, line: str) -> _Cookie:
    fields = line.split("\t")
    if len(fields) == _FIELDS - 1:
        fields.append("")  # without a value, if an editor has removed the last tab
    if len(fields) != _FIELDS:
        raise ValueError(f"cookies: line {number}: expected {_FIELDS} fields with tabs between them")
    domain, subdomains, path, secure, expires, name, value = fields
    if expires and not re.fullmatch(_NUMBER, expires):
        raise ValueError(f"cookies: line {number}: expected the time in Unix seconds, or 0, in field 5")
    pair = "" if "=" in name else f"{name}={value}"  # it would be sent under another name
    is_for_subdomains, is_secure = subdomains.upper() == "TRUE", secure.upper() == "TRUE"
    return _Cookie(domain, is_for_subdomains, path, is_secure, float(expires or 0), pair)
