"use strict";
// The review page. Answers go into an outbox in the browser's storage first and leave it when the
// server has them on its disk: neither a reload nor a server that is away loses one.

const $ = (id) => document.getElementById(id);
const video = $("video");
const CANNOT_TELL = "cannot_tell";
const TYPING_PAUSE = 400; // ms after the last key until a text is sent
const RETRY = 1500; // ms

let session = null;
let clip = null; // the clip on the page, with its rows
let at = 0; // its number
let active = 0; // the row that keys go to
let sending = false;

// --- elements ------------------------------------------------------------------------------------

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children.filter((child) => child !== null));
  return made;
}

function key(name) {
  return element("kbd", { textContent: name });
}

function showProblem(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

// --- the server ----------------------------------------------------------------------------------

async function ask(path) {
  const response = await fetch(path, { headers: { Accept: "application/json" } });
  const value = await response.json();
  if (!response.ok) throw new Error(value.error);
  return value;
}

function boxName() {
  return `review ${session.mode} ${session.key} ${session.rater}`;
}

function outbox() {
  try {
    return JSON.parse(localStorage.getItem(boxName())) || [];
  } catch {
    return [];
  }
}

function keepOutbox(replies) {
  if (replies.length) localStorage.setItem(boxName(), JSON.stringify(replies));
  else localStorage.removeItem(boxName());
}

// A later reply to a question takes the place of one that is still waiting.
function put(row, value) {
  const reply = { clip_id: clip.id, rater: session.rater, row: row.id, value, number: Date.now() + Math.random() };
  const others = outbox().filter((one) => one.clip_id !== reply.clip_id || one.row !== reply.row);
  keepOutbox([...others, reply]);
}

function taken(reply) {
  keepOutbox(outbox().filter((one) => one.number !== reply.number));
}

async function send() {
  if (sending) return;
  sending = true;
  try {
    for (let reply; (reply = outbox()[0]); ) {
      say("saving …");
      const { number, ...body } = reply;
      let response;
      try {
        response = await fetch("/api/answer", {
          method: "POST",
          headers: { "Content-Type": "application/json" },
          body: JSON.stringify(body),
        });
      } catch {
        return retry("not saved: the server is away; kept here, trying again");
      }
      const told = await response.json().catch(() => ({ error: "" }));
      if (response.status >= 500) return retry(told.error || "not saved, trying again");
      taken(reply);
      if (!response.ok) {
        say(`refused: ${told.error}`, true);
        return;
      }
      const known = session.clips.find((one) => one.id === body.clip_id);
      if (known) known.answered = told.answered;
      showCount();
    }
    say("saved");
    if (!$("standing").hidden) showStanding();
  } finally {
    sending = false;
  }
}

function retry(text) {
  say(text, true);
  setTimeout(send, RETRY);
}

function say(text, failed = false) {
  $("saved").textContent = text;
  $("saved").classList.toggle("failed", failed);
}

// --- answering -----------------------------------------------------------------------------------

function answer(row, value) {
  row.value = value;
  put(row, value);
  send();
}

function choose(row, option, more) {
  const before = Array.isArray(row.value) ? row.value : [];
  let value;
  if (option.value === CANNOT_TELL) value = [CANNOT_TELL];
  else if (row.pick === "many" || (row.pick === "some" && more)) {
    const kept = before.filter((one) => one !== CANNOT_TELL && !option.clears.includes(one));
    value = kept.includes(option.value)
      ? kept.filter((one) => one !== option.value)
      : [...kept, option.value];
    value = row.options.map((one) => one.value).filter((one) => value.includes(one));
  } else value = [option.value];
  // A check without a category is no answer: what was taken back becomes good.
  if (!value.length && session.mode === "check") value = ["good"];
  answer(row, value.length ? value : null);
  refresh(row);
  const single = row.pick !== "many" || value[0] === CANNOT_TELL || value[0] === "good";
  if (single && !more) step();
}

function step() {
  if (active + 1 < clip.rows.length) activate(active + 1);
  else if (session.mode !== "label") go(at + 1);
}

// Enter: takes a suggestion, begins to type, or goes on.
function enter(row) {
  if (row.kind === "text" && row.value === null) {
    row.box.querySelector("textarea").focus();
    return;
  }
  if (row.value === null && row.suggestion !== null) {
    if (row.take) row.take();
    else answer(row, row.suggestion);
    refresh(row);
  }
  if (row.kind === "subjects") {
    const first = row.box.querySelector("input, select, textarea");
    if (first && row.value === null) return first.focus();
  }
  goOn();
}

function goOn() {
  if (active + 1 < clip.rows.length) activate(active + 1);
  else go(at + 1);
}

// --- rows ----------------------------------------------------------------------------------------

function activate(number, scroll = true) {
  active = Math.max(0, Math.min(number, clip.rows.length - 1));
  clip.rows.forEach((row, i) => row.box.classList.toggle("active", i === active));
  document.activeElement?.blur?.();
  if (scroll) clip.rows[active].box.scrollIntoView({ block: "nearest" });
}

function refresh(row) {
  row.box.classList.toggle("answered", row.value !== null);
  for (const [value, button] of Object.entries(row.buttons)) {
    button.setAttribute("aria-pressed", Array.isArray(row.value) && row.value.includes(value));
    const suggested = row.value === null && Array.isArray(row.suggestion) && row.suggestion.includes(value);
    button.classList.toggle("suggested", suggested);
  }
  if (row.kind !== "text") return;
  const area = row.box.querySelector("textarea");
  if (Array.isArray(row.value)) area.value = "";
  area.classList.toggle("suggested", row.value === null && row.suggestion !== null);
}

function drawRow(row, number) {
  row.buttons = {};
  const hint = [row.hint];
  if (row.kind === "text") hint.push(row.suggestion ? "Enter to edit, Enter again to take it" : "Enter to type");
  if (row.kind === "choice" && row.suggestion !== null) hint.push("Enter takes the dashed");
  const head = element("h3", {}, row.title, element("small", { textContent: hint.filter(Boolean).join("; ") }));
  row.box = element("div", { className: row.shown === null ? "row" : "row ruled" }, head);
  row.box.dataset.row = row.id;
  row.box.addEventListener("pointerdown", () => active !== number && activate(number, false));
  row.box.addEventListener("focusin", () => {
    active = number;
    clip.rows.forEach((one, i) => one.box.classList.toggle("active", i === number));
  });
  if (row.shown !== null) {
    const text = element("p", { className: "shown", textContent: row.shown || "left empty" });
    text.classList.toggle("empty", !row.shown);
    row.box.append(text);
  }
  if (row.kind === "text") drawText(row);
  if (row.kind === "subjects") drawSubjects(row);
  const options = element("div", { className: "options" });
  options.classList.toggle("list", session.mode === "check");
  for (const option of row.options) {
    const button = element("button", { type: "button", tabIndex: -1 }, key(option.key), option.label);
    button.addEventListener("click", (event) => {
      choose(row, option, event.shiftKey);
      button.blur();
    });
    row.buttons[option.value] = button;
    options.append(button);
  }
  if (row.options.length) row.box.append(options);
  refresh(row);
  return row.box;
}

// Kept at every key, sent when typing pauses.
function whenTyped(node, keep) {
  let timer = 0;
  node.addEventListener("input", () => {
    keep();
    say("typing …");
    clearTimeout(timer);
    timer = setTimeout(send, TYPING_PAUSE);
  });
  node.addEventListener("change", () => {
    clearTimeout(timer);
    send();
  });
}

function drawText(row) {
  const given = typeof row.value === "string" ? row.value : row.value === null ? row.suggestion || "" : "";
  const area = element("textarea", { value: given, rows: 2, ariaLabel: row.title, maxLength: 1500 });
  const keep = () => {
    row.value = area.value.trim() || null;
    put(row, row.value);
    refresh(row);
  };
  whenTyped(area, keep);
  area.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey) return;
    event.preventDefault();
    if (row.value === null && area.value.trim()) keep(); // a suggestion as it stands
    send();
    goOn();
  });
  row.box.append(area);
}

function drawSubjects(row) {
  const value = () => row.value || { main_subject_only: false, subjects: [] };
  const list = element("div");
  const only = element("input", { type: "checkbox", checked: value().main_subject_only });
  const keep = (subjects, main = only.checked) => {
    row.value = { main_subject_only: main, subjects };
    put(row, row.value);
    refresh(row);
  };
  const redraw = () => list.replaceChildren(...value().subjects.map(drawSubject));
  const replace = (subjects) => {
    keep(subjects);
    send();
    redraw();
  };
  const drawSubject = (subject, number) => {
    const card = element("div", { className: "subject" });
    for (const part of session.subject.parts) card.append(drawPart(part, subject, (said) => {
      const subjects = value().subjects.slice();
      const { [part.id]: before, ...rest } = subjects[number];
      subjects[number] = said === "" ? rest : { ...rest, [part.id]: said };
      keep(subjects);
    }));
    const remove = element("button", { type: "button", textContent: "remove", className: "wide" });
    remove.addEventListener("click", () => replace(value().subjects.filter((_, i) => i !== number)));
    card.append(remove);
    return card;
  };
  row.add = () => {
    if (value().subjects.length >= session.subject.most) return;
    const first = !value().subjects.length;
    replace([...value().subjects, { is_main_subject: first }]);
    list.lastChild.querySelector("select, input").focus();
  };
  row.none = () => replace([]);
  if (row.suggestion !== null) {
    row.take = () => {
      answer(row, row.suggestion);
      refresh(row);
      redraw();
    };
  }
  only.addEventListener("change", () => {
    keep(value().subjects, only.checked);
    send();
  });
  const buttons = element("div", { className: "options" });
  const button = (name, label, act) => {
    const made = element("button", { type: "button", tabIndex: -1 }, key(name), label);
    made.addEventListener("click", act);
    buttons.append(made);
  };
  button("a", "add a subject", row.add);
  button("x", "there is none", row.none);
  if (row.take) button("f", `fill in the caption's ${row.suggestion.subjects.length}`, row.take);
  buttons.append(element("label", {}, only, " the main subject alone"));
  row.box.append(buttons, list);
  redraw();
}

function drawPart(part, subject, keep) {
  let field;
  if (part.kind === "flag") {
    field = element("input", { type: "checkbox", checked: subject[part.id] === true });
    field.addEventListener("change", () => { keep(field.checked); send(); });
    return element("label", { className: "flag" }, field, part.title);
  }
  const said = Array.isArray(subject[part.id]) ? subject[part.id].join("; ") : subject[part.id] || "";
  if (part.kind === "select") {
    const types = ["", ...session.subject.types, CANNOT_TELL];
    field = element("select", {}, ...types.map((one) => element("option", { value: one, textContent: one.replace("_", " ") })));
    field.value = said;
    field.addEventListener("change", () => { keep(field.value); send(); });
  } else {
    field = element("input", { value: said, maxLength: 1500 });
    whenTyped(field, () => keep(field.value.trim()));
  }
  const wide = ["appearance", "action", "expression"].includes(part.id);
  return element("label", { className: wide ? "wide" : "" }, part.title, field);
}

// --- clips ---------------------------------------------------------------------------------------

async function go(number, begin = false) {
  if (number < 0 || number >= session.clips.length) {
    say(number < 0 ? "this is the first clip" : "this was the last clip");
    return;
  }
  let loaded;
  const waiting = outbox(); // before the clip is asked for, which may not have these yet
  try {
    await send();
    const query = new URLSearchParams({ id: session.clips[number].id, rater: session.rater });
    loaded = await ask(`/api/clip?${query}`);
  } catch (error) {
    showProblem(`clip ${number + 1} cannot be had: ${error.message}`);
    if (begin) setTimeout(() => go(number, true), RETRY);
    return;
  }
  clip = loaded;
  at = number;
  history.replaceState(null, "", `?${new URLSearchParams({ rater: session.rater, clip: clip.id })}`);
  for (const reply of waiting) {
    const row = clip.rows.find((one) => one.id === reply.row);
    if (row && reply.clip_id === clip.id) row.value = reply.value;
  }
  draw();
}

function draw() {
  showProblem(clip.problem);
  $("title").textContent = clip.title;
  const range = clip.start === null ? "" : `#t=${clip.start},${clip.end}`;
  video.loop = clip.start === null;
  video.src = clip.video + range;
  const boxes = [];
  clip.rows.forEach((row, i) => {
    if (row.group && row.group !== clip.rows[i - 1]?.group) boxes.push(element("h2", { textContent: row.group }));
    boxes.push(drawRow(row, i));
  });
  $("rows").replaceChildren(...boxes);
  const open = clip.rows.findIndex((row) => row.value === null);
  window.scrollTo(0, 0);
  activate(open < 0 ? 0 : open, open > 0);
  showCount();
}

function showCount() {
  const done = session.clips.filter((one) => one.answered).length;
  $("count").textContent = `clip ${at + 1} of ${session.clips.length}, ${done} answered`;
  $("progress").max = session.clips.length;
  $("progress").value = done;
}

function goToOpen() {
  const order = session.clips.map((_, i) => (at + 1 + i) % session.clips.length);
  const next = order.find((i) => !session.clips[i].answered);
  if (next === undefined) say("every clip is answered");
  else go(next);
}

async function showStanding() {
  const box = $("standing");
  let table;
  try {
    table = await ask("/api/standing");
  } catch {
    return; // the server is away, which is said already
  }
  const line = (tag, cells) => element("tr", {}, ...cells.map((cell) => element(tag, { textContent: cell })));
  box.className = table.tone;
  box.replaceChildren(element("p", { className: "headline", textContent: table.headline }));
  if (table.rows.length) {
    box.append(element("table", {}, line("th", table.columns), ...table.rows.map((row) => line("td", row))));
  }
  if (table.note) box.append(element("p", { textContent: table.note }));
  box.hidden = false;
}

function toggleStanding() {
  if ($("standing").hidden) showStanding();
  else $("standing").hidden = true;
}

// --- the video -----------------------------------------------------------------------------------

function playPause() {
  if (video.paused) video.play();
  else video.pause();
}

function nudge(seconds) {
  video.pause();
  video.currentTime = Math.max(clip.start || 0, Math.min(video.currentTime + seconds, clip.end ?? video.duration));
}

video.addEventListener("timeupdate", () => {
  if (clip && clip.end !== null && !video.paused && (video.currentTime >= clip.end || video.ended)) {
    video.currentTime = clip.start;
  }
});
video.addEventListener("pause", () => {
  // The end of a #t=start,end pauses: a loop begins again there.
  if (clip && clip.end !== null && video.currentTime >= clip.end - 0.02) {
    video.currentTime = clip.start;
    video.play();
  }
});
video.addEventListener("error", () => {
  if (!clip || clip.problem) return;
  if (!video.src.endsWith("?preview=1")) {
    // The server makes something that every browser plays, from the clip's start on.
    $("title").textContent = `${clip.title} (shown smaller, as this browser cannot play the file)`;
    [clip.start, clip.end] = [null, null];
    video.loop = true;
    video.src = `${clip.video}?preview=1`;
  } else showProblem(`neither this browser nor the server can play ${clip.title}`);
});

// --- keys ----------------------------------------------------------------------------------------

const COMMANDS = {
  " ": playPause,
  ",": () => nudge(-1 / 25),
  ".": () => nudge(1 / 25),
  n: () => go(at + 1),
  p: () => go(at - 1),
  ArrowRight: () => go(at + 1),
  ArrowLeft: () => go(at - 1),
  ArrowDown: () => activate(active + 1),
  ArrowUp: () => activate(active - 1),
  j: () => activate(active + 1),
  k: () => activate(active - 1),
  u: goToOpen,
  s: toggleStanding,
  Enter: () => enter(clip.rows[active]),
};

document.addEventListener("keydown", (event) => {
  if (!clip || event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input:not([type=checkbox]), textarea, select");
  if (event.key === "Escape" && event.target.matches("input, textarea, select")) {
    event.target.blur();
    return;
  }
  if (typing || (event.target.matches("button, input") && (event.key === " " || event.key === "Enter"))) return;
  const row = clip.rows[active];
  // With Shift the key's character depends on the keyboard, its code does not.
  const digit = /^(?:Digit|Numpad)(\d)$/.exec(event.code);
  const name = digit ? digit[1] : event.key;
  const option = row?.options.find((one) => one.key === name);
  const own = { a: row?.add, x: row?.none, f: row?.take }[event.key];
  const act = option ? () => choose(row, option, event.shiftKey) : own || COMMANDS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

// --- begin ---------------------------------------------------------------------------------------

function askName() {
  $("work").hidden = true;
  $("name").hidden = false;
  $("rater").value = session?.rater || "";
  $("rater").focus();
}

async function begin() {
  const query = new URLSearchParams(location.search);
  try {
    session = await ask(`/api/session?${new URLSearchParams({ rater: query.get("rater") || "" })}`);
  } catch (error) {
    showProblem(error.message);
    if (session || query.get("rater")) askName();
    return;
  }
  showProblem("");
  $("mode").textContent = session.mode;
  document.title = `${session.mode}: skycaptioner`;
  $("about").textContent = session.about;
  $("who").textContent = session.rater;
  $("who").hidden = !session.rater;
  $("more-keys").textContent = session.mode === "label" ? "Shift with a key: a second right answer" : "";
  if (!session.rater) return askName();
  $("name").hidden = true;
  $("work").hidden = false;
  const wanted = session.clips.findIndex((one) => one.id === query.get("clip"));
  const open = session.clips.findIndex((one) => !one.answered);
  if (session.mode === "check" && window.innerWidth > 760) showStanding();
  await go(wanted >= 0 ? wanted : Math.max(0, open), true);
}

$("name").addEventListener("submit", (event) => {
  event.preventDefault();
  clip = null;
  history.replaceState(null, "", `?${new URLSearchParams({ rater: $("rater").value.trim() })}`);
  begin();
});
$("who").addEventListener("click", askName);
$("previous").addEventListener("click", () => go(at - 1));
$("next").addEventListener("click", () => go(at + 1));
$("open").addEventListener("click", goToOpen);
$("standing-button").addEventListener("click", toggleStanding);
begin();
