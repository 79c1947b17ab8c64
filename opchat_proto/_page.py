"""The page of a site: a chat window, and the attributes by which the plugin's own script finds the site (WIRE 2.2).

Plain HTML, CSS and JavaScript. It shows what a server says as text, never as
markup, and has neither inline scripts nor inline styles, so that it works
under a strict Content-Security-Policy (`default-src 'self'`).
"""

import html
from typing import Any

from ._json import encode_as_php

__all__: list[str] = []

_LONGEST_QUESTION = 65536  # characters


def page(root: str, origin: str = "") -> bytes:
    """The page of a site that lies under this path; "" is the host itself.

    `origin` begins the URLs in the attributes, which are whole ones (WIRE 2.3),
    as a client that is no browser reads them too. The page's own script and
    style are found by their paths.
    """
    system: dict[str, Any] = {
        "botId": "default",
        "customId": None,
        "userData": None,
        "sessionId": None,
        "restNonce": None,  # guests start a session (WIRE 2.5)
        "contextId": None,
        "pluginUrl": f"{origin}{root}/",
        "restUrl": f"{origin}{root}/wp-json",
        "stream": True,
        "debugMode": False,
        "eventLogs": False,
        "typewriter": False,
        "speech_recognition": False,
        "speech_synthesis": False,
        "crossSite": False,
        "actions": [],
        "blocks": [],
        "shortcuts": [],
    }
    params: dict[str, Any] = {
        "id": "default",
        "customId": None,
        "aiName": "Bot: ",
        "userName": "You: ",
        "guestName": "You: ",
        "textSend": "Send",
        "textClear": "New chat",
        "textInputPlaceholder": "Your question",
        "textInputMaxLength": _LONGEST_QUESTION,
        "textCompliance": "",
        "startSentence": "",
        "mode": "chat",
        "localMemory": False,
        "themeId": "none",
        "window": False,
        "fullscreen": False,
        "copyButton": False,
        "fileUpload": False,
        "imageUpload": False,
        "multiUpload": False,
        "fileSearch": False,
    }
    text = _PAGE.format(
        root=_escape(root),
        base=_escape(origin + root),
        params=_escape(encode_as_php(params)),
        system=_escape(encode_as_php(system)),
        longest=_LONGEST_QUESTION,
    )
    return text.encode()


def _escape(text: str) -> str:
    """PHP's htmlspecialchars with both kinds of quotes (WIRE 2.2)."""
    return html.escape(text).replace("&#x27;", "&#039;")


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Chat</title>
<link rel="https://api.w.org/" href="{base}/wp-json/">
<link rel="stylesheet" href="{root}/opchat.css">
<script src="{root}/opchat.js" defer></script>
</head>
<body>
<main id="opchat">
<header>
<h1>Chat</h1>
<button type="button" id="opchat-new">New chat</button>
</header>
<div id="opchat-log" role="log" aria-label="Conversation" tabindex="0"></div>
<p id="opchat-status" role="status"></p>
<form id="opchat-form">
<label for="opchat-question">Your question</label>
<textarea id="opchat-question" rows="2" maxlength="{longest}" required
 aria-describedby="opchat-keys"></textarea>
<button type="submit" id="opchat-send">Send</button>
<button type="button" id="opchat-stop" hidden>Stop</button>
<p id="opchat-keys">Enter sends, Shift+Enter begins a new line, Escape stops an answer.</p>
</form>
<noscript><p>This chat needs JavaScript.</p></noscript>
</main>
<div class='mwai-chatbot-container' data-params='{params}' data-system='{system}' data-theme='null'></div>
</body>
</html>
"""

STYLE = b"""\
:root { color-scheme: light dark; --line: #c9ced6; --soft: #f1f4f8; --mine: #dcebff; --bad: #b3261e; --link: #1858b8 }
@media (prefers-color-scheme: dark) {
  :root { --line: #4a5260; --soft: #242a33; --mine: #173a66; --bad: #ffb4ab; --link: #8ab8ff }
}
* { box-sizing: border-box }
html, body { height: 100%; margin: 0 }
body { font: 1rem/1.5 system-ui, sans-serif }
[hidden] { display: none !important }
#opchat { display: flex; flex-direction: column; height: 100%; max-width: 48rem; margin: 0 auto; padding: 0 1rem }
header { display: flex; align-items: center; justify-content: space-between }
h1 { font-size: 1.25rem; margin: .75rem 0 }
#opchat-log { flex: 1; overflow-y: auto; border: 1px solid var(--line); border-radius: .75rem; padding: .75rem }
.opchat-message { margin: 0 0 .75rem; padding: .5rem .75rem; border-radius: .75rem; background: var(--soft);
  width: fit-content; max-width: 85% }
.opchat-user { background: var(--mine); margin-left: auto }
.opchat-error { border-left: .25rem solid var(--bad) }
.opchat-who { font-size: .8rem; font-weight: 600; opacity: .75 }
.opchat-text { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere }
.opchat-fault { margin: .25rem 0 0; color: var(--bad); font-weight: 600; overflow-wrap: anywhere }
#opchat-status { min-height: 1.5rem; margin: .25rem 0; font-size: .85rem; opacity: .8 }
form { display: grid; grid-template-columns: 1fr auto; gap: .25rem .5rem; align-items: end; padding-bottom: .75rem }
label { grid-column: 1 / -1; font-weight: 600 }
textarea { font: inherit; padding: .5rem; resize: vertical; border: 1px solid var(--line); border-radius: .5rem;
  width: 100% }
button { font: inherit; padding: .5rem 1rem; border: 1px solid var(--line); border-radius: .5rem;
  background: var(--soft); color: inherit; cursor: pointer }
#opchat-keys { grid-column: 1 / -1; margin: 0; font-size: .8rem; opacity: .75 }
:focus-visible { outline: .2rem solid var(--link); outline-offset: 1px }
"""

SCRIPT = rb"""
"use strict";
(() => {
  const container = document.querySelector(".mwai-chatbot-container");
  const system = JSON.parse(container.getAttribute("data-system"));
  const find = (name) => document.getElementById("opchat-" + name);
  const [log, status, form, question] = ["log", "status", "form", "question"].map(find);
  const [send, stop, renew] = ["send", "stop", "new"].map(find);

  // The page's own origin, whatever a proxy in between made of the host name that the server knows.
  const rest = new URL(system.restUrl, location.href).pathname;
  let nonce = system.restNonce;
  let session = system.sessionId;
  let chatId, messages, previousResponseId;
  let asking = null; // stops the question that is being answered

  // What went wrong, in words for the reader.
  class Fault extends Error {}

  function id() {
    const digits = "0123456789abcdefghijklmnopqrstuvwxyz";
    return Array.from(crypto.getRandomValues(new Uint8Array(10)), (byte) => digits[byte % 36]).join("");
  }

  function begin() {
    chatId = id();
    messages = [];
    previousResponseId = undefined;
    log.replaceChildren();
  }

  // ------------------------------------------------------------ what is shown; all of it as text

  function element(name, kind, text = "") {
    const made = document.createElement(name);
    made.className = "opchat-" + kind;
    made.textContent = text;
    return made;
  }

  function show(role, who, text) {
    const message = element("div", "message");
    message.classList.add("opchat-" + role);
    const place = element("p", "text", text);
    message.append(element("div", "who", who), place);
    log.append(message);
    log.scrollTop = log.scrollHeight;
    return { message, place };
  }

  function following(change) {
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    change();
    if (atEnd) {
      log.scrollTop = log.scrollHeight;
    }
  }

  function busy(now) {
    send.hidden = now;
    stop.hidden = !now;
    log.setAttribute("aria-busy", String(now));
    status.textContent = now ? "The bot is thinking." : "";
  }

  // ------------------------------------------------------------ the protocol

  async function post(route, body, signal) {
    const headers = { "Content-Type": "application/json" };
    if (body !== undefined && nonce !== null) {
      headers["X-WP-Nonce"] = nonce;
    }
    try {
      return await fetch(rest + route, { method: "POST", headers, body, signal });
    } catch (error) {
      throw signal.aborted ? error : new Fault("The server cannot be reached.");
    }
  }

  async function json(response) {
    try {
      const value = JSON.parse(await response.text());
      return typeof value === "object" && value !== null ? value : {};
    } catch {
      return {};
    }
  }

  function refusal(response, value) {
    return new Fault(value.message || "The server refused: status " + response.status + ".");
  }

  async function startSession(signal) {
    const response = await post("/mwai/v1/start_session", undefined, signal);
    const value = await json(response);
    if (value.success !== true || typeof value.restNonce !== "string") {
      throw refusal(response, value);
    }
    nonce = value.new_token || value.restNonce;
    session = value.sessionId;
  }

  async function submit(body, signal) {
    for (let again = false; ; again = true) {
      if (nonce === null) {
        await startSession(signal);
      }
      const text = JSON.stringify({ ...body, session });
      const response = await post("/mwai-ui/v1/chats/submit", text, signal);
      if (response.ok) {
        return response;
      }
      const value = await json(response);
      const stale = ["rest_cookie_invalid_nonce", "rest_forbidden"].includes(value.code);
      if (!stale || again) {
        throw refusal(response, value);
      }
      nonce = null; // a stale one: a new session, and once more
    }
  }

  function parse(text) {
    try {
      return JSON.parse(text);
    } catch {
      throw new Fault("The answer cannot be read.");
    }
  }

  // The objects of a body: those of its events, or the one that it is.
  async function* objects(response) {
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    let tail = "";
    let other = "";
    let seen = false;
    try {
      for (let done = false; !done; ) {
        let value;
        try {
          ({ done, value } = await reader.read());
        } catch (error) {
          throw error.name === "AbortError" ? error : new Fault("The answer broke off: what you see is not all of it.");
        }
        const lines = (tail + decoder.decode(value, { stream: !done })).split("\n");
        tail = done ? "" : lines.pop();
        for (const line of lines) {
          const data = line.startsWith("data:") ? line.slice(5).trim() : "";
          if (data) {
            seen = true;
            yield parse(data);
          } else if (!seen) {
            other += line;
          }
        }
      }
    } finally {
      reader.cancel().catch(() => {});
    }
    if (!seen && other.trim()) {
      yield { type: "end", data: parse(other) };
    }
  }

  // Show the answer as it comes. Gives its text, or throws a Fault.
  async function receive(response, place) {
    let text = "";
    for await (const event of objects(response)) {
      if (event.type === "live" && (!event.subtype || event.subtype === "content")) {
        status.textContent = "The bot is answering.";
        text += event.data;
        following(() => place.append(event.data));
      } else if (event.type === "live") {
        status.textContent = event.visibility === "hidden" ? status.textContent : event.data;
      } else if (event.type === "error") {
        throw new Fault(event.data || "The server reported an error.");
      } else if (event.type === "end") {
        const payload = (typeof event.data === "string" ? parse(event.data) : event.data) || { success: true };
        if (payload.success !== true) {
          throw new Fault(payload.message || "The server reported an error.");
        }
        nonce = payload.new_token || nonce;
        previousResponseId = payload.responseId || previousResponseId;
        if (typeof payload.reply === "string" && payload.reply !== text) {
          text = payload.reply;
          following(() => (place.textContent = text));
        }
        return text;
      }
    }
    throw new Fault("The answer broke off: what you see is not all of it.");
  }

  function entry(role, content) {
    const who = role === "user" ? "User: " : "AI: ";
    return { id: id(), role, content, who, timestamp: Date.now() };
  }

  async function ask(text) {
    const chat = messages;
    const body = {
      botId: system.botId, customId: system.customId, session, chatId, contextId: system.contextId,
      messages: chat, newMessage: text, newFileId: null, newFileIds: null, stream: system.stream,
    };
    if (previousResponseId) {
      body.previousResponseId = previousResponseId;
    }
    show("user", "You", text);
    const { message, place } = show("assistant", "Bot", "");
    const mine = (asking = new AbortController());
    busy(true);
    try {
      const reply = await receive(await submit(body, mine.signal), place);
      chat.push(entry("user", text), entry("assistant", reply));
    } catch (error) {
      const known = error instanceof Fault;
      const words = mine.signal.aborted ? "Stopped." : known ? error.message : "Something went wrong.";
      const fault = element("p", "fault", words);
      fault.setAttribute("role", "alert");
      message.classList.add("opchat-error");
      following(() => message.append(fault));
      question.value = question.value || text; // to be asked again
      if (!known && !mine.signal.aborted) {
        console.error(error);
      }
    } finally {
      if (asking === mine) {
        asking = null;
        busy(false);
      }
    }
  }

  // ------------------------------------------------------------ the reader's side

  function halt() {
    if (asking) {
      asking.abort();
    }
    question.focus();
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = question.value.trim();
    if (text && !asking) {
      question.value = "";
      question.focus();
      ask(text);
    }
  });

  question.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      halt();
    }
  });

  stop.addEventListener("click", halt);
  renew.addEventListener("click", () => {
    halt();
    question.value = "";
    begin();
  });

  begin();
  question.focus();
})();
"""
