"""`vault.revoke_agent`: cut an agent off from Vault."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, ClassVar

from bot.actions import Action
from bot.domain.agent import Agent, VaultIdentity
from bot.domain.outcome import Done, Failed, Grade, Outcome, Pending, Skipped
from bot.domain.playbook import Param, Target
from bot.errors import Denied, Rejected, SystemFailure
from bot.ports import Entity, Ports, Vault, connected

_CHUNK = 20  # revocations a stage: each may wait for a cloud's API, and all must fit into the call's timeout
_SCAN = 500  # token accessors looked up to find the entity's own; with more, the disabled entity has to do
_PATIENCE = timedelta(minutes=11)  # Vault retries a queued revocation 6 times from 10 s on (10.5 min), then never again
_NAMED = 20  # how many survivors are named
_KEPT = 200  # how many lease ids the preconditions keep

_NOT_RESTORED = ("leases", "secret_ids", "tokens")


class RevokeAgent(Action):
    """Cuts an agent off from Vault: disables its entity (its tokens and logins are refused at once), destroys the
    secret ids of its approles, revokes its tokens with their children and every lease under its prefixes, and reads all
    of it back. What cannot be revoked is named. Releasing enables the entity again, if it was enabled before; leases,
    tokens and secret ids do not come back: the agent logs in anew, with a new secret id. Values that it has read stay
    known to it."""

    id = "vault.revoke_agent"
    params = (Param("agent", doc="agent id; its `vault` section in agents.yaml says what is cut"),)
    outputs = (
        "entity_disabled",
        "leases_revoked",
        "leases_alive",
        "accessors_revoked",
        "secret_ids_destroyed",
        "sts_leases",
        "tokens_searched",
        "alive",
        "not_restored",
        "why",
    )
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "vault": (
            'path "sys/leases/lookup" { capabilities=["update"] }',
            'path "sys/leases/lookup/aws/creds/*" { capabilities=["list","sudo"] }',
            'path "sys/leases/revoke" { capabilities=["update"] }',
            'path "sys/leases/count" { capabilities=["read"] }',
            'path "auth/token/lookup-accessor" { capabilities=["update"] }',
            'path "auth/token/revoke-accessor" { capabilities=["update"] }',
            'path "auth/token/accessors" { capabilities=["list","sudo"] }',
            'path "identity/entity/id/*" { capabilities=["read","update"] }',
            'path "auth/approle/role/+/secret-id" { capabilities=["list"] }',
            'path "auth/approle/role/+/secret-id-accessor/destroy" { capabilities=["update"] }',
        )
    }
    example = 'uses: vault.revoke_agent\nwith: {agent: "${{ agent.id }}"}\ncontains: true\n'
    containing = True
    best_grade = Grade.CONFIG

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        if agent is None:
            raise ValueError(f"no agent {params.get('agent')!r} in agents.yaml: what it holds in Vault is not known")
        known = agent.vault
        if not known or not (known.entity_id or known.lease_prefixes or known.approles or known.token_accessors):
            return ()
        concrete = {
            "agent": agent.id,
            "connection": known.connection,
            "entity_id": known.entity_id,
            "lease_prefixes": list(known.lease_prefixes),
            "approles": list(known.approles),
            "token_accessors": list(known.token_accessors),
        }
        name = f"vault-entity:{known.entity_id}" if known.entity_id else f"vault-agent:{agent.id}"
        return (Target(name, concrete, known.connection),)

    def run(
        self,
        params: Mapping[str, Any],
        ports: Ports,
        *,
        key: str,
        so_far: Mapping[str, Any] | None = None,
    ) -> Outcome:
        who, vault = _identity(params), connected(ports.vaults, params["connection"])
        if why := ports.directory.protected(who.entity_id) or ports.directory.protected(params["agent"]):
            return Skipped(why)
        now = ports.clock.now()
        if so_far is None:
            return _survey(who, vault, now)
        return _Round(who, vault, now, so_far).play()

    def verify(self, params: Mapping[str, Any], ports: Ports) -> Done | None:
        who, vault = _identity(params), connected(ports.vaults, params["connection"])
        held = _look(who, vault, (*who.token_accessors, *(_tokens_of(who, vault) or ())))
        if held.unread:
            raise held.unread[0]
        return Done(_best(who), held.evidence(who)) if held.is_cut else None

    def undo(
        self,
        params: Mapping[str, Any],
        ports: Ports,
        *,
        undo: Mapping[str, Any],
        key: str,
    ) -> Outcome:
        who, vault = _identity(params), connected(ports.vaults, params["connection"])
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
        return Done(Grade.CONFIG, {"entity_disabled": disabled, "not_restored": list(_NOT_RESTORED)})


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

    def evidence(self, who: VaultIdentity, refused: Iterable[SystemFailure] = ()) -> dict[str, Any]:
        found = {
            "entity_disabled": self.entity is not None and self.entity.disabled,
            "leases_alive": len(self.leases),
            "alive": list(self.alive[:_NAMED]),
            "not_restored": list(_NOT_RESTORED),
        }
        if not self.is_cut:
            return {**found, "why": self.survivors(refused)}
        if _is_blind(who):
            roles = ", ".join(who.approles)
            return {**found, "why": f"tokens issued to approle {roles} cannot be found: agents.yaml names no entity_id"}
        return found

    def survivors(self, refused: Iterable[SystemFailure] = ()) -> str:
        """What lives on, and why as far as Vault said it."""
        named = ", ".join(self.alive[:_NAMED]) or "nothing that could be seen"
        more = f" and {len(self.alive) - _NAMED} more" if len(self.alive) > _NAMED else ""
        because = "; ".join(dict.fromkeys(failure.why for failure in (*refused, *self.unread)))
        return f"still alive: {named}{more}" + (f" ({because})" if because else "")


def _survey(who: VaultIdentity, vault: Vault, now: datetime) -> Outcome:
    """The first stage changes nothing: it saves how things were."""
    held = _look(who, vault, who.token_accessors)
    if held.is_cut and held.entity is None and not _is_blind(who):
        return Done(Grade.CONFIG, {**held.evidence(who), **_counts(0, 0, 0)}, nothing_held=_nothing(who))
    if held.entity:
        entity = "disabled" if held.entity.disabled else "enabled"
    elif who.entity_id:
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
        f"found {len(held.leases)} leases, {len(held.accessors)} tokens, {len(held.secret_ids)} secret ids to revoke",
    )


class _Round:
    """Every later stage: cut what is there, up to a chunk, and look again. Each finds out anew what is left, so that
    one that is repeated after a crash does no harm and forgets nothing."""

    def __init__(self, who: VaultIdentity, vault: Vault, now: datetime, so_far: Mapping[str, Any]) -> None:
        self._who, self._vault, self._now = who, vault, now
        self._so_far = dict(so_far)
        self._refused: list[SystemFailure] = []

    def play(self) -> Outcome:
        if self._so_far["entity"] not in ("none", "missing"):
            self._try(partial(self._vault.set_entity_disabled, self._who.entity_id, True))
        if self._so_far["tokens_searched"] is None:  # after the entity, which keeps new tokens from being issued
            found = _tokens_of(self._who, self._vault)
            accessors = sorted({*self._so_far["accessors"], *(found or ())})
            self._so_far |= {"accessors": accessors, "tokens_searched": found is not None}
        held = self._look()
        calls = [
            *(partial(self._vault.destroy_secret_id, *secret_id) for secret_id in held.secret_ids),
            *(partial(self._vault.revoke_accessor, accessor) for accessor in held.accessors),
            *(partial(self._vault.revoke_lease, lease) for lease in held.leases),
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
            return self._done(_best(self._who), held)
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

    def _done(self, grade: Grade, held: _Held) -> Done:
        before = self._so_far
        evidence = held.evidence(self._who, self._refused) | _counts(
            before["leases_found"] - len(held.leases),
            len(before["accessors"]) - len(held.accessors),
            before["secret_ids_found"] - len(held.secret_ids),
        )
        evidence |= {"sts_leases": before["sts_leases"], "tokens_searched": before["tokens_searched"]}
        if "why" in evidence:
            evidence["why"] += self._given_up(held)
        return Done(grade, evidence, undo={"entity": before["entity"]})

    def _given_up(self, held: _Held) -> str:
        try:
            irrevocable = self._vault.irrevocable_leases() if held.leases else 0
        except (Denied, Rejected):
            irrevocable = 0  # a courtesy: what lives is named either way
        if not irrevocable:
            return ""
        return f". Vault has given up on {irrevocable} leases (irrevocable): kill the credentials at their provider"

    def _look(self) -> _Held:
        held = _look(self._who, self._vault, self._so_far["accessors"])
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


def _look(who: VaultIdentity, vault: Vault, accessors: Iterable[str]) -> _Held:
    unread: list[SystemFailure] = []

    def read(call: Callable[[], Any], otherwise: Any) -> Any:
        try:
            return call()
        except (Denied, Rejected) as failure:
            unread.append(failure)
            return otherwise

    entity = read(partial(vault.read_entity, who.entity_id), None) if who.entity_id else None
    leases = sorted({each for prefix in who.lease_prefixes for each in read(partial(vault.list_leases, prefix), ())})
    if len(leases) <= _CHUNK:  # a standby's list may lag behind; the lookup is the authority
        leases = [each for each in leases if read(partial(vault.lookup_lease, each), True)]
    return _Held(
        entity=entity,
        leases=tuple(leases),
        accessors=tuple(each for each in sorted(set(accessors)) if read(partial(vault.lookup_accessor, each), True)),
        secret_ids=tuple(
            (role, each) for role in who.approles for each in read(partial(vault.list_secret_ids, role), ())
        ),
        unread=tuple(unread),
    )


def _tokens_of(who: VaultIdentity, vault: Vault) -> tuple[str, ...] | None:
    """Accessors of the entity's tokens, or None where they cannot be searched: Vault keeps no index of them, so that
    every token has to be looked at. The disabled entity refuses them all the same."""
    try:
        accessors = vault.list_token_accessors() if who.entity_id else ()
        if not who.entity_id or len(accessors) > _SCAN:
            return None
        tokens = [vault.lookup_accessor(accessor) for accessor in accessors]
    except (Denied, Rejected):
        return None
    return tuple(token.accessor for token in tokens if token and token.entity_id == who.entity_id)


def _identity(params: Mapping[str, Any]) -> VaultIdentity:
    return VaultIdentity(
        connection=params["connection"],
        entity_id=params["entity_id"],
        lease_prefixes=tuple(params["lease_prefixes"]),
        approles=tuple(params["approles"]),
        token_accessors=tuple(params["token_accessors"]),
    )


def _is_blind(who: VaultIdentity) -> bool:
    """Tokens of an approle login can be found and refused only through their entity."""
    return bool(who.approles) and not who.entity_id


def _best(who: VaultIdentity) -> Grade:
    return Grade.UNVERIFIED if _is_blind(who) else Grade.CONFIG


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
