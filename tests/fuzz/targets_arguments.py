"""Any values as a caller's arguments."""

from collections.abc import Callable
from typing import Any, cast

from opchat_proto import (
    Channel,
    Client,
    Connect,
    Conversation,
    Done,
    Flow,
    Limits,
    Proxy,
    Query,
    Session,
    Submit,
    Upload,
    Visit,
)
from tests.fuzz.drawing import ENDPOINTS, NOW
from tests.fuzz.oracles import Choices, attempt

_HIDDEN = "n0t-to-be-shown"


def arguments(data: bytes) -> None:
    """Any value is accepted or raises a documented exception. Credentials are neither shown nor sent in the clear."""
    choices = Choices(data)
    texts = [text.decode("utf-8", "surrogateescape") for text in choices.strings]
    others: tuple[Any, ...] = (None, 5, True, b"x", 0.5, [], Session(), Query("Hi?"), *ENDPOINTS)

    def draw(usual: Any = None) -> Any:
        """The usual value at first, then a text from the input, or a value of another type."""
        place = choices.number(len(others) + 2)
        if place > 1:
            return others[place - 2]
        return texts.pop(0) if place == 1 and texts else usual

    def draw_session() -> Session | None:
        make = (
            lambda: Session(*[draw() for _ in range(6)]),
            lambda: Session.from_application_password(draw("ada"), draw(_HIDDEN)),
            lambda: Session.from_cookies(draw(f"a={_HIDDEN}"), draw(ENDPOINTS[0]), now=draw(NOW)),
            lambda: Session.from_token(draw(_HIDDEN)),
        )
        return cast("Session | None", _made(make[choices.number(4)]))

    session = draw_session()
    if session is not None:
        parts = (session.nonce, session.session_id, session.cookie, session.authorization)
        assert not any(part in repr(session) for part in parts if part and len(part) > 20)
    other = draw_session()
    conversation = Conversation()
    if other is not None:
        conversation.session = other
    channel = _made(lambda: Channel(ENDPOINTS[1], session=session, page=draw()))
    if channel is not None:
        call = _made(lambda: channel.call("Hi?", conversation))
        assert call is None or isinstance(call.next_step(0)[0], Connect)
    question = _made(
        (
            lambda: Submit(new_message=draw("Hi?")),
            lambda: Query(draw("Hi?"), draw("sales"), draw()),
            lambda: Upload(name=draw("a.txt"), data=draw(b"x"), content_type=draw("a/b"), boundary=draw("edge")),
            draw,
        )[choices.number(4)]
    )
    headers = [(draw("X-A"), draw("b"))] if choices.number(2) else ()
    renewal = _made(lambda: Visit(draw("https://site.example/"), session=session)) if choices.number(2) else draw()
    flow = _made(
        lambda: Flow(
            draw(ENDPOINTS[1]),
            question,
            session=session if choices.number(2) else draw(),
            headers=headers,
            limits=Limits(request_bytes=[1 << 20, 10][choices.number(2)]),
            renewal=renewal,
        )
    )
    if flow is None:
        return
    if session is not None and session.authorization and flow.session == session:
        assert flow.endpoint.is_secure
    proxy = _made(lambda: Proxy.parse(draw("http://proxy.example:3128")))
    if choices.number(2):
        proxy = _made(lambda: Proxy(draw("http"), draw("proxy.example"), draw(3128), draw("ada"), draw(_HIDDEN)))
    client = _made(
        lambda: Client([flow, draw(flow)][choices.number(2)], proxy=[None, proxy, draw()][choices.number(3)])
    )
    if client is not None:
        assert isinstance(client.next_step(), Connect | Done)


def _made(make: Callable[[], Any]) -> Any:
    """The object, or None after one of the two documented exceptions."""
    made, error = attempt(lambda _: make(), None, (TypeError, ValueError))
    assert _HIDDEN not in str(error)
    return made
