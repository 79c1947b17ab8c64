"""The Markdown of the chat page, in a browser. Needs Chromium and selenium; see conftest.py."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .browser import Window, serving

RENDER = """
const [texts, size, done] = arguments;
import("/markdown.js").then(({ Markdown }) => done(texts.map((text) => {
  const place = document.createElement("div");
  const markdown = new Markdown(place);
  for (let at = 0; at < text.length; at += size) {
    markdown.write(text.slice(at, at + size), true);
  }
  markdown.write("", false);
  place.normalize();
  return place.innerHTML;
}))).catch((error) => done(String(error)));
"""
Render = Callable[..., list[str]]


@pytest.fixture(scope="module")
def render(driver: Any) -> Iterator[Render]:
    """The rendering of texts that arrive in pieces of this size."""

    def function(*texts: str, size: int = 1 << 30) -> list[str]:
        found = driver.execute_async_script(RENDER, texts, size)
        assert isinstance(found, list), found
        return found

    with serving() as server:
        window = Window(driver, server.url)
        yield function
        assert window.complaints() == []


def short(html: str) -> str:
    """Without the attributes that all of these elements have."""
    for attribute in (' dir="auto"', ' dir=""', ' dir="ltr"', ' rel="noopener noreferrer" target="_blank"'):
        html = html.replace(attribute, "")
    return html


CODE = (
    '<div class="opchat-code"><span>{}</span><button type="button" class="opchat-copy">Copy</button>'
    "<pre><code>{}</code></pre></div>"
)
RENDERED = {
    "plain & <b>HTML</b>": "<p>plain &amp; &lt;b&gt;HTML&lt;/b&gt;</p>",
    "one\ntwo\n\nthree": "<p>one\ntwo</p><p>three</p>",
    "**a** __b__ *c* _d_ ~~e~~": ("<p><strong>a</strong> <strong>b</strong> <em>c</em> <em>d</em> <del>e</del></p>"),
    "***a*** **b *c* d** *e **f** g*": (
        "<p><strong><em>a</em></strong> <strong>b <em>c</em> d</strong> <em>e <strong>f</strong> g</em></p>"
    ),
    "**Note:**text and **“quoted”**": "<p><strong>Note:</strong>text and <strong>“quoted”</strong></p>",
    "2 * 3 * 4, snake_case_name, ~5 and **2 * 3**": (
        "<p>2 * 3 * 4, snake_case_name, ~5 and <strong>2 * 3</strong></p>"
    ),
    "*not closed, **nor this, `nor that": "<p>*not closed, **nor this, `nor that</p>",
    r"\*no\* \# \q": r"<p>*no* # \q</p>",
    "`a` ``b`c`` `*d*` **`*e*`**": (
        "<p><code>a</code> <code>b`c</code> <code>*d*</code> <strong><code>*e*</code></strong></p>"
    ),
    '[a](https://b.example/c_(d) "title") e': '<p><a href="https://b.example/c_(d)">a</a> e</p>',
    "[[1]](https://a.example) [2] [x] [**b**](mailto:a@b.example)": (
        '<p><a href="https://a.example/">[1]</a> [2] [x] <a href="mailto:a@b.example"><strong>b</strong></a></p>'
    ),
    "See https://a.example/b. (https://c.example) **https://d.example** <https://e.example/,>": (
        '<p>See <a href="https://a.example/b">https://a.example/b</a>. '
        '(<a href="https://c.example/">https://c.example</a>) '
        '<strong><a href="https://d.example/">https://d.example</a></strong> '
        '<a href="https://e.example/,">https://e.example/,</a></p>'
    ),
    "[https://a.example](https://a.example)": '<p><a href="https://a.example/">https://a.example</a></p>',
    "![a picture](https://a.example/b.png)": '<p><a href="https://a.example/b.png">a picture</a></p>',
    "# A\n###### B\n#C": "<h3>A</h3><h6>B</h6><p>#C</p>",
    "a\n---\nb\n* * *": "<p>a</p><hr><p>b</p><hr>",
    "- a\n- b\n  - c\n\n  d\n- e": "<ul><li>a</li><li>b<ul><li>c</li></ul><p>d</p></li><li>e</li></ul>",
    "3. a\n   * b\n4. c\n\nd": '<ol start="3"><li>a<ul><li>b</li></ul></li><li>c</li></ol><p>d</p>',
    "1. a\n   ```sh\n   b\n     c\n   ```\n2. d": (
        f'<ol start="1"><li>a{CODE.format("sh", "b&#10;  c")}</li><li>d</li></ol>'.replace("&#10;", "\n")
    ),
    "> a\n> - b\n\nc": "<blockquote><p>a</p><ul><li>b</li></ul></blockquote><p>c</p>",
    "```py\nif a:\n\tb  # **c**\n\n```\nd": CODE.format("py", "if a:\n\tb  # **c**\n") + "<p>d</p>",
    "~~~\n```\n~~~~\na": CODE.format("", "```") + "<p>a</p>",
    "a:\n| b | c |\n|---|--:|\n| `d` | e\\|f | g |\n| h |\ni": (
        '<p>a:</p><div class="opchat-table"><table><tr><th>b</th><th>c</th></tr>'
        "<tr><td><code>d</code></td><td>e|f</td></tr><tr><td>h</td></tr></table></div><p>i</p>"
    ),
    "| a | b |\n| no table |": "<p>| a | b |\n| no table |</p>",
    "a\r\nb": "<p>a\nb</p>",
    "": "",
}


@pytest.mark.parametrize("text", RENDERED)
def test_markdown_becomes_elements(render: Render, text: str) -> None:
    [found] = render(text)
    assert short(found) == RENDERED[text]


def test_the_rendering_is_independent_of_the_cuts(render: Render) -> None:
    draw = random.Random(22)
    parts = [*RENDERED, "\n", "\n\n", "  ", "- ", "1. ", "> ", "```\n", "|", "**", "*", "`", "[", "](", "word "]
    texts = ["".join(draw.choices(parts, k=draw.randint(1, 12))) for _ in range(300)]
    whole = render(*texts)
    for size in (1, 2, 5):
        assert render(*texts, size=size) == whole


def test_the_rendering_of_a_long_answer_is_independent_of_the_cuts(render: Render) -> None:
    text = "a *b* `c` " * 2000 + "\n\n" + "| a |\n|---|\n" + "| b |\n" * 3000
    assert render(text, size=64) == render(text, size=1000) == render(text)


GROWING = """
const [pieces, done] = arguments;
import("/markdown.js").then(({ Markdown }) => {
  const place = document.createElement("div");
  const markdown = new Markdown(place);
  done(pieces.map((piece) => {
    markdown.write(piece, true);
    return place.innerHTML;
  }));
}).catch((error) => done(String(error)));
"""


@pytest.mark.parametrize(
    ("pieces", "shown"),
    [
        (["**a", "*", "* b"], ["<p><strong>a</strong></p>"] * 2 + ["<p><strong>a</strong> b</p>"]),
        (["*a", "b*"], ["<p><em>a</em></p>", "<p><em>ab</em></p>"]),
        (["`a", "b` c"], ["<p><code>a</code></p>", "<p><code>ab</code> c</p>"]),
        (["[a", "](https://b", ".example)"], ["<p>a</p>", "<p>a</p>", '<p><a href="https://b.example/">a</a></p>']),
        (["```py\n", "a", "\n```"], [CODE.format("py", ""), CODE.format("py", "a"), CODE.format("py", "a")]),
        (["- a\n", "- **b"], ["<ul><li>a</li></ul>", "<ul><li>a</li><li><strong>b</strong></li></ul>"]),
    ],
)  # fmt: skip
def test_unclosed_markup_is_shown_as_if_closed(
    render: Render, driver: Any, pieces: list[str], shown: list[str]
) -> None:
    assert [short(html) for html in driver.execute_async_script(GROWING, pieces)] == shown


def test_finished_blocks_are_not_rendered_again(render: Render, driver: Any) -> None:
    kept = """
    const done = arguments[0];
    import("/markdown.js").then(({ Markdown }) => {
      const place = document.createElement("div");
      const markdown = new Markdown(place);
      markdown.write("a\\n\\nb\\n\\nc\\n\\nd", true);
      const [first] = place.childNodes;
      markdown.write(" e", true);
      done([first === place.firstChild, place.textContent]);
    });
    """
    assert driver.execute_async_script(kept) == [True, "abcd e"]


COUNT = """
const [text, done] = arguments;
import("/markdown.js").then(({ Markdown }) => {
  const create = document.createElement.bind(document);
  let count = 0;
  document.createElement = (name) => (count++, create(name));
  const markdown = new Markdown(create("div"));
  for (let at = 0; at < text.length; at += 20) {
    markdown.write(text.slice(at, at + 20), true);
  }
  markdown.write("", false);
  delete document.createElement;
  done(count);
});
"""


@pytest.mark.parametrize("text", ["word **b** `c`\n", "- **b**\n", "| **b** |\n", "> **b**\n", "**b** c\n\n"])
def test_the_work_is_linear_in_the_answer(render: Render, driver: Any, text: str) -> None:
    begin = "| a |\n|---|\n" if text[0] == "|" else ""
    once, twice = (
        driver.execute_async_script(COUNT, begin + text * (count // len(text))) for count in (30_000, 60_000)
    )
    assert once <= twice < 2.5 * once


MEGABYTE = 1_000_000
HOSTILE = (
    *"*_~`[]()<>|#-+!\\ \t\n\r.1ah\0\u202e",
    *("a*", "*a ", "**a ", "**a* ", "`a ``b ", "[a](", "[a](http://b ", "![", "[[a]", "http://"),
    *("http://a.", "<http://a"),
    *("> ", "- ", "1. ", "- - ", "|-", "\\`", "a\n", "> a\n", "- a\n", "# a\n", "```\n", "|a|\n|-|\n", "***a**"),
)  # fmt: skip
HOSTILE_TEXTS = [part * (MEGABYTE // len(part)) for part in HOSTILE]
HOSTILE_TEXTS += [
    "".join(f"{' ' * depth}- x\n" for depth in range(1400)),
    "".join(f"{'> ' * depth}x\n" for depth in range(1000)),
    "[a](http://" + "x" * MEGABYTE,
    "[a](" + " " * MEGABYTE + ")",
    "```" + "x" * MEGABYTE,
    "| a" * 300_000 + "\n" + "|---" * 250_000,
]
SUMMARY = """
const [text, size, done] = arguments;
import("/markdown.js").then(({ Markdown }) => {
  const place = document.createElement("div");
  const markdown = new Markdown(place);
  for (let at = 0; at < text.length; at += size) {
    markdown.write(text.slice(at, at + size), true);
  }
  markdown.write("", false);
  let deepest = 0;
  for (const leaf of place.querySelectorAll("li:not(:has(li)), blockquote:not(:has(blockquote))")) {
    let depth = 0;
    for (let node = leaf; node !== place; node = node.parentNode) {
      depth++;
    }
    deepest = Math.max(deepest, depth);
  }
  done(deepest);
}).catch((error) => done(String(error)));
"""


@pytest.mark.parametrize("text", HOSTILE_TEXTS, ids=[repr(text[:12]) for text in HOSTILE_TEXTS])
def test_a_megabyte_of_anything_is_rendered(render: Render, driver: Any, text: str) -> None:
    assert driver.execute_async_script(SUMMARY, text, 1 << 30) <= 24


@pytest.mark.parametrize("part", ["*", "**a ", "[a](", "> ", "- - ", "`a ``b ", "word\n"])
def test_a_megabyte_in_pieces_is_rendered(render: Render, driver: Any, part: str) -> None:
    assert driver.execute_async_script(SUMMARY, part * (MEGABYTE // len(part)), 500) <= 24


DANGEROUS = [
    "[a](javascript:alert(1))",
    "[a](JaVaScRiPt:alert(1))",
    "[a](java\tscript:alert(1))",
    "[a](\x01javascript:alert(1))",
    "[a](&#106;avascript:alert(1))",
    "[a](data:text/html;base64,PHNjcmlwdD4=)",
    "[a](vbscript:x) [a](file:///etc/passwd) [a](blob:https://a.example/b) [a](//a.example) [a](b.html)",
    "![a](javascript:alert(1)) ![](x onerror=alert(1))",
    "<javascript:alert(1)> <a href=javascript:alert(1)>a</a> <script>alert(1)</script>",
    '<img src=x onerror="alert(1)"><svg onload=alert(1)><iframe srcdoc="<script>alert(1)</script>">',
    '[a](https://a.example" onclick="alert(1)) [a](https://a.example"onclick="alert(1))',
    "```html\n<script>alert(1)</script>\n```\n`<script>alert(1)</script>`",
    '```"><script>alert(1)</script>\na\n```',
    "| <script>alert(1)</script> | a |\n|---|---|\n| <img src=x onerror=alert(1)> | [a](javascript:alert(1)) |",
    "[<img src=x onerror=alert(1)>](https://a.example) <https://a.example/<script>>",
    "https://a.example/%22onclick=alert(1) https://a.example/'onclick='alert(1)",
]
ALLOWED = {
    *(
        "p",
        "tbody",
        "h3",
        "h4",
        "h5",
        "h6",
        "ul",
        "ol",
        "li",
        "blockquote",
        "hr",
        "div",
        "span",
        "button",
        "pre",
        "code",
    ),
    *("table", "tr", "th", "td", "strong", "em", "del", "a"),
}
FOUND = """
const place = document.createElement("div");
place.innerHTML = arguments[0];
return [...place.querySelectorAll("*")].map((node) => [node.localName, Object.fromEntries(
  [...node.attributes].map(({ name, value }) => [name, value]))]);
"""


@pytest.mark.parametrize("text", DANGEROUS)
@pytest.mark.parametrize("around", ["{}", "- {}", "> {}", "**{}", "# {}", "[{}](https://a.example)"])
def test_markdown_never_executes_anything(render: Render, driver: Any, text: str, around: str) -> None:
    for html in render(around.format(text), around.format(text) + "\n\nend", size=3):
        for name, attributes in driver.execute_script(FOUND, html):
            assert name in ALLOWED
            assert attributes.keys() <= {"dir", "class", "type", "start", "href", "rel", "target"}
            if name == "a":
                assert attributes["href"].startswith(("https://", "mailto:"))
                assert (attributes["rel"], attributes["target"]) == ("noopener noreferrer", "_blank")
