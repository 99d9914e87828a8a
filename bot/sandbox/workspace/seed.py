"""The company that the sandbox begins with: the people of people.yaml, a guest, somebody from outside, their rooms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bot.ports import Clock
from bot.sandbox.workspace.app import App
from bot.sandbox.workspace.rooms import BOT_USER, Channel, Group, Person
from bot.sandbox.workspace.state import Workspace

PARTNER_TEAM = "T0PARTNER"
GUEST = Person("U0GUEST", "Guest", "guest@example.com", is_restricted=True, title="a guest: one channel, no decisions")
PARTNER = Person("U0PARTNER", "Partner", "partner@example.net", team_id=PARTNER_TEAM, title="from another company")

GENERAL, INCIDENTS, SECURITY, SHARED = "C0GENERAL", "C0INCIDENTS", "C0SECURITY", "C0SHARED"


def seeded(
    insiders: Iterable[Person],
    clock: Clock,
    *,
    groups: Mapping[str, Sequence[str]],
    incidents: str = "incidents",
    app: App | None = None,
) -> Workspace:
    """`insiders` are those of people.yaml by their Slack ids, `groups` its groups: name -> Slack ids. The bot is in
    #general, in `incidents` where its cards go, in the private #security, and in #shared, where the partner is too."""
    staff = [*insiders]
    everyone = frozenset((BOT_USER, *(person.id for person in staff)))
    security = frozenset((BOT_USER, *groups.get("security_team", ())))
    rooms = [
        Channel(GENERAL, "general", everyone, purpose="Everybody in the company"),
        Channel(INCIDENTS, incidents, everyone, topic="Cards of incidents; the talk is in their own channels"),
        Channel(SECURITY, "security", security, is_private=True, purpose="Seen by the security team only"),
        Channel(SHARED, "shared", everyone | {GUEST.id, PARTNER.id}, is_ext_shared=True, purpose="With the partner"),
    ]
    made = [
        Group(f"S0{name.replace('_', '').upper()}", name.replace("_", "-"), name.replace("_", " "), tuple(users))
        for name, users in groups.items()
    ]
    return Workspace([*staff, GUEST, PARTNER], rooms, clock, groups=made, app=app)
