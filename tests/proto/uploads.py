"""A file, its form, and responses of sites."""

from opchat_proto import (
    Broken,
    Endpoint,
    Reason,
    Upload,
)

SITE = Endpoint.parse("https://site.example")
CAT = Upload(name="cat.png", data=b"\x89PNG\r\n\x00", content_type="image/png", boundary="edge")
FORM = (
    b'--edge\r\nContent-Disposition: form-data; name="type"\r\n\r\nN/A\r\n'
    b'--edge\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nN/A\r\n'
    b'--edge\r\nContent-Disposition: form-data; name="file"; filename="cat.png"\r\nContent-Type: image/png\r\n\r\n'
    b"\x89PNG\r\n\x00\r\n"
    b"--edge--\r\n"
)
KEPT = b'{"success":true,"data":{"id":"2fa164266b033ad1d46fd522303ab310","url":"https:\\/\\/site.example\\/a.png"}}'
OPENED = b'{"success":true,"sessionId":"s1","restNonce":"n1"}'
STALE = b'{"code":"rest_cookie_invalid_nonce","message":"Cookie check failed","data":{"status":403}}'
REFUSAL = Broken(Reason.REFUSED, "Cookie check failed", 403, "rest_cookie_invalid_nonce", raw=STALE.decode())
