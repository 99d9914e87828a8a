// The page of the sandbox workspace: who one acts as, where one looks, and what one does there.

import { ask, fill, make, restore, sure, valueOf, valuesIn } from "./forms.js";
import { avatar, dayOf, draw, plain } from "./message.js";
import { extra, faultsOver, follow, post, session } from "./server.js";

const $ = (id) => document.getElementById(id);
const HOME = "home";
const FAULTS = [
  ["Too fast: three calls get 429", { name: "ratelimited", times: 3, retry_after: 2 }],
  ["Down: the next 15 calls fail", { name: "down", times: 15 }],
  ["Three answers get lost", { name: "lost", method: "chat.postMessage", times: 3 }],
  ["Three deliveries come twice", { name: "duplicate", times: 3 }],
  ["The socket is closed", { name: "disconnect" }],
  ["A scope is missing, twice", { name: "missing_scope", times: 2 }],
];

let screen = null; // as the feed has it
let feed = null;
let place = ""; // a channel, or HOME
let wanted = ""; // a channel that they are joining
let thread = ""; // ts of its first message
let unread = {};
let words = []; // of /inc, for the suggestions

// What happened ------------------------------------------------------------------------------------------------------

async function actAs(user) {
  sessionStorage.setItem("me", user);
  feed?.close();
  thread = "";
  feed = follow(user, (kind, what) => (held ? held.push([kind, what]) : hear(kind, what)));
}

const hear = (kind, what) => (kind === "state" ? begin(what) : change(what));

// What is under a pointer stays there until it is let go: a button that is replaced meanwhile would lose its click.
let held = null;
function release() {
  setTimeout(() => {
    const waiting = held || [];
    held = null;
    waiting.forEach(([kind, what]) => hear(kind, what));
  });
}
for (const [event, heard] of [["pointerdown", () => { held ??= []; setTimeout(release, 800); }], ["pointerup", release], ["pointercancel", release]]) {
  document.addEventListener(event, heard, true);
}

function begin(whole) {
  const other = screen?.me?.id !== whole.me.id;
  screen = whole;
  if (other) unread = {};
  if (place !== HOME && !channel(place)) place = (screen.channels.find((one) => !one.is_im) || {}).id || HOME;
  $("me").replaceChildren(...screen.people.filter((one) => !one.is_bot && !one.deleted).map((one) =>
    new Option(one.name, one.id, false, one.id === screen.me.id)));
  $("me-title").textContent = screen.me.profile.title || "";
  const open = other ? "" : thread;
  rail();
  go(place);
  if (open) openThread(open);
  modals();
  trouble();
  if ($("authenticator").open) code();
  document.body.dataset.viewer = screen.me.id;
}

function change(what) {
  switch (what.kind) {
    case "message": return arrived(what.message);
    case "message_gone": return gone(what.channel, what.ts);
    case "channel": {
      const was = channel(what.channel.id);
      if (was) Object.assign(was, what.channel);
      else screen.channels.push({ messages: [], ...what.channel });
      if (!was) unread[what.channel.id] = (what.channel.messages || []).length || 1;
      rail();
      if (place === what.channel.id) header();
      if (place === what.channel.id && what.channel.messages) list($("messages"), roots(channel(place))); // just let in
      if (wanted === what.channel.id) { wanted = ""; go(what.channel.id); }
      return;
    }
    case "channel_gone":
      screen.channels = screen.channels.filter((one) => one.id !== what.channel);
      rail();
      if (place === what.channel) go((screen.channels[0] || {}).id || HOME);
      return;
    case "joinable": screen.joinable = what.joinable; return rail();
    case "modals": screen.modals = what.modals; return modals();
    case "home": screen.home = what.home; if (place === HOME) home(); return;
    case "failure": return toast(what.text, true);
    case "people": screen.people = what.people; screen.groups = what.groups; return;
    case "trouble": screen.trouble = what.trouble; return trouble();
  }
}

function arrived(message) {
  const where = channel(message.channel);
  if (!where) return;
  const at = where.messages.findIndex((one) => one.ts === message.ts);
  const isNew = at < 0;
  if (isNew) where.messages.push(message); else where.messages[at] = message;
  const answers = message.thread_ts && message.thread_ts !== message.ts;
  if (place === message.channel) {
    if (!answers) put($("messages"), message, isNew);
    if (thread && [message.ts, message.thread_ts].includes(thread)) put($("replies"), message, isNew, true);
    if (answers && message.visible_to && message.thread_ts !== thread) openThread(message.thread_ts);
    header();
  } else if (isNew && message.user !== screen.me.id) {
    unread[message.channel] = (unread[message.channel] || 0) + 1;
    rail();
  }
}

function gone(id, ts) {
  const where = channel(id);
  if (where) where.messages = where.messages.filter((one) => one.ts !== ts);
  document.querySelectorAll(`[data-channel="${id}"][data-ts="${ts}"]`).forEach((one) => one.remove());
}

// What is seen -------------------------------------------------------------------------------------------------------

const channel = (id) => screen.channels.find((one) => one.id === id);
const nameOf = (one) => (one.is_im ? screen.app.name : one.name);
const roots = (one) => one.messages.filter((m) => !m.thread_ts || m.thread_ts === m.ts);

function rail() {
  const link = (id, glyph, name, more = "") => {
    const count = unread[id] || 0;
    const button = make("button", { type: "button", className: `place ${count ? "unread" : ""} ${more}`, on: { click: () => go(id) } },
      make("span", { className: "glyph", "aria-hidden": "true" }, glyph), make("span", { className: "name" }, name),
      make("span", { className: "count", "aria-label": count ? `${count} unread` : "" }, count || ""));
    if (id === place) button.setAttribute("aria-current", "page");
    return make("li", {}, button);
  };
  const known = new Set(screen.channels.map((one) => one.id));
  const open = [...screen.channels.filter((one) => !one.is_im), ...screen.joinable.filter((one) => !known.has(one.id))]
    .sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
  const offer = (one) => make("li", {}, make("button", { type: "button", className: "place gone", title: "Join",
    on: { click: () => join(one.id) } }, make("span", { className: "glyph" }, "+"), make("span", { className: "name" }, one.name)));
  $("apps").replaceChildren(link(HOME, "⌂", `${screen.app.name} home`));
  $("channels").replaceChildren(...open.map((one) => (known.has(one.id)
    ? link(one.id, one.is_private ? "🔒" : "#", one.name, one.is_archived ? "gone" : "") : offer(one))));
  $("directs").replaceChildren(...screen.channels.filter((one) => one.is_im).map((one) => link(one.id, "●", nameOf(one))));
  if (!screen.channels.some((one) => one.is_im)) {
    $("directs").append(make("li", {}, make("button", { type: "button", className: "place", on: { click: direct } },
      make("span", { className: "glyph", "aria-hidden": "true" }, "●"), make("span", { className: "name" }, screen.app.name))));
  }
  const total = Object.values(unread).reduce((sum, one) => sum + one, 0);
  document.title = `${total ? `(${total}) ` : ""}Firedoor sandbox`;
}

function go(id) {
  place = id;
  delete unread[id];
  closeThread();
  rail();
  showRail(false);
  header();
  if (id === HOME) { home(); act("home", {}); return; }
  const here = channel(id);
  $("text").placeholder = `Message ${here.is_im ? nameOf(here) : `#${here.name}`}, or /inc`;
  list($("messages"), roots(here));
}

function header() {
  const here = channel(place);
  $("room-name").textContent = here ? (here.is_im ? nameOf(here) : `# ${here.name}`) : `${screen.app.name} home`;
  $("room-topic").textContent = here ? [here.is_ext_shared && "Shared with another company", here.topic?.value].filter(Boolean).join(" · ") : "";
  const closed = here?.is_archived;
  $("composer").hidden = !here || Boolean(closed);
  $("closed").hidden = !closed;
  $("members").hidden = !here || here.is_im;
  $("members").textContent = here ? `${here.members.length} members` : "";
  const pins = here ? here.messages.filter((one) => one.pinned) : [];
  $("pinned").replaceChildren(...pins.map((one) => make("button", { type: "button", className: "pin",
    on: { click: () => reveal(one.ts) } }, `📌 ${plain(one, screen).split("\n").find((line) => /INC-/.test(line)) || plain(one, screen).split("\n")[0]}`)),
    ...(here?.bookmarks || []).map((one) => make("a", { className: "pin", href: one.link, target: "_blank", rel: "noopener noreferrer" }, `🔖 ${one.title}`)));
}

function reveal(ts) {
  const found = $("messages").querySelector(`[data-ts="${ts}"]`);
  found?.scrollIntoView({ block: "start" });
  found?.classList.add("fresh");
}

function list(into, messages, inThread = false) {
  into.replaceChildren();
  if (!messages.length) {
    into.append(make("div", { className: "empty" }, make("h3", {}, "Nothing here yet"),
      make("p", {}, "Press “Send an alert”: the incident opens, contains the agent, and asks people for what it may not do alone.")));
  }
  for (const message of messages) put(into, message, false, inThread);
  into.scrollTop = into.scrollHeight;
}

function put(into, message, fresh, inThread = false) {
  into.querySelector(".empty")?.remove();
  const was = into.querySelector(`[data-ts="${message.ts}"]`);
  const made = draw(message, screen, { inThread });
  fill(made, screen, (select) => offered(select, { channel: message.channel, ts: message.ts }));
  const low = into.scrollHeight - into.scrollTop - into.clientHeight < 120;
  if (was) {
    const focused = was.contains(document.activeElement) ? document.activeElement.dataset : null;
    restore(made, valuesIn(was));
    was.replaceWith(made);
    if (focused) made.querySelector(`[data-action-id="${CSS.escape(focused.actionId || "")}"], [data-do="${CSS.escape(focused.do || "")}"]`)?.focus();
  } else {
    const last = [...into.querySelectorAll(".message")].at(-1);
    if (!last || dayOf(last.dataset.ts) !== dayOf(message.ts)) into.append(make("p", { className: "day" }, dayOf(message.ts)));
    if (fresh) made.classList.add("fresh");
    into.append(made);
  }
  const own = fresh && (message.user === screen.me.id || message.visible_to); // what they said, or are told alone
  if (low || own) into.scrollTop = into.scrollHeight;
}

function openThread(ts) {
  thread = ts;
  $("thread").hidden = false;
  $("frame").classList.add("with-thread");
  list($("replies"), channel(place).messages.filter((one) => ts === one.ts || ts === one.thread_ts), true);
}

function closeThread() {
  thread = "";
  $("thread").hidden = true;
  $("frame").classList.remove("with-thread");
}

function home() {
  const shown = make("div", { className: "home", "data-view": screen.home?.id || "" });
  if (screen.home) { shown.innerHTML = screen.home.html; fill(shown, screen, (select) => offered(select, { view: screen.home.id })); }
  else shown.append(make("div", { className: "empty" }, make("h3", {}, "Nothing published yet"), make("p", {}, "The app fills its home when somebody opens it.")));
  $("messages").replaceChildren(shown);
}

// Modals -------------------------------------------------------------------------------------------------------------

function modals() {
  const dialog = $("modal");
  const view = screen.modals.at(-1);
  if (!view) { dialog.close(); dialog.replaceChildren(); return; }
  const before = dialog.dataset.view === view.id && dialog.open ? valuesIn(dialog) : {};
  const inside = make("div", { className: "inside" });
  inside.innerHTML = view.html;
  const label = (text, otherwise) => text?.text || otherwise;
  const buttons = [make("button", { type: "button", className: "plain", on: { click: leave } }, label(view.close, "Close"))];
  if (view.submit) buttons.push(make("button", { type: "submit", className: "go" }, view.submit.text));
  const form = make("form", { className: "sheet", noValidate: true, on: { submit: send } },
    make("header", {}, make("h2", { id: "modal-title" }, label(view.title, screen.app.name)),
      make("button", { type: "button", className: "icon", "aria-label": "Close", on: { click: leave } }, "✕")),
    inside, make("footer", {}, make("span", { className: "said", role: "alert" }), ...buttons));
  dialog.replaceChildren(form);
  dialog.dataset.view = view.id;
  fill(inside, screen, (select) => offered(select, { view: view.id }));
  restore(inside, before);
  if (!dialog.open) dialog.showModal();
  (inside.querySelector("input, textarea, select, button") || form.querySelector(".go, .plain"))?.focus();
}

async function leave() {
  if (screen.modals.length) await act("close", { view: screen.modals.at(-1).id });
}

async function send(event) {
  event.preventDefault();
  const dialog = $("modal");
  const go = dialog.querySelector(".go");
  go.disabled = true;
  dialog.querySelectorAll(".bk-error").forEach((one) => { one.textContent = ""; });
  const answer = await act("submit", { view: dialog.dataset.view, values: valuesIn(dialog) }, true);
  go.disabled = false;
  if (answer.result === "errors") {
    for (const [block, why] of Object.entries(answer.errors)) {
      const input = dialog.querySelector(`.bk-input[data-block-id="${CSS.escape(block)}"]`);
      if (input) input.querySelector(".bk-error").textContent = why;
    }
    dialog.querySelector(".bk-error:not(:empty)")?.closest(".bk-input").querySelector("input, textarea, select")?.focus();
  }
  if (!answer.ok || answer.failed) dialog.querySelector(".said").textContent = answer.failed || answer.why;
}

// What is done -------------------------------------------------------------------------------------------------------

async function act(deed, body, quiet = false) {
  const answer = await post(`/sandbox/act/${deed}`, { user: screen.me.id, ...body });
  if (!quiet && (!answer.ok || answer.failed)) toast(answer.failed || answer.why, true);
  return answer;
}

async function offered(select, where) {
  const { actionId: action_id, blockId: block_id } = select.dataset;
  return (await act("options", { ...where, action_id, block_id })).options || [];
}

function whereIs(element) {
  const view = element.closest("[data-view]")?.dataset.view;
  if (view) return { view };
  const { channel: id, ts } = element.closest("[data-ts]").dataset;
  return { channel: id, ts };
}

async function pressed(control, value = null) {
  if (!(await sure(control))) return;
  const { actionId: action_id, blockId: block_id } = control.dataset;
  const root = control.closest("[data-view], [data-ts]");
  control.setAttribute("aria-busy", "true");
  await act("click", { ...whereIs(control), action_id, block_id, value, values: valuesIn(root) });
  control.removeAttribute("aria-busy");
}

document.addEventListener("click", (event) => {
  const control = event.target.closest("button[data-action-id]");
  if (control) pressed(control);
  const tool = event.target.closest("[data-do]");
  if (tool) use(tool);
  const mentioned = event.target.closest("[data-channel-id]");
  if (mentioned) enter(mentioned.dataset.channelId);
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.target.matches("[data-channel-id]")) event.target.click();
});

document.addEventListener("change", (event) => {
  const control = event.target.closest("[data-element]");
  if (!control || control.closest(".bk-input")) return;
  pressed(control, valueOf(control, control.offered)).then(() => { if (control.dataset.element === "overflow") control.value = ""; });
});

function use(tool) {
  const { channel: id, ts } = tool.closest("[data-ts]").dataset;
  const message = channel(id).messages.find((one) => one.ts === ts);
  switch (tool.dataset.do) {
    case "thread": openThread(ts); return $("reply-text").focus();
    case "dismiss": return gone(id, ts);
    case "more": return more(tool, message);
    default: act(tool.dataset.do, { channel: id, ts, name: tool.dataset.name });
  }
}

function more(tool, message) {
  const at = { channel: message.channel, ts: message.ts };
  const items = screen.app.shortcuts.filter((one) => one.type === "message").map((one) =>
    [one.name, () => act("shortcut", { callback_id: one.callback_id, ...at })]);
  items.push(message.pinned ? ["Unpin from the channel", () => act("unpin", at)] : ["Pin to the channel", () => act("pin", at)]);
  items.push(["React with ✅", () => act("react", { ...at, name: "white_check_mark" })]);
  if (message.user === screen.me.id) items.push(["Edit", () => edit(message)], ["Delete", () => act("delete", at)]);
  menu(tool, items);
}

function menu(by, items) {
  document.querySelector(".floating")?.remove();
  const box = by.getBoundingClientRect();
  const floating = make("div", { className: "floating", role: "menu" }, ...items.map(([label, perform]) =>
    make("button", { type: "button", role: "menuitem", on: { click: () => { close(); perform(); } } }, label)));
  const close = () => { floating.remove(); document.removeEventListener("pointerdown", outside); by.focus(); };
  const outside = (event) => { if (!floating.contains(event.target)) close(); };
  floating.addEventListener("keydown", (event) => {
    const all = [...floating.children];
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) { event.preventDefault(); all[(all.indexOf(document.activeElement) + step + all.length) % all.length].focus(); }
    if (event.key === "Escape") { event.stopPropagation(); close(); }
  });
  document.body.append(floating);
  floating.style.right = `${Math.max(8, innerWidth - box.right)}px`;
  floating.style.top = `${Math.min(box.bottom + 4, innerHeight - floating.offsetHeight - 8)}px`;
  floating.firstChild.focus();
  setTimeout(() => document.addEventListener("pointerdown", outside));
}

async function edit(message) {
  const field = make("textarea", { value: message.text, rows: 4, className: "bk-control", "aria-label": "Message" });
  if (await ask("Edit the message", field, [{ label: "Cancel", value: false }, { label: "Save", value: true, kind: "go" }])) {
    act("edit", { channel: message.channel, ts: message.ts, text: field.value });
  }
}

function enter(id) {
  if (channel(id)) go(id);
  else if (screen.joinable.some((one) => one.id === id)) join(id);
}

async function join(id) {
  const answer = await act("join", { channel: id }, true);
  if (channel(id)) return go(id); // the app let them in meanwhile
  if (!answer.ok) return toast(answer.why, true);
  wanted = id;
}

async function direct() {
  const answer = await act("dm", {});
  if (answer.channel) setTimeout(() => channel(answer.channel) && go(answer.channel), 200);
}

// Writing ------------------------------------------------------------------------------------------------------------

// "@SRE 1" as Slack sends it. Long names go first, for one can begin another.
const people = () => screen.people.filter((one) => !one.is_bot && !one.deleted);
const mentioning = (text) => people().sort((a, b) => b.name.length - a.name.length)
  .reduce((said, one) => said.replaceAll(`@${one.name}`, `<@${one.id}>`), text);

async function write(field, thread_ts = "") {
  const text = field.value.trim();
  if (!text || !channel(place)) return;
  field.value = "";
  grow(field);
  const [command, ...rest] = mentioning(text).split(" ");
  const where = thread_ts ? { channel: place, thread_ts } : { channel: place };
  let answer;
  if (command in screen.app.commands) answer = await act("command", { ...where, command, text: rest.join(" ") });
  else if (command.startsWith("/")) return toast(`${command} is no command here. There is: ${Object.keys(screen.app.commands).join(", ")}.`, true);
  else answer = await act("say", { ...where, text: mentioning(text) });
  if (!answer.ok) field.value = text;
}

function suggest() {
  const typed = $("text").value;
  const box = $("suggestions");
  const [command, word, ...rest] = typed.split(" ");
  const [, before, name] = typed.match(/^(.*(?:^|\s))@([^@]*)$/s) || [];
  let found = [];
  if (name !== undefined) {
    found = people().filter((one) => one.name.toLowerCase().startsWith(name.toLowerCase()) && one.name !== name.trim())
      .map((one) => [`${before}@${one.name} `, one.profile.title || "", `@${one.name}`]);
  } else if (typed.startsWith("/") && word === undefined) {
    found = Object.entries(screen.app.commands).filter(([name]) => name.startsWith(command)).map(([name, hint]) => [`${name} `, hint]);
  } else if (command in screen.app.commands && !rest.length) {
    found = words.filter(([name]) => name.startsWith(word)).map(([name, hint]) => [`${command} ${name} `, hint]);
  }
  box.replaceChildren(...found.map(([value, hint, label = value.trim()], at) => make("li", { role: "option", id: `s${at}`, "aria-selected": "false", "data-value": value,
    on: { pointerdown: (event) => { event.preventDefault(); take(value); } } }, make("b", {}, label), make("span", {}, hint))));
  box.hidden = !found.length;
  select(-1);
}

function select(at) {
  [...$("suggestions").children].forEach((one, number) => one.setAttribute("aria-selected", String(number === at)));
  $("text").setAttribute("aria-activedescendant", at < 0 ? "" : `s${at}`);
  $("suggestions").children[at]?.scrollIntoView({ block: "nearest" });
}

function take(value) {
  $("text").value = value;
  suggest();
  $("text").focus();
}

function keys(event, form) {
  const all = [...$("suggestions").children];
  const at = all.findIndex((one) => one.getAttribute("aria-selected") === "true");
  if (form === "composer" && all.length && ["ArrowDown", "ArrowUp", "Tab"].includes(event.key)) {
    event.preventDefault();
    if (event.key === "Tab") return take(all[Math.max(0, at)].dataset.value);
    return select((at + (event.key === "ArrowDown" ? 1 : -1) + all.length) % all.length);
  }
  if (event.key === "Escape") { $("suggestions").hidden = true; $("suggestions").replaceChildren(); }
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  if (form === "composer" && at >= 0) return take(all[at].dataset.value);
  $(form).requestSubmit();
}

function grow(field) {
  field.rows = Math.min(8, Math.max(1, field.value.split("\n").length));
  if (field.id === "text") suggest();
}

async function upload(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const content = btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
  act("upload", { channel: place, name: file.name, content });
}

// Beside the conversation --------------------------------------------------------------------------------------------

async function sendAlert() {
  const shelf = (await extra("alerts")).alerts || [];
  const name = await ask("Send an alert", (done) => [
    make("p", { className: "small" }, "The sandbox's SIEM signs it and posts it to the bot's own webhook, as your SIEM would."),
    ...shelf.map((one) => make("button", { type: "button", className: "card", "data-alert": one.name, on: { click: () => done(one.name) } },
      make("b", {}, one.title), make("small", {}, `about ${one.agent}, from ${one.source}`))),
  ], [{ label: "Cancel", value: null }]);
  if (!name) return;
  const answer = await extra("alert", { name });
  if (!answer.ok) return toast(answer.why, true);
  const taken = answer.alerts[0];
  toast(taken ? `The alert was taken: ${taken.incident || "no incident"}, ${taken.status}.` : "The alert was taken and said nothing new.", false, taken?.incident);
}

async function code() {
  const { code: digits } = await extra("code", { user: screen.me.id });
  $("code").className = digits ? "code" : "code none";
  $("code").textContent = digits ? digits.replace(/(...)(...)/, "$1 $2") : "This person has no authenticator.";
}

function trouble() {
  const { faults, scopes_missing: missing, connections } = screen.trouble;
  $("trouble-count").textContent = faults.length + missing.length || "";
  $("trouble-now").textContent = [connections ? "The bot is connected." : "The bot is not connected.",
    ...faults.map((one) => `${one.name}${one.method && one.method !== "*" ? ` ${one.method}` : ""} ×${one.left}`)].join(" ");
}

function toast(text, bad = false, incident = "") {
  const made = make("div", { className: bad ? "toast bad" : "toast" }, make("span", {}, text || "It did not work."));
  const its = (one) => one.name.startsWith(`${incident.toLowerCase()}-`) && !one.is_archived;
  const look = () => { const found = [...screen.channels, ...screen.joinable].find(its); if (found) { enter(found.id); made.remove(); } };
  if (incident) made.append(make("button", { type: "button", className: "look", on: { click: look } }, "Look"));
  $("toasts").append(made);
  setTimeout(() => made.remove(), 7000);
}

function showRail(open) {
  $("rail").classList.toggle("open", open);
  $("open-rail").setAttribute("aria-expanded", String(open));
}

function listen() {
  $("me").addEventListener("change", () => actAs($("me").value));
  $("send-alert").addEventListener("click", sendAlert);
  $("composer").addEventListener("submit", (event) => { event.preventDefault(); write($("text")); });
  $("reply").addEventListener("submit", (event) => { event.preventDefault(); write($("reply-text"), thread); });
  for (const [field, form] of [["text", "composer"], ["reply-text", "reply"]]) {
    $(field).addEventListener("keydown", (event) => keys(event, form));
    $(field).addEventListener("input", () => grow($(field)));
  }
  $("file").addEventListener("change", () => { for (const file of $("file").files) upload(file); $("file").value = ""; });
  $("close-thread").addEventListener("click", closeThread);
  $("thread").addEventListener("keydown", (event) => { if (event.key === "Escape") { closeThread(); $("text").focus(); } });
  $("open-rail").addEventListener("click", () => showRail(!$("rail").classList.contains("open")));
  $("rail").addEventListener("keydown", (event) => { if (event.key === "Escape") showRail(false); });
  $("authenticator").addEventListener("toggle", () => { if ($("authenticator").open) code(); });
  setInterval(() => { if ($("authenticator").open) code(); }, 5000);
  $("modal").addEventListener("cancel", (event) => { event.preventDefault(); leave(); });
  $("members").addEventListener("click", () => ask("Members", (() => channel(place).members.map((id) => {
    const person = screen.people.find((one) => one.id === id);
    return make("p", { className: "by" }, avatar(person), make("b", {}, person.name), make("small", {}, person.profile.title || (person.is_bot ? "app" : "")));
  })), [{ label: "Close", value: null }]));
  $("faults").replaceChildren(...FAULTS.map(([label, fault]) =>
    make("button", { type: "button", on: { click: () => post("/sandbox/faults", fault) } }, label)),
    make("button", { type: "button", on: { click: faultsOver } }, "All well again"));
}

async function start() {
  listen();
  const opened = await session();
  if (!opened.ok) {
    $("messages").replaceChildren(make("div", { className: "empty" }, make("h3", {}, "This page needs its key"),
      make("p", {}, opened.why || "Open the address that the sandbox printed when it started.")));
    return;
  }
  const { css, words: spoken, first } = await extra("begin");
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(css);
  document.adoptedStyleSheets = [sheet];
  words = spoken;
  actAs(sessionStorage.getItem("me") || first);
}

start();
