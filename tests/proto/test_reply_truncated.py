"""A body that ends without a terminal event."""

import pytest

from opchat_proto import Broken, Event, Live, Reason, ReplyDecoder
from tests.proto.cuts import byte_by_byte
from tests.proto.replies import BOM, CLOSED, CUT_PAGE, END, ENDED, HI, HI_PIECE, HINT, check, error, judge, line, live

UNENDED = {
    "nothing at all": (b"", [], ""),
    "blank lines": (b"\n\r\n\n", [], ""),
    "marks": (BOM + b"\n" + BOM, [], ""),
    "pieces": (live("a") + live("b"), [Live("a"), Live("b")], ""),
    "an event without its blank line": (live("a") + END[:-1], [Live("a")], ""),
    "an event without its line end": (live("a") + END[:-2], [Live("a")], ""),
    "an event cut inside": (live("a") + END[:30], [Live("a")], ""),
    "a field cut inside": (live("a") + b"dat", [Live("a")], f"{HINT}dat"),
    "a notice": (live("a") + b"PHP Fatal error: x\n", [Live("a")], f"{HINT}PHP Fatal error: x"),
    "a notice without a line end": (live("a") + b"Fatal", [Live("a")], f"{HINT}Fatal"),
    "two notices": (b"one\n" + live("a") + b"two\n", [Live("a")], f"{HINT}one"),
    "a notice without words": (live("a") + b"<br />\n<hr>\n-\n", [Live("a")], ""),
    "a notice of several lines": (
        live("a") + b"<br />\n<b>Fatal error</b>:  Uncaught <i>Error</i> &amp; <br>more\nStack trace:\n",
        [Live("a")],
        f"{HINT}Fatal error: Uncaught Error & more",
    ),
    "a tag that its line cuts": (live("a") + b"Down <a\n", [Live("a")], f"{HINT}Down"),
    "a notice with an event glued to it": (b"Oh</b>" + HI_PIECE, [Live("Hi")], f"{HINT}Oh"),
    "a notice with an unfinished event glued to it": (b"Oh</b>" + HI_PIECE[:20], [], f"{HINT}Oh"),
    "an unfinished event glued to a tag": (b"<b>" + HI_PIECE[:20], [], ""),
    "unfinished data behind a mark": (live("a") + BOM + b"data:", [Live("a")], ""),
    "a notice behind a mark": (live("a") + BOM + BOM + b"Fatal", [Live("a")], f"{HINT}Fatal"),
    "a long notice": (live("a") + b"x" * 300 + b"\n", [Live("a")], f"{HINT}{'x' * 200}"),
    "a notice that begins the body and then data": (b"<br />\n" + live("a"), [Live("a")], ""),
    "a notice that begins the body and then unfinished data": (b"<b>Oh</b>\ndata:", [], f"{HINT}Oh"),
}


@pytest.mark.parametrize(("body", "lives", "hint"), UNENDED.values(), ids=UNENDED)
def test_a_body_that_ends_without_a_terminal_event_is_truncated(body: bytes, lives: list[Event], hint: str) -> None:
    check(body, [*lives, Broken(Reason.TRUNCATED, CLOSED + hint)])


@pytest.mark.parametrize(("body", "lives", "hint"), UNENDED.values(), ids=UNENDED)
@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (Reason.LOST, Reason.TRUNCATED),
        (Reason.TRUNCATED, Reason.TRUNCATED),
        (Reason.TIMEOUT, Reason.TIMEOUT),
        (Reason.PROXY, Reason.PROXY),
        (Reason.TOO_LARGE, Reason.TOO_LARGE),
    ],
)
def test_a_failure_in_the_middle_keeps_its_reason(
    body: bytes, lives: list[Event], hint: str, given: Reason, reason: Reason
) -> None:
    for pieces in ([body], byte_by_byte(body)):
        assert judge(pieces, failure=given) == [*lives, Broken(reason, "cut" + hint)]


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (None, b"", Broken(Reason.TIMEOUT, "cut", limit="idle")),
        (200, live("a"), Broken(Reason.TIMEOUT, "cut", limit="idle")),
        (200, b"<p>Down", Broken(Reason.TIMEOUT, CUT_PAGE, raw="<p>Down", limit="idle")),
        (503, b"Down", Broken(Reason.REFUSED, "Down", 503, raw="Down")),
        (200, error(""), Broken(Reason.REMOTE, "")),
        (200, HI.encode(), ENDED),
    ],
    ids=["nothing", "a piece", "a page", "a refusal", "an error without a message", "a whole object"],
)
def test_a_clock_is_named_only_if_it_ended_the_answer(status: int | None, body: bytes, expected: Event) -> None:
    decoder = ReplyDecoder()
    if status is not None:
        decoder.receive_head(status, [])
        decoder.receive_data(body)
    assert decoder.receive_failure("cut", Reason.TIMEOUT, limit="idle") == [expected]


def test_an_ignored_line_is_named_only_if_it_came_before_the_fault() -> None:
    before = b"<br />\nOh\n" + line("x")
    after = live("a") + line("x") + b"<br />\nWarning\n" + live("b")
    check(before, [Broken(Reason.MALFORMED, f"an event that is not JSON: x{HINT}Oh")])
    check(after, [Live("a"), Broken(Reason.MALFORMED, "an event that is not JSON: x")])
    check(live("a") + before, [Live("a"), Broken(Reason.MALFORMED, f"an event that is not JSON: x{HINT}Oh")])
