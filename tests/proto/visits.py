"""A visit to a page, and the responses to it."""

from opchat_proto import Event, Request, Visit
from tests.proto.pages import CHAT, URL

Answer = tuple[int, list[tuple[str, str]], bytes]

HTML = [("Content-Type", "text/html; charset=UTF-8")]
FOUND: Answer = (200, HTML, CHAT.encode())


def to(location: str, status: int = 302) -> Answer:
    return status, [("Location", location)], b"<p>Moved</p>"


def take(visit: Visit) -> Request:
    request = visit.next_request()
    assert request is not None
    return request


def answer(visit: Visit, response: Answer) -> list[Event]:
    """Report the whole response to the request that was handed out."""
    status, headers, body = response
    return visit.receive_head(status, headers) + visit.receive_data(body) + visit.receive_eof()


def visited(*answers: Answer, visit: Visit | None = None) -> tuple[Visit, list[Request], list[Event]]:
    """A visit that gets these responses, with its requests and events."""
    visit = visit or Visit(URL)
    requests, events = [], []
    for response in answers:
        requests.append(take(visit))
        events += answer(visit, response)
    return visit, requests, events


def fields(request: Request) -> dict[str, str]:
    return dict(request.headers)
