"""Quote a peer's text for a detail: in one line, shortened, without tags and without secrets."""

import html
import re

__all__: list[str] = []

SHOWN = 200  # characters of a line or a text that a detail quotes

_INLINE_TAG = r"(?i)</?(?:a|b|code|em|font|i|small|span|strong|u)(?=[\s/>])[^<>]*>"
# A tag that the end of the text cuts counts too.
_TAG = r"(?i)<(?:[a-z/?]|!(?:--)?)[^<>]*(?:>|\Z)"
_HIDDEN_TEXT = r"(?is)<(script|style)\b(?:(?!</\1).)*"  # their content is not text of the page
_TITLE = r"(?i)<title(?:\s[^<>]*)?>\s*([^<\s][^<]*)"
_LONG_REFERENCE = "&#[0-9]{8,};?"


def without_tags(text: str) -> str:
    """`text` without its tags and in one line; unchanged if it has no tags."""
    bare = _bare(text)
    return text if bare == text else " ".join(_unescape(bare).split())


def beginning(text: str) -> str:
    """A page's title, or else the beginning of the text, in one line and without tags."""
    title = re.search(_TITLE, text)
    begins = title[1] if title else _bare(re.sub(_HIDDEN_TEXT, " ", text))
    if begins != text:  # it is HTML
        begins = _unescape(begins)
    return " ".join(begins[: 10 * SHOWN].split())[:SHOWN]


def _bare(text: str) -> str:
    return re.sub(_TAG, " ", re.sub(_INLINE_TAG, "", text))


def _unescape(text: str) -> str:
    # unescape uses int(), which refuses numbers of many digits. Such numbers are not characters.
    return html.unescape(re.sub(_LONG_REFERENCE, "\ufffd", text))


# ---------------------------------------------------------------- secrets


def _spelled(word: str) -> str:
    """A pattern for the word in which each letter may be a JSON escape, at any depth."""
    letters = [rf"u00(?:{ord(one):02x}|{ord(one.upper()):02x})" for one in word]
    # One backslash before the first letter is enough; matching a whole run of them would take quadratic time.
    first, *others = zip(word, letters, strict=True)
    return rf"(?:{first[0]}|\\{first[1]})" + "".join(rf"(?:{one}|\\++{escape})" for one, escape in others)


# In early versions of CPython 3.11, a possessive quantifier loses its place if its operand can backtrack: hence the
# (?>...) inside. An atomic group around the whole repetition would keep a hundred bytes for each character.
# Quotation marks as in JSON and PHP, escaped at any depth, in HTML and in URLs.
_QUOTE = r"(?:\\*[\"']|\\+u002[27]|&(?:amp;)*(?:quot|apos|\#0*3[49]|\#x2[27]);|%2[27])"
_BLANKS = r"(?:(?>\s|\\+[nrt]|<[^<>]*>))*+"
_KEYS = ("nonce", "new_token", "session_id", "sessionid", "sessid", "session", "cookie", "authorization", "php_auth_pw")
_NAMES = "|".join(map(_spelled, _KEYS))
_SECRET = rf"""(?xis)
    (?P<key> (?:{_NAMES}) s? | wordpress_\w{{0,64}} )
    (?P<named> (?P<end> {_QUOTE} )? [\])]? {_BLANKS}
        (?P<is> : | =>? | %3[AD] | value\s*= ) {_BLANKS} (?: (?:string)? \( \d+ \) \s* )?
        (?: (?:basic|bearer) \s+ )?
    )
    (?:
        (?P<quote> {_QUOTE} ) (?:(?> (?! (?<!\\) (?P=quote) ) . ))*+
        | [\[{{] .*+
        | (?! (?:null|true|false) \b ) (?P<bare> [^\s,;&<>"'\\{{}}\[\]()]++ ) (?:(?> ; \s* [^\s;=]+ = [^\s;]* ))*+
    )
    """
_MAY_BE_SECRET = r"u00|[Nn][Oo][Nn][Cc][Ee]|[Tt][Oo][Kk][Ee][Nn]|[Ss][Ee][Ss][Ss]|[Cc][Oo][Oo][Kk]|[Uu][Tt][Hh][Oo]|_"
_WORDS = {"nonce", "nonces", "session", "sessions", "cookie", "cookies"}  # these also occur before a colon in sentences


def mask(text: str) -> str:
    """`text` with *** in place of each nonce, session id, cookie and password, in any spelling of name and value."""
    # Messages can be large, and nearly all contain none of the names.
    return re.sub(_SECRET, _masked, text) if re.search(_MAY_BE_SECRET, text) else text


def _masked(match: re.Match[str]) -> str:
    before = match.string[match.start() - 1 : match.start()]
    is_word = match["key"].lower() in _WORDS and not (before.isalnum() or before in ("_", "-"))
    if match["bare"] and is_word and not match["end"] and match["is"] == ":" and not re.search("[0-9=]", match["bare"]):
        return match[0]
    return f"{match['key']}{match['named']}{match['quote'] or ''}***"
