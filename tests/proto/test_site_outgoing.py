"""Which requests to a site ask for an uploaded file."""

import json
from dataclasses import replace

import pytest

from opchat_proto import OutgoingFile, Response, Site
from tests.proto.incoming import NOW, SITE, incoming, received
from tests.proto.uploads import FORM

FILE_ID = "2fa164266b033ad1d46fd522303ab310"
PATH = f"/wp-content/uploads/{FILE_ID}.png"


def asked(target: str, site: Site = SITE, method: str = "GET", root: str = "") -> OutgoingFile | int:
    """The requested file, or the status."""
    outcome = site.receive_request(method, target, [("Host", "site.example")], now=NOW, root=root)
    assert isinstance(outcome, OutgoingFile | Response)
    return outcome if isinstance(outcome, OutgoingFile) else outcome.status


@pytest.mark.parametrize("root", ["", "/blog"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_url_of_an_upload_requests_the_file(method: str, root: str) -> None:
    file = incoming()
    received(file, FORM.replace(b"cat.png", b"Cat.PNG"))
    url = json.loads(file.kept(FILE_ID).body)["data"]["url"]
    path = url.removeprefix("http://site.example")
    for target in (url, path, f"{path}?v=1"):
        target = target.replace(path, root + path)
        assert asked(target, method=method, root=root) == OutgoingFile(
            FILE_ID, "png", (("Cross-Origin-Resource-Policy", "same-origin"),)
        )


@pytest.mark.parametrize(
    "target",
    [
        "/wp-content/uploads/",
        "/wp-content/uploads",
        "/wp-content/uploads/.png",
        f"/wp-content/uploads/{FILE_ID}",
        f"/wp-content/uploads/{FILE_ID}.php",
        f"/wp-content/uploads/{FILE_ID}.png/",
        f"/wp-content/uploads/{FILE_ID}.png\n",
        f"/wp-content/uploads/2026/{FILE_ID}.png",
        f"/wp-content/uploads/..%2f{FILE_ID}.png",
        f"/wp-content/uploads/../{FILE_ID}.png",
        f"/wp-content/uploads/{'a' * 65}.png",
        f"/x{PATH}",
        f"{PATH}?rest_route=/",
    ],
)
def test_another_path_is_not_a_file(target: str) -> None:
    assert asked(target) == 404


def test_another_request_is_not_a_file() -> None:
    assert asked(PATH, method="POST") == 404
    assert asked(PATH, Site(b"secret")) == 404
    assert asked(PATH, replace(SITE, upload_types=("gif",))) == 404
    assert asked(PATH, replace(SITE, hosts=("other.example",))) == 421


def test_pages_of_other_origins_may_show_a_file() -> None:
    site = replace(SITE, origins=("https://shop.example",))
    file = site.receive_request("GET", PATH, [("Origin", "https://shop.example")], now=NOW)
    assert isinstance(file, OutgoingFile)
    for response in (file.found("a.png", "image/png", 3), file.failed()):
        fields = dict(response.headers)
        assert fields["Cross-Origin-Resource-Policy"] == "cross-origin"
        assert fields["Access-Control-Allow-Origin"] == "https://shop.example"
