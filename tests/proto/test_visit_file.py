"""A file downloaded like a page: bytes of any kind."""

import pytest

from opchat_proto import Broken, Channel, Done, End, Event, Limits, Reason, Request, Session, Visit

URL = "http://site.example/up/cat.png"
PNG = b"\x89PNG\r\n\x1a\n\xff\0"


def fetched(visit: Visit, *pieces: bytes, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> list[Event]:
    assert visit.next_request() is not None
    events = visit.receive_head(status, headers)
    for piece in pieces:
        events += visit.receive_data(piece)
    return events + visit.receive_eof()


def test_the_content_of_a_file_is_its_bytes() -> None:
    visit = Visit(URL, session=Session(cookie="a=b"), file=True)
    request = visit.next_request()
    assert request is not None
    assert [value for name, value in request.headers if name in ("Accept", "Cookie")] == ["*/*", "a=b"]
    visit = Visit(URL, file=True)
    assert (visit.content, fetched(visit, PNG[:3], PNG[3:])) == (None, [End(None)])
    assert (visit.content, visit.page) == (PNG, None)


def test_a_page_has_no_content() -> None:
    visit = Visit(URL)
    assert fetched(visit, b"<p>") == [End(None)]
    assert visit.content is None
    assert visit.page is not None


def test_a_redirect_is_followed_and_a_refusal_is_broken() -> None:
    visit = Visit(URL, file=True)
    assert fetched(visit, status=302, headers=(("Location", "/other.png"),)) == []
    assert fetched(visit, PNG) == [End(None)]
    assert (visit.urls[-1], visit.content) == ("http://site.example/other.png", PNG)
    visit = Visit(URL, file=True)
    assert fetched(visit, b"gone", status=404) == [Broken(Reason.REFUSED, "gone", 404, raw="gone")]
    assert visit.content is None


def test_the_limit_of_files_applies() -> None:
    limits = Limits(page_bytes=1, upload_bytes=len(PNG))
    assert fetched(Visit(URL, limits, file=True), PNG) == [End(None)]
    words = f"more than {len(PNG)} bytes in one file (Limits.upload_bytes)"
    broken = [Broken(Reason.TOO_LARGE, words, limit="upload_bytes")]
    assert fetched(Visit(URL, limits, file=True), PNG, b"x") == broken


def test_a_call_has_the_content() -> None:
    channel = Channel("http://site.example")
    call = channel.http_visit(URL, file=True)
    assert isinstance(call.next_step(0)[0], Request)
    call.receive_head(200, ())
    call.receive_data(PNG)
    call.receive_eof()
    assert call.next_step(0)[0] == Done()
    assert (call.next_event(), call.content, call.page) == (End(None), PNG, None)
    assert (channel.call("Hi").content, channel.visit(URL, file=True).content) == (None, None)


def test_content_is_a_bool() -> None:
    with pytest.raises(TypeError, match=r"^file: expected <class 'bool'>, got str$"):
        Visit(URL, file="cat.png")  # type: ignore[arg-type]  # wrong on purpose
