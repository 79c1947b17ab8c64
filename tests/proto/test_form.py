"""multipart/form-data in any pieces: parts, their contents, and malformed forms."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opchat_proto._form import FormDecoder, Part, State  # users get its parts through `IncomingFile`
from tests.proto.uploads import CAT, FORM

KIND = 'multipart/form-data; boundary="edge"'
NA = Part("type", None, "application/octet-stream"), b"N/A", Part("purpose", None, "application/octet-stream"), b"N/A"
PICTURE = Part("file", "cat.png", "image/png")


def decoded(data: bytes, size: int | None = None, kind: str = KIND) -> tuple[list[Part | bytes], State]:
    """The events with joined contents, and the state at the end. Pieces have this size."""
    decoder, events = FormDecoder(kind), list[Part | bytes]()
    step = size or max(1, len(data))
    for at in range(0, len(data), step):
        for event in decoder.receive_data(data[at : at + step]):
            if isinstance(event, bytes) and isinstance(events[-1], bytes):
                events[-1] += event
            else:
                events.append(event)
    return events, decoder.state


def form(*heads: bytes) -> bytes:
    """For each of these heads, a part with content x."""
    return b"".join(b"--edge\r\n" + head + b"\r\n\r\nx\r\n" for head in heads) + b"--edge--"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, None])
def test_a_form_is_the_same_in_any_pieces(size: int | None) -> None:
    assert decoded(FORM, size) == ([*NA, PICTURE, CAT.data], State.END)
    assert decoded(b"before\r\n" + FORM + b"after it\r\n--edge\r\n", size) == ([*NA, PICTURE, CAT.data], State.END)


@given(st.lists(st.sampled_from([b"\r\n", b"--", b"edge", b"\r", b"-", b"x", b"--edg", b"\0"])), st.integers(1, 40))
def test_content_may_contain_anything_but_its_boundary(pieces: list[bytes], size: int) -> None:
    data = b"".join(pieces)
    if b"\r\n--edge" in b"\r\n" + data:
        data = data.replace(b"edge", b"edgy")
    head = b'Content-Disposition: form-data; name="a"'
    events, state = decoded(b"--edge\r\n" + head + b"\r\n\r\n" + data + b"\r\n--edge--", size)
    assert (b"".join(event for event in events if isinstance(event, bytes)), state) == (data, State.END)


@given(st.binary(max_size=400), st.integers(1, 50))
def test_any_bytes_are_the_same_in_any_pieces(data: bytes, size: int) -> None:
    for stream in (data, FORM[:-30] + data):
        assert decoded(stream, size) == decoded(stream)


@pytest.mark.parametrize(
    ("head", "part"),
    [
        (b'content-disposition:form-data;name="a"', Part("a", None, "application/octet-stream")),
        (b"Content-Disposition: form-data; name=a; filename=b.c", Part("a", "b.c", "application/octet-stream")),
        (b'Content-Disposition: form-data; name="a"; filename=""', Part("a", "", "application/octet-stream")),
        (b'Content-Disposition: form-data; name="a:b\xff"', Part("a:b\ufffd", None, "application/octet-stream")),
        (
            b'X: y\r\nContent-Disposition: FORM-DATA; filename="../\\..\\x\0\xc3\xa9.png"; name="a"',
            Part("a", "x\u00e9.png", "application/octet-stream"),
        ),
        (
            b'Content-Disposition: form-data; name="a"; filename="' + b"x" * 300 + b'.png"\r\nContent-Type: a/b; c=d',
            Part("a", "x" * 196 + ".png", "application/octet-stream"),
        ),
        (b'Content-Type: a/b\r\nContent-Disposition: form-data; name="a"', Part("a", None, "a/b")),
    ],
)
def test_the_heads_of_various_clients_are_read(head: bytes, part: Part) -> None:
    assert decoded(form(head)) == ([part, b"x"], State.END)


GOOD = b'Content-Disposition: form-data; name="a"'


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (form(b"X: y"), 0),
        (form(GOOD, b"Content-Disposition: attachment; name=a"), 1),
        (form(GOOD, b"Content-Disposition: form-data"), 1),
        (b"--edge x\r\n" + GOOD, 0),
        (b"--edge\r\n" + b"x" * (8192 - len("\r\n")), 0),
        (form(GOOD + b"\r\nX: " + b"y" * 8192), 0),
        (b"--edge\r\n\r\n", 0),
        (form(*[GOOD] * 65), 64),
    ],
)
@pytest.mark.parametrize("size", [1, None])
def test_a_malformed_form_is_broken(data: bytes, count: int, size: int | None) -> None:
    events, state = decoded(data, size)
    assert (len([event for event in events if isinstance(event, Part)]), state) == (count, State.BROKEN)


@pytest.mark.parametrize("kind", ["", "application/json", "multipart/form-data", "x; boundary=edge"])
def test_without_its_content_type_a_form_is_broken(kind: str) -> None:
    assert FormDecoder(kind).state == State.BROKEN
    assert decoded(FORM, kind=kind) == ([], State.BROKEN)


@pytest.mark.parametrize(
    ("kind", "boundary"),
    [
        ("Multipart/Form-Data; charset=x; Boundary=edge", b"edge"),
        ("multipart/form-data; boundary=\xe9\u4e2d", b"\xe9?"),
    ],
)
def test_a_boundary_without_quotes_is_accepted(kind: str, boundary: bytes) -> None:
    assert decoded(FORM.replace(b"edge", boundary), kind=kind) == ([*NA, PICTURE, CAT.data], State.END)


def test_all_content_is_handed_over_that_cannot_be_the_beginning_of_a_boundary() -> None:
    decoder = FormDecoder(KIND)
    begun = b"--edge\r\n" + GOOD + b"\r\n\r\n"
    assert decoder.receive_data(begun + b"0123456789") == [Part("a", None, "application/octet-stream"), b"012"]
    assert decoder.receive_data(b"\r\n--edge") == [b"3456789"]


def test_a_form_that_is_cut_has_not_ended() -> None:
    assert decoded(FORM[:-10])[1] == State.CONTENT
    assert decoded(FORM[:20])[1] == State.HEAD
    assert decoded(b"")[1] == State.PREAMBLE
    assert decoded(b"--edge\r")[1] == State.EDGE
