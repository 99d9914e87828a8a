"""`vault.reissue_role`: give an auth role its policies again, and fewer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from bot.actions import Action, vault
from bot.domain.agent import Agent
from bot.domain.approval import fingerprint
from bot.domain.outcome import Done, Failed, Grade, Outcome
from bot.domain.playbook import Param, Target
from bot.domain.scope import compare_names
from bot.ports import Ports, connected


class ReissueRole(Action):
    """Gives an auth role of the agent in Vault a shorter list of policies: tokens that are issued from then on carry
    those and no others. Without `apply` it only reads, and says whether the list is provably shorter and what it loses.
    With it the role is written where it still has what was read (`before`), and read back. It cannot be undone: scope
    does not come back by itself. Ask for it with `firedoor incident reissue`, which has the difference approved by two
    persons."""

    id = "vault.reissue_role"
    params = (
        vault.AGENT,
        Param("path", required=False, doc="the role's path, like auth/approle/role/agent-7; the AppRole by default"),
        Param("policies", kind="list", doc="names of the policies that it keeps"),
        Param("apply", kind="boolean", required=False, default=False, doc="false: read and compare only"),
        Param("before", required=False, doc="digest of what was read, as the output `digest` says it"),
    )
    outputs = ("path", "digest", "verdict", "why", "diff", "policies", "target")
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "vault": ('path "auth/approle/role/+" { capabilities=["read","update"] }',)
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
        now = sorted(says.get("token_policies") or says.get("policies") or ())
        verdict, digest = compare_names(now, params["policies"]), fingerprint({"policies": now})
        if not params["apply"] or verdict.word == "same":
            told = {"digest": digest, "verdict": verdict.word, "why": verdict.why, "diff": list(verdict.diff)}
            return Done(Grade.CONFIG, {"path": params["path"], **told})
        if digest != params["before"]:
            return Failed(False, f"{params['path']} changed since this was approved: ask anew")
        if verdict.word != "narrower":
            return Failed(False, f"this is not provably less: {verdict.why}")
        store.write_role(params["path"], {"token_policies": list(params["policies"])})
        return self.verify(params, ports) or Failed(True, f"Vault took the call, but {params['path']} reads otherwise")

    def verify(self, params: Mapping[str, Any], ports: Ports) -> Done | None:
        says = connected(ports.vaults, params["connection"]).read_role(params["path"]) or {}
        now = sorted(says.get("token_policies") or ())
        if now != params["policies"]:
            return None
        return Done(Grade.CONFIG, {"path": params["path"], "policies": now, "digest": fingerprint({"policies": now})})
