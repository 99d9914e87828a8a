"""The one renderer of Block Kit to HTML: for the report, the gallery and the page of the sandbox workspace.

Whatever stands in the blocks, the result holds no tag, attribute or address but the renderer's own, and loads nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from html import escape, unescape
from typing import Any

from bot.slack import controls

Block = Mapping[str, Any]
Names = Mapping[str, str]

EMOJI: Mapping[str, str] = {
    "rotating_light": "🚨", "white_check_mark": "✅", "warning": "⚠️", "x": "❌", "hourglass_flowing_sand": "⏳",
    "bell": "🔔", "no_bell": "🔕", "lock": "🔒", "unlock": "🔓", "eyes": "👀", "fire": "🔥", "pushpin": "📌",
    "busts_in_silhouette": "👥", "bust_in_silhouette": "👤", "memo": "📝", "shield": "🛡️", "robot_face": "🤖",
    "red_circle": "🔴", "large_orange_circle": "🟠", "large_yellow_circle": "🟡", "large_green_circle": "🟢",
    "large_blue_circle": "🔵", "white_circle": "⚪", "black_circle": "⚫", "question": "❓", "no_entry": "⛔",
    "stopwatch": "⏱️", "alarm_clock": "⏰", "link": "🔗", "key": "🔑", "page_facing_up": "📄", "speech_balloon": "💬",
}  # fmt: skip

STYLE = (
    """
.bk { --ink: #1d1c1d; --quiet: #616061; --line: #dddddd; --link: #1264a3; --paper: #ffffff; --soft: #f8f8f8;
  --code: #c01343; --go: #007a5a; --stop: #c01343; --mention: #e8f5fa; --shout: #fff3d0; color-scheme: light dark;
  font: 15px/1.47 Lato, "Segoe UI", system-ui, -apple-system, "Noto Sans", sans-serif,
  "Apple Color Emoji", "Segoe UI Emoji", "Noto Color Emoji"; color: var(--ink);
  max-width: 42em; overflow-wrap: anywhere; }
@media (prefers-color-scheme: dark) {
  .bk { --ink: #d1d2d3; --quiet: #ababad; --line: #42454a; --link: #4aa3de; --paper: #1a1d21; --soft: #222529;
    --code: #f5889f; --go: #2bac76; --stop: #f0657f; --mention: #1d3a4c; --shout: #4a3d17; } }
.bk > * { margin: 8px 0; }
.bk > :first-child { margin-top: 0; } .bk > :last-child { margin-bottom: 0; }
.bk-header { font-size: 18px; line-height: 1.33; font-weight: 800; color: var(--ink); }
.bk-section { display: flex; gap: 16px; align-items: flex-start; justify-content: space-between; }
.bk-section > div:first-child { flex: 1; min-width: 0; }
.bk-fields { display: grid; grid-template-columns: 1fr 1fr; gap: 8px 16px; }
@media (max-width: 28em) { .bk-fields { grid-template-columns: 1fr; } }
.bk-text + .bk-fields { margin-top: 8px; }
.bk-context { display: flex; flex-wrap: wrap; gap: 2px 14px; font-size: 13px; line-height: 1.4; color: var(--quiet); }
.bk-divider { border: 0; border-top: 1px solid var(--line); margin: 12px 0; }
.bk-actions { display: flex; flex-wrap: wrap; gap: 8px; }
.bk-button { font: inherit; font-size: 13px; font-weight: 700; line-height: 1; color: var(--ink);
  background: var(--paper); border: 1px solid var(--line); border-radius: 8px; padding: 8px 12px; text-decoration: none;
  cursor: pointer; display: inline-block; white-space: nowrap; }
.bk-button:hover { background: var(--soft); box-shadow: 0 1px 3px rgb(0 0 0 / .12); }
.bk-button:focus-visible, .bk a:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
.bk-primary { color: #fff; background: #007a5a; border-color: #007a5a; }
.bk-primary:hover { background: #00664b; }
.bk-danger { color: #fff; background: #c01343; border-color: #c01343; }
.bk-danger:hover { background: #a00f37; }
.bk-other { color: var(--quiet); font-weight: 400; border-style: dashed; cursor: default; }
.bk a:not(.bk-button) { color: var(--link); text-decoration: none; } .bk a:not(.bk-button):hover {
  text-decoration: underline; }
.bk code { font: 12px/1.5 ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; color: var(--code);
  background: var(--soft); border: 1px solid var(--line); border-radius: 4px; padding: 1px 4px; }
.bk pre { font: 12px/1.5 ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; background: var(--soft);
  border: 1px solid var(--line); border-radius: 6px; padding: 8px 10px; margin: 4px 0; white-space: pre-wrap; }
.bk blockquote { margin: 4px 0; padding-left: 12px; border-left: 4px solid var(--line); }
.bk-mention { color: var(--link); background: var(--mention); border-radius: 3px; padding: 0 2px; }
.bk-shout { background: var(--shout); border-radius: 3px; padding: 0 2px; font-weight: 700; }
.bk-image { color: var(--quiet); border: 1px dashed var(--line); border-radius: 6px; padding: 8px 10px; }
"""
    + controls.STYLE
)


def to_html(blocks: Sequence[Block], text: str, names: Names | None = None) -> str:
    """One message as `<div class="bk">`; `text` is shown where there are no blocks. `names` turns user, channel and
    group ids into what people call them. Buttons and inputs carry `data-action-id` and `data-block-id` (`data-confirm`
    where Slack would ask first), and do nothing alone."""
    known = names or {}
    inside = [_RENDER.get(str(block.get("type")), _unknown)(block, known) for block in blocks]
    return f'<div class="bk">{"".join(inside) or _div("bk-text", mrkdwn(text, known))}</div>'


# Text -----------------------------------------------------------------------------------------------------------

_FENCE = re.compile(r"```\n?(.+?)\n?```", re.DOTALL)
_BESIDE_BOX = re.compile(r"<br>(?=<pre>|<blockquote>)|(?<=</pre>)<br>|(?<=</blockquote>)<br>")
_CODE = re.compile(r"`([^`\n]+)`")
_ANGLE = re.compile(r"<([^<>\n]+)>")
_ADDRESS = re.compile(r"https?://|mailto:", re.IGNORECASE)
_EMOJI = re.compile(r":([a-z0-9_+-]+):")
_QUOTE = re.compile(r"(?:^&gt;[^\n]*(?:\n|$))+", re.MULTILINE)
_BOLD, _ITALIC, _STRIKE = (
    re.compile(
        rf"(?<![\w{mark}]){re.escape(mark)}(?=\S)([^{re.escape(mark)}\n]+?)(?<=\S){re.escape(mark)}(?![\w{mark}])"
    )
    for mark in "*_~"
)
_KEPT = re.compile("\ue000(\\d+)\ue001")


def mrkdwn(text: str, names: Names | None = None) -> str:
    """Slack's markup as HTML: bold, italic, strike, code, quotes, links, mentions, the emoji of EMOJI."""
    kept: list[str] = []

    def keep(made: str) -> str:
        kept.append(made)
        return f"\ue000{len(kept) - 1}\ue001"

    # Finished pieces wait outside the text, so that no later rule reads their inside.
    rest = text.replace("\ue000", "").replace("\ue001", "")
    rest = _FENCE.sub(lambda found: keep(f"<pre>{_shown(found[1])}</pre>"), rest)
    rest = _CODE.sub(lambda found: keep(f"<code>{_shown(found[1])}</code>"), rest)
    rest = _ANGLE.sub(lambda found: keep(_angle(found[1], names or {})), rest)
    rest = _EMOJI.sub(lambda found: EMOJI.get(found[1], found[0]), _shown(rest))
    rest = _BOLD.sub(r"<b>\1</b>", rest)
    rest = _ITALIC.sub(r"<i>\1</i>", rest)
    rest = _STRIKE.sub(r"<s>\1</s>", rest)
    rest = _QUOTE.sub(_quote, rest).replace("\n", "<br>")
    while _KEPT.search(rest):  # a link's label or a quote can hold one that is kept as well
        rest = _KEPT.sub(lambda found: kept[int(found[1])], rest)
    return _BESIDE_BOX.sub("", rest)


def _shown(text: str) -> str:
    """Slack's three entities undone, then everything escaped as HTML wants it."""
    for entity in ("&lt;", "&gt;", "&amp;"):
        text = text.replace(entity, unescape(entity))
    return escape(text)


def _quote(found: re.Match[str]) -> str:
    lines = [one.removeprefix("&gt;").strip() for one in found[0].rstrip("\n").split("\n")]
    return f"<blockquote>{'<br>'.join(lines)}</blockquote>"


def _angle(inside: str, names: Names) -> str:
    target, _, label = inside.partition("|")
    if target.startswith(("@", "#")):
        shown = label.lstrip("@#") or names.get(target[1:], target[1:])
        what = f' data-channel-id="{_shown(target[1:])}"' if target[0] == "#" else ""
        return f'<span class="bk-mention"{what}>{target[0]}{_shown(shown)}</span>'
    if target.startswith("!subteam^"):
        group = target.removeprefix("!subteam^")
        return f'<span class="bk-mention">@{_shown(label.lstrip("@") or names.get(group, group))}</span>'
    if target.startswith("!date^"):
        return _shown(label)
    if target.startswith("!"):
        return f'<span class="bk-shout">@{_shown(label.lstrip("@") or target[1:])}</span>'
    if "|" not in inside and not _ADDRESS.match(target):
        return _shown(f"<{inside}>")  # nothing that Slack knows: shown as it was written
    return _link(target, _shown(label or target.removeprefix("mailto:")))


def _link(target: str, label: str) -> str:
    address = unescape(target).strip()
    if not _ADDRESS.match(address) or _KEPT.search(address):
        return label
    return f'<a href="{escape(address)}" rel="noopener noreferrer nofollow">{label}</a>'


def _text(value: Any, names: Names) -> str:
    """A text object; plain_text knows emoji and nothing else."""
    if not isinstance(value, Mapping):
        return ""
    content = str(value.get("text", ""))
    if value.get("type") == "mrkdwn":
        return mrkdwn(content, names)
    return _EMOJI.sub(lambda found: EMOJI.get(found[1], found[0]), escape(content)).replace("\n", "<br>")


# Blocks ---------------------------------------------------------------------------------------------------------


def _div(kind: str, inside: str) -> str:
    return f'<div class="{kind}">{inside}</div>'


def _header(block: Block, names: Names) -> str:
    return f'<h3 class="bk-header">{_text(block.get("text"), names)}</h3>'


def _section(block: Block, names: Names) -> str:
    text = _div("bk-text", _text(block["text"], names)) if block.get("text") else ""
    fields = "".join(f"<div>{_text(field, names)}</div>" for field in block.get("fields") or ())
    body = text + (_div("bk-fields", fields) if fields else "")
    accessory = block.get("accessory")
    return _div("bk-section", f"<div>{body}</div>" + (_element(accessory, block, names) if accessory else ""))


def _context(block: Block, names: Names) -> str:
    shown = (_image(one, names) if one.get("type") == "image" else _text(one, names) for one in block["elements"])
    return _div("bk-context", "".join(f"<span>{one}</span>" for one in shown))


def _divider(_: Block, __: Names) -> str:
    return '<hr class="bk-divider">'


def _actions(block: Block, names: Names) -> str:
    return _div("bk-actions", "".join(_element(one, block, names) for one in block.get("elements") or ()))


def _image(block: Block, _: Names) -> str:
    """Its description: a report loads nothing from elsewhere."""
    return f'<span class="bk-image">🖼 {escape(str(block.get("alt_text", "")))}</span>'


def _image_block(block: Block, names: Names) -> str:
    return f"<div>{_image(block, names)}</div>"


def _unknown(block: Block, _: Names) -> str:
    """Shown, not dropped: a missing block would look like a missing fact."""
    return _div("bk-image", f"a block of type {escape(repr(block.get('type')))}, which only Slack shows")


def _element(element: Block, block: Block, names: Names) -> str:
    label = _text(element.get("text") or element.get("placeholder"), names)
    if element.get("type") == "image":
        return _image(element, names)
    if element.get("type") != "button":
        made = controls.control(element, block, lambda text: _text(text, names))
        return made or f'<span class="bk-button bk-other">{label or escape(str(element.get("type")))}</span>'
    style = str(element.get("style", ""))
    kind = f"bk-button bk-{style}" if style in ("primary", "danger") else "bk-button"
    if url := element.get("url"):
        return _link(str(url), label).replace("<a ", f'<a class="{kind}" ', 1)
    action, place = escape(str(element.get("action_id", ""))), escape(str(block.get("block_id", "")))
    asked = controls.question(element.get("confirm"))
    names_it = f'data-action-id="{action}" data-block-id="{place}"{asked}'
    return f'<button type="button" class="{kind}" {names_it}>{label}</button>'


def _input(block: Block, names: Names) -> str:
    return controls.input_block(block, lambda text: _text(text, names))


_RENDER: Mapping[str, Callable[[Block, Names], str]] = {
    "header": _header,
    "section": _section,
    "context": _context,
    "divider": _divider,
    "actions": _actions,
    "image": _image_block,
    "input": _input,
}
