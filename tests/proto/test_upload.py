"""A file's form: no name breaks out of it, and invalid files raise at once."""

import email.parser
import email.policy
import pickle
from dataclasses import replace
from typing import Any

import pytest

from opchat_proto import Broken, End, Reason, Upload
from tests.proto.uploads import CAT, FORM


def test_the_form_matches_a_browsers() -> None:
    assert CAT.encode() == FORM
    assert CAT.size == len(FORM)


@pytest.mark.parametrize("name", ['a"b.png', "a\r\nX: y.png", "\u4e2d \u6587.png", "a;b=c.png", "%22"])
def test_no_name_breaks_out_of_its_field(name: str) -> None:
    upload = Upload(name=name, data=b"x", boundary="edge")
    head = b'Content-Type: multipart/form-data; boundary="edge"\r\n\r\n'
    form = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + upload.encode())
    *_, file = form.iter_parts()
    given = name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    assert (file.get_filename(), file.get_content(), file.keys()) == (
        given,
        b"x",
        ["Content-Disposition", "Content-Type"],
    )


@pytest.mark.parametrize(
    ("changed", "error", "match"),
    [
        ({"name": 5}, TypeError, r"^Upload\.name: expected a str, got int$"),
        ({"name": ""}, ValueError, r"^Upload\.name: "),
        ({"name": "a\0.png"}, ValueError, r"^Upload\.name: "),
        ({"name": "\ud83d.png"}, ValueError, r"^Upload\.name: "),
        ({"data": "text"}, TypeError, r"^Upload\.data: expected bytes, got str$"),
        ({"data": bytearray(b"x")}, TypeError, r"^Upload\.data: expected bytes, got bytearray$"),
        ({"content_type": None}, TypeError, r"^Upload\.content_type: expected a str, got NoneType$"),
        ({"content_type": "image"}, ValueError, r"^Upload\.content_type: "),
        ({"content_type": "image/png\r\nX: y"}, ValueError, r"^Upload\.content_type: "),
        ({"purpose": ""}, ValueError, r"^Upload\.purpose: "),
        ({"purpose": "a\r\n--edge"}, ValueError, r"^Upload\.purpose: "),
        ({"boundary": ""}, ValueError, r"^Upload\.boundary: "),
        ({"boundary": "a b"}, ValueError, r"^Upload\.boundary: "),
        ({"boundary": "x" * 71}, ValueError, r"^Upload\.boundary: "),
        ({"data": b"a\r\n--edge--"}, ValueError, r"^Upload\.boundary: expected 1 to 70 characters that the file does"),
    ],
)
def test_an_invalid_upload_raises_at_once(changed: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        Upload(**{"name": "cat.png", "data": b"x", "boundary": "edge", **changed})


def test_an_upload_is_a_value_that_does_not_show_its_bytes() -> None:
    assert pickle.loads(pickle.dumps(CAT)) == CAT
    assert "PNG" not in repr(CAT)


LOST = Broken(Reason.LOST, "gone")


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (End(None, '{"success":true,"data":{"id":"f1","url":"https://site.example/f1"}}'), "f1"),
        (
            End(None, "{}"),
            Broken(Reason.MALFORMED, "file 'cat.png': the site accepted the file but returned no id", raw="{}"),
        ),
        (LOST, replace(LOST, detail="file 'cat.png': gone")),
        (replace(LOST, in_session=True), replace(LOST, in_session=True)),
    ],
)
def test_an_upload_has_an_id_or_a_failure_that_names_the_file(last: End | Broken, expected: str | Broken) -> None:
    assert replace(CAT, name="cat.png")._file_id(last) == expected
