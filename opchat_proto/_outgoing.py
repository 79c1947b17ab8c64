"""An uploaded file that a client fetches, from the URL in the upload's response (WIRE 7.5)."""

import re
from dataclasses import dataclass, field
from typing import final

from ._incoming import IMAGES, extension_of
from ._question import Fields, Response, failure, json_response
from ._value import Value

__all__ = ["OutgoingFile"]

_IMAGE_TYPES = {"ico": "x-icon", "jpe": "jpeg", "jpg": "jpeg", "tif": "tiff"}  # others are named like the extension
# No other type from the client is passed on: a page might load it as a script or style of this origin.
_HARMLESS_TYPES = r"(?i)(?:audio|video)/[a-z0-9.+-]+|text/plain|application/pdf"


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class OutgoingFile(Value):
    """A request for an uploaded file, from `Site.receive_request`. Answer with `found` or `failed`."""

    file_id: str
    """The id that the client named. Any text without dots and slashes."""
    extension: str
    headers: Fields = field(default=(), repr=False)

    def found(self, name: str, content_type: str, size: int) -> Response:
        """The response for a stored file of this `size`, with the name and type of its `IncomingFile`.

        The bytes of the file follow it. Browsers show images and save any other file.
        The response is `failed` if the request does not have the extension of the name.
        """
        if extension_of(name) != self.extension:
            return self.failed()
        own: Fields = (
            ("Content-Length", str(size)),
            ("Cache-Control", "private"),
            ("X-Content-Type-Options", "nosniff"),
            ("Content-Security-Policy", "default-src 'none'; sandbox"),
        )
        if self.extension in IMAGES:
            kind = f"image/{_IMAGE_TYPES.get(self.extension, self.extension)}"
        else:
            kind = content_type if re.fullmatch(_HARMLESS_TYPES, content_type) else "application/octet-stream"
            own = (*own, ("Content-Disposition", "attachment"))
        return Response(200, (("Content-Type", kind), *own, *self.headers), file_bytes=size)

    def failed(self, why: str = "This file does not exist, or no longer.", status: int = 404) -> Response:
        """The response without a file."""
        return json_response(status, failure(why, None), self.headers)
