// What stands in the inputs of a message or a view, and the questions that are asked before a click counts.

export function make(tag, attributes = {}, ...inside) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") for (const [event, heard] of Object.entries(value)) element.addEventListener(event, heard);
    else if (name in element && name !== "list") element[name] = value;
    else if (value !== false) element.setAttribute(name, value);
  }
  element.append(...inside.filter((one) => one !== null && one !== undefined));
  return element;
}

// The value of one control, as the control API has it.
export function valueOf(control, options = {}) {
  const kind = control.dataset.element;
  if (kind === "checkboxes") return [...control.querySelectorAll("input:checked")].map((one) => one.value);
  if (kind === "radio_buttons") return control.querySelector("input:checked")?.value ?? null;
  const known = (value) => (kind.includes("external") ? options[value] || value : value);
  if (control.multiple) return [...control.selectedOptions].map((one) => known(one.value));
  if (kind === "datetimepicker") return control.value ? Math.floor(new Date(control.value).getTime() / 1000) : null;
  return control.value === "" ? null : known(control.value);
}

export function valuesIn(root) {
  const values = {};
  for (const control of root.querySelectorAll("[data-element]")) {
    if (control.dataset.element === "overflow") continue;
    (values[control.dataset.blockId] ??= {})[control.dataset.actionId] = valueOf(control, control.offered);
  }
  return values;
}

// Puts back what a person had typed, where the same input is still there.
export function restore(root, values) {
  for (const control of root.querySelectorAll("[data-element]")) {
    const value = values[control.dataset.blockId]?.[control.dataset.actionId];
    if (value === undefined || value === null || typeof value === "object" || control.matches("fieldset")) continue;
    control.value = control.type === "datetime-local" ? local(value) : value;
  }
}

const local = (seconds) => {
  const at = new Date(seconds * 1000);
  return new Date(at - at.getTimezoneOffset() * 60000).toISOString().slice(0, 16);
};

// Selects of people and channels are empty as they come: who and what there is, the page knows.
export function fill(root, screen, ask) {
  for (const select of root.querySelectorAll("select[data-element]")) {
    const kind = select.dataset.element.replace("multi_", "").replace("_select", "");
    const chosen = (select.dataset.initial || "").split(" ");
    const add = (value, label) => select.append(new Option(label, value, false, chosen.includes(value)));
    if (kind === "users") screen.people.filter((one) => !one.is_bot && !one.deleted).forEach((one) => add(one.id, one.name));
    if (kind === "channels" || kind === "conversations") {
      screen.channels.filter((one) => !one.is_im).forEach((one) => add(one.id, `#${one.name}`));
    }
    if (kind === "external") {
      select.addEventListener("focus", async () => {
        const offered = await ask(select);
        select.offered = Object.fromEntries(offered.map((one) => [one.value, one]));
        const there = new Set([...select.options].map((one) => one.value));
        offered.filter((one) => !there.has(one.value)).forEach((one) => add(one.value, one.text.text));
      }, { once: true });
    }
  }
  for (const input of root.querySelectorAll("input[type=datetime-local][data-initial]")) input.value = local(input.dataset.initial);
  for (const link of root.querySelectorAll("[data-channel-id]")) Object.assign(link, { role: "link", tabIndex: 0 });
  for (const link of root.querySelectorAll(".bk a")) link.target = "_blank";
}

// A dialog of our own; resolves to what the pressed button stands for, null where it was left.
export function ask(title, inside, buttons) {
  const dialog = document.getElementById("ask");
  return new Promise((resolve) => {
    const done = (value) => { dialog.onclose = null; dialog.close(); resolve(value); };
    dialog.onclose = () => resolve(null);
    const foot = buttons.map(({ label, value, kind = "plain" }) =>
      make("button", { type: "button", className: kind, on: { click: () => done(value) } }, label));
    dialog.replaceChildren(make("div", { className: "sheet" },
      make("header", {}, make("h2", { id: "ask-title" }, title)),
      make("div", { className: "inside" }, ...(typeof inside === "function" ? inside(done) : [inside])),
      make("footer", {}, ...foot)));
    dialog.showModal();
  });
}

export async function sure(control) {
  if (!control.dataset.confirm) return true;
  const asked = JSON.parse(control.dataset.confirm);
  const kind = control.classList.contains("bk-danger") ? "go danger" : "go";
  return (await ask(asked.title || "Are you sure?", make("p", {}, asked.text), [
    { label: asked.deny || "Cancel", value: false }, { label: asked.confirm || "Yes", value: true, kind },
  ])) === true;
}
