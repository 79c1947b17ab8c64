"""Recorded answers of real sites, if they exist beside the repository, and three of our own."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from opchat_proto import Broken, End, Event, Live, Reason
from tests.proto.asking import CHUNKED, END, HI, chunks, content_length, is_reply

CAPTURES = Path(__file__).resolve().parents[2] / "shared" / "captures"
RECORDINGS = CAPTURES.parent / "recordings"


@dataclass(frozen=True)
class Outcome:
    """The outcome of an answer."""

    pieces: int
    text: str | None = ""
    """The joined pieces. None if the recordings' README gives only their number; then they equal the reply, if any."""
    reply: str | None = None
    """The final text of a complete answer. `reason` says why an answer is broken instead."""
    reason: Reason | None = None
    status: int | None = None
    code: str | None = None
    detail: str = ""
    """How the detail begins."""
    others: tuple[tuple[str, int], ...] = ()
    """The number of events of each other kind."""
    lists: tuple[int, int, int, int] = (0, 0, 0, 0)
    """The numbers of images, actions, shortcuts and blocks."""


@dataclass(frozen=True)
class Recording:
    """The bytes of one answer, and the reads in which they came."""

    data: bytes
    reads: tuple[int, ...]
    server_closed: bool

    @classmethod
    def load(cls, name: str) -> "Recording":
        def read(suffix: str) -> bytes:
            return (CAPTURES / f"{name}.{suffix}").read_bytes()

        reads = tuple(length for _, length in json.loads(read("chunks.json")))
        client_side = json.loads(read("meta.json"))["client_side"]
        return cls(read("response.bin"), reads, client_side == "server closed")


MOCK = "Hello from the mock model, this is plain ascii text."
OWN: dict[str, tuple[Recording, Outcome]] = {
    "own/whole": (
        Recording(CHUNKED + chunks(HI[:-2], b"\n\n", END) + b"0\r\n\r\n", (47, 37, 41, 46), server_closed=False),
        Outcome(1, "Hi", "Hi"),
    ),
    "own/cut": (
        Recording(CHUNKED + chunks(HI, HI[:-1]), (100, 28), server_closed=True),
        Outcome(1, "Hi", reason=Reason.TRUNCATED, detail="HTTP: peer closed connection without sending complete"),
    ),
    "own/refused": (
        Recording(content_length(b"<title>No</title>", status=b"403 -"), (20, 35), server_closed=False),
        Outcome(0, reason=Reason.REFUSED, status=403, detail="No"),
    ),
}
COUNTED = "s0 s1 s2 s3 s4 s5 s6 s7 s8 s9"
CUT = "the answer ended without its end event"
RECORDED: dict[str, Outcome] = {
    # Streams that work
    "3.6.2/stream_ascii": Outcome(10, MOCK, MOCK),
    "3.6.2/stream_unicode": Outcome(37, None, ""),
    "3.6.2/stream_spaces": Outcome(6, "  leading and trailing    \n   \n", "leading and trailing"),
    "3.6.2/stream_slow": Outcome(10, f"{COUNTED} ", COUNTED),
    "3.6.2/stream_bigtoken": Outcome(2, None, ""),
    "3.6.2/stream_empty": Outcome(0, "", ""),
    "3.6.2/stream_everything": Outcome(4, None, "", lists=(0, 2, 2, 1)),
    "3.6.2/stream_eventlogs_server_function": Outcome(
        8,
        "The function returned, all is well.",
        "The function returned, all is well.",
        others=(("status", 2), ("tool_call", 1), ("tool_result", 1)),
    ),
    "3.6.2/stream_eventlogs_server_function_unicode": Outcome(
        8, None, "", others=(("status", 2), ("tool_call", 1), ("unreadable", 1))
    ),
    "3.6.2/x_images_bot_stream": Outcome(0, "", "![", lists=(1, 0, 0, 0)),
    "3.6.2/old_nonce": Outcome(1, "x", "x"),
    "3.6.2/nochunked_stream": Outcome(10, f"{COUNTED} ", COUNTED),
    "3.6.2/x_expect_100": Outcome(1, "x", "x"),
    "3.6.2/keepalive_two_streams": Outcome(5, "first on this connection", "first on this connection"),
    "1.9.97/stream_ascii": Outcome(10, None, ""),
    # Streams that are unusual but valid
    "3.6.2/php_bom": Outcome(3, "You said: bom", "You said: bom"),
    "3.6.2/php_leadnl": Outcome(3, "You said: leadnl", "You said: leadnl"),
    "3.6.2/php_notice_early_display_errors": Outcome(4, "You said: notice-early", "You said: notice-early"),
    "3.6.2/php_wpdb": Outcome(3, "You said: wpdb", "You said: wpdb"),
    "3.6.2/php_shutdown_text": Outcome(5, None, ""),
    "3.6.2/x_trailing_events": Outcome(4, "You said: extra-event", "You said: extra-event"),
    "3.6.2/x_end_data_false": Outcome(4, "You said: badutf8", None),
    # Streams that break
    "3.6.2/limit_reached": Outcome(0, reason=Reason.REMOTE, detail="You have reached the limit"),
    "2.9.9/unknown_bot": Outcome(0, reason=Reason.REMOTE, detail="Sorry, your query has been rejected."),
    "3.6.2/error_backend_fail_midway": Outcome(8, None, reason=Reason.REMOTE),
    "3.6.2/x_error_data_null": Outcome(0, reason=Reason.REMOTE),
    "3.6.2/php_die": Outcome(3, "You said: die", reason=Reason.TRUNCATED, detail=CUT),
    "3.6.2/php_crash": Outcome(
        3,
        "You said: crash",
        reason=Reason.TRUNCATED,
        detail="HTTP: peer closed connection without sending complete message body",
    ),
    # JSON bodies
    "3.6.2/nonstream": Outcome(0, "", "Hello, not streamed."),
    "3.6.2/stream_takeover": Outcome(0, "", "A human took over: hello."),
    "3.6.2/limit_reached_nonstream": Outcome(0, reason=Reason.REFUSED, status=500, detail="You have reached the limit"),
    "3.6.2/no_nonce": Outcome(0, reason=Reason.REFUSED, status=401, code="rest_forbidden", detail="Sorry, you are not"),
    "3.6.2/wrong_nonce": Outcome(
        0, reason=Reason.REFUSED, status=403, code="rest_cookie_invalid_nonce", detail="Cookie"
    ),
    "3.6.2/bad_json": Outcome(0, reason=Reason.REFUSED, status=400, code="rest_invalid_json", detail="Invalid JSON"),
    "3.6.2/php_fatal_early": Outcome(
        0, reason=Reason.REFUSED, status=500, code="internal_server_error", detail="There has been a critical error"
    ),
    # Responses from something other than the plugin
    "3.6.2/nginx_502": Outcome(0, reason=Reason.REFUSED, status=502, detail="502 Bad Gateway"),
    "3.6.2/proxy_403_html": Outcome(0, reason=Reason.REFUSED, status=403, detail="Just a moment"),
    "3.6.2/proxy_301": Outcome(0, reason=Reason.REFUSED, status=301, detail="redirected to http://127.0.0.1:18000/"),
    "3.6.2/plain_wp_json": Outcome(0, reason=Reason.MALFORMED, detail="a web page, not a chat answer: "),
    "3.6.2/gzip_stream": Outcome(0, reason=Reason.MALFORMED, detail="the body is coded as gzip"),
}
# Recordings of other calls, whose responses are not answers to a submit.
OTHER_CALLS = {
    "3.6.2/api_simpleChatbotQuery",
    "3.6.2/chat_page",
    "3.6.2/file_upload",
    "3.6.2/start_session",
    "3.6.2/start_session_bad_nonce",
    "2.4.9/start_session",
}
FOUND = sorted(
    str(path.relative_to(CAPTURES)).removesuffix(".response.bin") for path in CAPTURES.glob("*/*.response.bin")
)
NAMES = [*OWN, *(name for name in FOUND if name not in OTHER_CALLS)]


# The second set: every response is judged like an answer to a question, including those of other routes. It was
# recorded without the reads, and each connection was closed.
FORBIDDEN = "Sorry, you are not allowed to do that."
NO_ROUTE = "No route was found matching the URL and request method."
CRITICAL = "There has been a critical error on this website. Learn more about troubleshooting WordPress."
NO_SUCCESS = "a JSON object without success: {"
UPSTREAM = 'OpenAI (Responses API): {"error": {"message": "The server had an error'


def refused(status: int, detail: str, code: str | None = None) -> Outcome:
    return Outcome(0, reason=Reason.REFUSED, status=status, code=code, detail=detail)


def malformed(detail: str) -> Outcome:
    return Outcome(0, reason=Reason.MALFORMED, detail=detail)


RECORDED_AGAIN: dict[str, Outcome] = {
    "own/session": Outcome(0, "", None),
    # Answers to questions
    "2.0.1/submit_no_nonce_201": refused(401, FORBIDDEN, "rest_forbidden"),
    "2.4.9/discussion_submit": Outcome(0, "", "discussion two"),
    "2.4.9/submit_with_file": Outcome(5, "I see 1 image(s).", "I see 1 image(s)."),
    "3.6.2/apppw_submit": Outcome(3, "app password", "app password"),
    "3.6.2/apppw_submit_no_nonce": refused(403, FORBIDDEN, "rest_forbidden"),
    "3.6.2/apppw_submit_stale_nonce": refused(403, FORBIDDEN, "rest_forbidden"),
    "3.6.2/discussion_submit": Outcome(0, "", "discussion two"),
    "3.6.2/fatal_displayed_in_stream": Outcome(
        3,
        "You said: fatal",
        reason=Reason.TRUNCATED,
        detail=f"{CUT}; a line that is not an event: Deprecated: "
        "Return type of Requests_Cookie_Jar::offsetExists($key)",
    ),
    "3.6.2/notice_before_reply_json": Outcome(0, "", "hello"),
    "3.6.2/submit_shortcut_clicked": Outcome(
        7, "You said: Hello from the shortcut", "You said: Hello from the shortcut"
    ),
    "3.6.2/submit_shortcut_other_bot": refused(400, "Invalid or expired shortcut."),
    "3.6.2/submit_shortcuts": Outcome(0, "", "You said: shortcuts please", lists=(0, 0, 2, 0)),
    "3.6.2/submit_with_file": Outcome(5, "I see 1 image(s).", "I see 1 image(s)."),
    "3.6.2/submit_with_files": Outcome(5, "I see 2 image(s).", "I see 2 image(s)."),
    "3.6.2/submit_with_mp3": Outcome(5, "You said: what is said", "You said: what is said"),
    # start_session
    "2.0.1/start_session_404_201": refused(404, NO_ROUTE, "rest_no_route"),
    "2.4.9/start_session_rest_route_404": refused(404, NO_ROUTE, "rest_no_route"),
    "3.6.2/plain_wp_json_200_page": malformed("a web page, not a chat answer: Hello world! Welcome to WordPress."),
    # Pages, and the REST API of WordPress
    "2.0.1/chat_page_201": malformed("a web page, not a chat answer: chat"),
    "3.6.2/wrong_root_404_page": refused(404, "Hello world! Welcome to WordPress."),
    "3.6.2/ajax_rest_nonce_guest": refused(400, "0"),
    "3.6.2/ajax_rest_nonce_member": malformed("not a chat answer: 1635c20365"),
    "2.4.9/rest_index": malformed(NO_SUCCESS),
    "3.6.2/rest_index": malformed(NO_SUCCESS),
    "3.6.2/rest_index_tls": malformed(NO_SUCCESS),
    "3.6.2/users_me_app_password": malformed(NO_SUCCESS),
    **dict.fromkeys(
        ("3.6.2/users_me_guest", "3.6.2/users_me_http", "3.6.2/users_me_wrong_password"),
        refused(401, "You are not currently logged in.", "rest_not_logged_in"),
    ),
    # Refusals by the plugin's other routes
    **dict.fromkeys(
        ("2.4.9/api_text_notoken", "3.6.2/api_text_notoken", "3.6.2/discussions_delete_guest", "3.6.2/upload_no_nonce"),
        refused(401, FORBIDDEN, "rest_forbidden"),
    ),
    "2.4.9/api_chatbot_fail": refused(500, "From OpenAI: The server had an error"),
    "2.4.9/api_chatbot_unknown": refused(500, "Sorry, your query has been rejected."),
    "2.4.9/api_json": refused(500, "The url and path are not supported yet"),
    "3.6.2/api_chatbot_fail": refused(500, UPSTREAM),
    "3.6.2/discussions_delete_empty": refused(400, "chatIds is required."),
    "3.6.2/files_list_guest": refused(500, CRITICAL, "internal_server_error"),
    "3.6.2/upload_bad_nonce": refused(403, "Cookie check failed", "rest_cookie_invalid_nonce"),
    "3.6.2/upload_no_purpose": refused(400, "Purpose is required."),
    "3.6.2/upload_php": refused(400, "Invalid file type."),
    "3.6.2/upload_too_big": refused(500, "WordPress \u203a Error"),
    **dict.fromkeys(
        ("2.4.9/discussions_list_guest", "3.6.2/discussions_list_guest"),
        Outcome(0, reason=Reason.REMOTE, detail="You need to be connected."),
    ),
    # Other routes that say `success: true` without a reply
    **dict.fromkeys(
        (
            "2.4.9/start_session_index_rest_route_plain",
            *(f"3.6.2/{it}_start_session" for it in ("apppw", "tinyproxy")),
            "3.6.2/notice_before_session_json",
            *(
                f"{version}/api_{it}"
                for version in ("2.4.9", "3.6.2")
                for it in ("auth", "chatbot", "chatbot_2", "image", "moderation", "text", "vision")
            ),
            *(
                f"3.6.2/api_{it}"
                for it in (
                    *("bots", "chatbot_file", "chatbot_unknown", "fast", "fileupload", "json"),
                    *("transcribe", "transcribe_mp3"),
                )
            ),
            *(f"2.4.9/{it}" for it in ("discussions_list_member", "files_delete_guest", "files_list_guest")),
            *(f"3.6.2/discussions_{it}" for it in ("delete", "edit", "list_member", "list_paged")),
            *(f"3.6.2/files_{it}" for it in ("delete_guest", "delete_member", "list_member")),
            *(f"{version}/upload_png_guest" for version in ("2.4.9", "3.6.2")),
            *(f"3.6.2/upload_{it}" for it in ("mp3", "png_member", "txt")),
        ),
        Outcome(0, "", None),
    ),
}
# The nonce and the session id, or the beginning of the detail if start_session fails.
SESSIONS: dict[str, tuple[str | None, str | None] | str] = {
    "own/session": ("n1", "s1"),
    "2.0.1/start_session_404_201": (None, None),
    "2.4.9/start_session_index_rest_route_plain": ("99c1fd16bb", None),
    "2.4.9/start_session_rest_route_404": (None, None),
    "3.6.2/apppw_start_session": ("2b24c02613", "6b0ae17682c40"),
    "3.6.2/notice_before_session_json": ("99c1fd16bb", "6b0ae174779c7"),
    "3.6.2/plain_wp_json_200_page": "start_session: a web page, not a chat answer: Hello world!",
    "3.6.2/tinyproxy_start_session": ("99c1fd16bb", "6b0ae176b077f"),
    "3.6.2/wrong_root_404_page": "start_session: Hello world!",
}
FOUND_AGAIN = [
    "own/session",
    *sorted(
        str(path.relative_to(RECORDINGS)).removesuffix(".response.bin") for path in RECORDINGS.glob("*/*.response.bin")
    ),
]


def recorded_again(name: str) -> Recording:
    if name == "own/session":
        data = content_length(b'<br />\n{"success":true,"sessionId":"s1","restNonce":"n1"}')
    else:
        data = (RECORDINGS / f"{name}.response.bin").read_bytes()
    return Recording(data, (len(data),), server_closed=True)


def recording_of(name: str) -> tuple[Recording, Outcome]:
    return OWN[name] if name in OWN else (Recording.load(name), RECORDED[name])


def check(events: list[Event], expected: Outcome) -> None:
    assert is_reply(events)
    *lives, last = events
    kinds = Counter(event.kind for event in lives if isinstance(event, Live))
    texts = [event.text for event in lives if isinstance(event, Live) and event.kind == "content"]
    assert kinds == Counter({"content": expected.pieces, **dict(expected.others)})
    if expected.text is not None:
        assert "".join(texts) == expected.text
    if expected.reason is not None:
        assert isinstance(last, Broken)
        assert (last.reason, last.status, last.code) == (expected.reason, expected.status, expected.code)
        assert last.detail.startswith(expected.detail)
    else:
        assert isinstance(last, End)
        assert (len(last.images), len(last.actions), len(last.shortcuts), len(last.blocks)) == expected.lists
        if expected.text is None:
            assert last.reply == "".join(texts)
        elif expected.lists[0]:
            assert last.reply is not None
            assert last.reply.startswith(expected.reply or "")
        else:
            assert last.reply == expected.reply
