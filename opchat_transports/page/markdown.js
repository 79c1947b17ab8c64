// Markdown as DOM nodes, while an answer arrives. HTML is shown as text, an image as a link to it, and a link only if it
// is http, https or mailto.
//
// Finished blocks are rendered once. The last one is rendered again as it grows; a LARGE one only when it has grown by
// a sixteenth, so the work is linear in the answer. No pattern sees more than a PART, or searches beyond its next mark.

const [LARGE, DEEPEST] = [8192, 12]; // characters; lists and quotes inside one another
const PART = /.{1,4096}/gsu;

const FENCE = /^\s*(`{3,}|~{3,})([^`]*)$/;
const HEADING = /^\s*(#{1,6})\s+(?=\S)/;
const ITEM = /^[ \t]*([-*+]|\d{1,9}[.)])(?:[ \t]+|$)/;
const QUOTE = /^\s*> ?/;
const RULE = /^\s*([-*_])(?: *\1){2,}\s*$/;
const STARTS = [FENCE, HEADING, ITEM, QUOTE, RULE];
const ROW = /^\s*\|/;
const INLINE = [
  /\\(?<escaped>[!-/:-@[-`{-~])/,
  /(?<!`)(?<ticks>`{1,3})(?!`)(?<code>.+?)(?:(?<!`)\k<ticks>(?!`)END)/,
  /\*\*(?=\S)(?<strong>(?:[^*`]|`[^`]*`|\*(?=\s)|\*[^*\s][^*]*\*)+?)(?:(?<=\S)\*\*END)/,
  /(?<!\*)\*(?=\S)(?<em>(?:[^*`]|`[^`]*`|\*\*[^*]+\*\*)+?)(?:(?<=\S)\*(?!\*)END)/,
  /(?<![\p{L}\p{N}_])__(?=\S)(?<strong_>[^_]+?)(?:(?<=\S)__(?![\p{L}\p{N}_])END)/,
  /(?<![\p{L}\p{N}_])_(?=\S)(?<em_>[^_]+?)(?:(?<=\S)_(?![\p{L}\p{N}_])END)/,
  /~~(?=\S)(?<del>[^~]+?)(?:(?<=\S)~~END)/,
  /!?\[(?<label>(?:[^[\]]|\[[^[\]]*\])*)\]\(\s*<?(?<to>(?:[^\s()<>]|\([^\s()<>]*\))+)>?(?:\s+"[^"]*")?\s*\)/,
  /<(?<exact>https?:\/\/[^\s<>]+)>|(?<url>https?:\/\/[!#-;=?-_a-~]*[\w/#=&(%+-])/,
]; // END is nothing or, while a text grows, its end, which closes all
const compile = (end) => new RegExp(INLINE.map((part) => part.source.replace("END", end)).join("|"), "gsu");
const [FINISHED, GROWING] = [compile(""), compile("|$")];
const UNFINISHED_LINK = /!?\[([^[\]]*)(?:\](?:\([^\s()]*)?)?$/;
const indent = (line) => /^[ \t]*/.exec(line)[0].replaceAll("\t", "    ").length;
const dedent = (line, width) => (width ? line.replace(new RegExp(`^(?:\t| {0,${width}})`), "") : line);
const isStart = (line) => STARTS.some((pattern) => pattern.test(line));
const cells = (row) => row.trim().replace(/^\||(?<!\\)\|$/g, "").split(/(?<!\\)\|/);
const make = (parent, tag, values) => parent.appendChild(Object.assign(document.createElement(tag), values));
const isTable = ([header, rules = ""]) =>
  ROW.test(header) && /^[\s|:-]*-[\s|:-]*$/.test(rules) && cells(header).length === cells(rules).length;

function link(parent, target) {
  const href = target && URL.canParse(target) ? new URL(target).href : "";
  const values = { href, rel: "noopener noreferrer", target: "_blank" };
  return /^(?:https?|mailto):/.test(href) ? make(parent, "a", values) : parent;
}

function inline(place, text, growing, inLink = false) {
  const shown = growing ? text.replace(UNFINISHED_LINK, "$1").replace(/[*_~`]+$/, "") : text;
  let at = 0;
  for (const { 0: all, index, groups } of shown.matchAll(growing ? GROWING : FINISHED)) {
    place.append(shown.slice(at, index));
    at = index + all.length;
    const { escaped, code, label, to, exact, url } = groups;
    const target = !inLink && (to ?? exact ?? url);
    const [tag] = ["strong", "em", "strong_", "em_", "del"].filter((name) => groups[name]);
    const node = tag ? make(place, tag.replace("_", "")) : link(place, target);
    if (code) {
      make(place, "code", { dir: "ltr", textContent: code.replace(/^ (.+) $/s, "$1") });
    } else if (tag || (node !== place && label)) {
      inline(node, groups[tag] ?? label, growing && at === shown.length, inLink || !tag);
    } else {
      node.append(node === place ? (escaped ?? all) : target);
    }
  }
  place.append(shown.slice(at));
}

// Render the block that begins with this line, and give the index of the line after it.
function block(place, lines, at, growing, depth) {
  const [fence, heading, item, quote, rule] = STARTS.map((pattern) => pattern.exec(lines[at]));
  let end = at + 1;
  const isLast = () => growing && end === lines.length;
  const linesUntil = (stops) => {
    for (; end < lines.length && !stops(lines[end]); end++);
    return lines.slice(at, end);
  };
  const text = (node, content) => {
    (content.match(PART) ?? []).forEach((part) => inline(node, part, isLast()));
    node.dir = node === place ? "" : "auto"; // last: browsers look for the direction again at each change
  };
  const nest = (node, inner) => {
    for (let next = 0; next < inner.length; next = block(node, inner, next, isLast(), depth + 1));
  };
  if (fence) {
    const closes = (line) => line.trim().startsWith(fence[1]) && !line.trim().replaceAll(fence[1][0], "");
    const code = linesUntil(closes).slice(1).map((line) => dedent(line, indent(lines[at])));
    const box = make(place, "div", { className: "opchat-code" });
    make(box, "span", { textContent: fence[2].trim() });
    make(box, "button", { type: "button", className: "opchat-copy", textContent: "Copy" });
    make(make(box, "pre"), "code", { dir: "ltr", textContent: code.join("\n") });
    end++;
  } else if (rule) {
    make(place, "hr");
  } else if (heading) {
    text(make(place, `h${Math.min(6, heading[1].length + 2)}`), lines[at].slice(heading[0].length));
  } else if (quote && depth < DEEPEST) {
    nest(make(place, "blockquote"), linesUntil((line) => !QUOTE.test(line)).map((line) => line.replace(QUOTE, "")));
  } else if (item && depth < DEEPEST) {
    const start = parseInt(item[1]);
    const list = make(place, start >= 0 ? "ol" : "ul", start >= 0 && { start });
    for (let next = item; next && parseInt(next[1]) >= 0 === start >= 0; end++) {
      const [least, width] = [indent(lines[at]) + 2, indent(lines[at]) + next[1].length + 1];
      const belongs = (line) => !line.trim() || indent(line) >= least || (lines[end - 1].trim() && !isStart(line));
      const [first, ...more] = linesUntil((line) => !belongs(line));
      nest(make(list, "li"), [first.slice(next[0].length), ...more.map((line) => dedent(line, width))]);
      at = end;
      next = at < lines.length && !RULE.test(lines[at]) && ITEM.exec(lines[at]);
    }
    list.dir = "auto";
    end = at;
  } else if (isTable(lines.slice(at, at + 2))) {
    const [header, , ...rows] = linesUntil((line) => !ROW.test(line)).map(cells);
    const table = make(make(place, "div", { className: "opchat-table" }), "table");
    for (const row of [header, ...rows]) {
      const node = make(table, "tr");
      row.slice(0, header.length).forEach((cell) => text(make(node, row === header ? "th" : "td"), cell.trim()));
    }
  } else if (lines[at].trim()) {
    const content = linesUntil((line) => !line.trim() || isStart(line) || isTable(lines.slice(end, end + 2)));
    const isFirstOfItem = place.localName === "li" && !place.firstChild;
    text(isFirstOfItem ? place : make(place, "p"), content.map((line) => line.trimStart()).join("\n"));
  }
  return end;
}

export class Markdown {
  constructor(place) {
    Object.assign(this, { place, finished: 0, tail: "", rendered: 0 }); // nodes, characters
  }

  // While the text is `growing`, marks that are not closed yet are shown as if they were, else as text.
  write(piece, growing) {
    this.tail += piece;
    if (growing && this.tail.length - this.rendered < (this.tail.length - LARGE) / 16) {
      return;
    }
    while (this.place.childNodes.length > this.finished) {
      this.place.lastChild.remove();
    }
    const lines = this.tail.replaceAll("\r", "").split("\n");
    let from = 0;
    for (let at = 0; at < lines.length; ) {
      at = block(this.place, lines, at, growing, 0);
      // A complete line, or two for a table, told where the block ends.
      [from, this.finished] = at < lines.length - 2 ? [at, this.place.childNodes.length] : [from, this.finished];
    }
    this.tail = lines.slice(from).join("\n");
    this.rendered = this.tail.length;
  }
}
