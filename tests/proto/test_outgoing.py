"""Uploaded files that clients fetch: the heads of the responses."""

import json

import pytest

from opchat_proto import UPLOAD_TYPES, OutgoingFile, Response

FILE_ID = "2fa164266b033ad1d46fd522303ab310"
SAME_ORIGIN = (("Cross-Origin-Resource-Policy", "same-origin"),)
GONE = "This file does not exist, or no longer."


def test_a_picture_is_shown_and_no_script_in_it_runs() -> None:
    response = OutgoingFile(FILE_ID, "png", SAME_ORIGIN).found("a b.PNG", "text/html", 3)
    assert response == Response(
        200,
        (
            ("Content-Type", "image/png"),
            ("Content-Length", "3"),
            ("Cache-Control", "private"),
            ("X-Content-Type-Options", "nosniff"),
            ("Content-Security-Policy", "default-src 'none'; sandbox"),
            *SAME_ORIGIN,
        ),
        file_bytes=3,
    )


@pytest.mark.parametrize(
    ("extension", "told", "expected"),
    [
        ("jpg", "image/png", "image/jpeg"),
        ("jpe", "image/png", "image/jpeg"),
        ("ico", "image/png", "image/x-icon"),
        ("tif", "image/png", "image/tiff"),
        ("webp", "image/svg+xml", "image/webp"),
        ("pdf", "application/pdf", "application/pdf"),
        ("txt", "text/plain", "text/plain"),
        ("mp3", "audio/mpeg", "audio/mpeg"),
        ("mp4", "video/mp4", "video/mp4"),
        ("txt", "text/javascript", "application/octet-stream"),
        ("txt", "text/css", "application/octet-stream"),
        ("txt", "text/html", "application/octet-stream"),
        ("txt", "text/plain\r\nX: y", "application/octet-stream"),
        ("csv", "application/octet-stream", "application/octet-stream"),
        ("html", "text/html", "application/octet-stream"),
        ("svg", "image/svg+xml", "application/octet-stream"),
    ],
)
def test_a_file_gets_a_content_type_that_no_browser_runs(extension: str, told: str, expected: str) -> None:
    fields = dict(OutgoingFile(FILE_ID, extension).found(f"a.{extension}", told, 1).headers)
    attached = None if expected.startswith("image/") else "attachment"
    assert (fields["Content-Type"], fields.get("Content-Disposition")) == (expected, attached)


def test_every_type_accepted_by_default_is_a_picture_or_an_attachment() -> None:
    for extension in UPLOAD_TYPES:
        fields = dict(OutgoingFile(FILE_ID, extension).found(f"a.{extension}", "text/html", 1).headers)
        inline = "Content-Disposition" not in fields
        assert fields["Content-Type"].startswith("image/" if inline else "application/octet-stream"), extension


def test_a_wrong_extension_finds_nothing() -> None:
    file = OutgoingFile(FILE_ID, "png", SAME_ORIGIN)
    assert file.found("a.txt", "text/plain", 3) == file.failed()
    fields = dict(file.failed().headers)
    assert (file.failed().status, json.loads(file.failed().body)["message"]) == (404, GONE)
    assert (fields["Cache-Control"], fields["Cross-Origin-Resource-Policy"]) == ("no-store", "same-origin")
    assert file.failed("No.", 500).status == 500
