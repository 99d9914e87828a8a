"""What is said in Slack as the engine's verbs, and the sentence that tells the person that it is recorded. The verb
table is the engine's; here is only which verb is meant."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from bot.config import SecretRef
from bot.config.people import People
from bot.config.reading import suggestion
from bot.domain.approval import ApprovalState
from bot.domain.conversation import ROLES
from bot.domain.events import Status
from bot.domain.incident import Incident
from bot.domain.wording import audit_text
from bot.engine import verbs
from bot.engine.proof import TOTP, Proof, codes_of, prove
from bot.engine.responder import Responder
from bot.engine.verbs import Job
from bot.errors import Refused
from bot.slack.mrkdwn import plain
from bot.slack.said import (
    Decide,
    FillForm,
    Look,
    Merge,
    New,
    NewTask,
    Note,
    Plain,
    Release,
    Said,
    SetSeverity,
    SetStatus,
    Silence,
    Snooze,
    Summon,
    TakeRole,
    TaskChange,
    Update,
)
from bot.slack.standing import Crowd, moment, spoken, still_missing

VIA = "slack"
ME = "@me"
WRONG_CODE = "wrong_code"  # of a refusal: to be corrected where it was given


class Orders:
    """`clean` takes secrets out of what people write, `secret` reads a TOTP secret when it is needed."""

    def __init__(self, people: People, clean: Callable[[str], str], secret: Callable[[SecretRef], str]) -> None:
        self._people, self._clean, self._secret, self._crowd = people, clean, secret, Crowd(people)

    def job(self, said: Said, incident: str, person: str, shown: str = "") -> Job:
        """What a person says of an incident ('' for `new`). `shown` is the severity or status that their screen had:
        where it changed meanwhile they are asked to look again."""
        clean = self._clean
        match said:
            case Plain(verb=verb):
                return _PLAIN[verb](incident, person)
            case New():
                return verbs.declare(
                    person=person,
                    type=said.type,
                    severity=said.severity,
                    agent=said.agent,
                    title=clean(said.title),
                    message=clean(said.message),
                )
            case Update(conditions=conditions, actions=actions, needs=needs):
                return verbs.update(incident, clean(conditions), clean(actions), clean(needs), person, VIA)
            case SetStatus(to=to):
                return _as_shown(incident, person, shown, lambda i: i.status, verbs.status(incident, to, person, VIA))
            case SetSeverity(to=to):
                job = verbs.severity(incident, to, person, VIA)
                return _as_shown(incident, person, shown, lambda i: i.severity.name, job)
            case TakeRole(role=role, who=who):
                taker = self.who(who, person)
                return lambda r: verbs.take_role(
                    incident, self.role(verbs.seen(r, incident, person), role), taker, person, VIA
                )(r)
            case NewTask(text=text, owner=owner, minutes=minutes):
                of = self.who(owner, person) if owner else ""
                words = clean(text)
                return lambda r: verbs.add_task(incident, words, of, _due(r, minutes), person, VIA)(r)
            case TaskChange(task=task, owner=owner, minutes=minutes, done=done):
                of = self.who(owner, person) if owner else ""
                return lambda r: verbs.change_task(
                    incident, task, person, VIA, owner=of, due=_due(r, minutes), done=done
                )(r)
            case Summon(who=who):
                return verbs.summon(incident, self.who_or_role(who, person), person, VIA)
            case Silence(minutes=minutes):
                return verbs.silence(incident, minutes, person, VIA)
            case Snooze(minutes=minutes):
                return verbs.snooze(incident, minutes, person, VIA)
            case Merge(into=into):
                return verbs.merge(incident, into, person, VIA)
            case Decide(approve=True, shown=shown):
                return self._approve(said, person)
            case Decide(step=step, why=why):
                return lambda r: verbs.refuse(_request(r, incident, step, person), person, VIA, clean(why))(r)
            case Release(step=step):
                return verbs.release(incident, step, person, VIA)
            case Note(text=text):
                return verbs.note(incident, clean(text), person)
            case FillForm(step=step, values=values):
                return verbs.submit_form(incident, step, {k: clean(v) for k, v in values.items()}, person)
            case Look(verb=verb):
                raise Refused("nothing_to_do", f"{verb} changes nothing.")

    def _approve(self, said: Decide, person: str) -> Job:
        request, _, hash = said.shown.partition("|")
        hash = hash or "nothing"  # what shows no plan must not stand for the plan as it is now
        if not said.code:
            return verbs.approve(request, person, VIA, hash)
        codes = codes_of(self._people, person, self._secret)

        def job(responder: Responder) -> Incident:
            """In one transaction; a wrong code is counted though nothing else happens."""
            proof = prove(responder, person, codes, said.code)
            if proof is not Proof.GOOD:
                raise Refused(WRONG_CODE, proof.why, keep=True)
            return verbs.approve(request, person, VIA, hash, TOTP)(responder)

        return job

    def confirmed(self, said: Said, after: Incident) -> str:
        """Plain; what is true after it."""
        id, crowd = after.id, self._crowd
        match said:
            case Plain(verb=verb):
                return _done(verb, after)
            case New():
                where = f" Its channel is #{after.channel_name}." if after.channel_name else ""
                return f"{id} is open, {after.severity.name} {spoken(after.type)}.{where}"
            case Update():
                due = after.timers.get("update")
                return f"Recorded: update {after.updates} of {id}." + (f" Next by {moment(after, due)}." if due else "")
            case SetStatus():
                return f"{id} is now {spoken(after.status)}."
            case SetSeverity():
                return f"{id} is now {after.severity.name}."
            case TakeRole(role=role):
                role = self.role(after, role)
                return f"Recorded: {crowd.name(after.roles[role])} is {spoken(role)} of {id}."
            case NewTask() | TaskChange():
                task = after.tasks[said.task if isinstance(said, TaskChange) else [*after.tasks][-1]]
                owner = crowd.name(task.owner) if task.owner else "nobody yet"
                by = f", due {moment(after, task.due)}" if task.due else ""
                return f"{task.id} of {id}: " + ("done." if task.done else f"{owner}{by}.")
            case Summon(who=who):
                return f"{plain(who.removeprefix('@'), 60)} is being paged for {id}."
            case Silence():
                end = f" until {moment(after, after.silenced_until)}" if after.silenced_until else ""
                return f"No page of {id} is repeated{end}. New levels, and containment, page all the same."
            case Snooze():
                due = after.timers.get("update")
                return f"Reminded again {moment(after, due)}." if due else "Not reminded again before the next update."
            case Merge(into=into):
                return f"Merged: it goes on in {into}."
            case Decide(approve=True, shown=shown):
                return recorded(after, shown.partition("|")[0])
            case Decide():
                return f"Recorded: refused for {id}. It is not done."
            case Release(step=step):
                return f"Recorded: {plain(step, 60)} of {id} is let go."
            case Note():
                return f"Noted on the timeline of {id}."
            case FillForm(step=step):
                return f"Recorded: {plain(step, 60)} of {id} is complete."
            case Look():
                return ""

    # Who is meant -----------------------------------------------------------------------------------------------

    def who(self, word: str, person: str) -> str:
        """A person by id, name, `@name` or Slack's `@U1`; '' and `@me` are the one who speaks. Raises Refused."""
        bare = word.removeprefix("@")
        if word in ("", ME) or bare.lower() == "me":
            return person
        if bare in self._people.persons:
            return bare
        if known := self._people.by_slack(bare):
            return known.id
        named = [one.id for one in self._people.persons.values() if one.name.lower() == bare.lower().replace("_", " ")]
        if len(named) == 1:
            return named[0]
        hint = suggestion(bare[:60], self._people.persons)
        raise Refused("no_such_person", f"{plain(word, 60)!r} is no person of people.yaml. {hint}".strip())

    def who_or_role(self, word: str, person: str) -> str:
        """A person goes before a role of the same name, as in the engine."""
        bare = word.removeprefix("@")
        role = bare.lower().replace("-", "_")
        named = bare not in self._people.persons and role in {*self._people.roles, *ROLES}
        return role if named else self.who(word, person)

    def role(self, incident: Incident, word: str) -> str:
        """`comms` is communications, `scr` the one role that begins so. What is none comes back as it is."""
        known = dict.fromkeys((*ROLES, *incident.roster))
        begun = [role for role in known if role.startswith(_SHORT.get(word, word))]
        return word if word in known else begun[0] if len(begun) == 1 else word


_SHORT = {"ic": "incident_commander", "commander": "incident_commander", "comms": "communications"}

_PLAIN: dict[str, Callable[[str, str], Job]] = {
    "ack": lambda incident, person: verbs.acknowledge(incident, person, VIA),
    "unack": lambda incident, person: verbs.unacknowledge(incident, person, VIA),
    "escalate": lambda incident, person: verbs.escalate(incident, person, VIA),
    "contain": lambda incident, person: verbs.contain(incident, person, VIA),
    "resolve": lambda incident, person: verbs.status(incident, Status.RESOLVED, person, VIA),
    "reopen": lambda incident, person: verbs.status(incident, Status.INVESTIGATING, person, VIA),
    "rollback": lambda incident, person: verbs.rollback(incident, person, VIA),
    "replay": lambda incident, person: verbs.replay(incident, person, VIA),
    "return": lambda incident, person: verbs.bring_back(incident, "", person, VIA),
    "audit": lambda incident, person: verbs.audit(incident, person, VIA),
    "private": lambda incident, person: verbs.make_private(incident, person, VIA),
}


def _done(verb: str, after: Incident) -> str:
    id = after.id
    match verb:
        case "ack":
            until = after.timers.get("ack")
            holds = f" until {moment(after, until)}" if until else ""
            return f"You have acknowledged {id}{holds}: escalation stops, containment goes on."
        case "unack":
            return f"{id} is not acknowledged any more: people are paged again."
        case "escalate":
            return f"The next level of {id} is being paged."
        case "contain":
            return f"The playbook of {id} runs on your word. Its card shows each cut."
        case "rollback" | "return":
            asked = list(after.measures.values())[-1]
            return f"Asked: {asked.id} of {id}. Two others have to approve it."
        case "replay":
            return f"The alerts of {id} are being replayed in the sandbox."
        case "audit":
            found = f"Approval path: {plain(audit_text(after.audited), 200)}. " if after.audited else ""
            return f"{found}{id} is being audited anew: what is found comes into its thread."
        case "private":
            return f"{id} is private from now on."
    return f"{id} is now {spoken(after.status)}."


def _as_shown(incident: str, person: str, shown: str, now: Callable[[Incident], str], job: Job) -> Job:
    def run(responder: Responder) -> Incident:
        found = str(now(verbs.seen(responder, incident, person)))
        if shown and found != shown:
            raise Refused("changed", f"{incident} is {spoken(found)} by now, your form showed {shown}. Look again.")
        return job(responder)

    return run


def _due(responder: Responder, minutes: int | None) -> datetime | None:
    return responder.now + timedelta(minutes=minutes) if minutes else None


def _request(responder: Responder, incident: str, step: str, person: str) -> str:
    """A request by its id, by its number or by its step."""
    state = verbs.seen(responder, incident or step.partition("/")[0], person)
    for asked in reversed([*state.approvals.values()]):
        if step in (asked.request, asked.request.partition("/")[2], asked.step):
            return asked.request
    names = [asked.step for asked in state.approvals.values()]
    raise Refused(
        "no_such_request", f"{state.id} asks for no {plain(step, 60)!r}. {suggestion(step[:60], names)}".strip()
    )


def recorded(after: Incident, request: str) -> str:
    asked = after.approvals[request]
    match asked.state:
        case ApprovalState.OPEN:
            return f"Recorded: your approval of {asked.step}. Still missing: {still_missing(asked)}."
        case ApprovalState.GRANTED:
            return f"Recorded: your approval of {asked.step}. Nothing is missing any more: it goes ahead."
    return f"Recorded: {asked.step} is {asked.state}. It is not done."
