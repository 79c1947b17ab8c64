"""An incoming upload: the file, or a refusal."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opchat_proto import Limits, Site
from tests.proto.incoming import NO_FILE, NO_PURPOSE, NO_TYPE, NOW, SITE, incoming, message, received
from tests.proto.uploads import CAT, FORM


def test_a_file_has_what_the_client_sent() -> None:
    file = incoming()
    assert (file.name, repr(file)) == (None, "<IncomingFile None after 0 bytes>")
    assert file.content_type == "application/octet-stream"
    assert received(file, FORM) == (CAT.data, None)
    assert (file.name, file.content_type, file.session_id) == ("cat.png", "image/png", "s1")
    response = file.kept("f1")
    assert json.loads(response.body) == {
        "success": True,
        "data": {"id": "f1", "url": "http://site.example/wp-content/uploads/f1.png"},
    }
    assert (response.status, dict(response.headers)["X-WP-Nonce"]) == (200, SITE.nonce(NOW))
    assert "Set-Cookie" not in dict(response.headers)
    failed = file.failed("There is no room.")
    assert (message(failed), dict(failed.headers)["X-WP-Nonce"]) == ((500, "There is no room."), SITE.nonce(NOW))


def test_a_client_without_a_session_gets_one() -> None:
    file = incoming(Cookie=None)
    received(file, FORM)
    cookie = f"mwai_session_id={file.session_id}; path=/; HttpOnly"
    assert dict(file.kept("f1").headers)["Set-Cookie"] == cookie


@pytest.mark.parametrize(
    ("body", "kept", "expected"),
    [
        (b"", b"", (400, NO_FILE)),
        (FORM[:-6], CAT.data[:-1], (400, NO_FILE)),
        (FORM.replace(b'name="file"', b'name="image"'), b"", (400, NO_FILE)),
        (FORM.replace(b"cat.png", b""), b"", (400, NO_FILE)),
        (FORM.replace(b'"purpose"', b'"other"'), CAT.data, (400, NO_PURPOSE)),
        (FORM.replace(b'"purpose"\r\n\r\nN/A', b'"purpose"\r\n\r\n'), CAT.data, (400, NO_PURPOSE)),
        (FORM.replace(b"cat.png", b"cat.png.php"), b"", (400, NO_TYPE)),
        (FORM.replace(b"cat.png", b"cat.1.PNG"), CAT.data, None),
        (FORM.replace(b"cat.png", b"png"), b"", (400, NO_TYPE)),  # no extension, as for WordPress
    ],
)
def test_files_and_refusals_match_the_plugins(body: bytes, kept: bytes, expected: tuple[int, str] | None) -> None:
    content, refusal = received(incoming(), body)
    assert (content, refusal and message(refusal)) == (kept, expected)


def test_only_the_first_file_is_kept() -> None:
    second = FORM.partition(b'name="purpose"\r\n\r\nN/A\r\n')[2].replace(b"\x89PNG", b"other")
    body = FORM.removesuffix(b"--edge--\r\n") + second
    assert received(incoming(), body) == (CAT.data, None)


@pytest.mark.parametrize(
    ("nonce", "expected"), [(None, (401, "rest_forbidden")), ("0123456789", (403, "rest_cookie_invalid_nonce"))]
)
def test_without_a_good_nonce_nothing_is_kept(nonce: str | None, expected: tuple[int, str]) -> None:
    content, refusal = received(incoming(X_WP_Nonce=nonce), FORM)
    assert refusal is not None
    assert (content, (refusal.status, json.loads(refusal.body)["code"])) == (b"", expected)


def test_the_rest_of_a_file_that_is_too_large_need_not_be_read() -> None:
    site = Site(b"secret", upload_types=("png",), limits=Limits(upload_bytes=len(FORM), request_bytes=1))
    file = incoming(site)
    assert (received(file, FORM), file.is_over) == ((CAT.data, None), False)
    file = incoming(site)
    file.receive_data(FORM)
    assert file.receive_data(b"x") == []
    assert (file.is_over, message(file.receive_eof())) == (True, (413, f"The body is larger than {len(FORM)} bytes."))


def test_anything_but_bytes_raises() -> None:
    with pytest.raises(TypeError):
        incoming().receive_data("text")  # type: ignore[arg-type]  # wrong on purpose


@given(st.binary(max_size=300), st.integers(1, 30), st.integers(0, len(FORM)))
def test_any_bytes_are_a_file_or_a_refusal(data: bytes, size: int, at: int) -> None:
    body = FORM[:at] + data + FORM[at:]
    assert received(incoming(), body, size) == received(incoming(), body, 10_000)
