"""Decide whether to repeat a failed question, and after how long. The caller waits."""

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol, TypeVar, final

from ._events import Broken, End, Reason

__all__ = ["RandomSource"]

_E = TypeVar("_E", End, Broken, End | Broken)
_SHORTEST_BACK_OFF = 0.5  # seconds
_LONGEST_BACK_OFF = 8.0
_NO_CONNECTION = (Reason.LOST, Reason.PROXY, Reason.TIMEOUT)


class RandomSource(Protocol):
    """`random.Random`, or any object with its method `random`."""

    def random(self) -> float:
        """Return a number from 0 up to, but not including, 1."""


@final
class Retries:
    """Decides about retries. Each submit may cost the site's owner money, so there are only two cases.

    Either the server cannot have acted on any byte of the question, or it said when to
    come back: 429 or 503 with Retry-After (RFC 9110, 10.2.3).

    Raises `ValueError` for a negative number, `TypeError` for values of other types.
    """

    def __init__(self, most: int, longest_wait: float, random: RandomSource | Callable[[], float] | None) -> None:
        if not isinstance(most, int) or isinstance(most, bool):
            raise TypeError(f"retries: expected an int, got {type(most).__name__}")
        if most < 0:
            raise ValueError(f"retries: expected 0 or more, got {most}")
        if isinstance(longest_wait, bool) or not isinstance(longest_wait, int | float):
            raise TypeError(f"longest_wait: expected seconds, got {type(longest_wait).__name__}")
        if not longest_wait >= 0:
            raise ValueError(f"longest_wait: expected 0 or more seconds, got {longest_wait}")
        draw = getattr(random, "random", random)  # accepts `random.Random()`, the module, and its function `random`
        if draw is not None and not callable(draw):
            raise TypeError(f"random: expected a random.Random, got {type(random).__name__}")
        self._most = most
        self._longest_wait = longest_wait
        self._draw: Callable[[], float] | None = draw

    def draw(self, otherwise: float) -> float:
        """A random number from 0 to 1, or this one if there is no source."""
        return otherwise if self._draw is None else self._draw()

    def pause(self, last: End | Broken, made: int) -> float | None:
        """Return the seconds to wait before the next retry, after `made` retries; None for no retry."""
        if made >= self._most:
            return None
        match last:
            case Broken(Reason.REFUSED, status=429 | 503, retry_after=int(seconds)):
                return seconds if seconds <= self._longest_wait else None
            case Broken(reason, asked=False) if reason in _NO_CONNECTION:
                # Random up to a bound that doubles, so that calls that failed together are not retried together.
                bound = min(2.0 ** min(made, 10), _LONGEST_BACK_OFF)
                return min(_SHORTEST_BACK_OFF + self.draw(1.0) * (bound - _SHORTEST_BACK_OFF), self._longest_wait)
        return None


def keep_asked(last: _E, before: End | Broken | None) -> _E:
    """Return `last`, or if the question had reached the server in the try `before` it, `last` with `asked`."""
    if isinstance(last, Broken) and isinstance(before, Broken) and before.asked:
        return replace(last, asked=True)
    return last
