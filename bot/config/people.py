"""people.yaml: who there is, how each is reached, who is on call, and who may do what."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from bot.config.reading import Problems, Section, file_section, suggestion
from bot.config.secrets import SecretRef
from bot.domain.escalation import Contact, Roster

ANYONE = "anyone"  # any person of people.yaml
COMMANDER = "incident_commander"
OPERATORS = "operators"  # those who run Firedoor; the commander where nobody holds it
WAYS = ("slack", "email", "webhook")

# Verb -> roles or groups. Approving is not here: each step names its own groups.
SAFE_VERBS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("declare", "acknowledge", "unacknowledge", "note", "role", "escalate"), (ANYONE,)),
    **dict.fromkeys(("task", "update", "page"), (ANYONE,)),
    **dict.fromkeys(("contain", "raise_severity", "fill_form", "investigate", "resolve"), (ANYONE,)),
    **dict.fromkeys(("release", "resolve_uncontained", "silence", "lower_severity", "override"), (COMMANDER,)),
    **dict.fromkeys(("false_positive", "merge", "private", "reopen", "recover", "review"), (COMMANDER,)),
    **dict.fromkeys(("repin", "erase", "break_glass", "read_evidence"), (COMMANDER,)),
    "enroll": (COMMANDER,),
}


@dataclass(frozen=True, slots=True)
class Person:
    """`name` is what screens show. `ways` are tried in order."""

    id: str
    name: str
    email: str = ""
    slack: str = ""  # Slack user id
    webhook: SecretRef | None = None  # the URL is a secret
    totp: SecretRef | None = None
    groups: tuple[str, ...] = ()
    ways: tuple[str, ...] = ()

    @property
    def mailbox(self) -> str:
        """The mail address as addresses are compared."""
        return self.email.strip().casefold()


@dataclass(frozen=True, slots=True)
class Rotation:
    """From `start`, one person after the other for `every`; before it, the first."""

    start: datetime
    every: timedelta

    def turn(self, now: datetime, persons: int) -> int:
        return max(0, (now - self.start) // self.every) % persons


@dataclass(frozen=True, slots=True)
class Role:
    """Without a rotation all of `persons` are on call, in this order."""

    persons: tuple[str, ...]
    rotation: Rotation | None = None

    def on_call(self, now: datetime) -> tuple[str, ...]:
        if self.rotation is None or not self.persons:
            return self.persons
        return (self.persons[self.rotation.turn(now, len(self.persons))],)


@dataclass(frozen=True, slots=True)
class People:
    persons: Mapping[str, Person]
    roles: Mapping[str, Role]
    verbs: Mapping[str, tuple[str, ...]]

    def roster(self, now: datetime) -> Roster:
        """Everybody on call, by role."""
        return {name: tuple(map(self.contact, role.on_call(now))) for name, role in self.roles.items()}

    def contact(self, person: str) -> Contact:
        return Contact(person, self.persons[person].ways)

    def group(self, name: str) -> tuple[str, ...]:
        return tuple(person.id for person in self.persons.values() if name in person.groups)

    @property
    def groups(self) -> frozenset[str]:
        return frozenset(group for person in self.persons.values() for group in person.groups)

    def standing(self, person: str) -> frozenset[str]:
        """The groups and roles of a person; a role is held by everyone on its list, on call or not."""
        found = self.persons.get(person)
        roles = {name for name, role in self.roles.items() if person in role.persons}
        return frozenset(roles | {*found.groups} if found else roles)

    def may(self, person: str, verb: str, roles: Collection[str] = ()) -> bool:
        """`roles` are those the person has taken in this incident. An unknown person or verb may nothing."""
        if person not in self.persons:
            return False
        allowed = self.verbs.get(verb, ())
        return ANYONE in allowed or not {*allowed}.isdisjoint(self.standing(person) | {*roles})

    def also(self, person: str) -> tuple[str, ...]:
        """Other ids of the same human being: who shares a mail address or a Slack account. A folder in which there are
        any does not pass `firedoor check`; until it is mended, nobody counts twice."""
        found = self.persons.get(person)
        if found is None:
            return ()
        return tuple(
            other.id
            for other in self.persons.values()
            if other.id != person
            and ((found.slack and other.slack == found.slack) or (found.mailbox and other.mailbox == found.mailbox))
        )

    def by_slack(self, user: str) -> Person | None:
        return next((person for person in self.persons.values() if user and person.slack == user), None)

    def by_email(self, email: str) -> Person | None:
        """Whatever its case; nobody where two persons share the address."""
        found = [person for person in self.persons.values() if email and person.email.lower() == email.lower()]
        return found[0] if len(found) == 1 else None


def load_people(path: Path, problems: Problems) -> People:
    with file_section(path, problems) as top:
        persons = top.each("persons", "person", _person)
        if not persons:
            top.report("", "there are no persons.", "Add at least one under 'persons'.")
        roles = top.each("roles", "role", lambda name, section: _role(name, section, persons))
        verbs = dict(SAFE_VERBS)
        groups = {group for person in persons.values() for group in person.groups}
        known = [ANYONE, *roles, *sorted(groups)]
        with top.section("verbs", "the verb table") as table:
            for verb in table.entries():
                allowed = table.texts(verb)
                if verb not in SAFE_VERBS:
                    table.report(verb, f"unknown verb {verb!r}.", suggestion(verb, SAFE_VERBS))
                for name in allowed:
                    if name not in known:
                        table.report(verb, f"{verb!r} names {name!r}, no role or group.", suggestion(name, known))
                verbs[verb] = allowed
        for verb, allowed in verbs.items():
            if COMMANDER in allowed and COMMANDER not in roles:
                top.report("", f"the role {COMMANDER!r} is missing; the verb {verb!r} and others need it.")
                break
        return People(persons, roles, verbs)


def _person(name: str, section: Section) -> Person:
    email, slack, webhook = section.text("email", ""), section.text("slack", ""), section.secret("webhook")
    has = [way for way, address in zip(WAYS, (slack, email, webhook), strict=True) if address]
    ways = section.texts("ways", has, choices=WAYS)
    for way in ways:
        if way not in has:
            section.report("ways", f"{name!r} is to be reached by {way}, and has no {way!r}.")
    return Person(
        id=name,
        name=section.text("name", name),
        email=email,
        slack=slack,
        webhook=webhook,
        totp=section.secret("totp"),
        groups=section.texts("groups"),
        ways=ways,
    )


def _role(name: str, section: Section, persons: Mapping[str, Person]) -> Role:
    if ("on_call" in section) == ("rotation" in section):
        section.report("", f"the role {name!r} needs either 'on_call' or 'rotation'.")
    holder, key, rotation = section, "on_call", None
    if "rotation" in section:
        holder, key = section.section("rotation", f"the rotation of {name!r}"), "persons"
        with holder:
            every = holder.duration("every")
            if not every:
                holder.report("every", "a turn must be longer than nothing.")
            rotation = Rotation(holder.time("start"), every or timedelta(days=7))
            members = holder.texts(key)
    else:
        members = section.texts(key)
    for person in members:
        if person not in persons:
            holder.report(key, f"{name!r} names {person!r}, no person.", suggestion(person, persons))
    return Role(tuple(person for person in members if person in persons), rotation)
