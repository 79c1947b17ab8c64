"""`Opchatgpts`: the interface of the provider class of 2023, on top of this library (WIRE 10.1)."""

import asyncio
from collections.abc import AsyncGenerator, Generator, Iterable, Mapping
from typing import Any, ClassVar

from opchat_proto import Broken, End, Endpoint, Live, Message, Submit, Timeouts

from ._broken import ReplyBroken
from .asyncio_streams import AsyncioTransport

__all__ = ["Opchatgpts"]

_ITS_PAGE = 28  # the page from which the original asked, on the site that the class is named after


class Opchatgpts:
    """Replaces the class of that name: an async generator of the answer's pieces.

        async for piece in Opchatgpts.create_async_generator("gpt-3.5-turbo", [{"role": "user", "content": "Hi"}]):
            ...

    The site that the class is named after is gone, so `working` is False: pass the
    address of another site as `url=`, or set it in a subclass.

    It also handles what the original did not: sites that require a nonce, answers
    in one JSON object, a leading byte order mark, event logs. An error event or a
    truncated stream, which the original took for the end of an answer, raises.
    """

    url: ClassVar[str] = "https://opchatgpts.net"
    working: ClassVar[bool] = False
    needs_auth: ClassVar[bool] = False
    supports_stream: ClassVar[bool] = True
    supports_message_history: ClassVar[bool] = True
    supports_gpt_35_turbo: ClassVar[bool] = True
    supports_gpt_4: ClassVar[bool] = False
    params: ClassVar[str] = (
        "Opchatgpts supports: (model: str, messages: list[dict[str, str]], stream: bool, proxy: str, url: str,"
        " bot_id: str, context_id: str, headers: dict[str, str], timeout: float)"
    )

    @classmethod
    def create_completion(
        cls, model: str | None, messages: Iterable[Message | Mapping[str, Any]], stream: bool = True, **kwargs: Any
    ) -> Generator[str, None, None]:
        """The same as a generator for blocking code, in its own event loop.

        Closing it early closes the connection. Also raises `RuntimeError` if an event
        loop is running.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pieces = cls.create_async_generator(model, messages, **kwargs)
        else:
            raise RuntimeError("an event loop is running here: use create_async_generator")

        async def next_piece() -> str | None:
            return await anext(pieces, None)

        async def leave() -> None:
            await pieces.aclose()

        with asyncio.Runner() as runner:
            try:
                while (piece := runner.run(next_piece())) is not None:
                    yield piece
            finally:
                runner.run(leave())

    @classmethod
    async def create_async(
        cls, model: str | None, messages: Iterable[Message | Mapping[str, Any]], **kwargs: Any
    ) -> str:
        """Return the whole answer. If cancelled, the connection is closed and the answer is lost."""
        return "".join([piece async for piece in cls.create_async_generator(model, messages, **kwargs)])

    @classmethod
    async def create_async_generator(
        cls,
        model: str | None,
        messages: Iterable[Message | Mapping[str, Any]],
        proxy: str | None = None,
        *,
        url: str | Endpoint | None = None,
        bot_id: str | int = "default",
        context_id: str | int | None = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        timeout: float | Timeouts | None = None,  # noqa: ASYNC109  # as in the original
        **kwargs: Any,
    ) -> AsyncGenerator[str, None]:
        """Ask, and yield the pieces of the answer as they come.

        The site's bot has its own model, so `model` is ignored; so are unknown keyword
        arguments. `proxy` is a proxy's URL; None uses the environment variables.
        `url` is another site, `bot_id` and `context_id` are its bot and page, and
        `headers` are sent with each request. `timeout` bounds each wait for the network
        and the server, in seconds or as `Timeouts`; None is a transport's default.

        Raises `ReplyBroken`, a `RuntimeError`, if the answer is not complete: it says
        why, and has the `status` of a refusal and the pieces that came. Raises
        `ValueError` for a question that cannot be sent.

        If cancelled or closed early, the connection is closed; the question may have
        been asked. Call `aclose()` to close it at once, as `contextlib.aclosing` does;
        after leaving a loop Python closes it a little later.
        """
        if context_id is None and url is None:
            context_id = _ITS_PAGE
        submit = Submit.from_messages(messages, bot_id=bot_id, context_id=context_id)
        options: dict[str, Any] = {"proxy": proxy} if proxy else {}
        if timeout is not None:
            options["timeouts"] = timeout if isinstance(timeout, Timeouts) else _each(timeout)
        pieces: list[str] = []
        async with (
            AsyncioTransport(cls.url if url is None else url, headers=headers or (), **options) as transport,
            transport.ask(submit) as reply,
        ):
            async for event in reply:
                match event:
                    case Live(piece, kind="content"):
                        pieces.append(piece)
                        yield piece
                    case End(str(answer)) if answer and not any(pieces):
                        yield answer
                    case Broken():
                        raise ReplyBroken(event, "".join(pieces))


def _each(seconds: float) -> Timeouts:
    return Timeouts(connect=seconds, write=seconds, first_event=seconds, idle=seconds)
