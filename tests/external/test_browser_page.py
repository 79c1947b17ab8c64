"""What people expect of the chat page around a question. Needs Chromium and selenium; see conftest.py."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from opchat_proto import Broken, End, Event, Reason, Submit

from .browser import PATIENCE, Window, echo, serving

SIZES = {"wide": (1280, 800), "phone": (375, 667)}
SCHEMES = ("light", "dark")
ANSWER = (
    """Three steps with **bold**, _italic_, `code` and [a link](https://site.example/):

1. Install it:
   ```sh
   pip install 'opchat[serve]' && echo "a line of code that is too long for the width of a phone, for sure"
   ```
2. Run it
   - on this machine
   - behind a proxy

## A table

| name | note |
| --- | --- |
| one | the first |
| two | a longer note, which needs more room than a phone has in one line |

> A quotation.

A long word: """
    + "x" * 300
)
HEBREW = "שלום! זו **תשובה** עם `code` וגם English.\n\n- ראשון\n- שני\n\nEnglish again, and \u202ereversed."


def bot(submit: Submit) -> Iterator[str | Event]:
    match submit.new_message:
        case "hebrew":
            yield HEBREW
        case "fail":
            yield Broken(Reason.REMOTE, "You have reached the limit.")
        case "count":
            yield End(f"{len(submit.messages)} before", '{"responseId":"r7"}')
        case "long":
            yield "line\n\n" * 200
        case _:
            yield ANSWER


def emulate(driver: Any, width: int, height: int, scheme: str = "light", motion: str = "no-preference") -> None:
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = {"prefers-color-scheme": scheme, "prefers-reduced-motion": motion}
    media = [{"name": name, "value": value} for name, value in features.items()]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})


# ---------------------------------------------------------------- title, greeting, suggestions


def test_a_greeting_and_suggestions_begin_each_chat(driver: Any) -> None:
    seen: list[Submit] = []

    def listening(submit: Submit) -> Iterator[str | Event]:
        seen.append(submit)
        return echo(submit)

    about = {"title": "Ask the library", "greeting": "Hello, **you**.", "suggestions": ["How?", "What does it cost?"]}
    with serving(listening, **about) as server:
        window = Window(driver, server.url)
        assert (driver.title, window.texts()) == ("Ask the library", ["Hello, you."])
        buttons = driver.find_elements(By.CSS_SELECTOR, "#opchat-suggestions button")
        assert [button.text for button in buttons] == ["How?", "What does it cost?"]
        window.shift(Keys.TAB)  # from the question to the last suggestion
        window.keys(Keys.SPACE)
        window.wait(lambda: window.answered("Hello, you.", "What does it cost?", "What does it cost?"))
        assert (window.focused(), buttons[0].is_displayed()) == ("opchat-question", False)
        driver.find_element(By.ID, "opchat-new").click()
        assert (window.texts(), buttons[0].is_displayed()) == (["Hello, you."], True)
        assert window.complaints() == []
    assert [(message.role, message.content) for message in seen[0].messages] == [("assistant", "Hello, **you**.")]


def test_title_greeting_and_suggestions_are_shown_as_text(driver: Any) -> None:
    nasty = (
        "</title></script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">'$root"
    )
    with serving(title=nasty, greeting=nasty, suggestions=[nasty]) as server:
        window = Window(driver, server.url)
        texts = window.script("return ['h1', '.opchat-text', '.opchat-suggestion'].map("
                              "(name) => document.querySelector(name).textContent)")  # fmt: skip
        assert (driver.title, texts, window.complaints()) == (nasty, [nasty] * 3, [])
        assert window.script("return document.querySelectorAll('img, script:not([src])').length") == 0


# ---------------------------------------------------------------- while an answer arrives


@pytest.mark.parametrize(("motion", "animation"), [("no-preference", "opchat-typing"), ("reduce", "none")])
def test_dots_show_that_the_bot_is_typing(driver: Any, motion: str, animation: str) -> None:
    goes_on = threading.Event()

    def slow(submit: Submit) -> Iterator[str]:
        goes_on.wait(PATIENCE)
        yield "a"

    look = "const style = getComputedStyle([...document.querySelectorAll('.opchat-text')].at(-1));"
    look += "return [style.animationName, style.backgroundImage.split('(')[0], style.display]"
    with serving(slow) as server:
        window = Window(driver, server.url)
        emulate(driver, 900, 700, motion=motion)
        window.ask("Hi")
        window.wait(lambda: window.texts() == ["Hi", ""])
        assert window.script(look) == [animation, "radial-gradient", "block"]
        goes_on.set()
        window.wait(lambda: window.answered("Hi", "a"))
        assert window.script(look) == ["none", "none", "block"]


def test_a_screen_reader_is_told_of_each_state_once(driver: Any) -> None:
    goes_on = threading.Event()

    def many(submit: Submit) -> Iterator[str]:
        yield "word "
        goes_on.wait(PATIENCE)  # or a slow browser would see the whole answer at once, which is one state
        for _ in range(199):
            yield "word "

    watch = """
    window.said = [];
    const [log, status] = ["log", "status"].map((name) => document.getElementById("opchat-" + name));
    new MutationObserver(() => said.push(status.textContent)).observe(status, { childList: true });
    new MutationObserver(() => said.push(log.ariaBusy)).observe(log, { attributeFilter: ["aria-busy"] });
    """
    with serving(many) as server:
        window = Window(driver, server.url)
        window.script(watch)
        window.ask("Hi")
        window.wait(lambda: window.texts() == ["Hi", "word "])
        goes_on.set()
        window.wait(lambda: window.answered("Hi", "word " * 200))
        said = window.script("return said")
        assert sorted(said) == sorted(["The bot is thinking.", "true", "The bot is answering.", "", "false"])
        roles = "return ['log', 'status'].map((name) => document.getElementById('opchat-' + name).getAttribute('role'))"
        assert window.script(roles) == ["log", "status"]


def test_a_reader_who_has_scrolled_up_stays_there(driver: Any) -> None:
    goes_on = threading.Event()

    def slow(submit: Submit) -> Iterator[str]:
        yield "line\n\n" * 100
        goes_on.wait(PATIENCE)
        yield "line\n\n" * 100

    top = "return document.getElementById('opchat-log').scrollTop"
    with serving(slow) as server:
        window = Window(driver, server.url)
        window.ask("Hi")
        window.wait(lambda: window.script(top) > 1000)  # it scrolls along
        window.script("document.getElementById('opchat-log').scrollTop = 50; return new Promise(requestAnimationFrame)")
        goes_on.set()
        window.wait(window.idle)
        assert window.script(top) == 50


# ---------------------------------------------------------------- the input


def test_the_input_grows_with_the_question_and_shrinks_again(driver: Any) -> None:
    with serving() as server:
        window = Window(driver, server.url)
        emulate(driver, 300, 700)

        def height() -> float:
            return float(window.script("return document.getElementById('opchat-question').offsetHeight"))

        small = height()
        for _ in range(3):
            window.keys("a")
            window.shift(Keys.ENTER)
        assert small + 60 <= height() <= small + 90
        window.keys("a " * 600)
        assert height() <= 0.4 * 700
        window.keys(Keys.ENTER)
        window.wait(window.idle)
        assert height() == small


def last_message_is_in_view(window: Window) -> bool:
    return bool(
        window.script("""
    const bottom = (node) => node.getBoundingClientRect().bottom;
    const [log, form] = ["log", "form"].map((name) => document.getElementById("opchat-" + name));
    return bottom(log.lastElementChild) <= bottom(log) && bottom(form) <= visualViewport.height + 1;
    """)
    )


def test_the_last_message_stays_in_view_when_a_keyboard_shrinks_the_page(driver: Any) -> None:
    with serving(bot) as server:
        window = Window(driver, server.url)
        emulate(driver, 375, 667)
        window.ask("long")
        window.wait(lambda: window.idle() and last_message_is_in_view(window))
        emulate(driver, 375, 320)
        window.wait(lambda: last_message_is_in_view(window))


def test_the_last_message_stays_in_view_when_a_keyboard_covers_the_page(driver: Any) -> None:
    with serving(bot) as server:
        window = Window(driver, server.url)
        emulate(driver, 375, 667)
        window.ask("long")
        window.wait(lambda: window.idle() and last_message_is_in_view(window))
        window.script("Object.defineProperty(visualViewport, 'height', { value: 320 });")
        window.script("visualViewport.dispatchEvent(new Event('resize'))")
        window.wait(lambda: last_message_is_in_view(window))
        assert window.script("return document.body.clientHeight") == 320


# ---------------------------------------------------------------- what a reload keeps


def test_a_reload_keeps_the_conversation(driver: Any) -> None:
    seen: list[Submit] = []

    def listening(submit: Submit) -> Iterator[str | Event]:
        seen.append(submit)
        return bot(submit)

    with serving(listening, greeting="Hello.") as server:
        window = Window(driver, server.url)
        window.ask("count")
        window.wait(lambda: window.answered("Hello.", "count", "1 before"))
        window.keys("half a quest")
        window.open(server.url)
        assert (window.texts(), window.draft()) == (["Hello.", "count", "1 before"], "half a quest")
        window.keys("ion")
        window.keys(Keys.ENTER)
        window.wait(window.idle)
        driver.find_element(By.ID, "opchat-new").click()
        window.open(server.url)
        assert (window.texts(), window.draft()) == (["Hello."], "")
    first, second = seen
    assert (second.chat_id, second.previous_response_id, second.new_message) == (first.chat_id, "r7", "half a question")
    assert [message.content for message in second.messages] == ["Hello.", "count", "1 before"]


def test_a_reload_during_an_answer_keeps_the_question(driver: Any) -> None:
    goes_on = threading.Event()

    def slow(submit: Submit) -> Iterator[str]:
        yield "half"
        goes_on.wait(PATIENCE)

    with serving(slow) as server:
        window = Window(driver, server.url)
        window.ask("Hi")
        window.wait(lambda: window.texts() == ["Hi", "half"])
        window.open(server.url)
        goes_on.set()
        assert (window.texts(), window.draft()) == ([], "Hi")


@pytest.mark.parametrize(
    "value",
    [
        *("", "{", "null", "7", "[]", "{}", '"a"', '{"messages":7}', '{"chatId":"a","messages":[]}'),
        '{"chatId":"0123456789","draft":"","messages":[{"role":"user"}]}',
        '{"chatId":"0123456789","draft":"","messages":[{"role":"system","content":"a"}]}',
        '{"chatId":"0123456789","draft":"","messages":[null]}',
        '{"chatId":"0123456789","draft":7,"messages":[]}',
        '{"chatId":"0123456789","draft":"","messages":{"length":1e9}}',
        '{"chatId":"0123456789","draft":"","previousResponseId":[],"messages":[]}',
    ],
)
def test_a_foreign_value_in_the_store_starts_a_new_chat(driver: Any, value: str) -> None:
    with serving() as server:
        window = Window(driver, server.url)
        # The page writes its own value when it is left.
        window.script(
            "const value = arguments[0]; addEventListener('pagehide', () => {"
            "  for (const key of Object.keys(sessionStorage)) sessionStorage.setItem(key, value);"
            "})",
            value,
        )
        window.open(server.url)
        assert (window.texts(), window.draft()) == ([], "")
        window.ask("a")
        window.wait(lambda: window.answered("a", "a"))
        assert window.complaints() == []


def test_the_page_works_without_a_store(driver: Any) -> None:
    with serving() as server:
        window = Window(driver, server.url)
        broken = "{ get() { throw new DOMException('no', 'SecurityError'); } }"
        broken = f"Object.defineProperty(window, 'sessionStorage', {broken})"
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": broken})
        window.open(server.url)
        window.ask("a")
        window.wait(lambda: window.answered("a", "a"))
        window.open(server.url)
        assert (window.texts(), window.complaints()) == ([], [])


def test_a_reload_keeps_the_end_of_a_conversation_that_is_too_long(driver: Any) -> None:
    def large(submit: Submit) -> Iterator[str]:
        yield submit.new_message * 150_000

    with serving(large) as server:
        window = Window(driver, server.url)
        for letter in "abcd":
            window.ask(letter * 2)
            window.wait(window.idle)
            window.wait(lambda: len(window.texts()[-1]) == 300_000)  # it waits at once
        window.open(server.url)
        assert [text[:1] for text in window.texts()] == ["b", "b", "c", "c", "d", "d"]


# ---------------------------------------------------------------- code, bidirectional text, looks


def test_the_copy_button_copies_the_code(driver: Any) -> None:
    with serving(lambda submit: ["```py\na = 1\n\tb\n```"]) as server:
        window = Window(driver, server.url)
        driver.execute_cdp_cmd("Browser.grantPermissions", {"permissions": ["clipboardReadWrite"]})
        window.ask("Hi")
        window.wait(window.idle)
        button = driver.find_element(By.CSS_SELECTOR, ".opchat-copy")
        button.click()
        window.wait(lambda: button.text == "Copied")
        assert window.script("return navigator.clipboard.readText()") == "a = 1\n\tb"
        assert window.script("return getComputedStyle(document.querySelector('pre code')).fontFamily").endswith(
            "monospace"
        )
        window.wait(lambda: button.text == "Copy")
        window.script("Object.defineProperty(navigator, 'clipboard', { value: undefined })")  # as over HTTP
        window.script("document.addEventListener('copy', () => { window.copied = String(getSelection()); })")
        button.click()
        window.wait(lambda: button.text == "Copied")
        assert window.script("return copied") == "a = 1\n\tb"


def test_bidirectional_text_is_isolated(driver: Any) -> None:
    look = """
    const names = ["p", "ul", "code", "p:last-child"];
    return names.map((name) => {
      const style = getComputedStyle(document.querySelector(".opchat-assistant .opchat-text " + name));
      return [style.direction, style.unicodeBidi];
    });
    """
    with serving(bot) as server:
        window = Window(driver, server.url)
        window.ask("hebrew")
        window.wait(window.idle)
        rtl, ltr = ["rtl", "isolate"], ["ltr", "isolate"]
        assert window.script(look) == [rtl, rtl, ltr, ltr]
        window.keys("שלום")
        assert window.script("return getComputedStyle(document.getElementById('opchat-question')).direction") == "rtl"


COLOURS = """
const colour = (text) => text.match(/[\\d.]+/g).map(Number);
const background = (node) => {
  for (; node; node = node.parentElement) {
    const found = colour(getComputedStyle(node).backgroundColor);
    if (found[3] !== 0) return found.slice(0, 3);
  }
};
const seen = [...document.querySelectorAll("#opchat *")].filter((node) => node.checkVisibility());
const borders = seen.filter((node) => node.matches("button, textarea, th, td, hr, blockquote, .opchat-fault"));
const written = seen.filter((node) => [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim()));
const name = (node) => `${node.localName}.${node.className}#${node.id}`;
return {
  borders: borders.map((node) => {
    const style = getComputedStyle(node);
    const side = ["Top", "InlineStart"].find((side) => parseFloat(style[`border${side}Width`]) >= 1);
    return [name(node), colour(style[`border${side}Color`]).slice(0, 3), background(node.parentElement)];
  }),
  text: written.map((node) => [name(node), colour(getComputedStyle(node).color).slice(0, 3), background(node)]),
  placeholder: seen.filter((node) => node.placeholder).map((node) =>
    ["placeholder", colour(getComputedStyle(node, "::placeholder").color).slice(0, 3), background(node)]),
};
"""


def contrast(first: list[float], second: list[float]) -> float:
    """The contrast ratio of WCAG 2.2."""

    def luminance(colour: list[float]) -> float:
        parts = [value / 255 for value in colour]
        red, green, blue = (value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_borders_and_text_have_contrast(driver: Any, scheme: str) -> None:
    least = {"borders": 3, "text": 4.5, "placeholder": 4.5}
    with serving(bot, suggestions=["How?"]) as server:
        window = Window(driver, server.url)
        emulate(driver, 1280, 800, scheme)
        low: list[str] = []
        names: set[str] = set()
        for question in ("", "Hi", "fail"):
            if question:
                window.ask(question)
                window.wait(window.idle)
            for what, found in window.script(COLOURS).items():
                names |= {name for name, _, _ in found}
                low += [f"{what} {name}" for name, one, two in found if contrast(one, two) < least[what]]
        assert low == []
        assert {"textarea.#opchat-question", "button.#opchat-send", "button.opchat-suggestion#"} <= names
        assert {"button.opchat-copy#", "th.#", "a.#", "p.opchat-fault#", "placeholder"} <= names


OUTLINE = """
const node = document.activeElement;
const style = getComputedStyle(node);
const colour = (text) => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
return [node.id || node.className || node.localName, style.outlineStyle, parseFloat(style.outlineWidth),
  colour(style.outlineColor), colour(getComputedStyle(document.body).backgroundColor)];
"""


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_focus_is_always_visible(driver: Any, scheme: str) -> None:
    with serving(bot) as server:
        window = Window(driver, server.url)
        emulate(driver, 1280, 800, scheme)
        window.ask("Hi")
        window.wait(window.idle)
        passed: list[str] = []
        while not passed or passed[-1] != "opchat-new":
            name, style, width, colour, background = window.script(OUTLINE)
            assert (style, width >= 2, contrast(colour, background) >= 3) == ("solid", True, True), name
            passed.append(name)
            window.shift(Keys.TAB)
        known = ["opchat-question", "opchat-copy", "a", "opchat-log", "opchat-new"]
        assert [name for name in passed if name in known] == known  # a scrollable element can have the focus too


@pytest.mark.parametrize("size", SIZES)
def test_nothing_is_wider_than_the_page(driver: Any, size: str) -> None:
    with serving(bot, title="Title" * 30, suggestions=["suggestion" * 20]) as server:
        window = Window(driver, server.url)
        emulate(driver, *SIZES[size])
        wide = "return [document.documentElement, document.getElementById('opchat-log')].map("
        wide += "(node) => node.scrollWidth - node.clientWidth)"
        tall = "return document.documentElement.scrollHeight - document.documentElement.clientHeight"
        assert window.script(wide) == [0, 0]
        for question in ("x" * 500, "hebrew", "fail"):
            window.ask(question)
            window.wait(window.idle)
            assert (window.script(wide), window.script(tall)) == ([0, 0], 0)  # only the conversation scrolls


def test_a_page_at_400_percent_is_readable(driver: Any) -> None:
    with serving(bot, suggestions=["How do I run a bot of my own?"] * 4) as server:
        window = Window(driver, server.url)
        emulate(driver, 320, 256)
        assert window.script("return document.getElementById('opchat-log').clientHeight") >= 90
        window.script("document.getElementById('opchat-new').scrollIntoView()")
        assert window.script("return document.getElementById('opchat-new').getBoundingClientRect().top") >= 0
        window.script("document.getElementById('opchat-send').scrollIntoView()")
        assert window.script("return document.getElementById('opchat-send').getBoundingClientRect().bottom") <= 256


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("size", SIZES)
def test_screenshots_are_saved(driver: Any, tmp_path: Path, size: str, scheme: str) -> None:
    """OPCHAT_SCREENSHOTS names the folder; without it, the test's own temporary one is used."""
    folder = Path(os.environ.get("OPCHAT_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    taken = []
    with serving(bot, title="Ask the library", greeting="Hello!", suggestions=["How?", "What does it cost?"]) as server:
        window = Window(driver, server.url)
        emulate(driver, *SIZES[size], scheme)
        for question in ("", "Hi", "hebrew", "fail"):
            if question:
                window.ask(question)
                window.wait(window.idle)
            taken.append(folder / f"{size}-{scheme}-{question or 'empty'}.png")
            assert driver.save_screenshot(str(taken[-1]))
    assert {path.read_bytes()[:8] for path in taken} == {b"\x89PNG\r\n\x1a\n"}
