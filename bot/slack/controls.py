"""Block Kit's selects, inputs and choices as HTML. Alone they do nothing: whoever shows them gives them their effect by
`data-element` (Block Kit's type), `data-action-id` and `data-block-id`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

Block = Mapping[str, Any]
Said = Callable[[Any], str]  # a text object as HTML

_SELECTS = ("static", "external", "users", "conversations", "channels")
_TYPED = {
    "plain_text_input": "text",
    "email_text_input": "email",
    "url_text_input": "url",
    "number_input": "number",
    "datepicker": "date",
    "timepicker": "time",
    "datetimepicker": "datetime-local",
}
_CHOICES = {"checkboxes": "checkbox", "radio_buttons": "radio"}

STYLE = """
.bk-control { font: inherit; font-size: 14px; color: var(--ink); background: var(--paper);
  border: 1px solid var(--line); border-radius: 8px; padding: 7px 10px; max-width: 100%; }
.bk-control:focus-visible, .bk-choice input:focus-visible { outline: 2px solid var(--link); outline-offset: 1px; }
select.bk-control { cursor: pointer; } select.bk-overflow { width: 3.6em; }
.bk-input .bk-control { display: block; width: 100%; box-sizing: border-box; }
.bk-input textarea.bk-control { min-height: 6em; resize: vertical; }
.bk-label { display: block; font-weight: 700; margin-bottom: 4px; } .bk-label small { font-weight: 400; }
.bk-hint { font-size: 13px; color: var(--quiet); margin: 4px 0 0; }
.bk-error { font-size: 13px; color: var(--stop); margin: 4px 0 0; font-weight: 700; }
.bk-choices { border: 0; padding: 0; margin: 0; display: grid; gap: 6px; }
.bk-choice { display: flex; gap: 8px; align-items: baseline; cursor: pointer; }
.bk-choice small { display: block; color: var(--quiet); }
"""


def control(element: Block, block: Block, said: Said) -> str:
    """'' for what is no control."""
    kind = str(element.get("type"))
    names = _names(element, block)
    if kind in _TYPED or kind == "rich_text_input":
        return _typed(kind, element, names)
    if kind in _CHOICES:
        return _choices(kind, element, names, said)
    if kind == "overflow":
        options = _options(element.get("options"), ())
        return f'<select class="bk-control bk-overflow" aria-label="More" {names}>{_option("", "⋯")}{options}</select>'
    many = kind.startswith("multi_")
    which, _, last = kind.removeprefix("multi_").partition("_")
    return _select(which, element, names, many=many) if which in _SELECTS and last == "select" else ""


def input_block(block: Block, said: Said) -> str:
    """With its label, hint, and a place for what is wrong with it."""
    optional = " <small>(optional)</small>" if block.get("optional") else ""
    element = block.get("element")
    inside = control(element, block, said) if isinstance(element, Mapping) else ""
    place = escape(str(block.get("block_id", "")))
    hint = f'<p class="bk-hint">{said(block["hint"])}</p>' if block.get("hint") else ""
    return (
        f'<div class="bk-input" data-block-id="{place}"><label><span class="bk-label">{said(block.get("label"))}'
        f'{optional}</span>{inside}</label>{hint}<p class="bk-error" role="alert"></p></div>'
    )


def question(confirm: Any) -> str:
    """The attribute that says what to ask before a click counts; '' where nothing is asked."""
    if not isinstance(confirm, Mapping):
        return ""
    asked = {name: _plain(confirm.get(name)) for name in ("title", "text", "confirm", "deny")}
    return f' data-confirm="{escape(json.dumps(asked))}"'


def _names(element: Block, block: Block) -> str:
    given = {
        "data-element": element.get("type"),
        "data-action-id": element.get("action_id", ""),
        "data-block-id": block.get("block_id", ""),
    }
    return " ".join(f'{name}="{escape(str(value))}"' for name, value in given.items()) + question(
        element.get("confirm")
    )


def _typed(kind: str, element: Block, names: str) -> str:
    initial = next((element[key] for key in ("initial_value", "initial_date", "initial_time") if element.get(key)), "")
    limits = "".join(
        f' {name}="{escape(str(element[key]))}"'
        for key, name in (
            ("min_length", "minlength"),
            ("max_length", "maxlength"),
            ("min_value", "min"),
            ("max_value", "max"),
            ("initial_date_time", "data-initial"),
        )
        if element.get(key) is not None
    )
    placeholder = escape(_plain(element.get("placeholder")))
    common = f'class="bk-control" placeholder="{placeholder}" {names}{limits}'
    if kind == "rich_text_input" or element.get("multiline"):
        return f"<textarea {common}>{escape(str(initial))}</textarea>"
    step = ' step="any"' if element.get("is_decimal_allowed") else ""
    return f'<input type="{_TYPED[kind]}" value="{escape(str(initial))}" {common}{step}>'


def _choices(kind: str, element: Block, names: str, said: Said) -> str:
    group = escape(f"{element.get('action_id', '')}")
    chosen = _chosen(element)
    return (
        f'<fieldset class="bk-choices" {names}>'
        + "".join(
            f'<label class="bk-choice"><input type="{_CHOICES[kind]}" name="{group}" value="{escape(value)}"'
            f"{' checked' if value in chosen else ''}><span>{said(option.get('text'))}"
            + (f"<small>{said(option['description'])}</small>" if option.get("description") else "")
            + "</span></label>"
            for value, option in _listed(element.get("options"))
        )
        + "</fieldset>"
    )


def _select(which: str, element: Block, names: str, *, many: bool) -> str:
    chosen = _chosen(element)
    initial = element.get(f"initial_{which}") if many else element.get(f"initial_{which.rstrip('s')}")
    started = initial if isinstance(initial, list) else [initial] if initial else []
    label = escape(_plain(element.get("placeholder")) or "Choose")
    groups = "".join(
        f'<optgroup label="{escape(_plain(group.get("label")))}">{_options(group.get("options"), chosen)}</optgroup>'
        for group in element.get("option_groups") or ()
    )
    first = "" if many else _option("", label)
    known = (
        "".join(_option(value, text, selected=True) for value, text in _external(element))
        if which == "external"
        else ""
    )
    return (
        f'<select class="bk-control" aria-label="{label}" data-initial="{escape(" ".join(map(str, started)))}" {names}'
        f"{' multiple' if many else ''}>{first}{_options(element.get('options'), chosen)}{groups}{known}</select>"
    )


def _external(element: Block) -> Iterator[tuple[str, str]]:
    for value, option in _listed(_initial(element)):
        yield value, escape(_plain(option.get("text")))


def _options(options: Any, chosen: Sequence[str]) -> str:
    return "".join(
        _option(value, escape(_plain(option.get("text"))), selected=value in chosen)
        for value, option in _listed(options)
    )


def _option(value: str, label: str, *, selected: bool = False) -> str:
    return f'<option value="{escape(value)}"{" selected" if selected else ""}>{label}</option>'


def _listed(options: Any) -> Iterator[tuple[str, Block]]:
    for option in options or ():
        if isinstance(option, Mapping):
            yield str(option.get("value", "")), option


def _initial(element: Block) -> list[Any]:
    one, several = element.get("initial_option"), element.get("initial_options") or []
    return [one, *several] if one else list(several)


def _chosen(element: Block) -> tuple[str, ...]:
    return tuple(value for value, _ in _listed(_initial(element)))


def _plain(text: Any) -> str:
    return str(text.get("text", "")) if isinstance(text, Mapping) else ""
