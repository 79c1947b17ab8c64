"""A file that a client uploads: decode the request, and make the response (WIRE 7.5)."""

from typing import final

from ._form import FormDecoder, Part, State
from ._json import encode_as_php
from ._question import Fields, Response, failure, json_response

__all__ = ["UPLOAD_TYPES", "IncomingFile"]

IMAGES = ("avif", "bmp", "gif", "heic", "ico", "jpe", "jpeg", "jpg", "png", "tif", "tiff", "webp")
_TEXTS = ("csv", "doc", "docx", "ics", "odp", "ods", "odt", "pdf", "ppt", "pptx", "rtf", "srt", "tsv", "txt", "vtt")
_TABLES = ("xls", "xlsx")
_SOUNDS = ("flac", "m4a", "mov", "mp3", "mp4", "mpeg", "mpg", "mpga", "oga", "ogg", "ogv", "wav", "webm")
UPLOAD_TYPES: tuple[str, ...] = (*IMAGES, *_TEXTS, *_TABLES, *_SOUNDS)
"""The file extensions that a site accepts by default: WordPress's, except programs."""
UPLOADS = "/wp-content/uploads/"


def extension_of(name: str) -> str:
    """The extension in lower case; "" without a dot."""
    return name.rpartition(".")[2].lower() if "." in name else ""


@final
class IncomingFile:
    """An incoming upload, made by `Site.receive_upload`. It holds only the last piece of a file.

        for data in body:
            for piece in file.receive_data(data):
                ...                          # write it, under a name of your own: `file.name` is the client's
            if file.is_over:
                break
        refusal = file.receive_eof()         # if not None, send it and discard the file
        response = file.kept(file_id)        # or file.failed(why)

    Any bytes give a file or a refusal.
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
        """Made by `Site`."""
        self._form = FormDecoder(content_type)
        self._headers = headers
        self._base = base
        self._types = types
        self._most = most
        self._too_large = too_large
        self._refusal = refusal
        self._size = 0  # bytes of the body so far
        self._part: Part | None = None  # the part of the current content
        self._file: Part | None = None
        self._has_purpose = False
        self.is_over: bool = False
        """Whether the rest of the body need not be read: it is larger than `Limits.upload_bytes`."""
        self.session_id = session_id
        """The client's session; see `Question.session_id`."""

    def __repr__(self) -> str:
        """The name, and the number of bytes read."""
        return f"<IncomingFile {self.name!r} after {self._size} bytes>"

    @property
    def name(self) -> str | None:
        """The client's name for the file, without folders. None before it begins, and if it is refused."""
        return None if self._file is None else self._file.filename

    @property
    def content_type(self) -> str:
        """The client's content type: "type/subtype"."""
        return "application/octet-stream" if self._file is None else self._file.content_type

    def receive_data(self, data: bytes | bytearray | memoryview) -> list[bytes]:
        """Take bytes of the body, and return bytes of the file. Raises `TypeError` for anything but bytes."""
        data = bytes(memoryview(data))
        self._size += len(data)
        if self._size > self._most:
            self.is_over = True
            self._refusal = self._too_large
        if self._refusal is not None:
            return []
        pieces: list[bytes] = []
        for event in self._form.receive_data(data):
            if isinstance(event, Part):
                self._part = event
                if event.name == "file" and event.filename and self._file is None:
                    if extension_of(event.filename) not in self._types:
                        self._refusal = self._fault("Invalid file type.")
                        return []
                    self._file = event
            elif self._part is self._file:
                pieces.append(event)
            elif self._part is not None and self._part.name == "purpose":
                self._has_purpose = True
        return pieces

    def receive_eof(self) -> Response | None:
        """The body has ended. Return the refusal, or None if the file is complete."""
        if self._refusal is None and (self._file is None or self._form.state is not State.END):
            self._refusal = self._fault("No file provided.")
        if self._refusal is None and not self._has_purpose:
            self._refusal = self._fault("Purpose is required.")
        return self._refusal

    def kept(self, file_id: str) -> Response:
        """The response for a file that was stored under this id: letters, digits, - and _.

        A request for the URL in it becomes an `OutgoingFile`.
        """
        url = f"{self._base}{UPLOADS}{file_id}.{extension_of(self.name or '')}"
        payload = {"success": True, "data": {"id": file_id, "url": url}}
        return json_response(200, encode_as_php(payload).encode(), self._headers)

    def failed(self, why: str, status: int = 500) -> Response:
        """The response for a file that could not be stored."""
        return self._fault(why, status)

    def _fault(self, why: str, status: int = 400) -> Response:
        return json_response(status, failure(why, None), self._headers)
