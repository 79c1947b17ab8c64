"""A guest's session, and texts that a session cannot hold."""

from opchat_proto import Session

GUEST = Session("0b2576d756", "6b02fc304cdb0", "mwai_session_id=6b02fc304cdb0", "https://site.example")
HARMFUL = [
    *("", "a" * 257, "a b", " a", "a ", "a,b", "a;b", "a\r\nX: y", "a\n", "\n", "a\x00", "a\x7f", "a\tb", "\x1f"),
    *("é", "\ud800", "a\u2028", "\u0660", "\xa0", "\ufeffa"),
]
