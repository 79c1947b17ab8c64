"""Messages, and the error for malformed ones."""

from collections.abc import Callable

import pytest

from opchat_proto import InvalidMessages

USER = {"role": "user", "content": "Hi"}


def fault(call: Callable[[], object]) -> tuple[str, int | None]:
    """The text and the index of the `InvalidMessages` that this raises."""
    with pytest.raises(InvalidMessages) as caught:
        call()
    return caught.value.text, caught.value.index


ROLES = "expected 'user', 'assistant' or 'system', got"
