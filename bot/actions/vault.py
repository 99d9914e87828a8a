"""What the `vault.*` actions share: what an agent holds there, cutting it off part by part, and reading it back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from functools import partial
from typing import Any, ClassVar

from bot.actions import Action
from bot.actions.switch import protected
from bot.domain.agent import Agent, VaultIdentity
from bot.domain.outcome import Done, Failed, Grade, Outcome, Pending, Skipped
from bot.domain.playbook import Param, Target
from bot.errors import Denied, Rejected, SystemFailure
from bot.ports import Entity, Ports, Vault, connected

AGENT = Param("agent", doc="agent id; its `vault` section in agents.yaml says what is cut")

_CHUNK = 20  # revocations a stage: each may wait for a cloud's API, and all must fit into the call's timeout
_SCAN = 500  # token accessors looked up to find the entity's own; with more, the disabled entity has to do
_PATIENCE = timedelta(minutes=11)  # Vault retries a queued revocation 6 times from 10 s on (10.5 min), then never again
_NAMED = 20  # how many survivors are named
_KEPT = 200  # how many lease ids the preconditions keep


class Part(Enum):
    """What an agent holds in Vault. The value is how evidence calls what does not come back with a release."""

    ENTITY = auto()
    LEASES = "leases"
    SECRET_IDS = "secret_ids"
    TOKENS = "tokens"


def identity(params: Mapping[str, Any], agent: Agent | None) -> VaultIdentity | None:
    """The agent's `vault` section; None where it has none. ValueError for an unknown agent."""
    if agent is None:
        raise ValueError(f"no agent {params.get('agent')!r} in agents.yaml: what it holds in Vault is not known")
    return agent.vault


def target(id: str, agent: str, known: VaultIdentity, **kept: Sequence[str] | str) -> Target:
    """A target of what is `kept` of the agent's identity, and of nothing else."""
    nothing: dict[str, Any] = {"entity_id": "", "lease_prefixes": [], "approles": [], "token_accessors": []}
    found = {name: one if isinstance(one, str) else list(one) for name, one in kept.items()}
    return Target(id, {"agent": agent, "connection": known.connection, **nothing, **found}, known.connection)


def prefix_targets(params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
    """One of each lease prefix."""
    known = identity(params, agent)
    if agent is None or known is None:
        return ()
    return tuple(
        target(f"vault-prefix:{prefix}", agent.id, known, lease_prefixes=(prefix,))
        for prefix in dict.fromkeys(known.lease_prefixes)
    )


class Cut(Action):
    """Cuts off `parts` of what an agent holds in Vault, and reads back that it is gone."""

    parts: ClassVar[frozenset[Part]]
    containing = True
    best_grade = Grade.CONFIG

    def run(
        self, params: Mapping[str, Any], ports: Ports, *, key: str, so_far: Mapping[str, Any] | None = None
    ) -> Outcome:
        reach = self._reach(params, ports)
        if why := protected(ports, reach.who.entity_id, params["agent"], *params["lease_prefixes"]):
            return Skipped(why)
        now = ports.clock.now()
        outcome = self._survey(reach, now) if so_far is None else _Round(self, reach, now, so_far).play()
        return self._said(outcome)

    def verify(self, params: Mapping[str, Any], ports: Ports) -> Done | None:
        reach = self._reach(params, ports)
        found = reach.tokens()
        held = reach.look((*reach.who.token_accessors, *(found or ())))
        if held.unread:
            raise held.unread[0]
        if not held.is_cut:
            return None
        blind = reach.blind(searched=found is not None)
        done = self._said(Done(Grade.UNVERIFIED if blind else Grade.CONFIG, held.evidence(self.parts, blind)))
        return done if isinstance(done, Done) else None

    def undo(
        self,
        params: Mapping[str, Any],
        ports: Ports,
        *,
        undo: Mapping[str, Any],
        key: str,
    ) -> Outcome:
        reach = self._reach(params, ports)
        who, vault = reach.who, reach.vault
        entity = vault.read_entity(who.entity_id) if who.entity_id else None
        if undo.get("entity") == "enabled":
            if entity is None:
                return Failed(False, f"entity {who.entity_id} is gone from Vault: a login makes a new one")
            if entity.disabled:
                vault.set_entity_disabled(who.entity_id, False)
                entity = vault.read_entity(who.entity_id)
            if entity is None or entity.disabled:
                return Failed(True, f"Vault took the call, but entity {who.entity_id} is not enabled")
        disabled = entity is not None and entity.disabled
        return self._said(Done(Grade.CONFIG, {"entity_disabled": disabled, "not_restored": _lost(self.parts)}))

    def lease_calls(self, who: VaultIdentity, vault: Vault, leases: Sequence[str]) -> list[Callable[[], None]]:
        """What revokes these leases."""
        return [partial(vault.revoke_lease, lease) for lease in leases]

    def _reach(self, params: Mapping[str, Any], ports: Ports) -> _Reach:
        return _Reach(_identity(params), self.parts, connected(ports.vaults, params["connection"]))

    def _said(self, outcome: Outcome) -> Outcome:
        """With the evidence that this action promises, and no other."""
        if not isinstance(outcome, Done):
            return outcome
        evidence = {name: value for name, value in outcome.evidence.items() if name in self.outputs}
        return Done(outcome.grade, evidence, outcome.undo if self.undoable else None, outcome.nothing_held)

    def _survey(self, reach: _Reach, now: datetime) -> Outcome:
        """The first stage changes nothing: it saves how things were."""
        who = reach.who
        found = None if Part.ENTITY in self.parts else reach.tokens()
        accessors = {*who.token_accessors, *(found or ())} if Part.TOKENS in self.parts else set()
        held = reach.look(accessors)
        if held.is_cut and held.entity is None and not reach.blind(searched=found is not None):
            return Done(Grade.CONFIG, {**held.evidence(self.parts), **_counts(0, 0, 0)}, nothing_held=_nothing(who))
        if held.entity:
            entity = "disabled" if held.entity.disabled else "enabled"
        elif who.entity_id and Part.ENTITY in self.parts:
            entity = "unknown" if held.unread else "missing"
        else:
            entity = "none"
        return Pending(
            now,
            {
                "since": now.isoformat(),
                "entity": entity,
                "leases": list(held.leases[:_KEPT]),
                "leases_found": len(held.leases),
                # AWS goes on honouring the session credentials of a revoked STS lease until they expire.
                "sts_leases": sum("/sts/" in lease for lease in held.leases),
                "accessors": list(held.accessors),
                "secret_ids_found": len(held.secret_ids),
                "tokens_searched": None,
                "waits": 0,
            },
            f"found {len(held.leases)} leases, {len(held.accessors)} tokens, {len(held.secret_ids)} secret ids "
            "to revoke",
        )


@dataclass(frozen=True, slots=True)
class _Held:
    """What the agent holds right now. `unread` are the failures that hide a part of it."""

    entity: Entity | None
    leases: tuple[str, ...]
    accessors: tuple[str, ...]  # of live tokens
    secret_ids: tuple[tuple[str, str], ...]  # (approle, accessor)
    unread: tuple[SystemFailure, ...]

    @property
    def alive(self) -> tuple[str, ...]:
        """Resource ids of everything that still works, the most dangerous first."""
        return (
            *(f"vault-entity:{entity.id}" for entity in (self.entity,) if entity and not entity.disabled),
            *(f"vault-lease:{lease}" for lease in self.leases),
            *(f"vault-token:{accessor}" for accessor in self.accessors),
            *(f"vault-secret-id:{approle}/{accessor}" for approle, accessor in self.secret_ids),
        )

    @property
    def is_cut(self) -> bool:
        return not self.alive and not self.unread

    def evidence(
        self, parts: frozenset[Part], blind: str = "", refused: Iterable[SystemFailure] = ()
    ) -> dict[str, Any]:
        found = {
            "entity_disabled": self.entity is not None and self.entity.disabled,
            "leases_alive": len(self.leases),
            "alive": list(self.alive[:_NAMED]),
            "not_restored": _lost(parts),
        }
        if not self.is_cut:
            return {**found, "why": self.survivors(refused)}
        return {**found, "why": blind} if blind else found

    def survivors(self, refused: Iterable[SystemFailure] = ()) -> str:
        """What lives on, and why as far as Vault said it."""
        named = ", ".join(self.alive[:_NAMED]) or "nothing that could be seen"
        more = f" and {len(self.alive) - _NAMED} more" if len(self.alive) > _NAMED else ""
        because = "; ".join(dict.fromkeys(failure.why for failure in (*refused, *self.unread)))
        return f"still alive: {named}{more}" + (f" ({because})" if because else "")


@dataclass(frozen=True, slots=True)
class _Reach:
    """What one action looks at and cuts: these parts, of this identity, in this Vault."""

    who: VaultIdentity
    parts: frozenset[Part]
    vault: Vault

    def look(self, accessors: Iterable[str]) -> _Held:
        who, vault = self.who, self.vault
        unread: list[SystemFailure] = []

        def read(call: Callable[[], Any], otherwise: Any) -> Any:
            try:
                return call()
            except (Denied, Rejected) as failure:
                unread.append(failure)
                return otherwise

        entity = None
        if who.entity_id and Part.ENTITY in self.parts:
            entity = read(partial(vault.read_entity, who.entity_id), None)
        leases = sorted(
            {each for prefix in who.lease_prefixes for each in read(partial(vault.list_leases, prefix), ())}
        )
        if len(leases) <= _CHUNK:  # a standby's list may lag behind; the lookup is the authority
            leases = [each for each in leases if read(partial(vault.lookup_lease, each), True)]
        roles = who.approles if Part.SECRET_IDS in self.parts else ()
        return _Held(
            entity=entity,
            leases=tuple(leases),
            accessors=tuple(
                each for each in sorted(set(accessors)) if read(partial(vault.lookup_accessor, each), True)
            ),
            secret_ids=tuple((role, each) for role in roles for each in read(partial(vault.list_secret_ids, role), ())),
            unread=tuple(unread),
        )

    def tokens(self) -> tuple[str, ...] | None:
        """Accessors of the entity's tokens, or None where they cannot be searched: Vault keeps no index of them, so
        that every token has to be looked at. A disabled entity refuses them all the same."""
        if Part.TOKENS not in self.parts:
            return ()
        try:
            accessors = self.vault.list_token_accessors() if self.who.entity_id else ()
            if not self.who.entity_id or len(accessors) > _SCAN:
                return None
            tokens = [self.vault.lookup_accessor(accessor) for accessor in accessors]
        except (Denied, Rejected):
            return None
        return tuple(token.accessor for token in tokens if token and token.entity_id == self.who.entity_id)

    def blind(self, *, searched: bool) -> str:
        """Which tokens may live on unseen, and what refuses those; '' where none can."""
        who = self.who
        if Part.TOKENS not in self.parts:
            return ""
        if who.approles and not who.entity_id:
            return f"tokens issued to approle {', '.join(who.approles)} cannot be found: agents.yaml names no entity_id"
        if Part.ENTITY in self.parts or not who.entity_id:  # a disabled entity refuses whatever it has
            return ""
        entity = self.vault.read_entity(who.entity_id)
        if entity is not None and entity.disabled:
            return ""
        if batch := [role for role in who.approles if self._is_batch(role)]:
            return (
                f"approle {', '.join(batch)} issues batch tokens, which have no accessor and cannot be revoked: "
                "disable the entity (vault.disable_entity), which refuses them at once"
            )
        if not searched:
            return (
                f"the tokens of entity {who.entity_id} could not be searched (over {_SCAN} tokens, or the bot may not "
                "list them): disable the entity (vault.disable_entity), which refuses them all"
            )
        return ""

    def _is_batch(self, approle: str) -> bool:
        role = self.vault.read_role(f"auth/approle/role/{approle}") or {}
        return "batch" in str(role.get("token_type", ""))


class _Round:
    """Every later stage: cut what is there, up to a chunk, and look again. Each finds out anew what is left, so that
    one that is repeated after a crash does no harm and forgets nothing."""

    def __init__(self, cut: Cut, reach: _Reach, now: datetime, so_far: Mapping[str, Any]) -> None:
        self._cut, self._reach, self._now = cut, reach, now
        self._who, self._vault = reach.who, reach.vault
        self._so_far = dict(so_far)
        self._refused: list[SystemFailure] = []

    def play(self) -> Outcome:
        if self._so_far["entity"] not in ("none", "missing"):
            self._try(partial(self._vault.set_entity_disabled, self._who.entity_id, True))
        if self._so_far["tokens_searched"] is None:  # after the entity, which keeps new tokens from being issued
            found = self._reach.tokens()
            accessors = sorted({*self._so_far["accessors"], *(found or ())})
            self._so_far |= {"accessors": accessors, "tokens_searched": found is not None}
        held = self._look()
        calls: list[Callable[[], None]] = [
            *(partial(self._vault.destroy_secret_id, *secret_id) for secret_id in held.secret_ids),
            *(partial(self._vault.revoke_accessor, accessor) for accessor in held.accessors),
            *self._cut.lease_calls(self._who, self._vault, held.leases),
        ]
        # What failed goes behind the others: a backend that is down, or a right that lacks, must starve none of them.
        start = self._so_far["waits"] * _CHUNK % max(1, len(calls))
        progress = sum(map(self._try, (calls[start:] + calls[:start])[:_CHUNK]))
        self._so_far["waits"] = 0 if progress else self._so_far["waits"] + 1
        if progress and len(calls) > _CHUNK:
            return Pending(self._now, self._so_far, f"{len(calls) - progress} revocations to go")
        return self._judge(self._look(), all_tried=self._so_far["waits"] * _CHUNK >= len(calls))

    def _judge(self, held: _Held, *, all_tried: bool) -> Outcome:
        if held.is_cut:
            blind = self._reach.blind(searched=self._so_far["tokens_searched"])
            return self._done(Grade.UNVERIFIED if blind else Grade.CONFIG, held, blind)
        failures = (*self._refused, *held.unread)
        why = held.survivors(self._refused)
        # Waiting mends no policy; but for a moment it may show that leases were only queued.
        hopeless = all_tried and self._so_far["waits"] > 1 and {type(failure) for failure in failures} == {Denied}
        waited = self._now - datetime.fromisoformat(self._so_far["since"])
        if waited < _PATIENCE and not hopeless:
            delay = timedelta(seconds=min(2 * 2 ** self._so_far["waits"], 30))
            return Pending(self._now + delay, self._so_far, why)
        if self._so_far["entity"] == "enabled" and held.entity and held.entity.disabled:
            return self._done(Grade.UNVERIFIED, held)  # not Failed: a release must know to enable the entity
        return Failed(not hopeless, why + self._given_up(held))

    def _done(self, grade: Grade, held: _Held, blind: str = "") -> Done:
        before = self._so_far
        evidence = held.evidence(self._cut.parts, blind, self._refused) | _counts(
            before["leases_found"] - len(held.leases),
            len(before["accessors"]) - len(held.accessors),
            before["secret_ids_found"] - len(held.secret_ids),
        )
        evidence |= {"sts_leases": before["sts_leases"], "tokens_searched": before["tokens_searched"]}
        if "why" in evidence:
            evidence["why"] += self._given_up(held)
        return Done(grade, evidence, undo={"entity": before["entity"]})

    def _given_up(self, held: _Held) -> str:
        """Which leases Vault will not try again. A courtesy: what lives is named either way."""
        try:
            given_up = set(self._vault.irrevocable_lease_ids()) if held.leases else set()
            names = [lease for lease in held.leases if lease in given_up]
            count = len(names)
        except (Denied, Rejected):
            names, count = [], self._counted()
        if not count:
            return ""
        named = f": {', '.join(names[:_NAMED])}" if names else ""
        return f". Vault has given up on {count} leases (irrevocable): kill the credentials at their provider{named}"

    def _counted(self) -> int:
        """Those of everybody: a token that may not list them may count them."""
        try:
            return self._vault.irrevocable_leases()
        except (Denied, Rejected):
            return 0

    def _look(self) -> _Held:
        held = self._reach.look(self._so_far["accessors"])
        self._so_far["leases_found"] = max(self._so_far["leases_found"], len(held.leases))
        self._so_far["secret_ids_found"] = max(self._so_far["secret_ids_found"], len(held.secret_ids))
        return held

    def _try(self, call: Callable[[], None]) -> bool:
        """One refusal stops nothing: the other cuts still count. An outage ends the stage, to be repeated whole."""
        try:
            call()
        except (Denied, Rejected) as failure:
            self._refused.append(failure)
            return False
        return True


def _identity(params: Mapping[str, Any]) -> VaultIdentity:
    return VaultIdentity(
        connection=params["connection"],
        entity_id=params["entity_id"],
        lease_prefixes=tuple(params["lease_prefixes"]),
        approles=tuple(params["approles"]),
        token_accessors=tuple(params["token_accessors"]),
    )


def _lost(parts: frozenset[Part]) -> list[str]:
    """What a release does not bring back."""
    return sorted(part.value for part in parts if isinstance(part.value, str))


def _nothing(who: VaultIdentity) -> str:
    where = ", ".join(who.lease_prefixes) or "any prefix"
    return f"no entity {who.entity_id or '(none configured)'}, no lease under {where}, no live token, no secret id"


def _counts(leases: int, accessors: int, secret_ids: int) -> dict[str, Any]:
    """Never below zero: a lease may appear between two looks."""
    return {
        "leases_revoked": max(0, leases),
        "accessors_revoked": max(0, accessors),
        "secret_ids_destroyed": max(0, secret_ids),
    }
