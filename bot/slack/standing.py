"""How an incident stands, in words for somebody who was asleep a minute ago.

Every string made here is one plain line, harmless wherever it is shown; whoever puts it into mrkdwn escapes it once.
Times are UTC, `HH:MM:SS UTC`, with the date in front where it is not the day of the opening.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from bot.config.people import COMMANDER, People
from bot.domain.approval import Approval, ApprovalState, missing
from bot.domain.calls import Call
from bot.domain.containment import Containment, holds
from bot.domain.decisions import Page
from bot.domain.handshake import MEANS
from bot.domain.incident import Incident, StepRun, StepStatus, is_held
from bot.domain.outcome import Done, Failed, Grade, Pending, Skipped, Unknown
from bot.domain.playbook import Rung
from bot.domain.switch import switched
from bot.domain.wording import aftermath_text, evidence_text, listed, span
from bot.slack.mrkdwn import plain

WHY_MAX = 280  # characters of a system's own answer
NAMED = 12  # persons in one list


class Crowd:
    """People as screens name them. Without people.yaml (None) by their ids."""

    def __init__(self, people: People | None = None) -> None:
        self._people = people

    def name(self, person: str) -> str:
        known = self._people.persons.get(person) if self._people else None
        return plain(known.name if known else person, 60)

    def names(self, persons: list[str]) -> str:
        more = f" and {len(persons) - NAMED} more" if len(persons) > NAMED else ""
        return ", ".join(map(self.name, persons[:NAMED])) + more

    def slack(self, person: str) -> str:
        """Their Slack id, or ''."""
        known = self._people.persons.get(person) if self._people else None
        return known.slack if known else ""

    def able(self, groups: str) -> list[str] | None:
        """Who stands in one of these groups (`a|b`); None where people.yaml is not at hand."""
        if self._people is None:
            return None
        wanted = set(groups.split("|"))
        return [person for person in self._people.persons if wanted & self._people.standing(person)]


# Small words ----------------------------------------------------------------------------------------------------


def spoken(word: str) -> str:
    """`head_of_security` as people say it."""
    return plain(word.replace("_", " "), 80)


def group(name: str) -> str:
    return " or ".join(map(spoken, name.split("|")))


def moment(incident: Incident, at: datetime) -> str:
    at = at.astimezone(UTC)
    return f"{at:%H:%M:%S} UTC" if at.date() == incident.start.date() else f"{at:%Y-%m-%d %H:%M:%S} UTC"


def title(incident: Incident) -> str:
    """`INC-7 SEV1 unintended production change`"""
    return f"{plain(incident.id, 40)} {incident.severity.name} {spoken(incident.type)}"


def mode(incident: Incident) -> str:
    """'' where it is real."""
    if incident.begun.mode == "live":
        return ""
    return f"{incident.begun.mode.upper()}: an exercise. The estate is simulated and nothing here is live."


def agent(incident: Incident, crowd: Crowd) -> str:
    uid, known = plain(incident.begun.agent_uid, 80), incident.agent
    if known is None:
        return f"{uid} (NOT ENROLLED: what it holds is not known)" if uid else "none named"
    name = f"{plain(known.name, 60)} ({plain(known.id, 80)})" if known.name else plain(known.id, 80)
    owner = f", owner {crowd.name(known.owner)}" if known.owner else ""
    team = f", team {plain(known.team, 60)}" if known.team else ""
    behind = f" and {len(known.delegates) - NAMED} more" if len(known.delegates) > NAMED else ""
    acting = ", ".join(plain(one, 60) for one in known.delegates[:NAMED])
    return name + owner + team + (f"; {acting}{behind} act{'s' * (len(known.delegates) == 1)} for it" if acting else "")


def severity(incident: Incident, crowd: Crowd) -> str:
    """With who changed it, and from what."""
    now, first = incident.severity, incident.begun.severity
    if not incident.rated_by:
        return now.name if now is first else f"{now.name}, opened as {first.name}"
    return f"{now.name}, set by {crowd.name(incident.rated_by)}" + ("" if now is first else f"; opened as {first.name}")


def roles(incident: Incident, crowd: Crowd) -> str:
    """Those that somebody has taken here; '' where nobody has any."""
    return "; ".join(f"{spoken(role)}: {crowd.name(who)}" for role, who in incident.roles.items())


def tasks(incident: Incident) -> str:
    """`2 open (1 overdue), 3 done`, '' where there are none."""
    if not incident.tasks:
        return ""
    left = [task for task in incident.tasks.values() if not task.done]
    late = sum(task.due is not None and task.due <= (incident.at or incident.start) for task in left)
    return f"{len(left)} open" + (f" ({late} overdue)" if late else "") + f", {len(incident.tasks) - len(left)} done"


# Containment ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cut:
    """One line about one step, or about one call of it. `rank`: 0 needs people, 1 under way, 2 in order."""

    rank: int
    glyph: str
    step: str
    what: str  # `vault.revoke_agent on vault-entity:e-7`
    said: str

    def __str__(self) -> str:
        return f"{self.glyph} {self.step}" + (f" ({self.what})" if self.what else "") + f": {self.said}"


def headline(incident: Incident) -> str:
    """The machine's word on containment, as a sentence that nobody can misread."""
    cuts = [cut for run in incident.steps.values() if _counts(incident, run) for cut in _cuts(incident, run)]
    proved = f"{sum(cut.rank == 2 for cut in cuts)} of {len(cuts)} cuts verified"
    taken = " A person took it as it is." if incident.overridden else ""
    match incident.containment:
        case Containment.CONTAINED:
            until = alive_until(incident)
            late = f", but what was revoked may be alive until {moment(incident, until)}" if until else ""
            return f"CONTAINED: {proved}{late}."
        case Containment.RUNNING:
            return f"NOT CONTAINED YET, running: {proved}." + taken
        case Containment.PARTIAL:
            return f"PARTLY CONTAINED: {proved}; see what is not." + taken
        case Containment.UNKNOWN:
            return f"UNKNOWN: {proved}; at least one cut may or may not have happened." + taken
        case Containment.NONE:
            return f"NOT CONTAINED: {_why_none(incident)}."


def handshake(incident: Incident) -> str:
    """How far the agent's mode is true; '' where none was ordered."""
    stage = switched(incident)
    return f"{stage.upper()}: {MEANS[stage]}" if stage else ""


def _why_none(incident: Incident) -> str:
    playbook = incident.frozen.playbook
    if playbook is None:
        return "no playbook runs, people have to cut the agent off by hand"
    if playbook.rung is Rung.OBSERVE:
        return "the playbook only observes"
    if any(run.status is StepStatus.RELEASED for run in incident.steps.values()):
        return "what was cut has been released"
    return "the playbook cuts nothing"


def cuts(incident: Incident) -> list[Cut]:
    """The containing steps, what needs people first."""
    found = [c for run in incident.steps.values() if is_held(incident, run) for c in _cuts(incident, run)]
    return sorted(found, key=lambda cut: cut.rank)


def others(incident: Incident) -> list[Cut]:
    """Steps that contain nothing, in the order of the playbook."""
    return [c for run in incident.steps.values() if not is_held(incident, run) for c in _cuts(incident, run)]


def alive_until(incident: Incident) -> datetime | None:
    """When the last of what was revoked is refused everywhere, where an action said so and it is still to come."""
    found = []
    for run in incident.steps.values():
        for call in run.calls.values() if run.status is StepStatus.DONE and is_held(incident, run) else ():
            until = _alive_until(call)
            if until and until > (incident.at or incident.start):
                found.append(until)
    return max(found, default=None)


def overridable(incident: Incident) -> list[StepRun]:
    """Containing steps that a permitted person can have run with one click. Not those that approvers refused."""
    stuck = (StepStatus.DEFERRED, StepStatus.FAILED, StepStatus.UNKNOWN)
    if incident.over:
        return []
    return [
        run
        for run in incident.steps.values()
        if run.status in stuck and is_held(incident, run) and run.calls and not run.accepted
    ]


def can_contain(incident: Incident) -> bool:
    """Whether a person's word would start cuts that do not run by themselves."""
    return incident.frozen.playbook is not None and not (incident.started and incident.contain) and not incident.over


def _counts(incident: Incident, run: StepRun) -> bool:
    ignored = (StepStatus.LEFT_OUT, StepStatus.RELEASED, StepStatus.OBSERVED)
    return is_held(incident, run) and run.status not in ignored


def _cuts(incident: Incident, run: StepRun) -> Iterator[Cut]:
    if run.status is StepStatus.LEFT_OUT:
        return
    step = plain(run.id, 60)
    if not any(call.outcome or call.decision for call in run.calls.values()) and run.status is not StepStatus.RUNNING:
        rank, glyph, said = _uncalled(incident, run)
        yield Cut(rank, glyph, step, _what(run), said)
        return
    for call in run.calls.values():
        rank, glyph, said = _called(incident, run, call)
        yield Cut(rank, glyph, step, f"{plain(run.action, 60)} on {plain(call.plan.target, 120)}", said + _taken(run))


def _what(run: StepRun) -> str:
    if not run.calls:
        return plain(run.action, 60)
    first, *more = run.calls.values()
    behind = f" and {len(more)} more" if more else ""
    return f"{plain(run.action, 60)} on {plain(first.plan.target, 120)}{behind}"


def _taken(run: StepRun) -> str:
    return "; a person took it as it is" if run.accepted else ""


def _uncalled(incident: Incident, run: StepRun) -> tuple[int, str, str]:
    """(rank, glyph, words) of a step that has not called anything."""
    why, because = plain(run.why, WHY_MAX), f": {plain(run.why, WHY_MAX)}" if run.why else ""
    match run.status:
        case StepStatus.WAITING | StepStatus.READY | StepStatus.AWAITING_PERMIT:
            return 1, "○", _awaits(incident, run)
        case StepStatus.AWAITING_APPROVAL:
            return 0, "◇", _asks(incident, run)
        case StepStatus.AWAITING_FORM:
            return 1, "◇", _form(incident, run)
        case StepStatus.DEFERRED:
            return 0, "‖", f"HELD BACK by a limit{because}"
        case StepStatus.OBSERVED:
            return 1, "·", "only observed, not done"
        case StepStatus.DONE:
            return 2, "✓", f"nothing to cut: {why}" if why and is_held(incident, run) else why or "done"
        case StepStatus.FAILED | StepStatus.REFUSED:
            return 0, "✗", f"NOT DONE{because}{_taken(run)}"
        case StepStatus.UNKNOWN:
            return 0, "?", f"unknown{because}{_taken(run)}"
        case _:
            return 0 if is_held(incident, run) else 2, "–", spoken(run.status) + because + _taken(run)


def _awaits(incident: Incident, run: StepRun) -> str:
    spec = incident.spec(run.id)
    ahead = [other for other in (*spec.needs, *spec.after) if not incident.steps[other].settled]
    return f"waits for {listed([plain(other, 60) for other in ahead[:5]])}" if ahead else "about to start"


def _asks(incident: Incident, run: StepRun) -> str:
    asked = incident.approvals.get(run.request)
    lacking = f", still missing {still_missing(asked)}" if asked else ""
    until = incident.timers.get(f"approval:{run.request}")
    return f"waits for approval{lacking}" + (f", until {moment(incident, until)}" if until else "")


def _form(incident: Incident, run: StepRun) -> str:
    manual, until = incident.spec(run.id).manual, incident.timers.get(f"form:{run.id}")
    who = f"the {spoken(manual.assignee)}" if manual else "a person"
    return f"waits for {who} to complete it" + (f" by {moment(incident, until)}" if until else "")


def _called(incident: Incident, run: StepRun, call: Call) -> tuple[int, str, str]:
    """(rank, glyph, words) of one call that was made."""
    held = is_held(incident, run)
    if run.status in (StepStatus.RELEASED, StepStatus.RELEASING):
        return 1, "↺", "released" if run.status is StepStatus.RELEASED else "being released"
    match call.outcome if call.final else None:
        case Done() as done:
            return _done(incident, run, call, done, held)
        case Failed(why=why):
            return 0 if held else 2, "✗", f"FAILED: {plain(why, WHY_MAX)}"
        case Skipped(why=why):
            return 0 if held else 2, "–", f"not done: {plain(why, WHY_MAX)}"
        case Unknown(why=why):
            return 0, "?", f"UNKNOWN whether it happened: {plain(why, WHY_MAX)}"
    if run.status is StepStatus.CANCELLED:
        return 0 if held else 2, "–", "cancelled"
    return _under_way(incident, call, held)


def _done(incident: Incident, run: StepRun, call: Call, done: Done, held: bool) -> tuple[int, str, str]:
    if done.nothing_held:
        return 2, "✓", f"nothing was held there: {plain(done.nothing_held, WHY_MAX)}"
    if not held:
        return 2, "✓", f"done, {done.grade.label}"
    required = incident.spec(run.id).require
    why = str(done.evidence.get("why") or "")
    if not holds(done, required):
        proof = plain(why or evidence_text(done.evidence), WHY_MAX)
        return 0, "!", f"{done.grade.label}, {required.label} is required" + (f": {proof}" if proof else "")
    if call.after and call.after.alive:
        return 0, "!", plain(aftermath_text(call.after), WHY_MAX)
    until = _alive_until(call)
    living = f", may be alive until {moment(incident, until)}" if until else ""
    remark = f" ({plain(why, WHY_MAX)})" if why else ""
    word = "taken on trust, " if done.grade is Grade.UNVERIFIED else "revoked, " if until else "in force, "
    unused = "; not used since, by the log" if call.after and not call.after.why else ""
    return 2, "✓", f"{word}{done.grade.label}{living}{unused}{remark}"


def _under_way(incident: Incident, call: Call, held: bool) -> tuple[int, str, str]:
    again = f", tried again {moment(incident, call.again_at)}" if call.again_at else ""
    match call.outcome:
        case Pending(why=why, unavailable=True):
            alive = "; what it cuts may still be alive" if held else ""
            return 0 if held else 1, "…", f"{plain(call.plan.system, 60)} does not answer{again}{alive}" + _because(why)
        case Pending(why=why):
            return 1, "…", "running" + _because(why)
        case Failed(why=why):
            return 1, "…", f"failed so far{again}" + _because(why)
    return 1, "…", "running"


def _because(why: str) -> str:
    return f" ({plain(why, WHY_MAX)})" if why else ""


def _alive_until(call: Call) -> datetime | None:
    """By the actions' convention: an ISO time in the evidence."""
    value = call.outcome.evidence.get("alive_until") if isinstance(call.outcome, Done) else None
    try:
        until = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return until if until and until.tzinfo else None


# People ---------------------------------------------------------------------------------------------------------


def still_missing(asked: Approval) -> str:
    """`1 security team and 1 infra owner`"""
    lacking = [f"{count} {group(name)}" for name, count in missing(asked.each, asked.given).items()]
    return listed(lacking) if lacking else "nobody"


def acknowledged(incident: Incident, crowd: Crowd) -> str:
    if not incident.acked_by:
        return f"by nobody when it was {spoken(incident.status)}" if incident.over else "NOBODY"
    at = f" at {moment(incident, incident.acked_at)}" if incident.acked_at else ""
    until = incident.timers.get("ack")
    return f"{crowd.name(incident.acked_by)}{at}" + (f", holds until {moment(incident, until)}" if until else "")


def duty(incident: Incident, crowd: Crowd) -> list[str]:
    """Who is on call at each level, whether they were paged, and who commands."""
    lines = []
    for number, level in enumerate(incident.frozen.matrix.levels):
        who = [contact.person for contact in incident.contacts(level.roles)]
        names = crowd.names(who) if who else "NOBODY on call"
        named = level_name(incident, number)
        roles = " and ".join(spoken(role) for role in level.roles if not named.lower().endswith(spoken(role)))
        lines.append(f"{named}{f', {roles}' if roles else ''}: {names}{_reached(incident, number, who)}")
    command = [contact.person for contact in incident.roster.get(COMMANDER, ())]
    return lines + ([f"Commander: {crowd.names(command)}"] if command else [])


def level_name(incident: Incident, number: int) -> str:
    name = plain(incident.frozen.matrix.levels[number].name, 60)
    return name if name.upper() == f"L{number + 1}" else f"level {number + 1} {name}"


def _reached(incident: Incident, number: int, who: list[str]) -> str:
    pages = [s for s in incident.pages.values() if isinstance(s.page, Page) and number in s.page.levels]
    if not pages:
        level = incident.frozen.matrix.levels[number]
        waits = who and not incident.acked_by and not incident.over
        return f", paged at {moment(incident, incident.start + level.page_at)} unless acknowledged" if waits else ""
    return ", paged" if any(state.state == "sent" for state in pages) else ", NOT REACHED YET"


def deadlines(incident: Incident) -> list[str]:
    """What happens next if nobody does anything, the two nearest."""
    coming = sorted((at, name) for name, at in incident.timers.items())
    named = [(at, _deadline(incident, name)) for at, name in coming]
    return [f"{moment(incident, at)} {what}" for at, what in named if what][:2]


def _deadline(incident: Incident, name: str) -> str:
    kind, _, rest = name.partition(":")
    match kind:
        case "escalation":
            return "" if incident.acked_by else "the next page, if nobody acknowledges"
        case "containment":
            settled = incident.containment is Containment.CONTAINED or incident.overridden
            return "" if settled else "a page, if containment is not verified"
        case "ack":
            return "the acknowledgement runs out"
        case "approval":
            asked = incident.approvals.get(rest)
            is_open = asked is not None and asked.state is ApprovalState.OPEN
            return f"a decision on {plain(asked.step, 60)} is due" if asked and is_open else ""
        case "form":
            return f"{plain(rest, 60)} is to be completed"
        case "phase":
            return f"phase {spoken(rest)} is due"
        case "run":
            return "the playbook's time is over"
        case "update":
            return "a status update is due"
        case "task":
            return f"task {plain(rest, 20)} is due"
    return ""


def since_opening(incident: Incident, at: datetime) -> str:
    return f"{span(at - incident.start)} after the opening"
