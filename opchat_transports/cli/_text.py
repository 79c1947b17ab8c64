"""Bytes that people give as text: UTF-8 or UTF-16, with or without a byte order mark, and any line ends."""

import codecs
import io
from typing import final

__all__ = ["NotTextError", "TextDecoder", "decode_text"]

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class NotTextError(ValueError):
    """These bytes are not text. Says what was expected."""

    def __init__(self) -> None:
        super().__init__("this is not text: expected UTF-8, or UTF-16 with a byte order mark")


@final
class TextDecoder:
    """Decodes a text that comes in pieces. Its line ends become newlines, and a byte order mark is left out."""

    def __init__(self) -> None:
        self._beginning = b""
        self._decoder: io.IncrementalNewlineDecoder | None = None

    def decode(self, data: bytes, *, final: bool = False) -> str:
        """The next piece as text. Raises `NotTextError`."""
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
