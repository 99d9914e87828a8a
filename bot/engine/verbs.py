"""What people can say, the same at every door (Slack, command line, acknowledge link).

Who may say it is the verb table of people.yaml, what it means is an event. A refusal is `errors.Refused` with a
sentence for the person.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from bot.domain.alert import Sev
from bot.domain.containment import Containment
from bot.domain.incident import Incident
from bot.domain.playbook import Manual
from bot.domain.record import (
    Acknowledged,
    ApprovalGiven,
    ApprovalRefused,
    Event,
    FormSubmitted,
    NoteAdded,
    Overridden,
    Released,
    Started,
    Status,
    StatusChanged,
    TextRef,
    Unacknowledged,
)
from bot.engine.intake import declare as open_declared
from bot.engine.responder import Responder
from bot.errors import Refused

Job = Callable[[Responder], Incident]


def acknowledge(incident: str, person: str, via: str) -> Job:
    return _said("acknowledge", incident, person, lambda _r, _i: Acknowledged(person, via))


def unacknowledge(incident: str, person: str, via: str) -> Job:
    return _said("unacknowledge", incident, person, lambda _r, _i: Unacknowledged(person, via))


def approve(request: str, person: str, via: str, hash: str = "", proof: str = "") -> Job:
    """`hash` is what the person's screen showed; '' where the door shows the plan as it is now. `proof` is `totp` where
    they gave a code just now."""

    def event(responder: Responder, incident: Incident) -> Event:
        asked = incident.approvals.get(request)
        shown = hash or (asked.hash if asked else "")
        also = responder.world.config.people.also(person)
        return ApprovalGiven(request, person, _standing(responder, person), shown, via, also, proof)

    return _said("", _of(request), person, event)


def refuse(request: str, person: str, via: str, why: str = "") -> Job:
    def event(responder: Responder, incident: Incident) -> Event:
        text = responder.tx.put_text(incident.id, why) if why else None
        return ApprovalRefused(request, person, _standing(responder, person), text, via)

    return _said("", _of(request), person, event)


def override(incident: str, step: str, person: str, via: str, *, accept: bool = False) -> Job:
    return _said("override", incident, person, lambda _r, _i: Overridden(step, person, accept, via))


def release(incident: str, step: str, person: str, via: str) -> Job:
    return _said("release", incident, person, lambda _r, _i: Released(step, person, via))


def contain(incident: str, person: str, via: str) -> Job:
    """Starts the playbook that is at hand, and the cuts that were only proposed."""
    return _said("contain", incident, person, lambda _r, _i: Started(person, via))


def status(incident: str, to: Status, person: str, via: str) -> Job:
    """Resolving while containment is not proved is a verb of its own, which fewer may say."""

    def verb(state: Incident) -> str:
        match to:
            case Status.RESOLVED if state.containment not in (Containment.CONTAINED, Containment.NONE):
                return "resolve_uncontained"
            case Status.RESOLVED:
                return "resolve"
            case Status.RECOVERING:
                return "recover"
            case Status.REVIEWED:
                return "review"
            case Status.FALSE_POSITIVE:
                return "false_positive"
            case _:
                return "reopen" if state.over else "investigate"

    return _said(verb, incident, person, lambda _r, _i: StatusChanged(to, person, via))


def note(incident: str, text: str, person: str) -> Job:
    return _said("note", incident, person, lambda r, i: NoteAdded(person, r.tx.put_text(i.id, text)))


def submit_form(incident: str, step: str, values: Mapping[str, Any], person: str) -> Job:
    """Values are read as the form says; a text becomes an artefact."""

    def event(responder: Responder, state: Incident) -> Event:
        playbook = state.frozen.playbook
        manual = playbook.steps[step].manual if playbook and step in playbook.steps else None
        if manual is None:
            raise Refused("no_form", f"Step {step!r} of {incident} has no form.")
        plain, texts = _read_form(manual, values)
        refs: dict[str, TextRef] = {name: responder.tx.put_text(incident, text) for name, text in texts.items()}
        return FormSubmitted(step, person, plain, refs)

    return _said("fill_form", incident, person, event)


def declare(
    *, person: str, type: str = "", severity: Sev = Sev.SEV3, agent: str = "", title: str, message: str = ""
) -> Job:
    def job(responder: Responder) -> Incident:
        people = responder.world.config.people
        _may(responder, person, "declare", ())
        return open_declared(
            responder,
            by=person,
            type=type,
            severity=severity,
            agent_id=agent,
            title=title,
            message=message,
            contain=people.may(person, "contain"),
        )

    return job


def _said(
    verb: str | Callable[[Incident], str],
    incident: str,
    person: str,
    event: Callable[[Responder, Incident], Event],
) -> Job:
    """`verb` '' is open to whoever `admit` takes: approvals check their own groups."""

    def job(responder: Responder) -> Incident:
        responder.wake(incident)  # nobody decides what ran out while the process stood still
        state = responder.incident(incident)
        asked = verb if isinstance(verb, str) else verb(state)
        _may(responder, person, asked, _taken(state, person))
        return responder.append(incident, event(responder, state))

    return job


def _may(responder: Responder, person: str, verb: str, roles: tuple[str, ...]) -> None:
    people = responder.world.config.people
    if person not in people.persons:
        raise Refused("stranger", f"{person} is not in people.yaml.")
    if verb and not people.may(person, verb, roles):
        allowed = " or ".join(people.verbs.get(verb, ())) or "nobody"
        raise Refused("not_allowed", f"{verb} is for {allowed}; {person} is not.")


def _taken(incident: Incident, person: str) -> tuple[str, ...]:
    """Roles this person has in this incident beyond the standing ones: being on call as its commander."""
    return tuple(role for role, contacts in incident.roster.items() if any(c.person == person for c in contacts))


def _standing(responder: Responder, person: str) -> tuple[str, ...]:
    return tuple(sorted(responder.world.config.people.standing(person)))


def _of(request: str) -> str:
    """A request id names its incident: `INC-7/12.0`."""
    return request.partition("/")[0]


def _read_form(manual: Manual, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    unknown = sorted(set(values) - set(manual.form))
    lacking = sorted(set(manual.form) - set(values))
    if unknown or lacking:
        what = f"unknown: {', '.join(unknown)}" if unknown else f"missing: {', '.join(lacking)}"
        raise Refused("bad_form", f"The form has the fields {', '.join(manual.form)}; {what}.")
    plain: dict[str, Any] = {}
    texts: dict[str, str] = {}
    for name, kind in manual.form.items():
        value = values[name]
        if kind == "text":
            texts[name] = str(value)
        else:
            plain[name] = _value(name, kind, value)
    return plain, texts


def _value(name: str, kind: str | tuple[str, ...], value: Any) -> bool | float | str:
    words: Mapping[str, bool] = {"true": True, "yes": True, "false": False, "no": False}
    if kind == "boolean":
        if isinstance(value, bool):
            return value
        if str(value).lower() in words:
            return words[str(value).lower()]
        raise Refused("bad_form", f"{name} is yes or no, not {value!r}.")
    if kind == "number":
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if math.isfinite(number):
            return number
        raise Refused("bad_form", f"{name} is a number, not {value!r}.")
    if value in kind:
        return str(value)
    raise Refused("bad_form", f"{name} is one of {', '.join(kind)}, not {value!r}.")
