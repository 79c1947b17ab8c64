"""A file for a bot: the body of files/upload (WIRE 7.5)."""

import re
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

from ._askable import Askable, Draft
from ._events import Broken, End, Reason
from ._json import encodable
from ._session import Session
from ._value import Value

__all__ = ["Upload"]

UPLOAD_ROUTE = "/mwai-ui/v1/files/upload"
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110, 5.6.2
_TYPE = rf"{_TOKEN}/{_TOKEN}"
_BOUNDARY = r"[0-9A-Za-z'()+_,./:=?-]{1,70}"  # RFC 2046, 5.1.1, without the blank
_FATAL = r"<|(?:PHP )?Fatal error|\Z"
_ESCAPES = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})  # WHATWG, multipart/form-data


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False, kw_only=True)
class Upload(Askable, Value):
    """A file that a question can name. It is asked like a `Submit`, but costs no question.

    The reply ends with `End(None)`, and `end.file_id` is the id for `Submit.file_ids`.
    The site keeps the file for an hour, for this session. If the site refuses the file,
    the reply is a `Broken`.

    Raises `TypeError` for wrong types, `ValueError` for a name, type or boundary that
    could break out of its field.
    """

    _limit: ClassVar[str] = "upload_bytes"

    name: str
    """The file's name. WordPress judges it by its extension."""
    data: bytes = field(repr=False)
    content_type: str = "application/octet-stream"
    purpose: str = "N/A"
    """As browsers send it; accepted by every version tried."""
    boundary: str
    """The separator of the parts: random text that `data` must not contain. The core draws nothing at random."""

    def __post_init__(self) -> None:
        """Check each field."""
        for name in ("name", "content_type", "purpose", "boundary"):
            value = getattr(self, name)
            if not isinstance(value, str):
                raise TypeError(f"Upload.{name}: expected a str, got {type(value).__name__}")
        if type(self.data) is not bytes:
            raise TypeError(f"Upload.data: expected bytes, got {type(self.data).__name__}")
        if not self.name or "\0" in self.name or encodable(self.name) != self.name:
            raise ValueError(f"Upload.name: expected the name of a file, got {self.name!r}")
        if not re.fullmatch(_TYPE, self.content_type):
            raise ValueError(f"Upload.content_type: expected one like 'image/png', got {self.content_type!r}")
        if not re.fullmatch(r"[ -~]+", self.purpose):
            raise ValueError(f"Upload.purpose: expected printable ASCII, got {self.purpose!r}")
        if not re.fullmatch(_BOUNDARY, self.boundary) or b"--" + self.boundary.encode() in self.data:
            raise ValueError("Upload.boundary: expected 1 to 70 characters that the file does not hold")

    @property
    def size(self) -> int:
        """The number of bytes of the encoded body."""
        return sum(map(len, self._around())) + len(self.data)

    def encode(self) -> bytes:
        """The body of the request: multipart/form-data (RFC 7578)."""
        before, after = self._around()
        return b"".join((before, self.data, after))

    def _around(self) -> tuple[bytes, bytes]:
        edge = f"--{self.boundary}".encode()
        fields = (("type", "N/A"), ("purpose", self.purpose))
        parts = [f'form-data; name="{name}"\r\n\r\n{text}'.encode() for name, text in fields]
        file = (
            f'form-data; name="file"; filename="{self.name.translate(_ESCAPES)}"\r\nContent-Type: {self.content_type}'
        )
        parts.append(file.encode() + b"\r\n\r\n")
        before = b"\r\n".join(edge + b"\r\nContent-Disposition: " + part for part in parts)
        return before, b"\r\n" + edge + b"--\r\n"

    def _draft(self, session: Session | None) -> Draft:
        return Draft(UPLOAD_ROUTE, self.encode(), content_type=f'multipart/form-data; boundary="{self.boundary}"')

    def _judge(self, last: End | Broken) -> End | Broken:
        if isinstance(last, Broken) and _is_dropped(last):
            return replace(last, detail=f"{last.detail}; is the file larger than the site takes?")
        return last

    def _file_id(self, last: End | Broken) -> str | Broken:
        """The id that the site gave this file, or why it gave none."""
        if isinstance(last, End):
            if last.file_id is not None:
                return last.file_id
            last = Broken(Reason.MALFORMED, "the site accepted the file but returned no id", raw=last.raw)
        return last if last.in_session else replace(last, detail=f"file {self.name!r}: {last.detail}")


def _is_dropped(refusal: Broken) -> bool:
    """Whether PHP has dropped the file, as it does above upload_max_filesize and post_max_size (WIRE 7.5).

    Above upload_max_filesize the plugin fails with a fatal error, as a page or in WordPress's JSON.
    """
    is_fatal = refusal.code == "internal_server_error" or re.match(_FATAL, refusal.raw) is not None
    return (refusal.status == 500 and is_fatal) or refusal.detail == "No file provided."
