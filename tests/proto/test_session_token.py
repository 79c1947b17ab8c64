"""The owner's token: where it is sent, and that it is not shown."""

from typing import Any

import pytest

from opchat_proto import Session


def test_a_token_is_sent_as_authorization_and_not_shown() -> None:
    session = Session.from_token("throw~away/token+1==")
    assert session == Session(authorization="Bearer throw~away/token+1==")
    assert session.is_member
    assert repr(session) == "<Session with authorization>"


@pytest.mark.parametrize("token", ["", " ", "secret token", "secret\r\n", "sécret", "secret\0"])
def test_a_token_with_forbidden_characters_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(ValueError, match=r"^token: expected printable ASCII without blanks$"):
        Session.from_token(token)


@pytest.mark.parametrize(("token", "kind"), [(None, "NoneType"), (b"secret", "bytes"), (5, "int")])
def test_a_token_is_text(token: Any, kind: str) -> None:
    with pytest.raises(TypeError, match=f"^token: expected a str, got {kind}$"):
        Session.from_token(token)
