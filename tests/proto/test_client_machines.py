"""A `Client` drives any machine that makes requests, not only a `Flow`."""

import pytest

from opchat_proto import Broken, Client, Connect, Done, End, Event, Limits, Live, Proxy, Reason, Send, StartTLS
from tests.fuzz.oracles import check_linear
from tests.proto.asking import ESTABLISHED, PROXY, connect, content_length, follow
from tests.proto.clients import Fetches


class Chatters(Fetches):
    """The same, with many events for each part of a body."""

    def receive_data(self, data: bytes) -> list[Event]:
        return [Live("")] * 100


class Interrupted(Fetches):
    """The same, with an exception after the last event, which the client therefore never gets."""

    def receive_eof(self) -> list[Event]:
        super().receive_eof()
        raise KeyboardInterrupt

    def close(self) -> list[Event]:
        return []


def get(target: bytes, *fields: bytes) -> Send:
    return Send(
        b"\r\n".join((b"GET %b HTTP/1.1" % target, b"Host: any.example", b"Connection: close", *fields, b"", b""))
    )


def test_each_request_goes_to_the_host_of_its_url_and_a_machine_may_survive_a_failed_connect() -> None:
    urls = ["http://one.example/a?b=c", "https://two.example:8443/d", "http://[2001:db8::1]/e"]
    asking = Client(Fetches(urls))
    assert asking.next_step() == Connect("one.example", 80)
    assert asking.step_failed("refused") == [Live("could not connect to one.example:80: refused (None)", "lost")]
    follow(asking, (Connect("two.example", 8443), StartTLS("two.example"), get(b"/d")))
    assert asking.receive_data(content_length(b"Hi")) == [Live("200", "status"), Live("Hi"), Live("", "eof")]
    follow(asking, (Connect("2001:db8::1", 80), get(b"/e")))
    assert asking.step_failed("slow", Reason.TIMEOUT, limit="idle") == [Live("slow (idle)", "timeout"), End(None)]
    assert (asking.next_step(), asking.submit_started) == (Done(), False)


def test_one_huge_read_takes_time_in_proportion_to_its_events() -> None:
    def run(data: bytes) -> None:
        asking = Client(Chatters(["http://one.example/a"], Limits(head_bytes=64)))
        follow(asking, (Connect("one.example", 80), get(b"/a")))
        assert len(asking.receive_data(content_length(data))) > len(data)

    check_linear(run, b"x" * 64_000)


@pytest.mark.parametrize("asked", [False, True])
def test_a_client_that_was_interrupted_after_the_last_event_of_its_machine_can_be_closed(asked: bool) -> None:
    asking = Client(Interrupted(["http://one.example/a"], submit_started=asked))
    follow(asking, (Connect("one.example", 80), get(b"/a")))
    with pytest.raises(KeyboardInterrupt):
        asking.receive_data(content_length(b"Hi"))
    assert asking.close() == [Broken(Reason.TRUNCATED, "closed by the caller", asked=asked)]
    assert (asking.next_step(), asking.close()) == (Done(), [])


def test_each_request_goes_through_a_proxy_on_its_own() -> None:
    asking = Client(
        Fetches(["http://one.example/a", "https://two.example/b"]), proxy=Proxy.parse("u:p@proxy.example:3128")
    )
    authorization = b"Proxy-Authorization: Basic dTpw"
    follow(asking, (PROXY, get(b"http://one.example/a", authorization)))
    assert asking.receive_data(content_length(b"", status=b"407 -")) == [
        Live("the proxy refused: status 407 (None)", "proxy")
    ]
    follow(asking, (PROXY, connect(b"two.example:443", b"dTpw"), ESTABLISHED, StartTLS("two.example"), get(b"/b")))
    assert asking.receive_data(content_length(b"", status=b"407 -")) == [
        Live("407", "status"),
        Live("", "eof"),
        End(None),
    ]
