"""Decodes the user's text: UTF-8, or UTF-16 with a byte order mark, with any line ends."""

import codecs
import io
from typing import final

__all__ = ["NotTextError", "TextDecoder", "decode_text"]

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class NotTextError(ValueError):
    """Raised for bytes that are not text; says what was expected."""

    def __init__(self) -> None:
        super().__init__("this is not text: expected UTF-8, or UTF-16 with a byte order mark")


@final
class TextDecoder:
    """Decodes a text in pieces. Line ends become newlines, and a byte order mark is removed."""

    def __init__(self) -> None:
        self._beginning = b""
        self._decoder: io.IncrementalNewlineDecoder | None = None

    def decode(self, data: bytes, *, final: bool = False) -> str:
        """Decode the next piece. Raises `NotTextError`."""
        if self._decoder is None:
            data = self._beginning = self._beginning + data
            if len(data) < 2 and not final:
                return ""
            encoding = "utf-16" if data.startswith(_UTF_16) else "utf-8-sig"
            self._decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)(), translate=True)
        try:
            text: str = self._decoder.decode(data, final)
        except UnicodeDecodeError:
            raise NotTextError from None
        if "\0" in text:
            raise NotTextError
        return text


def decode_text(data: bytes) -> str:
    """The text of these bytes, with newlines for line ends. Raises `NotTextError`."""
    return TextDecoder().decode(data, final=True)
