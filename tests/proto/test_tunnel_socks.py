"""Replies of a SOCKS proxy that do not open a tunnel."""

import pytest

from opchat_proto import (
    Event,
)
from tests.proto.asking import ANSWER, BOUND_NAME, BOUND_V4, BOUND_V6, WAYS, content_length
from tests.proto.tunnels import UNASKED, at_port, at_reply, outcome_of, refused

CLOSED_SOCKS = refused("the proxy socks5://proxy.example:3128: the connection was closed before any answer")

NO_SOCKS = "the SOCKS proxy sent a reply that is not SOCKS5: "


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (b"\x05\xff", refused("the SOCKS proxy accepts none of our ways to authenticate")),
        (b"\x05\xffmore", refused("the SOCKS proxy accepts none of our ways to authenticate")),
        (b"\x05\x01", refused(NO_SOCKS + r"b'\x05\x01'")),
        (b"\x05\x02", refused(NO_SOCKS + r"b'\x05\x02'")),
        (b"\x05\x80", refused(NO_SOCKS + r"b'\x05\x80'")),
        (b"\x04\x00", refused(NO_SOCKS + r"b'\x04\x00'")),
        (b"\x00\x5a\x00\x00\x00\x00\x00\x00", refused(NO_SOCKS + r"b'\x00Z'")),
        (b"\x01\x00", refused(NO_SOCKS + r"b'\x01\x00'")),
        (b"\x00\x00", refused(NO_SOCKS + r"b'\x00\x00'")),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", refused(NO_SOCKS + "b'HT'")),
        (b"\x05\x00\x05", UNASKED),
        (b"\x05\x00" + BOUND_V4, UNASKED),
        (b"\x05\x00" + 100_000 * b"x", UNASKED),
        (b"\x05", CLOSED_SOCKS),
        (b"", CLOSED_SOCKS),
    ],
)
def test_a_socks_proxy_without_a_usable_method_ends_the_question(reply: bytes, expected: list[Event]) -> None:
    assert outcome_of(at_reply(WAYS["socks5 to http"], 0), reply) == expected


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (b"\x01\x01", refused("the SOCKS proxy refused the username and password")),
        (b"\x01\xff", refused("the SOCKS proxy refused the username and password")),
        (b"\x01\x01s3cr3t", refused("the SOCKS proxy refused the username and password")),
        (b"\x05\x00", refused(NO_SOCKS + r"b'\x05\x00'")),
        (b"\x05\x01", refused(NO_SOCKS + r"b'\x05\x01'")),
        (b"\x00\x00", refused(NO_SOCKS + r"b'\x00\x00'")),
        (b"\x01\x00\x05", UNASKED),
        (b"\x01\x00" + BOUND_V4, UNASKED),
        (b"\x01", CLOSED_SOCKS),
        (b"", CLOSED_SOCKS),
    ],
)
def test_a_socks_proxy_that_refuses_the_password_ends_the_question(reply: bytes, expected: list[Event]) -> None:
    assert outcome_of(at_reply(WAYS["socks5 to https with a password"], 1), reply) == expected


@pytest.mark.parametrize("secret", [b"\x05\x01", b"\x04\x02", b"\x05\x03"])
def test_an_unknown_method_is_refused_even_with_a_password(secret: bytes) -> None:
    expected = refused(NO_SOCKS + repr(secret))
    assert outcome_of(at_reply(WAYS["socks5 to https with a password"], 0), secret) == expected


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (1, "general server failure"),
        (2, "connection not allowed by ruleset"),
        (3, "network unreachable"),
        (4, "host unreachable"),
        (5, "connection refused"),
        (6, "ttl expired"),
        (7, "command not supported"),
        (8, "address type not supported"),
        (9, "reply code 9"),
        (0xF0, "reply code 240"),  # Tor's code: the onion service cannot be found
        (255, "reply code 255"),
    ],
)
def test_a_socks_proxy_that_cannot_connect_says_why(code: int, said: str) -> None:
    asking = at_reply(WAYS["socks5 to http"], 1)
    for kind, address in (
        (1, bytes(4)),
        (3, b"\x0dus3r:s3cr3t!!"),
        (3, b"\x00"),
        (4, bytes(16)),
        (0, b""),
        (9, b"more"),
    ):
        reply = at_port(kind, address, reply=code)
        assert (
            outcome_of(asking, reply) == outcome_of(asking, reply + b"x") == refused(f"the SOCKS proxy refused: {said}")
        )


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (at_port(1, bytes(4), version=4), refused(NO_SOCKS + r"b'\x04\x00\x00\x01'")),
        (at_port(1, bytes(4), version=1, reply=1), refused(NO_SOCKS + r"b'\x01\x01\x00\x01'")),
        (at_port(3, b"\x06s3cr3t", version=0), refused(NO_SOCKS + r"b'\x00\x00\x00\x03'")),
        (at_port(0, bytes(4)), refused(NO_SOCKS + r"b'\x05\x00\x00\x00'")),
        (at_port(2, b"s3cr3t"), refused(NO_SOCKS + r"b'\x05\x00\x00\x02'")),
        (at_port(5, b""), refused(NO_SOCKS + r"b'\x05\x00\x00\x05'")),
        (at_port(255, 300 * b"x"), refused(NO_SOCKS + r"b'\x05\x00\x00\xff'")),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", refused(NO_SOCKS + "b'HTTP'")),
        (BOUND_V4 + b"H", UNASKED),
        (BOUND_V6 + b"\x00", UNASKED),
        (BOUND_NAME + content_length(ANSWER), UNASKED),
        (BOUND_V4 + BOUND_V4, UNASKED),
        (at_port(3, b"\x00") + b"\x00", UNASKED),
        *((reply[:size], CLOSED_SOCKS) for reply in (BOUND_V4, BOUND_V6, BOUND_NAME) for size in range(len(reply))),
    ],
)
def test_a_malformed_last_reply_of_a_socks_proxy_or_bytes_after_it_end_the_question(
    reply: bytes, expected: list[Event]
) -> None:
    assert outcome_of(at_reply(WAYS["socks5 to http"], 1), reply) == expected
