"""Drawn files: a site receives what a client sends, however it is cut."""

from hypothesis import given
from hypothesis import strategies as st

from opchat_proto import Flow, Session, Site, Upload, strategies
from tests.proto.sites import NOW

SITE = Site(b"secret", upload_types=("png",))


@given(strategies.uploads(), st.data())
def test_a_site_receives_what_was_sent(upload: Upload, data: st.DataObject) -> None:
    request = Flow("https://site.example", upload, session=Session(SITE.nonce(NOW))).next_request()
    assert request is not None
    file = SITE.receive_upload(request.method, request.target, request.headers, now=NOW)
    assert file is not None
    content = b"".join(part for piece in data.draw(strategies.cuts(request.body)) for part in file.receive_data(piece))
    assert (content, file.receive_eof(), file.content_type) == (upload.data, None, "image/png")
    assert str(file.name).endswith(".png")


@given(st.from_type(Upload))
def test_an_upload_is_drawn_for_its_type(upload: Upload) -> None:
    assert len(upload.encode()) == upload.size
