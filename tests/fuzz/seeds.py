"""Seeds of the fuzz targets: the corpus as inputs, and a dictionary."""

import json
import random
import re
from dataclasses import replace

from tests import cases
from tests.fuzz import pages
from tests.fuzz.drawing import FIELDS, NOW, PROXIES, SITE, UPLOAD, WORDS
from tests.fuzz.oracles import SECRET, seed
from tests.proto.pages import SYSTEM, element

_MOST = 6000  # bytes of a seed; longer ones are slow to mutate


def seeds(target: str) -> list[bytes]:
    """The corpus as inputs of this target."""
    found = [it for case in cases.cases() if (it := _seed(target, case)) is not None and len(it) < _MOST]
    if target == "conversation":
        found += [
            seed(json.dumps({"session": {key: value}}).encode()) for key in WORDS[7:11] for value in (5, "a b;\n", "")
        ]
    if target == "flow":
        page = element(SYSTEM | {"restNonce": "2222222222"}).encode()
        for second in (_ANSWERS[0][1], page, b"<p>Nothing</p>"):
            for how in (2, 3):  # a file; a nonce of a page
                for session in (1, 3):
                    then = bytes([0, session, 1, how, 3, 6, 0, *[3, 0, 0] * 3])  # 3: its body ends well
                    found.append(seed(_ANSWERS[1][1], second, _ANSWERS[2][1], decisions=then))
        for bots in (b'{"success":true,"data":[{"id":"sales"}]}', b'{"code":"rest_no_route"}'):
            then = bytes([0, 1, 1, 4, 3, 8 if b"code" in bots else 0, 0, *[3, 0, 0] * 2])
            found.append(seed(bots, b'{"success":true,"data":"Hi"}', decisions=then))
        found.append(seed(b"<p>Fatal error</p>", decisions=bytes([0, 1, 1, 2, 3, 10, 0])))
        moved = [3, 9, 1, len(FIELDS) - 1]  # with a Location
        then = bytes([0, 1, 1, 3, 3, 6, 0, *moved, *[3, 0, 0] * 2])
        found.append(seed(_ANSWERS[1][1], b"moved", page, _ANSWERS[2][1], decisions=then))
        found.append(seed(_ANSWERS[2][1], decisions=bytes([0, 1, 1, 1, 3, 0, 0])))
    if target == "member":
        found += [seed(text, nonce, user) for text in _COOKIES for nonce in _NONCES for user in _USERS]
    if target == "arguments":
        texts = (
            b"ada",
            b"pass word",
            b"a=b; c=d",
            b"https://site.example",
            b"https://site.example/wp-json",
            b"",
            b"a b",
        )
        chance = random.Random(5)
        for _ in range(800):
            drawn = chance.choices((0, 0, 0, 0, 1, 1, *range(2, 13)), k=50)
            found.append(seed(*chance.choices(texts, k=6), decisions=bytes(drawn)))
    if target == "server":
        head = b"POST /wp-json/mwai-ui/v1/files/upload HTTP/1.1\r\nHost: a\r\nX-WP-Nonce: {nonce}\r\n"
        kind = b"Content-Type: multipart/form-data; boundary=edge\r\n"
        form = replace(UPLOAD, name="a.png").encode()
        found.append(seed(head + kind + b"Content-Length: %d\r\n\r\n%b" % (len(form), form)))
        found.append(seed(head + kind + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(form), form)))
        found.append(seed(b"GET /wp-content/uploads/f1.png HTTP/1.1\r\nHost: a\r\n\r\n" * 2))
    if target == "call":
        opened, refused, answer = (_response(*it) for it in _ANSWERS)
        kept = _response(b"200 OK", b'{"success":true,"data":{"id":"f1"}}')
        strings = [opened, refused, opened, answer, refused, answer, opened, answer, answer]
        with_files = [opened, kept, answer, refused, opened, kept, kept, answer, answer]
        in_turn = [*[12] * 10, *[8, 0, 15, 15] * 5, *[1, 0, 0] * 8]  # one step each, then an answer to one of them
        for scatter in range(24):
            decisions = [0, 0, 0, 0, 0, scatter % 2, scatter % 2, 2, scatter]
            for order in (in_turn, [1, 0, 0] * 16):
                found += [seed(*it, decisions=bytes([*decisions, *order])) for it in (strings, with_files)]
    return found


_ANSWERS = (
    (b"200 OK", b'{"success":true,"sessionId":"s","restNonce":"n"}'),
    (b"403 No", b'{"code":"rest_cookie_invalid_nonce"}'),
    (b"200 OK", b'{"success":true,"reply":"Hi"}'),
)


_COOKIES = (
    b"# Netscape HTTP Cookie File\n#HttpOnly_site.example\tFALSE\t/\tFALSE\t0\twordpress_logged_in_1\tx\n",
    b".site.example\tTRUE\t/\tTRUE\t99999999999\ta\tb\r\nsite.example\tFALSE\t/wp-json\tFALSE\t1\tc\td\r\n",
    b"Cookie: wordpress_logged_in_1=x; mwai_session_id=y\n",
)
_NONCES = (b"1635c20365", b"\xef\xbb\xbf<br />\n<b>Notice</b>: x\n1635c20365\n", b"0")
_USERS = (
    b'{"id":2,"name":"Alice","slug":"alice"}',
    b'<b>Notice</b>{"id":2,"meta":{"id":3}}',
    b'{"code":"rest_not_logged_in","message":"You are not currently logged in."}',
)


def _response(status: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


def _seed(target: str, case: cases.Case) -> bytes | None:
    level = case["level"]
    strings = [cases.to_bytes(recipe) for recipe in cases.byte_strings(case)]
    match target, level:
        case ("sse", "sse" | "reply") | ("reply", "reply"):
            status = {403: 6, 401: 7, 404: 8, 302: 9, 500: 10, 503: 11, 429: 12}.get(case.get("status", 200), 0)
            return seed(*strings, decisions=bytes([0, status]) if status and target == "reply" else b"")
        case ("json", "reply"):
            return seed(re.sub(rb"^data: |\n\n.*", b"", strings[0], flags=re.DOTALL))
        case ("flow", "flow"):
            decisions = [
                0,
                0 if case.get("starts_with") is None else 1,
                *([0] if case.get("starts_with") is None else []),
                *(0, 0),
            ]
            for answer in case["answers"]:
                status = answer.get("status", 200)
                decisions += [1, {403: 6, 401: 7, 404: 8}.get(status, 0), 0]
            return seed(*strings, decisions=bytes(decisions[:63]))
        case ("asked", "asked"):
            kind = next(iter(case["asks"]))
            place = {"query": 1, "list": 2, "rename": 3, "delete": 4}[kind]
            if kind == "query" and case["asks"]["query"][1] is None:
                place = 0
            decisions = [0, place]
            for answer in case["answers"]:
                decisions += [{403: 6, 401: 7, 404: 8, 500: 10}.get(answer.get("status", 200), 0), 0, 0]
            return seed(*strings, decisions=bytes(decisions))
        case ("client", "exchanges" | "wire"):
            return seed(*strings, decisions=bytes([0, 1 if level == "wire" else 0, 0, 0, 0, *[1, 0, 0] * 6]))
        case ("call", "exchanges" | "wire"):
            session = 1 if level == "wire" else 0
            return seed(*strings, decisions=bytes([0, session, 0, 0, 1, 0, 1, 0, 0, *[1, 0, 0] * 6]))
        case ("client", "proxy"):
            proxy = next(
                (
                    place
                    for place, url in enumerate(PROXIES)
                    if case.get("proxy") and url and url.split(":")[0] == case["proxy"].split(":")[0]
                ),
                0,
            )
            return seed(*strings, decisions=bytes([0, 1, 1 if case["site"].startswith("https") else 0, proxy]))
        case ("server", "server"):
            nonce = SITE.nonce(NOW).encode()
            return seed(cases.to_bytes(case["request"]).replace(b"{nonce}", nonce))
        case ("upload", "upload"):
            return seed(*strings)
        case ("page", "page"):
            return seed(cases.to_text(case["html"]).encode())
        case ("page", "visit"):
            decisions = [0, 0, 0]
            for answer in case["answers"]:
                decisions += [{302: 1, 301: 2, 308: 3, 404: 4, 503: 5}.get(answer.get("status", 200), 0), 0, 0]
            return seed(*strings, decisions=bytes(decisions[:63]))
        case ("endpoint", "endpoint") | ("proxy", "proxy_url"):
            return seed(case["text"].encode("utf-8", "surrogatepass"))
        case ("messages", "messages"):
            return seed(json.dumps(case["messages"]).encode())
        case ("conversation", "messages"):
            value = {"messages": case["messages"], "session": {"nonce": "n", "cookie": "a=b"}, "bot_id": 5}
            return seed(json.dumps(value).encode())
        case _:
            return None


TOKENS = (
    *pages.TOKENS,
    *(
        b"data: ",
        b"\n\n",
        b"\r\n\r\n",
        b"\r",
        b"event: ",
        b"id: ",
        b"retry: ",
        b"\xef\xbb\xbf",
        b"\xff\x00\xff",
        b"\xe2\x82",
    ),
    *(
        b'{"type":"live","data":"',
        b'{"type":"end","data":',
        b'{"type":"error","data":""}',
        b'"{\\"success\\":true',
        b'"subtype":',
        b"\\ud83d",
    ),
    *(
        b'{"success":true,"reply":"x"}',
        b'{"success":false,"message":"x"}',
        b'"code":"rest_forbidden"',
        b'"code":"rest_no_route"',
    ),
    *(
        b'{"success":true,"sessionId":"s","restNonce":"n"}',
        b'{"code":"rest_cookie_invalid_nonce"}',
        b"<title>",
        b"&#x41;",
        b"true",
        b"null",
    ),
    *(
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 403 x\r\n",
        b"HTTP/1.1 100 x\r\n\r\n",
        b"Content-Length: ",
        b"Transfer-Encoding: chunked\r\n",
        b"0\r\n\r\n",
    ),
    *(
        b"Connection: close\r\n",
        b"Set-Cookie: mwai_session_id=c\r\n",
        b"X-WP-Nonce: n\r\n",
        b"\x05\x00",
        b"\x05\x02",
        b"\x01\x00",
    ),
    *(
        b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50",
        b"\x05\x00\x00\x03\x01a\x00\x50",
        b"POST ",
        b"/wp-json/mwai-ui/v1/chats/submit",
        b"rest_route=",
    ),
    *(b"--edge", b"Content-Disposition: form-data; name=", b'"file"; filename="a.png"', b'"purpose"\r\n\r\nN/A'),
    *(
        b"https://",
        b"http://",
        b"socks5://",
        b"user:" + SECRET.encode() + b"@",
        b"[::1]",
        b":443",
        b"%2F",
        b"{nonce}",
        b"Host: a\r\n",
    ),
    *(
        b'"role":"user"',
        b'"content":',
        b'"messages":[',
        b'"newMessage":"hi"',
        b'"botId":"default"',
        b"1e999",
        b"[[[[",
        b"]]]]",
        b"NaN",
    ),
)
