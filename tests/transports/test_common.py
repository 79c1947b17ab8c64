import asyncio
import errno
import os
import pickle
import re
import ssl
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from opchat_proto import Broken, Channel, End, Endpoint, Event, Limits, Live, Proxy, Reason, Session
from opchat_transports import ReplyBroken, acollect, collect
from opchat_transports._broken import broken_line  # the wording of a broken reply is not public
from opchat_transports._common import (  # shared by the transports, not public
    first_cause,
    make_channel,
    make_ssl_context,
    new_chat_id,
    words,
)

# ------------------------------------------------------------------------------------------------ options


def test_a_channel_gets_the_options() -> None:
    session = Session("0123456789")
    limits = Limits(restarts=0)
    channel = make_channel(
        "http://h", {"session": session, "limits": limits, "proxy": "socks5://p"}, signal=threading.Event
    )
    assert (channel.endpoint, channel.session, channel.limits) == (Endpoint.parse("http://h"), session, limits)
    assert channel.proxy == Proxy.parse("socks5://p")


def test_a_channel_takes_its_proxy_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://p:1")
    assert make_channel("http://h", {}, signal=threading.Event).proxy == Proxy.parse("http://p:1")
    assert make_channel("http://h", {"proxy": None}, signal=threading.Event).proxy is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [("retry", "expected one of session, page, headers, limits, "), ("verify", "expected ssl_context$")],
)
def test_an_unknown_option_is_refused_with_what_to_use_instead(name: str, expected: str) -> None:
    options: Any = {name: 3}
    with pytest.raises(TypeError, match=rf"^{name}: a transport has no such option; {expected}"):
        make_channel("http://h", options, signal=threading.Event)


def test_an_endpoint_of_the_wrong_type_is_refused() -> None:
    endpoint: Any = None
    with pytest.raises(TypeError, match=r"^endpoint: expected an Endpoint or a str, got NoneType$"):
        make_channel(endpoint, {}, signal=threading.Event)


def test_chat_ids_are_random() -> None:
    ids = {new_chat_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(re.fullmatch("[0-9a-z]{10}", each) for each in ids)


# ------------------------------------------------------------------------------------------------ TLS

PLAIN, SECURE = Channel("http://h"), Channel("https://h")


def test_the_callers_context_is_used() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    assert make_ssl_context(SECURE, context) is context
    assert make_ssl_context(PLAIN, context) is context


def test_a_context_is_created_only_if_something_is_encrypted() -> None:
    assert make_ssl_context(PLAIN, None) is None
    assert make_ssl_context(Channel("http://h", proxy="http://p"), None) is None
    for channel in (SECURE, Channel("http://h", proxy="https://p"), Channel("https://h", proxy="socks5://p")):
        context = make_ssl_context(channel, None)
        assert context is not None
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize("variable", ["SSLKEYLOGFILE", "SSL_CERT_FILE"])
def test_a_file_that_openssl_cannot_read_is_named(
    variable: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for path, number in ((tmp_path / "nowhere" / "file", errno.ENOENT), (tmp_path, errno.EISDIR)):
        monkeypatch.setenv(variable, str(path))
        with pytest.raises(OSError, match=re.escape(f"{os.strerror(number)} ({variable}): '{path}'")) as caught:
            make_ssl_context(SECURE, None)
        assert (caught.value.errno, caught.value.filename) == (number, str(path))
        assert make_ssl_context(PLAIN, None) is None
    monkeypatch.setenv(variable, "")
    assert make_ssl_context(SECURE, None) is not None


def test_a_writable_key_log_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("from before\n")
    monkeypatch.setenv("SSLKEYLOGFILE", str(path))
    context = make_ssl_context(SECURE, None)
    assert context is not None
    assert context.keylog_filename == str(path)
    assert path.read_text().startswith("from before\n")


# ------------------------------------------------------------------------------------------------ wording


CHAIN = RuntimeError("outer")
CHAIN.__cause__ = OSError(errno.ENETUNREACH, "as asyncio says it")
PLAIN_HTTP = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)")
UNTRUSTED = ssl.SSLCertVerificationError(1, "certificate verify failed")
UNTRUSTED.verify_message = "certificate has expired"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError("gone"), "gone"),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "Network is unreachable"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 1)"), "Connection refused"),
        (ConnectionResetError("Connection lost"), "Connection lost"),
        (EOFError(), "EOFError"),
        (CHAIN, "as asyncio says it"),
        (RuntimeError(OSError("inner")), "inner"),
        (ExceptionGroup("all failed", [OSError("first"), OSError("last")]), "last"),
        (PLAIN_HTTP, "wrong version number: this port does not speak TLS, so its address may begin with http://"),
        (UNTRUSTED, "the certificate is not trusted: certificate has expired"),
        (ValueError("illegal header line: bytearray(b'Cookie: secret')"), "illegal header line"),
    ],
)
def test_an_exception_is_described_in_words(error: BaseException, said: str) -> None:
    assert words(error) == said


def test_the_first_cause_of_an_exception_is_described() -> None:
    assert first_cause(CHAIN) is CHAIN.__cause__
    alone = OSError("gone")
    assert first_cause(alone) is alone


@pytest.mark.parametrize("reason", Reason)
def test_every_broken_reply_has_a_line(reason: Reason) -> None:
    line = broken_line(Broken(reason, "first\nsecond\u2028third"))
    assert len(line.splitlines()) == 1
    assert line.endswith(": first second third")


def test_the_line_names_everything_that_is_known() -> None:
    broken = Broken(Reason.REFUSED, "Slow down.", status=429, code="too_many", retry_after=30)
    assert broken_line(broken) == "the server refused (status 429, too_many, try again in 30 s): Slow down."
    assert broken_line(Broken(Reason.REMOTE)) == "the server reported an error"


def test_reply_broken_pickles() -> None:
    error = ReplyBroken(Broken(Reason.LOST, "gone"), "so far")
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.broken, copy.text, str(copy)) == (error.broken, "so far", "no answer: gone")
    assert isinstance(copy, RuntimeError)


# ------------------------------------------------------------------------------------------------ whole answers


def test_collect_gives_the_final_text() -> None:
    assert collect([Live("a "), End("a")]) == "a"


def test_collect_joins_the_pieces_without_a_final_text() -> None:
    assert collect([Live("a"), Live("Thinking", kind="thinking"), Live("b"), End(None)]) == "ab"


def test_collect_raises_for_a_broken_reply_with_the_text_so_far() -> None:
    broken = Broken(Reason.TRUNCATED)
    with pytest.raises(ReplyBroken) as caught:
        collect([Live("a"), Live("x", kind="status"), broken])
    assert (caught.value.broken, caught.value.text) == (broken, "a")


def test_collect_requires_an_unread_reply() -> None:
    with pytest.raises(ValueError, match="its events were read before"):
        collect([])


async def _given(*events: Event) -> AsyncIterator[Event]:
    for event in events:
        yield event


def test_acollect_does_the_same_in_async_code() -> None:
    broken = Broken(Reason.TRUNCATED, "cut")
    assert asyncio.run(acollect(_given(Live("a"), Live("x", kind="status"), Live("b"), End(None)))) == "ab"
    assert asyncio.run(acollect(_given(Live("a "), End("a")))) == "a"
    with pytest.raises(ReplyBroken) as caught:
        asyncio.run(acollect(_given(Live("a"), broken)))
    assert (caught.value.broken, caught.value.text) == (broken, "a")
    with pytest.raises(ValueError, match="its events were read before"):
        asyncio.run(acollect(_given()))
