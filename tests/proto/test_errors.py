"""The caller's mistakes as exceptions."""

import pickle

import pytest

from opchat_proto import InvalidMessages, LocalProtocolError
from tests.proto.cuts import copies


def test_invalid_messages_is_a_value_error_with_a_text() -> None:
    error = InvalidMessages("messages[2]: expected a dict", 2)
    assert isinstance(error, ValueError)
    assert (str(error), error.text, error.index) == ("messages[2]: expected a dict", "messages[2]: expected a dict", 2)


def test_an_error_about_the_whole_list_has_no_index() -> None:
    error = InvalidMessages("expected at least one message")
    assert (str(error), error.index) == ("expected at least one message", None)


@pytest.mark.parametrize("index", [None, 0, 7])
def test_a_copy_of_invalid_messages_keeps_text_and_index(index: int | None) -> None:
    for twin in copies(InvalidMessages("wrong", index)):
        assert type(twin) is InvalidMessages
        assert (twin.text, twin.index, str(twin), twin.args) == ("wrong", index, "wrong", ("wrong", index))


def test_a_protocol_misuse_is_not_a_value_error() -> None:
    error = LocalProtocolError("Flow: step is not legal in state idle")
    assert not isinstance(error, ValueError)
    assert str(pickle.loads(pickle.dumps(error))) == "Flow: step is not legal in state idle"
