"""A large request is sent in pieces."""

import pytest

from opchat_proto import Broken, Client, Connect, Done, Flow, Reason, Send, Session, Upload

PIECE = 256 * 1024


@pytest.mark.parametrize("size", [0, 1, PIECE - 1000, PIECE, PIECE + 1, 3 * PIECE])
def test_a_large_request_is_sent_in_pieces(size: int) -> None:
    upload = Upload(name="a.bin", data=b"\0" * size, boundary="edge")
    client = Client(Flow("http://site.example", upload, session=Session("n0")))
    assert client.next_step() == Connect("site.example", 80)
    client.step_done()
    sent: list[bytes] = []
    while isinstance(step := client.next_step(), Send):
        assert client.next_step() == step
        assert client.sent[0] == sum(map(len, sent))
        total = client.sent[1]
        sent.append(step.data)
        client.step_done()
    data = b"".join(sent)
    assert (client.sent, len(data)) == ((0, 0), total)
    assert data.endswith(b"\r\n\r\n" + upload.encode())
    *whole, rest = [len(piece) for piece in sent]
    assert (set(whole) | {PIECE}, 0 < rest <= PIECE) == ({PIECE}, True)
    assert client.receive_eof() == [Broken(Reason.LOST, "the connection was closed before any answer")]


def test_an_early_refusal_ends_the_sending() -> None:
    upload = Upload(name="a.bin", data=b"\0" * (2 * PIECE), boundary="edge")
    client = Client(Flow("http://site.example", upload, session=Session("n0")))
    client.step_done()
    client.next_step()
    client.step_done()
    assert isinstance(client.next_step(), Send)
    [broken] = client.receive_data(b"HTTP/1.1 413 x\r\nContent-Length: 5\r\n\r\nlarge")
    assert (broken.status, broken.detail, client.next_step()) == (413, "large", Done())  # type: ignore[union-attr]  # fails if it is None
