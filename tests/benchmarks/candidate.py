"""One candidate, and the interface that all of them have."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, TypeAlias

from opchat_proto import End, Event, Live
from tests.benchmarks.floor import Piece, Reply
from tests.benchmarks.workloads import Pair, as_pair

Run: TypeAlias = Callable[[], Sequence[Any]]
"""Runs one whole stream, and returns all of its results."""

URL = "http://site.example/wp-json/mwai-ui/v1/chats/submit"


@dataclass(frozen=True)
class Candidate:
    """One way to do the work."""

    name: str
    prepare: Callable[[list[bytes]], Run]
    """Does the unmeasured preparation (imports, clients, connection pools), and returns the work to measure."""
    pair: Callable[[Any], Pair] | None = as_pair
    """Turns a result into events. None for a reference, which has no events."""
    package: str = ""
    """The packages that must be installed."""

    @property
    def is_installed(self) -> bool:
        try:
            return not self.package or bool(metadata.version(self.package))
        except metadata.PackageNotFoundError:
            return False

    @property
    def title(self) -> str:
        return f"{self.name} {metadata.version(self.package)}" if self.package and self.is_installed else self.name


def own_pair(event: Event) -> Pair:
    match event:
        case Live(text, kind):
            return kind, text
        case End(reply):
            return "end", str(reply)
        case _:
            return "broken", event.detail


def floor_pair(event: Piece | Reply) -> Pair:
    return (event.kind, event.text) if isinstance(event, Piece) else ("end", event.reply)


async def original_loop(content: Any) -> list[Any]:
    # The provider class of 2023 read it like this (WIRE 10.1). It also returns the end event, which that class dropped.
    events = []
    async for line in content:
        if line.startswith(b"data: "):
            event = json.loads(line[6:])
            assert "type" in event
            events.append(event)
            if event["type"] == "end":
                break
    return events
