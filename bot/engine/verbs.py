"""What people can say, the same at every door (Slack, command line, acknowledge link).

Who may say it is the verb table of people.yaml, what it means is an event. A refusal is `errors.Refused` with a
sentence for the person.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar

from bot.config.people import People, Person
from bot.config.reading import suggestion
from bot.domain.alert import Sev
from bot.domain.approval import Approval, ApprovalState
from bot.domain.containment import Containment
from bot.domain.conversation import SILENCE_AT_MOST, next_task
from bot.domain.events import (
    Acknowledged,
    ApprovalGiven,
    ApprovalRefused,
    AuditAsked,
    Escalated,
    Event,
    EvidenceRead,
    FormSubmitted,
    MadePrivate,
    NoteAdded,
    Overridden,
    PinChanged,
    Pinned,
    ReissueAsked,
    Released,
    ReminderSnoozed,
    ReplayAsked,
    ReturnAsked,
    RoleTaken,
    RollbackAsked,
    SeverityChanged,
    Silenced,
    Started,
    Status,
    StatusChanged,
    Summoned,
    TaskAdded,
    TaskChanged,
    TextRef,
    Unacknowledged,
    UpdateGiven,
)
from bot.domain.incident import Incident, admit
from bot.domain.playbook import Manual
from bot.domain.recovery import following, is_stage, replayed
from bot.engine.intake import declare as open_declared
from bot.engine.responder import Responder, no_such_incident
from bot.engine.world import World
from bot.errors import Refused

T = TypeVar("T")
Job = Callable[[Responder], Incident]
SNOOZE_AT_MOST = timedelta(hours=24)
REISSUES = ("aws.iam_reissue", "vault.reissue_role")
ONE_CLICK = timedelta(minutes=1)


def acknowledge(incident: str, person: str, via: str) -> Job:
    return _said("acknowledge", incident, person, lambda _r, _i: Acknowledged(person, via))


def unacknowledge(incident: str, person: str, via: str) -> Job:
    return _said("unacknowledge", incident, person, lambda _r, _i: Unacknowledged(person, via))


def approve(request: str, person: str, via: str, hash: str = "", proof: str = "") -> Job:
    """`hash` is what the person's screen showed; '' where the door shows the plan as it is now. `proof` is `totp` where
    they gave a code just now."""

    def event(responder: Responder, incident: Incident) -> Event:
        shown = hash or _asked(incident, request).hash
        if is_stage(incident, request):
            replayed(incident, responder.world.rules())
        also = responder.world.config.people.also(person)
        return ApprovalGiven(request, person, _standing(responder, person), shown, via, also, proof)

    return _said("", _of(request), person, event)


def refuse(request: str, person: str, via: str, why: str = "") -> Job:
    def event(responder: Responder, incident: Incident) -> Event:
        _ = _asked(incident, request)
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


def audit(incident: str, person: str, via: str) -> Job:
    """Holds what the agent did against the approvals once more; the answer comes into the record."""
    return _said("investigate", incident, person, lambda _r, _i: AuditAsked(person, via))


def read_evidence(incident: str, purpose: str, sha256: tuple[str, ...], person: str, via: str) -> Job:
    """Says that a person reads evidence, before they do: a link of the chain of custody."""
    return _said("read_evidence", incident, person, lambda _r, _i: EvidenceRead(person, purpose, sha256, via))


# In the room ------------------------------------------------------------------------------------------------------


def severity(incident: str, to: Sev, person: str, via: str) -> Job:
    def verb(state: Incident) -> str:
        return "raise_severity" if to < state.severity else "lower_severity"

    return _said(verb, incident, person, lambda _r, _i: SeverityChanged(to, person, via))


def take_role(incident: str, role: str, who: str, person: str, via: str) -> Job:
    """`who` '' gives the role up. A role of people.yaml has rights: only who has it there takes it, or gives it on."""

    def event(responder: Responder, state: Incident) -> Event:
        people = responder.world.config.people
        if who:
            _known(responder, who)
        entitled = people.standing(who) | people.standing(person) | {*_taken(state, person)}
        if who and role in people.roles and role not in entitled:
            why = f"{who} does not have the role {role} in people.yaml: somebody who has it may give it to them."
            raise Refused("not_allowed", why)
        return RoleTaken(role, who, person, via)

    return _said("role", incident, person, event)


def add_task(incident: str, text: str, owner: str, due: datetime | None, person: str, via: str) -> Job:
    """`owner` '' is nobody yet; one who has an owner and a time is reminded of it."""

    def event(responder: Responder, state: Incident) -> Event:
        ways = _known(responder, owner).ways if owner else ()
        ref = responder.tx.put_text(incident, _text("task", text))
        return TaskAdded(next_task(state), ref, owner, _ahead(responder, due), person, via, ways)

    return _said("task", incident, person, event)


def change_task(
    incident: str,
    task: str,
    person: str,
    via: str,
    *,
    owner: str = "",
    due: datetime | None = None,
    done: bool = False,
) -> Job:
    def event(responder: Responder, _: Incident) -> Event:
        ways = _known(responder, owner).ways if owner else ()
        return TaskChanged(task.upper(), person, owner, _ahead(responder, due), done, via, ways)

    return _said("task", incident, person, event)


def update(incident: str, conditions: str, actions: str, needs: str, person: str, via: str) -> Job:
    """A status update; only how it stands has to be said."""

    def event(responder: Responder, _: Incident) -> Event:
        texts = (_text("conditions", conditions), actions, needs)
        stand, done, wanted = (responder.tx.put_text(incident, text) for text in texts)
        return UpdateGiven(person, stand, done, wanted, via)

    return _said("update", incident, person, event)


def snooze(incident: str, minutes: int | None, person: str, via: str) -> Job:
    """No reminder of the next status update for so long; None: until it was given."""

    def event(responder: Responder, _: Incident) -> Event:
        until = responder.now + _minutes(minutes, SNOOZE_AT_MOST) if minutes is not None else None
        return ReminderSnoozed(person, until, via)

    return _said("update", incident, person, event)


def escalate(incident: str, person: str, via: str) -> Job:
    """The next level is paged at once. A second click within a minute is one click."""

    def event(responder: Responder, state: Incident) -> Event:
        _not_twice(responder, state.escalated_at, "the next level")
        return Escalated(person, via)

    return _said("escalate", incident, person, event)


def summon(incident: str, who: str, person: str, via: str) -> Job:
    """Pages a person by name, or everybody on call for a role and who took it here."""

    def event(responder: Responder, state: Incident) -> tuple[Event, ...]:
        people = responder.world.config.people
        called = dict.fromkeys(_called(people, state, who, responder.now))
        if len(called) == 1:
            _not_twice(responder, state.summoned.get(next(iter(called))), who)
        return tuple(Summoned(one, person, via, people.persons[one].ways) for one in called)

    return _said("page", incident, person, event)


def silence(incident: str, minutes: int, person: str, via: str) -> Job:
    """No page is repeated for so long; whom a new level or containment needs is paged all the same."""

    def event(responder: Responder, _: Incident) -> Event:
        return Silenced(person, responder.now + _minutes(minutes, SILENCE_AT_MOST), via)

    return _said("silence", incident, person, event)


def pin(incident: str, message: str, author: str, text: str, said_at: datetime, person: str) -> Job:
    """`message` is `<channel>/<ts>`; `author` whoever the chat says it was."""

    def event(responder: Responder, _: Incident) -> Event:
        return Pinned(message, author, person, responder.tx.put_text(incident, text), said_at)

    return _said("note", incident, person, event)


def pin_changed(incident: str, message: str, text: str | None) -> Job:
    """What the chat says of a pinned message: its new text, or None where it was deleted. No person says this."""

    def job(responder: Responder) -> Incident:
        state = responder.incident(incident)
        admit(state, PinChanged(message, TextRef("", "")))  # before a text is kept for nothing
        ref = responder.tx.put_text(incident, text) if text is not None else None
        return responder.append(incident, PinChanged(message, ref))

    return job


def make_private(incident: str, person: str, via: str) -> Job:
    return _said("private", incident, person, lambda _r, _i: MadePrivate(person, via))


def merge(incident: str, into: str, person: str, via: str) -> Job:
    """`incident` goes on in `into`. What is not contained there is let out of sight only by who may resolve it so."""

    def job(responder: Responder) -> Incident:
        for one in (incident, into):
            state = seen(responder, one, person)
            _may(responder, person, "merge", _taken(state, person))
            if one == incident and state.containment not in (Containment.CONTAINED, Containment.NONE):
                _may(responder, person, "resolve_uncontained", _taken(state, person))
        return responder.merge(incident, into, person, via)

    return job


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


# Recovery: one asks, two others approve --------------------------------------------------------------------------


def rollback(incident: str, person: str, via: str) -> Job:
    """Takes back what the incident's record completed, the last first."""
    return _said("recover", incident, person, lambda _r, _i: RollbackAsked(person, via))


def reissue(incident: str, action: str, params: Mapping[str, Any], person: str, via: str) -> Job:
    """`action` is aws.iam_reissue or vault.reissue_role."""

    def event(_: Responder, state: Incident) -> Event:
        if action not in REISSUES:
            raise Refused("no_such_action", f"{action!r} re-issues nothing: say {' or '.join(REISSUES)}.")
        return ReissueAsked(action, {"agent": state.begun.agent_uid, **params}, person, via)

    return _said("recover", incident, person, event)


def bring_back(incident: str, to: str, person: str, via: str) -> Job:
    """`to` '' is the next stage."""

    def event(responder: Responder, state: Incident) -> Event:
        asked = ReturnAsked(to or following(state), person, via)
        admit(state, asked)  # what is missing altogether is said before what is too old
        replayed(state, responder.world.rules())
        return asked

    return _said("recover", incident, person, event)


def replay(incident: str, person: str, via: str) -> Job:
    return _said("investigate", incident, person, lambda _r, _i: ReplayAsked(person, via))


# Who may -----------------------------------------------------------------------------------------------------------


def may_see(world: World, incident: Incident, person: str, now: datetime, place: str = "") -> bool:
    """A private incident is there for who is or was on duty, who was let in, called or has a role in it, and for
    whoever reads along in `place`, where that is its own channel."""
    if not incident.private or (place and place == incident.channel):
        return True
    rosters = incident.roster, world.config.people.roster(now)
    on_duty = {contact.person for roster in rosters for contacts in roster.values() for contact in contacts}
    return person in on_duty | incident.members | {*incident.roles.values()} | incident.summoned.keys()


def seen(responder: Responder, incident: str, person: str) -> Incident:
    """As it is now, with what ran out while the process stood still. For who may not see it there is none."""
    responder.wake(incident)
    state = responder.incident(incident)
    if not may_see(responder.world, state, person, responder.now, responder.place):
        raise no_such_incident(incident)
    return state


def said_in(place: str, job: Callable[[Responder], T]) -> Callable[[Responder], T]:
    """`place`: the channel that the chat says it was said in."""

    def run(responder: Responder) -> T:
        responder.place = place
        try:
            return job(responder)
        finally:
            responder.place = ""  # the next job of the batch is another's

    return run


def _asked(incident: Incident, request: str) -> Approval:
    """Whatever became of it."""
    if request in incident.approvals:
        return incident.approvals[request]
    waiting = [f"{a.request} ({a.step})" for a in incident.approvals.values() if a.state is ApprovalState.OPEN]
    hint = f"Open: {', '.join(waiting)}." if waiting else "Nothing waits for approval there."
    raise Refused("no_such_request", f"{incident.id} has no request {request!r}. {hint}")


def _said(
    verb: str | Callable[[Incident], str],
    incident: str,
    person: str,
    event: Callable[[Responder, Incident], Event | tuple[Event, ...]],
) -> Job:
    """`verb` '' is open to whoever `admit` takes: approvals check their own groups."""

    def job(responder: Responder) -> Incident:
        state = seen(responder, incident, person)
        asked = verb if isinstance(verb, str) else verb(state)
        _may(responder, person, asked, _taken(state, person))
        said = event(responder, state)
        for one in said if isinstance(said, tuple) else (said,):
            state = responder.append(incident, one)
        return state

    return job


def _may(responder: Responder, person: str, verb: str, roles: tuple[str, ...]) -> None:
    people = responder.world.config.people
    if person not in people.persons:
        raise Refused("stranger", f"{person} is not in people.yaml.")
    if verb and not people.may(person, verb, roles):
        allowed = " or ".join(people.verbs.get(verb, ())) or "nobody"
        raise Refused("not_allowed", f"{verb} is for {allowed}; {person} is not.")


def _taken(incident: Incident, person: str) -> tuple[str, ...]:
    """Roles this person has in this incident beyond the standing ones: being on call, or given one by who had it."""
    on_call = (role for role, contacts in incident.roster.items() if any(c.person == person for c in contacts))
    return (*on_call, *(role for role, who in incident.roles.items() if who == person))


def _known(responder: Responder, person: str) -> Person:
    people = responder.world.config.people
    if person not in people.persons:
        raise Refused(
            "no_such_person", f"{person!r} is not in people.yaml. {suggestion(person, people.persons)}".strip()
        )
    return people.persons[person]


def _called(people: People, incident: Incident, who: str, now: datetime) -> tuple[str, ...]:
    """The persons behind a person or a role."""
    if who in people.persons:
        return (who,)
    on_call = people.roles[who].on_call(now) if who in people.roles else ()
    taken = (incident.roles[who],) if who in incident.roles else ()
    if not on_call and not taken:
        known = (*people.persons, *people.roles, *incident.roles)
        why = f"Nobody is on call for {who}." if who in known else f"There is no person or role {who!r}."
        raise Refused("nobody", f"{why} {suggestion(who, known) if who not in known else ''}".strip())
    return (*on_call, *taken)


def _not_twice(responder: Responder, before: datetime | None, what: str) -> None:
    if before and responder.now - before < ONE_CLICK:
        ago = int((responder.now - before).total_seconds())
        raise Refused("just_paged", f"{what} was paged {ago} s ago: give them a minute.")


def _minutes(count: int, most: timedelta) -> timedelta:
    if not 1 <= count <= most // timedelta(minutes=1):
        raise Refused("bad_time", f"Say 1 to {most // timedelta(minutes=1)} minutes, not {count}.")
    return timedelta(minutes=count)


def _ahead(responder: Responder, due: datetime | None) -> datetime | None:
    if due is not None and due <= responder.now:
        raise Refused("bad_time", f"{due:%Y-%m-%d %H:%M} UTC is past.")
    return due


def _text(name: str, text: str) -> str:
    if not text.strip():
        raise Refused("bad_text", f"The {name} must be said in words.")
    return text


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
