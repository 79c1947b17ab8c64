"""The chat page, and a script that behaves like the plugin's own, in headless Chromium.

Needs Chromium and selenium; see conftest.py.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from selenium.webdriver.common.keys import Keys

from opchat_proto import Broken, End, Event, Live, Reason, Submit
from opchat_transports.blocking_server import serve
from opchat_transports.file_store import FileStore, StoredFile
from opchat_transports.page import chat_page

from ..transports.served import running
from .browser import PATIENCE, SECRET, Window, echo, serving


def test_an_answer_is_shown_piece_by_piece(driver: Any) -> None:
    gates = [threading.Event() for _ in range(3)]

    def bot(submit: Submit) -> Iterator[str | Event]:
        items: list[str | Event] = [Live("Looking it up", "status"), "Hel", "lo"]
        for gate, item in zip(gates, items, strict=True):
            assert gate.wait(PATIENCE)
            yield item

    with serving(bot) as server:
        window = Window(driver, server.url)
        window.ask("Hi")
        window.wait(lambda: window.texts() == ["Hi", ""])
        assert window.status() == "The bot is thinking."
        gates[0].set()
        window.wait(lambda: window.status() == "Looking it up")
        gates[1].set()
        window.wait(lambda: window.texts() == ["Hi", "Hel"])
        assert not window.idle()
        gates[2].set()
        window.wait(lambda: window.answered("Hi", "Hello"))
        assert (window.status(), window.faults(), window.complaints()) == ("", [], [])


def test_a_conversation_is_possible_by_keyboard_alone(driver: Any) -> None:
    seen: list[Submit] = []

    def bot(submit: Submit) -> Iterator[str | Event]:
        seen.append(submit)
        yield f"{len(submit.messages)} before"
        yield End(f"{len(submit.messages)} before", '{"responseId":"r7"}')

    with serving(bot) as server:
        window = Window(driver, server.url)
        window.keys("a")
        window.shift(Keys.ENTER)
        window.keys("b")
        assert window.draft() == "a\nb"
        window.keys(Keys.ENTER)
        window.wait(lambda: window.answered("a\nb", "0 before"))
        assert (window.focused(), window.draft()) == ("opchat-question", "")
        window.keys(Keys.ENTER)  # an empty question is not asked
        window.keys("c", Keys.TAB)
        assert window.focused() == "opchat-send"
        window.keys(Keys.SPACE)
        window.wait(lambda: window.answered("a\nb", "0 before", "c", "2 before"))
        assert window.focused() == "opchat-question"
        window.shift(Keys.TAB)
        assert window.focused() == "opchat-log"
        window.shift(Keys.TAB)
        assert window.focused() == "opchat-new"
        window.keys(Keys.SPACE)
        window.wait(lambda: window.texts() == [])
        assert window.focused() == "opchat-question"
        window.ask("d")
        window.wait(lambda: window.answered("d", "0 before"))
    first, second, third = seen
    assert [(message.role, message.content) for message in second.messages] == [
        ("user", "a\nb"),
        ("assistant", "0 before"),
    ]
    assert (first.chat_id == second.chat_id != third.chat_id, first.previous_response_id) == (True, None)
    assert (second.previous_response_id, third.previous_response_id) == ("r7", None)


NASTY = "</p><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">&lt;b&gt; é🚉"


def test_text_that_looks_like_html_stays_text(driver: Any) -> None:
    def bot(submit: Submit) -> Iterator[str | Event]:
        yield Live(NASTY, "status")
        yield NASTY
        yield Broken(Reason.REMOTE, NASTY) if submit.messages else End(NASTY)

    with serving(bot) as server:
        window = Window(driver, server.url)
        window.ask("<i>Hi</i>")
        window.wait(lambda: window.answered("<i>Hi</i>", NASTY))
        window.ask("again")
        window.wait(window.faults)
        assert window.faults() == [NASTY]
        found = driver.execute_script(
            "return document.querySelectorAll('#opchat script, #opchat img, #opchat i').length"
        )
        assert (found, driver.title) == (0, "Chat")


def test_an_error_of_the_server_is_shown_and_the_question_is_kept(driver: Any) -> None:
    def bot(submit: Submit) -> Iterator[str | Event]:
        if "please" in submit.new_message:
            yield f"{len(submit.messages)} before"
        else:
            yield "half"
            yield Broken(Reason.REMOTE, "You have reached the limit.")

    with serving(bot) as server:
        window = Window(driver, server.url)
        window.ask("Hi")
        window.wait(window.faults)
        window.wait(window.idle)
        assert (window.texts(), window.faults()) == (["Hi", "half"], ["You have reached the limit."])
        assert window.draft() == "Hi"
        window.ask(" please")
        window.wait(lambda: window.answered("Hi", "half", "Hi please", "0 before"))


def test_a_stale_nonce_is_renewed(driver: Any) -> None:
    with serving() as server:
        port = server.port
        window = Window(driver, server.url)
        window.ask("a")
        window.wait(lambda: window.answered("a", "a"))
    with serve(echo, port=port, secret=b"another secret"):
        window.ask("b")
        window.wait(lambda: window.answered("a", "a", "b", "b"))
        assert window.faults() == []


def test_a_stream_that_breaks_off_is_shown_as_broken(driver: Any) -> None:
    goes_on = threading.Event()

    def bot(submit: Submit) -> Iterator[str | Event]:
        yield "half"
        goes_on.wait(PATIENCE)

    with serving(bot) as server:
        port = server.port
        window = Window(driver, server.url)
        window.ask("Hi")
        window.wait(lambda: window.texts() == ["Hi", "half"])
        closing = threading.Thread(target=server.close)
        closing.start()
        window.wait(window.faults)
        goes_on.set()
        closing.join()
    window.wait(window.idle)
    assert window.faults() == ["The answer broke off: what you see is not all of it."]
    assert window.texts() == ["Hi", "half"]
    window.keys(Keys.ENTER)  # the question is still there, but the server is not
    window.wait(lambda: window.faults()[1:] == ["The server cannot be reached."])
    with serve(echo, port=port, secret=SECRET):
        window.wait(window.idle)
        window.keys(Keys.ENTER)
        window.wait(lambda: window.texts()[-1] == "Hi")


def test_escape_stops_an_answer_and_cancels_the_bot(driver: Any) -> None:
    stopped = threading.Event()

    def bot(submit: Submit) -> Iterator[str | Event]:
        try:
            while True:
                yield "a"
                stopped.wait(0.01)
        finally:
            stopped.set()

    with serving(bot) as server:
        window = Window(driver, server.url)
        window.ask("Hi")
        window.wait(lambda: window.texts()[1:] > ["aa"])
        window.keys(Keys.ESCAPE)
        window.wait(window.idle)
        assert stopped.wait(PATIENCE)
        assert (window.faults(), window.notes()) == ([], ["Stopped."])
        assert (window.focused(), window.draft()) == ("opchat-question", "Hi")


def test_the_page_works_under_a_strict_policy_and_an_asgi_server(driver: Any, tmp_path: Path) -> None:
    with running("uvicorn", tmp_path / "left", "tests.transports.served:strict") as port:
        window = Window(driver, f"http://127.0.0.1:{port}")
        window.ask("echo hello")
        window.wait(lambda: window.answered("echo hello", "hello"))
        window.ask("fail")
        window.wait(window.faults)
        assert window.faults()[0].startswith("Oops!")
        assert window.complaints() == []


# ---------------------------------------------------------------- a script like the plugin's

PLUGIN = r"""
const done = arguments[arguments.length - 1];
const question = arguments[0];
// WIRE 2.2: entities are decoded twice, once by the parser and once by a textarea.
const container = document.querySelector(".mwai-chatbot-container");
const read = (name) => {
  const area = document.createElement("textarea");
  area.innerHTML = container.getAttribute(name);
  return JSON.parse(area.value);
};
const system = read("data-system"), params = read("data-params"), theme = read("data-theme");
const result = { pieces: [], mode: params.mode, theme };
(async () => {
  let nonce = system.restNonce, session = system.sessionId;
  if (!nonce) { // WIRE 3.1: no body, no nonce
    const started = await fetch(`${system.restUrl}/mwai/v1/start_session`, {
      method: "POST", headers: { "Content-Type": "application/json" },
    });
    const value = await started.json();
    nonce = value.new_token || value.restNonce;
    session = value.sessionId;
    result.session = session;
  }
  const body = { // WIRE 4.2, in the order of the browser
    botId: system.botId, customId: system.customId, session, chatId: "k3v9x0q2ab", contextId: system.contextId,
    messages: [], newMessage: question, newFileId: null, newFileIds: null, stream: system.stream,
  };
  const response = await fetch(`${system.restUrl}/mwai-ui/v1/chats/submit`, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-WP-Nonce": nonce, Accept: "text/event-stream" },
    body: JSON.stringify(body),
  });
  result.status = response.status;
  // WIRE 5.8: lines by LF; "data: " and JSON; end and error return at once.
  const reader = response.body.getReader();
  const decoder = new TextDecoder("utf-8");
  let buffer = "";
  for (;;) {
    const { value, done: over } = await reader.read();
    buffer += decoder.decode(value, { stream: !over });
    const lines = buffer.split("\n");
    buffer = lines.pop();
    for (const line of lines) {
      if (line.indexOf("data: ") !== 0) {
        continue;
      }
      const event = JSON.parse(line.replace("data: ", ""));
      if (event.type === "live") {
        result.pieces.push(event.data);
      } else if (event.type === "error") {
        result.error = event.data;
        return;
      } else if (event.type === "end") {
        result.end = JSON.parse(event.data);
        return;
      }
    }
    if (over) {
      result.whole = JSON.parse(buffer);
      return;
    }
  }
})().catch((error) => { result.fault = String(error); }).finally(() => done(result));
"""


def test_a_script_like_the_plugins_holds_a_conversation(driver: Any, tmp_path: Path) -> None:
    with running("uvicorn", tmp_path / "left") as port:
        driver.get(f"http://localhost:{port}/")  # any host name
        result = driver.execute_async_script(PLUGIN, "echo aé🚉/")
        assert (result["status"], result["pieces"]) == (200, ["a", "é", "🚉", "/"])
        assert set(result["end"]) == {"success", "reply", "images", "actions", "shortcuts", "blocks", "usage"}
        assert (result["end"]["reply"], result["mode"], result["theme"]) == ("aé🚉/", "chat", None)
        assert "session" not in result  # the page's nonce is valid, as in 2.0.1 to 2.4.3
        starting = PLUGIN.replace(
            "let nonce = system.restNonce", "let nonce = null"
        )  # the form that later versions use
        result = driver.execute_async_script(starting, "echo abc")
        assert (len(result["session"]), result["pieces"]) == (13, ["a", "b", "c"])
        failed = driver.execute_async_script(PLUGIN, "fail")
        assert (failed["pieces"], failed["error"][:5]) == (["a"], "Oops!")
        refused = driver.execute_async_script(PLUGIN, " ")
        assert (refused["status"], refused["whole"]["message"]) == (403, "Sorry, your query has been rejected.")


ATTACHING = PLUGIN.replace(
    "  const body = {",
    r"""
  if (!params.imageUpload) { // WIRE 2.3
    result.fault = "the page offers no upload";
    return;
  }
  const canvas = Object.assign(document.createElement("canvas"), { width: 3, height: 2 });
  const picture = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  const form = new FormData(); // WIRE 7.5
  form.append("file", picture, arguments_[1]);
  form.append("type", "N/A");
  form.append("purpose", "N/A");
  const sent = await fetch(`${system.restUrl}/mwai-ui/v1/files/upload`, {
    method: "POST", headers: { "X-WP-Nonce": nonce }, body: form,
  });
  result.upload = await sent.json();
  if (!result.upload.success) {
    return;
  }
  const shown = Object.assign(new Image(), { src: result.upload.data.url });
  await shown.decode();
  result.shown = [shown.naturalWidth, shown.naturalHeight];
  const body = {""",
).replace("newFileIds: null", "newFileIds: [result.upload.data.id]")
ATTACHING = ATTACHING.replace("const question", "const arguments_ = arguments;\nconst question")


def test_a_script_like_the_plugins_attaches_a_picture(driver: Any, tmp_path: Path) -> None:
    def bot(submit: Submit, files: tuple[StoredFile, ...]) -> Iterator[str]:
        for file in files:
            data = file.path.read_bytes()
            yield f"{file.name} {file.content_type} {data[:4]!r} {len(data) == file.size}"

    with serve(bot, secret=SECRET, files=FileStore(tmp_path)) as server:
        driver.get(server.url)
        result = driver.execute_async_script(ATTACHING, "What is this?", 'a b"\u00e9.png')
        assert result["shown"] == [3, 2], result
        assert result["end"]["reply"] == r"a b%22é.png image/png b'\x89PNG' True", result
        refused = driver.execute_async_script(ATTACHING, "What is this?", "a.php")
        assert refused["upload"] == {"success": False, "message": "Invalid file type."}


@contextmanager
def page_of_others() -> Iterator[str]:
    """A site that shows the same page without its policy. Yields its origin."""
    page = chat_page("/", root="", origin="", nonce="")
    assert page is not None
    body = page.body

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_our_page_asks_its_own_site_only_and_cannot_be_framed(driver: Any) -> None:
    with serving() as server, page_of_others() as other:
        driver.get(server.url)
        ask = "const done = arguments[1]; fetch(arguments[0]).then(() => done('asked'), (error) => done(String(error)))"
        assert "Failed to fetch" in driver.execute_async_script(ask, other)
        driver.get(other)
        framed = (
            "const done = arguments[1], frame = document.createElement('iframe'); frame.src = arguments[0];"
            "frame.onload = () => done(frame.contentDocument === null); document.body.append(frame)"
        )
        assert driver.execute_async_script(framed, server.url) is True  # the browser's error page
        assert "frame-ancestors" in " ".join(entry["message"] for entry in driver.get_log("browser"))


def test_a_page_of_an_allowed_origin_may_ask(driver: Any) -> None:
    ask = PLUGIN.replace('read("data-system")', '({ ...read("data-system"), restUrl: arguments_[1] })').replace(
        "const question", "const arguments_ = arguments;\nconst question"
    )
    # Pages of other origins, without the policy that restricts ours to its own site.
    with page_of_others() as here, page_of_others() as stranger, serving(origins=[here]) as there:
        driver.get(here)
        result = driver.execute_async_script(ask, "abc", f"{there.url}/wp-json")
        assert (result.get("fault"), result["pieces"]) == (None, ["a", "b", "c"])
        driver.get(stranger)
        result = driver.execute_async_script(ask, "abc", f"{there.url}/wp-json")
        assert "Failed to fetch" in result["fault"]
