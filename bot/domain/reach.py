"""What an agent holds, and what of it is alive: pure values. `bot.reach` finds them out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from bot.domain.agent import Agent, AwsIdentity, GithubIdentity, KubernetesIdentity, VaultIdentity
from bot.domain.expression import Name
from bot.domain.playbook import Step

LISTED = 60  # of what is held, worst first: an entry of the record is bounded. The counts are of everything
UNREAD = 20  # reasons why something could not be read
NAMED = 6  # in one sentence

# Kind -> one, several; worst first: what works from anywhere by itself comes before what needs something else.
KINDS: Mapping[str, tuple[str, str]] = {
    "session": ("live session", "live sessions"),
    "access-key": ("key", "keys"),
    "console": ("console password", "console passwords"),
    "vault-token": ("Vault token", "Vault tokens"),
    "account-token": ("Kubernetes token", "Kubernetes tokens"),
    "secret-id": ("secret id", "secret ids"),
    "approle": ("AppRole", "AppRoles"),
    "lease-prefix": ("lease prefix", "lease prefixes"),
    "lease": ("lease", "leases"),
    "service-account": ("Kubernetes account", "Kubernetes accounts"),
    "installation": ("GitHub installation", "GitHub installations"),
    "role": ("role", "roles"),
    "entity": ("Vault entity", "Vault entities"),
    "gateway": ("gateway", "gateways"),
    "instance": ("instance", "instances"),
    "pod": ("pod", "pods"),
    "run": ("workflow run", "workflow runs"),
    "workload": ("workload", "workloads"),
    "workflow": ("workflow", "workflows"),
    "environment": ("GitHub environment", "GitHub environments"),
    "agent": ("child agent", "child agents"),
}


class Alive(StrEnum):
    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


_ORDER = (Alive.YES, Alive.UNKNOWN, Alive.NO)


@dataclass(frozen=True, slots=True)
class Held:
    """One thing that an agent can act with, or that is its own. `kind` is one of KINDS, or another system's own word.
    `of`: the role of a session, the user of a key. `via`: with what it was got. `chained`: got with another session or
    key, and no role of its own; `allowed`: agents.yaml lets it be cut all the same."""

    kind: str
    id: str
    system: str
    agent: str
    of: str = ""
    via: str = ""
    since: datetime | None = None
    expires: datetime | None = None
    alive: Alive = Alive.UNKNOWN
    why: str = ""
    chained: bool = False
    allowed: bool = False


@dataclass(frozen=True, slots=True)
class Reach:
    """`held` worst first, at most LISTED of them, `counts` by kind of all (`chained-role` besides). `alive` counts what
    is or may be alive. `unread`: what could not be read and why, `limits`: what could be seen at all."""

    held: tuple[Held, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    alive: int = 0
    unread: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()

    @classmethod
    def of(cls, held: Iterable[Held], unread: Iterable[str] = (), limits: Iterable[str] = ()) -> Reach:
        """Each thing once: of sessions under one name the one that is alive, and lives longest."""
        best: dict[tuple[str, ...], Held] = {}
        for one in held:
            same = (one.kind, one.system, one.id, one.of)
            best[same] = min((one, best.get(same, one)), key=_most_alive)
        found = best.values()
        counts = Counter(one.kind for one in found)
        if chained := {one.of for one in found if one.chained}:
            counts["chained-role"] = len(chained)
        living = sum(one.alive is not Alive.NO and one.kind != "agent" for one in found)
        reasons, seen = tuple(dict.fromkeys(unread)), tuple(dict.fromkeys(limits))
        if more := len(reasons) - UNREAD:
            reasons = (*reasons[:UNREAD], f"and {more} more") if more > 0 else reasons
        return cls(tuple(sorted(found, key=_worst))[:LISTED], dict(sorted(counts.items())), living, reasons, seen)

    @property
    def living(self) -> tuple[Held, ...]:
        """What is or may be alive, of what is listed; the child agents themselves aside, whose things are listed."""
        return tuple(one for one in self.held if one.alive is not Alive.NO and one.kind != "agent")

    @property
    def uncut(self) -> tuple[Held, ...]:
        """Chained sessions that are or may be alive, and that nobody allowed to be cut: people have to."""
        return tuple(one for one in self.living if one.chained and not one.allowed)


def _most_alive(one: Held) -> tuple[int, float]:
    return _ORDER.index(one.alive), -(one.expires.timestamp() if one.expires else 0.0)


def _worst(one: Held) -> tuple[int, int, int, str, str]:
    kinds = list(KINDS)
    rank = kinds.index(one.kind) if one.kind in KINDS else len(kinds)
    return _ORDER.index(one.alive), not one.chained, rank, one.agent, one.id


def redacted(reach: Reach, clean: Callable[[str], str]) -> Reach:
    """Names are what systems and agents gave them: without secrets."""
    held = tuple(
        replace(one, id=clean(one.id), of=clean(one.of), via=clean(one.via), why=clean(one.why)) for one in reach.held
    )
    return replace(reach, held=held, unread=tuple(map(clean, reach.unread)), limits=tuple(map(clean, reach.limits)))


# On paper -------------------------------------------------------------------------------------------------------


def written(agent: Agent) -> Mapping[str, int]:
    """What agents.yaml says that it holds, by kind: nobody is asked. A lease prefix may hold any number of leases, a
    role any number of sessions."""
    vault, aws = agent.vault or VaultIdentity(), agent.aws or AwsIdentity()
    kubernetes, github = agent.kubernetes or KubernetesIdentity(), agent.github or GithubIdentity()
    told: Mapping[str, Iterable[object]] = {
        "access-key": aws.access_keys,
        "user": aws.users,
        "vault-token": vault.token_accessors,
        "approle": vault.approles,
        "login-role": vault.auth_roles,
        "lease-prefix": vault.lease_prefixes,
        "service-account": agent.service_accounts,
        "installation": filter(None, (github.installation,)),
        "role": aws.roles,
        "instance-profile": aws.instance_profiles,
        "entity": filter(None, (vault.entity_id,)),
        "gateway": (*agent.gateways, *agent.opas),
        "instance": aws.instances,
        "workload": kubernetes.workloads,
        "workflow": github.workflows,
        "environment": github.environments,
        "agent": agent.delegates,
    }
    counts = {kind: len(set(things)) for kind, things in told.items()}
    return {kind: count for kind, count in counts.items() if count}


# In words -------------------------------------------------------------------------------------------------------


def radius(reach: Reach) -> str:
    """`2 keys, 3 leases, 1 role (+1 chained), 1 child agent and 2 instances`; `nothing that could be found` of an empty
    one."""
    return counted(reach.counts) or "nothing that could be found"


def counted(counts: Mapping[str, int]) -> str:
    """The same of bare counts by kind; '' of none."""
    said = [_counted(kind, counts) for kind in (*KINDS, *sorted(set(counts) - {*KINDS, "chained-role"}))]
    said = [one for one in said if one]
    return " and ".join(filter(None, (", ".join(said[:-1]), said[-1] if said else "")))


def _counted(kind: str, counts: Mapping[str, int]) -> str:
    count = counts.get(kind, 0)
    chained = counts.get("chained-role", 0) if kind == "role" else 0
    if not count and not chained:
        return ""
    one, several = KINDS.get(kind, (kind.replace("-", " "), f"{kind.replace('-', ' ')}s"))
    return f"{count} {one if count == 1 else several}" + (f" (+{chained} chained)" if chained else "")


def named(one: Held) -> str:
    """`session AROA1:agent-7 of arn:...:role/deploy, chained, until 10:00:00Z`, for people."""
    word = KINDS.get(one.kind, (one.kind.replace("-", " "), ""))[0]
    of = f" of {one.of}" if one.of else ""
    chained = ", chained" if one.chained else ""
    expires = f", until {one.expires:%H:%M:%S}Z" if one.expires else ""
    doubt = ", perhaps" if one.alive is Alive.UNKNOWN else ""
    return f"{word} {one.id}{of}{chained}{expires}{doubt}" + (f" ({one.why})" if one.why else "")


def living_text(reach: Reach, most: int = NAMED) -> str:
    """What is left alive by name, worst first; '' where nothing is."""
    living = reach.living
    more = max(reach.alive, len(living)) - min(len(living), most)
    return "; ".join(map(named, living[:most])) + (f"; and {more} more" if living and more > 0 else "")


# In playbooks ---------------------------------------------------------------------------------------------------


def reach_names(reach: Reach | None) -> dict[str, Any]:
    """`reach` in expressions: `chained` are the sessions that the agent and its children got by chaining roles, that
    are or may be alive, and that agents.yaml lets be cut."""
    chained = [
        {"agent": one.agent, "role": one.of, "session": one.id, "connection": one.system}
        for one in (reach.living if reach else ())
        if one.chained and one.allowed
    ]
    return {"chained": chained, "unread": list(reach.unread) if reach else []}


def reads_reach(step: Step) -> bool:
    """Whether the step cannot be planned before it is known what the agent holds."""
    return _reads([step.condition, step.foreach, step.call], "reach")


def _reads(value: Any, name: str) -> bool:
    match value:
        case Name():
            return value.name == name
        case Mapping():
            return any(_reads(one, name) for one in value.values())
        case str():
            return False
        case Sequence():
            return any(_reads(one, name) for one in value)
    return is_dataclass(value) and any(_reads(getattr(value, each.name), name) for each in fields(value))
