"""Papers drafted out of the record. A template may only say what the record knows; the rest it leaves to a person, by
name, with `todo`."""

from __future__ import annotations

import html
import json
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from bot.documents.facts import Facts, facts
from bot.documents.markdown import Markdown, code, escape, flowing, plain
from bot.domain.events import TextRef
from bot.domain.incident import Incident
from bot.domain.measures import Measure
from bot.domain.record import Entry
from bot.domain.timeline import Line
from bot.domain.wording import audit_text, clock, span
from bot.errors import ConfigError

ERASED = "erased"
CONTAINMENT = "containment"  # what was cut, how sure that is, what is alive: rendered when it is asked for
APPENDIX = 200  # rows of what the logs say
PUBLIC = ("customer-", "status-")  # kinds that leave the house: their templates see no identifier at all
_SUFFIX = ".md.j2"
_INITIALS = frozenset({"sre", "dpo", "cto", "ceo", "cfo", "ciso"})

ReadText = Callable[[TextRef], str | None]


@dataclass(frozen=True, slots=True)
class Document:
    """`missing` is what people must still complete, `<role>: <what>`, in the order of the document."""

    kind: str
    title: str
    markdown: str
    missing: tuple[str, ...]


def render(kind: str, incident: Incident, entries: Sequence[Entry], read_text: ReadText, templates: Path) -> Document:
    """`<kind>.md.j2` of the folder `templates`, filled in. `read_text` gives None for erased text. Raises ConfigError
    with the template's file and line."""
    missing: list[str] = []

    def todo(role: str, what: str) -> Markdown:
        """Marks what only a person can say, and remembers that it is missing."""
        missing.append(f"{plain(role)}: {plain(what)}")
        return Markdown(f"**[to be completed by {escape(_role(role))}: {escape(what)}]**")

    environment = _environment(templates)
    seen = facts(incident, entries)
    names = _public(seen) if kind.startswith(PUBLIC) else _internal(seen, read_text)
    name = f"{kind}{_SUFFIX}"
    try:
        markdown = environment.get_template(name).render(names, todo=todo)
    except jinja2.TemplateNotFound as error:
        known = ", ".join(one.removesuffix(_SUFFIX) for one in environment.list_templates(["j2"])) or "none"
        raise ConfigError(
            str(templates / str(error.name)), "there is no such template.", f"There are: {known}."
        ) from None
    except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        raise _explained(error, templates / name, kind) from error
    markdown = re.sub(r"\n{3,}", "\n\n", markdown).strip() + "\n"
    return Document(kind, _title(markdown, kind), markdown, tuple(dict.fromkeys(missing)))


@lru_cache(maxsize=16)
def _environment(templates: Path) -> jinja2.Environment:
    """Compiled templates are kept; one that changed on disk is compiled anew."""
    environment = ImmutableSandboxedEnvironment(
        loader=jinja2.FileSystemLoader(templates),
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # of HTML; `_finalize` escapes every value for Markdown
    )
    environment.filters |= {"code": code, "clock": clock, "moment": _moment, "span": _span}
    return environment


def _finalize(value: object) -> str:
    """Every `{{ }}` passes here: Markdown made on purpose stays, anything else becomes inert text."""
    if isinstance(value, Markdown):
        return value
    return escape("" if value is None else value)


def _moment(value: datetime | None) -> str:
    return f"{value:%Y-%m-%d %H:%M:%S} UTC" if value else "not reached"


def _span(value: timedelta | None) -> str:
    return "not reached" if value is None else span(value)


def _explained(error: Exception, path: Path, kind: str) -> ConfigError:
    """Jinja's errors, with the line of the template they came from."""
    frames = traceback.extract_tb(error.__traceback__)
    line = getattr(error, "lineno", None) or next(
        (frame.lineno for frame in reversed(frames) if frame.filename.endswith(_SUFFIX)), None
    )
    hint = ""
    if isinstance(error, jinja2.UndefinedError):
        hint = "What templates can name stands in docs/reference/templates.md."
        if kind.startswith(PUBLIC):
            hint = "Templates that leave the house see only `public` and `todo`."
    where = f"{path}:{line}" if line else str(path)
    return ConfigError(where, f"{error}.".replace("..", "."), hint)


def _role(role: str) -> str:
    """`product_owner` as `Product Owner`, `dpo` as `DPO`."""
    return " ".join(word.upper() if word in _INITIALS else word.capitalize() for word in role.split("_"))


def _title(markdown: str, kind: str) -> str:
    heading = next((line[2:] for line in markdown.splitlines() if line.startswith("# ")), kind)
    return html.unescape(re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", heading)).replace("`", "").strip()


# What templates can name ----------------------------------------------------------------------------------------


def _public(seen: Facts) -> dict[str, Any]:
    incident = seen.incident
    return {
        "public": {
            "mode": incident.begun.mode,
            "opened_at": incident.start,
            "contained_at": incident.contained_at if seen.verified else None,
            "containment": str(incident.containment),
            "verified": seen.verified and not seen.remains,
            "resolved_at": incident.resolved_at,
            "written_at": incident.at or incident.start,
        }
    }


def _internal(seen: Facts, read_text: ReadText) -> dict[str, Any]:
    incident = seen.incident
    opened, agent, alert = incident.begun, incident.agent, incident.alert
    playbook, runbook = incident.frozen.playbook, incident.frozen.runbook
    return {
        "incident": {
            "id": incident.id,
            "mode": opened.mode,
            "type": opened.type,
            "severity": incident.severity.name,
            "status": str(incident.status),
            "containment": str(incident.containment),
            "verified": seen.verified,
            "overridden": incident.overridden,
            "opened_at": incident.start,
            "contained_at": incident.contained_at,
            "acknowledged_at": incident.first_ack_at,
            "acknowledged_by": incident.acked_by,
            "resolved_at": incident.resolved_at,
            "written_at": incident.at or incident.start,
            "declared_by": opened.declared_by,
            "initiator": opened.initiator,
            "why": opened.why,
            "agent": opened.agent_uid,
            "alerts": incident.alerts,
            "repeats": incident.repeats,
            "linked": incident.linked,
            "text": _text(opened.text, read_text),
        },
        "agent": agent and {"id": agent.id, "name": agent.name, "owner": agent.owner, "team": agent.team},
        "alert": alert
        and {
            "source": alert.source,
            "product": alert.product,
            "rule": alert.rule,
            "time": alert.time,
            "account": alert.account,
            "region": alert.region,
            "resources": [{"uid": one.uid, "type": one.type} for one in alert.resources],
        },
        "playbook": playbook and {"id": playbook.id, "version": playbook.version, "hash": playbook.hash},
        "runbook": runbook
        and {
            "title": runbook.title,
            "phases": [
                {"name": phase.name, "due": phase.due, "role": phase.role, "checklist": phase.checklist}
                for phase in runbook.phases
            ],
        },
        "lines": [_line(line, read_text) for line in seen.lines],
        "proofs": seen.containing,
        "other_steps": [proof for proof in seen.proofs if not proof.contains],
        "remains": seen.remains,
        "approvals": seen.approvals,
        "pages": seen.pages,
        "may_repeat": seen.may_repeat,
        "measures": [_measure(measure) for measure in seen.measures],
        "audit": _audit(incident, read_text),
        "severities": seen.severities,
        "roles": incident.roles,
        "tasks": [
            {
                "id": task.id,
                "text": _text(task.text, read_text),
                "owner": task.owner,
                "due": task.due,
                "done_by": task.done_by,
            }
            for task in incident.tasks.values()
        ],
        "updates": [
            {
                "at": update.at,
                "by": update.by,
                "conditions": _text(update.conditions, read_text),
                "actions": _text(update.actions, read_text),
                "needs": _text(update.needs, read_text),
            }
            for update in incident.said
        ],
    }


def _line(line: Line, read_text: ReadText) -> dict[str, Any]:
    return {
        "at": line.at,
        "kind": line.kind,
        "severity": line.severity,
        "actor": line.actor,
        "text": line.text,
        "texts": [_text(ref, read_text) for ref in line.refs.values()],
    }


def _audit(incident: Incident, read_text: ReadText) -> dict[str, Any] | None:
    """The latest approval audit; its findings and timeline quote logs, and are gone where the texts were erased."""
    if incident.audited is None:
        return None
    kept = read_text(incident.audited.artefact)
    found = json.loads(kept) if kept is not None else {}
    rows = found.get("timeline", ())
    return {
        "said": audit_text(incident.audited),
        "erased": kept is None,
        "findings": found.get("findings", ())[:APPENDIX],
        "missing": found.get("missing", ())[:APPENDIX],
        "timeline": [{**row, "at": datetime.fromisoformat(row["at"])} for row in rows[-APPENDIX:]],
        "left_out": found.get("left_out", 0) + max(0, len(rows) - APPENDIX),
        "caveats": found.get("caveats", {}),
    }


def _text(ref: TextRef | None, read_text: ReadText) -> str:
    if ref is None:
        return ""
    found = read_text(ref)
    return ERASED if found is None else flowing(found)


def _measure(measure: Measure) -> Mapping[str, Any]:
    return {
        "name": measure.name,
        "target": measure.target,
        "result": measure.result,
        "verdict": str(measure.verdict),
        "note": measure.note,
    }
