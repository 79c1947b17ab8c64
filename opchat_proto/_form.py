"""Decode multipart/form-data piece by piece (RFC 7578), however the bytes are cut."""

import re
from enum import StrEnum
from typing import NamedTuple, TypeAlias, final

__all__: list[str] = []

_HEAD_BYTES = 8 * 1024  # bytes of a part's head, at most
_PARTS = 64
_LONGEST_NAME = 200  # characters
_FORM = r'(?is)multipart/form-data.*?boundary=(?:"([^"]{1,200})"|([^\s";,]{1,200}))'
_PARAMETER = r'(?i);[ \t]*(name|filename)=(?:"([^"]*)"|([^\s";,]+))'
_TYPE = r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}/[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}"
_CONTROLS = r"[\x00-\x1f\x7f]"


class Part(NamedTuple):
    """A part begins; the bytes after it are its content."""

    name: str
    filename: str | None
    """The file name, without folders and control characters. None for a field."""
    content_type: str


FormEvent: TypeAlias = Part | bytes


@final
class State(StrEnum):
    """The position in the form."""

    PREAMBLE = "PREAMBLE"
    EDGE = "EDGE"  # after a boundary
    HEAD = "HEAD"
    CONTENT = "CONTENT"
    END = "END"  # after the last boundary
    BROKEN = "BROKEN"


@final
class FormDecoder:
    """Decodes the parts of one form. A malformed form is `BROKEN`, and its rest is ignored.

    Memory is bounded by the head of one part; the time is linear.
    """

    def __init__(self, content_type: str) -> None:
        form = re.match(_FORM, content_type)
        boundary = form[1] or form[2] if form else ""
        self.state = State.PREAMBLE if boundary else State.BROKEN
        self._edge = b"\r\n--" + boundary.encode("latin-1", "replace")
        self._held = bytearray(b"\r\n")  # the line end before the first boundary
        self._parts = 0

    def receive_data(self, data: bytes) -> list[FormEvent]:
        """Return the parts and contents in these bytes. Contents come in pieces as large as the input."""
        events: list[FormEvent] = []
        self._held += data
        while self._step(events):
            pass
        return events

    def _step(self, events: list[FormEvent]) -> bool:
        """Read one boundary or head. Return False if more bytes are needed, or the form is over."""
        held = self._held
        match self.state:
            case State.PREAMBLE | State.CONTENT:
                at = held.find(self._edge)
                end = at if at >= 0 else max(0, len(held) - len(self._edge) + 1)
                if end and self.state is State.CONTENT:
                    events.append(bytes(memoryview(held)[:end]))
                del held[: end + (len(self._edge) if at >= 0 else 0)]
                if at < 0:
                    return False
                self.state = State.EDGE
            case State.EDGE:
                if len(held) < 2:
                    return False
                if held.startswith(b"--"):
                    self.state = State.END
                elif held.startswith(b"\r\n") and self._parts < _PARTS:
                    self._parts += 1
                    self.state = State.HEAD  # its first line end stays, so that an empty head is recognised
                else:
                    self.state = State.BROKEN
            case State.HEAD:
                end = held.find(b"\r\n\r\n", 0, _HEAD_BYTES)
                if end < 0 and len(held) < _HEAD_BYTES:
                    return False
                part = _read_head(bytes(held[: max(0, end)]))
                del held[: end + 4]
                self.state = State.BROKEN if part is None else State.CONTENT
                if part is not None:
                    events.append(part)
            case _:
                held.clear()
                return False
        return True


def _read_head(head: bytes) -> Part | None:
    fields = {}
    for line in head.decode("utf-8", "replace").split("\r\n")[1:]:
        name, _, value = line.partition(":")
        fields[name.strip().lower()] = value.strip()
    disposition = fields.get("content-disposition", "")
    found = {name.lower(): quoted or bare for name, quoted, bare in re.findall(_PARAMETER, disposition)}
    if not disposition.lower().startswith("form-data") or "name" not in found:
        return None
    filename = found.get("filename")
    if filename is not None:
        filename = re.sub(_CONTROLS, "", filename.replace("\\", "/").rpartition("/")[2])[-_LONGEST_NAME:]
    content_type = fields.get("content-type", "")
    return Part(
        found["name"], filename, content_type if re.fullmatch(_TYPE, content_type) else "application/octet-stream"
    )
