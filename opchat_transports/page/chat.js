import { Markdown } from "./markdown.js";

const container = document.querySelector(".mwai-chatbot-container");
const [system, params] = ["system", "params"].map((name) => JSON.parse(container.getAttribute("data-" + name)));
const find = (name) => document.getElementById("opchat-" + name);
const [log, status, form, question] = ["log", "status", "form", "question"].map(find);
const [send, stop, renew, suggestions] = ["send", "stop", "new", "suggestions"].map(find);

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

function begin(kept) {
  chatId = kept?.chatId ?? id();
  messages = kept?.messages ?? (params.startSentence ? [entry("assistant", params.startSentence)] : []);
  previousResponseId = kept?.previousResponseId;
  log.replaceChildren();
  for (const { role, content } of messages) {
    show(role, content);
  }
  suggestions.hidden = !system.shortcuts.length || messages.some((message) => message.role === "user");
}

// ------------------------------------------------------------ what a reload keeps

const storage = `opchat ${rest} ${system.botId}`;
const KEPT = 1_000_000; // characters; browsers keep about five million

function keep() {
  let size = 0;
  const tooOld = messages.findLastIndex((message) => (size += message.content.length) > KEPT);
  const value = {
    chatId, previousResponseId, draft: question.value || asking?.text || "",
    messages: messages.slice(tooOld + 1).map(({ role, content }) => ({ role, content })),
  };
  try {
    sessionStorage.setItem(storage, JSON.stringify(value));
  } catch {
    // It is full, or not to be used.
  }
}

function restore() {
  try {
    const { chatId, previousResponseId, draft, messages } = JSON.parse(sessionStorage.getItem(storage));
    const strings = [chatId, previousResponseId ?? "", draft, ...messages.map((message) => message.content)];
    const known = messages.every(({ role }) => role === "user" || role === "assistant");
    if (known && /^[0-9a-z]{10}$/.test(chatId) && strings.every((value) => typeof value === "string")) {
      question.value = draft;
      return { chatId, previousResponseId, messages: messages.map(({ role, content }) => entry(role, content)) };
    }
  } catch {
    // Nothing is kept, or it is not ours.
  }
}

// ------------------------------------------------------------ what is shown

let atEnd = true; // whether the reader follows what comes

function follow() {
  if (atEnd) {
    log.scrollTop = log.scrollHeight;
  }
}

function element(name, kind, text = "") {
  const made = document.createElement(name);
  made.className = "opchat-" + kind;
  made.textContent = text;
  return made;
}

function show(role, text) {
  const message = log.appendChild(element("div", "message opchat-" + role));
  message.append(element("div", "who", role === "user" ? "You" : "Bot"));
  const place = message.appendChild(element("div", "text"));
  if (role === "user") {
    place.appendChild(element("p", "plain", text)).dir = "auto";
  } else if (text) {
    new Markdown(place).write(text, false);
  }
  atEnd = true;
  follow();
  return { message, place };
}

function say(text) {
  if (status.textContent !== text) { // a screen reader reads each change
    status.textContent = text;
  }
}

function busy(now) {
  send.hidden = now;
  stop.hidden = !now;
  log.setAttribute("aria-busy", String(now));
  say(now ? "The bot is thinking." : "");
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
  let markdown = new Markdown(place);
  let [text, waiting, frame] = ["", "", 0];
  const draw = (growing) => {
    cancelAnimationFrame(frame);
    markdown.write(waiting, growing);
    [waiting, frame] = ["", 0];
    follow();
  };
  try {
    for await (const event of objects(response)) {
      if (event.type === "live" && (!event.subtype || event.subtype === "content")) {
        say("The bot is answering.");
        text += event.data;
        waiting += event.data;
        frame ||= requestAnimationFrame(() => draw(true));
      } else if (event.type === "live") {
        say(event.visibility === "hidden" ? status.textContent : event.data);
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
          text = waiting = payload.reply;
          place.replaceChildren();
          markdown = new Markdown(place);
        }
        return text;
      }
    }
  } finally {
    draw(false);
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
  suggestions.hidden = true;
  show("user", text);
  const { message, place } = show("assistant", "");
  const mine = (asking = Object.assign(new AbortController(), { text }));
  busy(true);
  try {
    const reply = await receive(await submit(body, mine.signal), place);
    chat.push(entry("user", text), entry("assistant", reply));
  } catch (error) {
    const known = error instanceof Fault;
    if (mine.signal.aborted) {
      message.append(element("p", "note", "Stopped."));
    } else {
      const fault = message.appendChild(element("p", "fault", known ? error.message : "Something went wrong."));
      fault.dir = "auto";
      fault.setAttribute("role", "alert");
    }
    follow();
    if (chat === messages) {
      draft(question.value || text); // to be asked again
    }
    if (!known && !mine.signal.aborted) {
      console.error(error);
    }
  } finally {
    if (asking === mine) {
      asking = null;
      busy(false);
      keep();
    }
  }
}

// ------------------------------------------------------------ the reader's side

function draft(text) {
  question.value = text;
  question.style.height = "auto";
  question.style.height = question.scrollHeight + 2 + "px"; // and its borders
}

function halt() {
  asking?.abort();
  question.focus();
}

function submitted(text) {
  if (text && !asking) {
    question.focus();
    ask(text);
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (!asking) {
    const text = question.value.trim();
    draft("");
    submitted(text);
  }
});

question.addEventListener("input", () => draft(question.value));
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

log.addEventListener("scroll", () => {
  atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
});

log.addEventListener("click", async (event) => {
  const button = event.target.closest(".opchat-copy");
  if (!button) {
    return;
  }
  const code = button.parentNode.querySelector("code");
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch { // only pages that came by HTTPS or from this machine may
    getSelection().selectAllChildren(code);
    document.execCommand("copy");
  }
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = "Copy"), 2000);
});

// A phone's keyboard covers the page; what is left of it is the visual viewport.
visualViewport.addEventListener("resize", () => {
  if (visualViewport.scale <= 1) {
    document.body.style.height = visualViewport.height + "px";
    scrollTo(0, 0);
  }
});
new ResizeObserver(follow).observe(log);

stop.addEventListener("click", halt);
renew.addEventListener("click", () => {
  halt();
  draft("");
  begin();
  keep();
});

for (const { data } of system.shortcuts) {
  const button = suggestions.appendChild(element("button", "suggestion", data.label));
  Object.assign(button, { type: "button", dir: "auto" });
  button.addEventListener("click", () => submitted(data.message));
}

addEventListener("pagehide", keep);
begin(restore());
draft(question.value);
question.focus();
