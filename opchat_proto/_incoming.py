"""A file that a client uploads: what is kept of the request, and what is answered (WIRE 7.5)."""

from typing import final

from ._form import FormDecoder, Part, State
from ._json import encode_as_php
from ._question import Fields, Response, failure, json_response

__all__ = ["UPLOAD_TYPES", "IncomingFile"]

_IMAGES = ("avif", "bmp", "gif", "heic", "ico", "jpe", "jpeg", "jpg", "png", "tif", "tiff", "webp")
_TEXTS = ("csv", "doc", "docx", "ics", "odp", "ods", "odt", "pdf", "ppt", "pptx", "rtf", "srt", "tsv", "txt", "vtt")
_TABLES = ("xls", "xlsx")
_SOUNDS = ("flac", "m4a", "mov", "mp3", "mp4", "mpeg", "mpg", "mpga", "oga", "ogg", "ogv", "wav", "webm")
UPLOAD_TYPES: tuple[str, ...] = (*_IMAGES, *_TEXTS, *_TABLES, *_SOUNDS)
"""The extensions of the files that a site takes by default: those of WordPress that hold no program."""


@final
class IncomingFile:
    """An upload on its way in, made by `Site.receive_upload`. It holds no more of a file than what it was given last.

        for data in body:
            for piece in file.receive_data(data):
                ...                          # write it, under a name of your own: `file.name` is the client's
            if file.is_over:
                break
        refusal = file.receive_eof()         # to be sent in place of what follows, and nothing is kept
        response = file.kept(file_id)        # or file.failed(why)

    Whatever the bytes are, they are a file or a refusal.
    """

    def __init__(
        self,
        content_type: str,
        session_id: str,
        headers: Fields,
        *,
        base: str,
        types: tuple[str, ...],
        most: int,
        too_large: Response,
        refusal: Response | None,
    ) -> None:
        """For `Site`."""
        self._form = FormDecoder(content_type)
        self._headers = headers
        self._base = base
        self._types = types
        self._most = most
        self._too_large = too_large
        self._refusal = refusal
        self._size = 0  # of the body
        self._part: Part | None = None  # that the content belongs to
        self._file: Part | None = None
        self._has_purpose = False
        self._is_over = False
        self.session_id = session_id
        """The client's session; see `Question.session_id`."""

    def __repr__(self) -> str:
        """The name, and how much of the request was read."""
        return f"<IncomingFile {self.name!r} after {self._size} bytes>"

    @property
    def name(self) -> str | None:
        """The client's name for it, without folders. None until it begins, and if it is refused."""
        return None if self._file is None else self._file.filename

    @property
    def content_type(self) -> str:
        """What the client says it is: "type/subtype"."""
        return "application/octet-stream" if self._file is None else self._file.content_type

    @property
    def is_over(self) -> bool:
        """Whether the rest of the body need not be read: it is larger than `Limits.upload_bytes`."""
        return self._is_over

    def receive_data(self, data: bytes | bytearray | memoryview) -> list[bytes]:
        """Bytes of the body. Returns those of the file. Raises `TypeError` for anything but bytes."""
        data = bytes(memoryview(data))
        self._size += len(data)
        if self._size > self._most:
            self._is_over = True
            self._refusal = self._too_large
        if self._refusal is not None:
            return []
        pieces: list[bytes] = []
        for event in self._form.receive_data(data):
            if isinstance(event, Part):
                self._part = event
                if event.name == "file" and event.filename and self._file is None:
                    if event.filename.rpartition(".")[2].lower() not in self._types:
                        self._refusal = self._fault("Invalid file type.")
                        return []
                    self._file = event
            elif self._part is self._file:
                pieces.append(event)
            elif self._part is not None and self._part.name == "purpose":
                self._has_purpose = True
        return pieces

    def receive_eof(self) -> Response | None:
        """The body is over. Returns the refusal, or None for a file that is whole."""
        if self._refusal is None and (self._file is None or self._form.state is not State.END):
            self._refusal = self._fault("No file provided.")
        if self._refusal is None and not self._has_purpose:
            self._refusal = self._fault("Purpose is required.")
        return self._refusal

    def kept(self, file_id: str) -> Response:
        """The answer for a file that was kept under this id. Nothing is served at the URL that it names."""
        url = f"{self._base}/wp-content/uploads/{file_id}.{(self.name or '').rpartition('.')[2].lower()}"
        payload = {"success": True, "data": {"id": file_id, "url": url}}
        return json_response(200, encode_as_php(payload).encode(), self._headers)

    def failed(self, why: str, status: int = 500) -> Response:
        """The answer for a file that could not be kept."""
        return self._fault(why, status)

    def _fault(self, why: str, status: int = 400) -> Response:
        return json_response(status, failure(why, None), self._headers)
