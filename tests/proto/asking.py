"""A `Client` that has asked, and the outcome of the bytes that answer it."""

from collections.abc import Iterable

from opchat_proto import (
    Broken,
    Client,
    Connect,
    Done,
    End,
    Endpoint,
    Event,
    Flow,
    Limits,
    Live,
    Receive,
    Send,
    Session,
    StartTLS,
    Submit,
)

ENDPOINT = Endpoint.parse("http://site.example")
QUESTION = Submit(new_message="Hi?")
NO_RESTART = Limits(restarts=0)
NO_SESSION_NEEDED = Session()

HI = b'data: {"type":"live","data":"Hi"}\n\n'
END = b'data: {"type":"end","data":"{\\"success\\":true,\\"reply\\":\\"Hi\\"}"}\n\n'
ANSWER = HI + END
ANSWERED: list[Event] = [Live("Hi"), End("Hi", '{"success":true,"reply":"Hi"}')]


def client(
    *, session: Session | None = NO_SESSION_NEEDED, limits: Limits = NO_RESTART, endpoint: Endpoint = ENDPOINT
) -> Client:
    return Client(Flow(endpoint, QUESTION, session=session, limits=limits))


def asked(*, session: Session | None = NO_SESSION_NEEDED, limits: Limits = NO_RESTART) -> Client:
    """A client whose next step is to receive."""
    asking = client(session=session, limits=limits)
    ask(asking)
    return asking


def ask(asking: Client) -> list[Connect | StartTLS | Send]:
    """Do all steps as they should be done, until there is nothing to do but to receive."""
    steps = []
    while not isinstance(step := asking.next_step(), Receive | Done):
        steps.append(step)
        asking.step_done()
    return steps


def answered(pieces: Iterable[bytes], *, limits: Limits = NO_RESTART, close: bool = True) -> list[Event]:
    """The events of an answer in these pieces, after which the server closes."""
    asking = asked(limits=limits)
    events = [event for piece in pieces for event in asking.receive_data(piece)]
    return events + asking.receive_eof() if close else events


def is_reply(events: list[Event]) -> bool:
    """`Live* (End | Broken)`."""
    return bool(events) and isinstance(events[-1], End | Broken) and all(isinstance(e, Live) for e in events[:-1])


def content_length(body: bytes, *fields: bytes, status: bytes = b"200 OK") -> bytes:
    head = [b"HTTP/1.1 " + status, *fields, b"Content-Length: %d" % len(body)]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def chunks(*pieces: bytes) -> bytes:
    """A chunked body in these chunks, without its last one."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
