"""`vault.reissue_role`: give an auth role its policies again, and fewer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from bot.actions import Action, vault
from bot.domain.acl import compare
from bot.domain.agent import Agent
from bot.domain.approval import fingerprint
from bot.domain.outcome import Done, Failed, Grade, Outcome
from bot.domain.playbook import Param, Target
from bot.domain.scope import Verdict
from bot.errors import Denied
from bot.ports import Ports, Vault, connected


class ReissueRole(Action):
    """Gives an AppRole of the agent in Vault other policies, that allow less: tokens that are issued from then on carry
    those and no others. Without `apply` it only reads, and says by path and capability whether the new policies allow
    provably less, together with those of the agent's entity and `default`, and what is lost. With it the role is
    written where role and policies still are as they were read (`before`), and read back. It cannot be undone: scope
    does not come back by itself. Ask for it with `firedoor incident reissue`, which has the difference approved by two
    persons."""

    id = "vault.reissue_role"
    params = (
        vault.AGENT,
        Param("path", required=False, doc="the role's path, like auth/approle/role/agent-7; the AppRole by default"),
        Param("policies", kind="list", doc="names of the policies that it has from then on; Vault has to have them"),
        Param("apply", kind="boolean", required=False, default=False, doc="false: read and compare only"),
        Param("before", required=False, doc="digest of what was read, as the output `digest` says it"),
    )
    outputs = ("path", "digest", "verdict", "why", "diff", "policies", "target")
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "vault": (
            'path "auth/approle/role/+" { capabilities=["read","update"] }',
            'path "sys/policies/acl/*" { capabilities=["read"] }',
            'path "identity/entity/id/*" { capabilities=["read","update"] }',
            'path "identity/group/id/*" { capabilities=["read"] }',
        )
    }
    example = (
        'uses: vault.reissue_role\nwith: {agent: "${{ agent.id }}", policies: [agent-7-read]}\nirreversible: true\n'
    )
    containing = False
    best_grade = Grade.CONFIG
    undoable = False

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        known = vault.identity(params, agent)
        if known is None or agent is None:
            return ()
        own = [f"auth/approle/role/{name}" for name in known.approles]
        path = params.get("path") or (own[0] if len(own) == 1 else "")
        if path not in own:
            raise ValueError(f"path is one of {', '.join(own) or 'none'}, not {path or 'said'!r}")
        policies = params["policies"]
        if not isinstance(policies, list | tuple) or not all(isinstance(name, str) and name for name in policies):
            raise ValueError("policies is a list of names")
        told = {
            "agent": agent.id,
            "connection": known.connection,
            "path": path,
            "entity_id": known.entity_id,
            "policies": sorted(set(policies)),
            "apply": bool(params.get("apply")),
            "before": str(params.get("before") or ""),
        }
        return (Target(f"vault-role:{path}", told, known.connection),)

    def run(
        self, params: Mapping[str, Any], ports: Ports, *, key: str, so_far: Mapping[str, Any] | None = None
    ) -> Outcome:
        store = connected(ports.vaults, params["connection"])
        says = store.read_role(params["path"])
        if says is None:
            return Failed(False, f"Vault has no {params['path']}: make the role first, with these policies")
        if params["apply"] and (done := self.verify(params, ports)):
            return done
        try:
            read = _Read.of(store, says, params)
        except Denied as refused:
            read = _Read({}, {}, {}, f"it cannot be told: {refused}")
        verdict, digest = read.verdict(), read.digest()
        if not params["apply"]:
            told = {"digest": digest, "verdict": verdict.word, "why": verdict.why, "diff": list(verdict.diff)}
            return Done(Grade.CONFIG, {"path": params["path"], **told})
        if digest != params["before"]:
            return Failed(False, f"{params['path']} or a policy changed since this was approved: ask anew")
        if verdict.word != "narrower":
            return Failed(False, f"this is not provably less: {verdict.why}")
        store.write_role(params["path"], {"token_policies": list(params["policies"])})
        return self.verify(params, ports) or Failed(True, f"Vault took the call, but {params['path']} reads otherwise")

    def verify(self, params: Mapping[str, Any], ports: Ports) -> Done | None:
        says = connected(ports.vaults, params["connection"]).read_role(params["path"]) or {}
        now = sorted(says.get("token_policies") or ())
        return Done(Grade.CONFIG, {"path": params["path"], "policies": now}) if now == params["policies"] else None


@dataclass(frozen=True, slots=True)
class _Read:
    """Policies by name, as their text: the role's, those it is to have, those that a token has beside them."""

    now: Mapping[str, str]
    then: Mapping[str, str]
    beside: Mapping[str, str]
    unknown: str = ""

    @classmethod
    def of(cls, store: Vault, says: Mapping[str, Any], params: Mapping[str, Any]) -> _Read:
        now = {name: store.read_policy(name) or "" for name in says.get("token_policies") or says.get("policies") or ()}
        then = {name: now.get(name) or store.read_policy(name) for name in params["policies"]}
        beside = {} if says.get("token_no_default_policy") else {"default": store.read_policy("default") or ""}
        beside |= (store.entity_policies(params["entity_id"]) or {}) if params["entity_id"] else {}
        missing = sorted(name for name, text in then.items() if not text)
        unknown = f"it cannot be told: Vault has no policy {', '.join(missing)}" if missing else ""
        return cls(now, {name: text or "" for name, text in then.items()}, beside, unknown)

    def verdict(self) -> Verdict:
        found = compare(self.now, self.then, self.beside)
        return Verdict("unclear", self.unknown, found.diff) if self.unknown else found

    def digest(self) -> str:
        return fingerprint({"now": dict(self.now), "then": dict(self.then), "beside": dict(self.beside)})
