// One message, as the person who looks sees it.

import { make } from "./forms.js";

const EMOJI = { pushpin: "📌", white_check_mark: "✅", eyes: "👀", "+1": "👍" };
const DAY = new Intl.DateTimeFormat("en", { weekday: "long", day: "numeric", month: "long" });
const TIME = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

export const at = (ts) => new Date(Number(ts) * 1000);
export const dayOf = (ts) => DAY.format(at(ts));

export function avatar(person) {
  if (!person || person.is_bot) return make("span", { className: "avatar bot", "aria-hidden": "true" }, "FD");
  const words = person.name.split(/\s+/);
  const initials = words.length > 1 ? words[0][0] + words.at(-1)[0] : person.name.slice(0, 2);
  const tint = [...person.id].reduce((sum, letter) => sum + letter.codePointAt(0), 0) % 8;
  return make("span", { className: `avatar a${tint}`, "aria-hidden": "true" }, initials.toUpperCase());
}

export function plain(message, screen) {
  const names = new Map(screen.people.map((one) => [one.id, one.name]));
  return (message.text || "").replace(/<@(\w+)>/g, (_, id) => `@${names.get(id) || id}`).replace(/<([^|>]+\|)?([^>]+)>/g, "$2")
    .replace(/[*_`]/g, "").replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
}

function files(message, screen) {
  if (!message.files?.length) return null;
  return make("div", { className: "files" }, ...message.files.map((file) => {
    const address = `/files/${file.id}/${encodeURIComponent(file.name)}?viewer=${encodeURIComponent(screen.me.id)}`;
    const link = make("a", { href: address, target: "_blank", rel: "noopener" }, file.title);
    const shown = make("div", { className: "filed" }, link, make("small", { className: "small" }, ` ${file.name}, ${file.size} bytes`));
    if (file.mimetype.startsWith("image/")) shown.append(make("img", { src: address, alt: file.title }));
    else if (file.name.endsWith(".svg") && file.size < 1000000) { // as a picture, where nothing in it can run
      const picture = make("img", { alt: file.title });
      fetch(address).then((answer) => answer.text()).then((text) => { picture.src = `data:image/svg+xml,${encodeURIComponent(text)}`; });
      shown.append(picture);
    } else if (file.mimetype.startsWith("text/") && file.size < 200000) {
      const preview = make("pre");
      fetch(address).then((answer) => answer.text()).then((text) => { preview.textContent = text.slice(0, 1500); });
      shown.append(preview);
    }
    return shown;
  }));
}

// `inThread`: no link to the thread it stands in. The HTML is the server's: it holds no tag but the renderer's own.
export function draw(message, screen, { inThread = false } = {}) {
  const person = screen.people.find((one) => one.id === message.user);
  const when = at(message.ts);
  const by = make("div", { className: "by" }, make("b", {}, person?.name === "firedoor" ? screen.app.name : person?.name || "somebody"));
  if (person?.is_bot) by.append(make("span", { className: "tag" }, "APP"));
  if (person?.is_restricted) by.append(make("span", { className: "tag" }, "GUEST"));
  if (person?.is_stranger) by.append(make("span", { className: "tag" }, "EXTERNAL"));
  by.append(make("time", { dateTime: when.toISOString(), title: when.toISOString() }, TIME.format(when)));
  if (message.edited) by.append(make("small", {}, "(edited)"));
  if (message.pinned) by.append(make("small", {}, "📌 pinned"));
  const body = make("div", { className: "body" }, by);
  const content = make("div", {});
  const silent = message.subtype && !/^<@\w+>/.test(message.text); // Slack names whoever did it
  if (message.html) content.innerHTML = message.html;
  else content.textContent = message.text;
  if (silent) (content.querySelector(".bk-text") || content).prepend(`${person?.name === "firedoor" ? screen.app.name : person?.name || "somebody"} `);
  body.append(content);
  const shared = files(message, screen);
  if (shared) body.append(shared);
  const under = make("div", { className: "under" });
  for (const { name, count, users } of message.reactions || []) {
    const mine = users.includes(screen.me.id);
    under.append(make("button", { type: "button", className: mine ? "reaction mine" : "reaction", "data-do": mine ? "unreact" : "react",
      "data-name": name, "aria-label": `${name}, ${count}`, "aria-pressed": String(mine) }, `${EMOJI[name] || `:${name}:`} ${count}`));
  }
  if (message.reply_count && !inThread) {
    under.append(make("button", { type: "button", className: "answers", "data-do": "thread" },
      `${message.reply_count} ${message.reply_count === 1 ? "reply" : "replies"}`));
  }
  body.append(under);
  const own = message.visible_to;
  const tools = make("div", { className: "tools" });
  const tool = (label, glyph, what, more = {}) =>
    make("button", { type: "button", className: "icon", title: label, "aria-label": label, "data-do": what, ...more }, glyph);
  if (!own) {
    tools.append(tool("Pushpin: put it on the timeline", "📌", "react", { "data-name": "pushpin" }));
    if (!inThread) tools.append(tool("Reply in a thread", "💬", "thread"));
    tools.append(tool("More", "⋯", "more", { "aria-haspopup": "menu" }));
  } else tools.append(tool("Dismiss", "✕", "dismiss"));
  return make("article", { className: ["message", own && "ephemeral", message.subtype && "notice"].filter(Boolean).join(" "),
    "data-ts": message.ts, "data-channel": message.channel },
    own ? make("p", { className: "only" }, "👁 Only visible to you") : null, avatar(person), body, tools);
}
