"""Uploads recorded from real sites, if recordings exist, sent to our site: the responses are the same."""

import json
import re
from pathlib import Path

import pytest

from opchat_proto import UPLOAD_TYPES, Limits, Site
from tests.captures import RECORDINGS
from tests.proto.sites import NOW

NAMES = sorted(
    str(path.relative_to(RECORDINGS))[: -len(".request.bin")] for path in RECORDINGS.glob("*/upload_*.request.bin")
)
GOOD = re.compile(rb"(?i)x-wp-nonce: (?!0123456789)[0-9a-f]{10}")


def read(name: str) -> bytes:
    return Path(RECORDINGS, f"{name}.bin").read_bytes()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1, 100, 1 << 20])
def test_a_recorded_upload_gets_the_plugins_response(name: str, size: int) -> None:
    site = Site(b"secret", upload_types=UPLOAD_TYPES, limits=Limits(upload_bytes=1 << 20))
    head, _, body = GOOD.sub(b"X-WP-Nonce: " + site.nonce(NOW).encode(), read(f"{name}.request")).partition(b"\r\n\r\n")
    _, *lines = head.decode("latin-1").split("\r\n")
    fields = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    file = site.receive_upload("POST", "/wp-json/mwai-ui/v1/files/upload", fields, now=NOW)
    assert file is not None
    for at in range(0, len(body), size):
        file.receive_data(body[at : at + size])
    answer = file.receive_eof() or file.kept("0" * 32)
    recorded = read(f"{name}.response")
    status = int(recorded.split()[1])
    assert answer.status == status
    if status != 200:
        assert answer.body in recorded
    else:
        assert list(json.loads(answer.body)) == ["success", "data"]
