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
