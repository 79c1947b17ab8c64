"""Files for a question and their progress, and images in an answer."""

import base64
import re
from binascii import Error as Base64Error
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

import click

from opchat_proto import Call, HTTPCall, Send, StepDone, Upload

from .._broken import ReplyBroken, broken_line
from .._uploads import to_upload
from ._options import Settings
from ._terminal import say
from ._transports import download

__all__ = ["attach", "save_images", "tell_progress"]

_LARGE = 1024 * 1024  # bytes of a file whose progress is shown
_NAME_LENGTH = 80  # characters of a file name, without number and extension
_SAME_NAMES = 1000
_MOST_IMAGES = 20  # images of one answer; models paint at most ten
_IMAGES = (  # the first bytes, and the extension
    (re.compile(rb"\x89PNG\r\n\x1a\n"), ".png"),
    (re.compile(rb"\xff\xd8\xff"), ".jpg"),
    (re.compile(rb"GIF8[79]a"), ".gif"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), ".webp"),
    (re.compile(rb"....ftypavi[fs]", re.DOTALL), ".avif"),
    (re.compile(rb"BM"), ".bmp"),
    (re.compile(rb"II\*\0|MM\0\*"), ".tiff"),
)


def attach(settings: Settings, paths: Sequence[Path], before: int = 0) -> list[Upload]:
    """Read the files. Raises `UsageError`, also for more files than the bot's page accepts.

    `before` is the number of files that the question already has.
    """
    most = settings.limits.upload_bytes
    uploads = []
    for path in paths:
        try:
            uploads.append(to_upload(path, most))
        except OSError as error:
            raise click.UsageError(f"--file {path}: {error.strerror or error}") from None
        except ValueError:
            raise click.UsageError(f"--file {path}: more than {most} bytes (--limit-upload-bytes)") from None
    bot, count = settings.found, before + len(uploads)
    if bot is not None and bot.max_files and count > bot.max_files:
        raise click.UsageError(f"this bot's page takes at most {bot.max_files} with a question: --file")
    if bot is not None and uploads and not bot.max_files:
        say("this bot's page offers no upload, so the site may refuse or ignore the file")
    elif bot is None and uploads and count > 1:
        say("several files: sites up to plugin 3.1.1 read one of them, or none")
    return uploads


def tell_progress(tell: Callable[[str], None]) -> Callable[[Call | HTTPCall, object], None]:
    """An observer that shows the progress of a large file, as a line for a person. httpx does not report it."""

    def observe(call: Call | HTTPCall, item: object) -> None:
        if not isinstance(call, Call) or call.upload is None or not isinstance(item, Send | StepDone):
            return
        sent, size = call.sent
        if len(call.upload.data) >= _LARGE:
            share = sent / size if size else 0.0
            bar = "".join("#" if tenth < share * 10 else "-" for tenth in range(10))
            done = "waiting for the answer" if not size else f"[{bar}] {share:.0%} of {size / _LARGE:.1f} MiB"
            tell(f"sending {call.upload.name}: {done}")

    return observe


def save_images(settings: Settings, images: Sequence[str], directory: Path) -> int:
    """Save an answer's images under new names in this directory. Returns how many failed.

    Each is fetched from the http or https address that the site names, on any host. Only the
    site itself gets its cookies and the header fields of the settings. The site chooses the
    addresses, so their number and size are bounded, and only images are kept.
    """
    failed = max(0, len(images) - _MOST_IMAGES)
    if failed:
        say(f"only {_MOST_IMAGES} images of an answer are saved, and it has {len(images)}")
    for number, url in enumerate(images[:_MOST_IMAGES], 1):
        try:
            data = _read(settings, url)
            kind = next((kind for magic, kind in _IMAGES if magic.match(data)), None)
            if kind is None:
                raise ValueError("it is not an image")
            say(f"saved {_write(directory, _stem(url, number), kind, data)}")
        except ReplyBroken as error:
            failed += 1
            say(f"image {number} is not saved: {broken_line(error.broken)}")
        except OSError as error:
            failed += 1
            say(f"image {number} is not saved: {error.filename or directory}: {error.strerror or error}")
        except ValueError as error:
            failed += 1
            say(f"image {number} is not saved: {error}")
    return failed


def _read(settings: Settings, url: str) -> bytes:
    scheme = url.partition(":")[0].lower()
    if scheme == "data":
        head, comma, text = url.partition(",")
        if not comma:
            raise ValueError("its data: URL cannot be read")
        if not head.lower().endswith(";base64"):
            return unquote_to_bytes(text)
        try:
            return base64.b64decode(unquote_to_bytes(text), validate=True)
        except Base64Error:
            raise ValueError("its data: URL cannot be read") from None
    if scheme not in ("http", "https"):
        raise ValueError(f"its address is neither http nor https: {url[:100]}")
    return download(settings, url)


def _stem(url: str, number: int) -> str:
    """A harmless file name, from the site's name for the file."""
    path = "" if url[:5].lower() == "data:" else urlsplit(url).path
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", path.rpartition("/")[2].rpartition(".")[0]).strip("-")[:_NAME_LENGTH]
    return f"image-{name or number}"


def _write(directory: Path, stem: str, kind: str, data: bytes) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(1, _SAME_NAMES):
        path = directory / f"{stem}{f'-{number}' if number > 1 else ''}{kind}"
        try:
            file = path.open("xb")
        except FileExistsError:
            continue
        try:
            with file:
                file.write(data)
        except OSError:
            path.unlink()  # an incomplete image
            raise
        return path
    raise ValueError(f"too many files have its name in {directory}")
