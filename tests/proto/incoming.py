"""Uploads on their way into a site."""

import json

from opchat_proto import UPLOAD_TYPES, IncomingFile, Response, Site

NOW = 1_750_000_000.0
SITE = Site(b"secret", upload_types=UPLOAD_TYPES)
TARGET = "/wp-json/mwai-ui/v1/files/upload"
NO_FILE, NO_PURPOSE, NO_TYPE = "No file provided.", "Purpose is required.", "Invalid file type."


def incoming(site: Site = SITE, **headers: str | None) -> IncomingFile:
    given: dict[str, str | None] = {
        "Host": "site.example",
        "Content-Type": 'multipart/form-data; boundary="edge"',
        "X-WP-Nonce": site.nonce(NOW),
        "Cookie": "mwai_session_id=s1",
    }
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    fields = [(name, value) for name, value in given.items() if value is not None]
    file = site.receive_upload("POST", TARGET, fields, now=NOW)
    assert file is not None
    return file


def received(file: IncomingFile, body: bytes, size: int = 10) -> tuple[bytes, Response | None]:
    content = b""
    for at in range(0, len(body), size):
        content += b"".join(file.receive_data(body[at : at + size]))
    return content, file.receive_eof()


def message(response: Response | None) -> tuple[int, str]:
    assert response is not None
    return response.status, json.loads(response.body).get("message", "")
