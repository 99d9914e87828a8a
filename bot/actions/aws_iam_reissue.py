"""`aws.iam_reissue`: give a role its permissions again, and fewer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from bot.actions import Action, aws
from bot.domain.agent import Agent
from bot.domain.approval import fingerprint
from bot.domain.outcome import Done, Failed, Grade, Outcome, Pending
from bot.domain.playbook import Param, Target
from bot.domain.scope import compare
from bot.ports import AwsAccount, Ports, Role

POLICY = "firedoor-reissued"
OURS = ("firedoor", "AWSRevokeOlderSessions")  # cuts, which are released and never re-issued away


class Reissue(Action):
    """Replaces everything that a role's own policies allow, inline and attached, by one narrower policy. Without
    `apply` it only reads, and says whether the new policy allows provably less, and what is taken away. With it the
    role is changed where it still has the policies that were read (`before`), and read back. Cuts of Firedoor stay:
    they are released by themselves. Boundary and trust policy stay too. It cannot be undone: scope does not come back
    by itself. Ask for it with `firedoor incident reissue`, which has the difference approved by two persons."""

    id = "aws.iam_reissue"
    params = (
        aws.AGENT,
        aws.CONNECTION,
        Param("role", required=False, doc="ARN of the role; needed where the agent has several"),
        Param("policy", kind="mapping", doc="the IAM policy document that takes the place of all others"),
        Param("apply", kind="boolean", required=False, default=False, doc="false: read and compare only"),
        Param("before", required=False, doc="digest of what was read, as the output `digest` says it"),
    )
    outputs = ("role", "digest", "verdict", "why", "diff", "policy", "target")
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "aws": (
            *("iam:GetRole", "iam:ListRolePolicies", "iam:GetRolePolicy", "iam:ListAttachedRolePolicies"),
            *("iam:GetPolicy", "iam:GetPolicyVersion", "iam:PutRolePolicy", "iam:DeleteRolePolicy"),
            "iam:DetachRolePolicy",
        )
    }
    example = (
        'uses: aws.iam_reissue\nwith: {agent: "${{ agent.id }}", policy: {Version: "2012-10-17", Statement: '
        "[{Effect: Allow, Action: 's3:GetObject', Resource: '*'}]}}\nirreversible: true\n"
    )
    containing = False
    best_grade = Grade.CONFIG
    undoable = False

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        known = aws.identity(params, agent)
        if known is None or agent is None:
            return ()
        found = {str(each.params["role"]): each for each in aws.role_targets(known, agent.id)}
        wanted = params.get("role") or (next(iter(found)) if len(found) == 1 else "")
        if wanted not in found:
            raise ValueError(f"role is one of {', '.join(found) or 'none'}, not {wanted or 'said'!r}")
        told = {
            "policy": params["policy"],
            "apply": bool(params.get("apply")),
            "before": str(params.get("before") or ""),
        }
        target = found[wanted]
        return (Target(target.id, {**target.params, **told}, target.system),)

    def run(
        self, params: Mapping[str, Any], ports: Ports, *, key: str, so_far: Mapping[str, Any] | None = None
    ) -> Outcome:
        """`so_far` is {inline, managed}: what there was besides the new policy, checked against what was approved."""
        account = aws.account(params, ports)
        role = aws.find_role(params["role"], account)
        if not isinstance(role, Role):
            return Failed(False, f"{params['role']} is gone") if isinstance(role, Done) else role
        held = _held(account, role.name)
        if so_far is None:
            read = self._read(params, held)
            if not params["apply"] or read.evidence["verdict"] == "same":
                return read
            if read.evidence["digest"] != params["before"]:
                return Failed(False, f"the policies of {role.name} changed since this was approved: ask anew")
            if read.evidence["verdict"] != "narrower":
                return Failed(False, f"the new policy of {role.name} is not provably narrower: {read.evidence['why']}")
            names = {kind: [name for each, name, _ in held if each == kind] for kind in ("inline", "managed")}
            return Pending(ports.clock.now(), names, "kept which policies the role has")
        account.iam.put_role_policy(role.name, POLICY, params["policy"])
        for name in so_far["inline"]:
            if name != POLICY:
                account.iam.delete_role_policy(role.name, name)
        for arn in so_far["managed"]:
            account.iam.detach_role_policy(role.name, arn)
        return self.verify(params, ports) or Failed(True, f"AWS took the calls, but {role.name} reads otherwise yet")

    def verify(self, params: Mapping[str, Any], ports: Ports) -> Done | None:
        held = _held(aws.account(params, ports), aws.role_name(params["role"]))
        if [(kind, name, fingerprint(document)) for kind, name, document in held] != [
            ("inline", POLICY, fingerprint(params["policy"]))
        ]:
            return None
        return Done(Grade.CONFIG, {"role": params["role"], "policy": POLICY, "digest": _digest(held)})

    def _read(self, params: Mapping[str, Any], held: Sequence[tuple[str, str, Mapping[str, Any]]]) -> Done:
        verdict = compare([document for _, _, document in held], params["policy"])
        evidence = {"digest": _digest(held), "verdict": verdict.word, "why": verdict.why, "diff": list(verdict.diff)}
        return Done(Grade.CONFIG, {"role": params["role"], **evidence})


def _held(account: AwsAccount, role: str) -> list[tuple[str, str, Mapping[str, Any]]]:
    """(kind, name, document) of what the role's own policies say, without Firedoor's cuts."""
    found = account.iam.role_policies(role) or ()
    own = [p for p in found if p.kind == "managed" or (p.kind == "inline" and _is_theirs(p.name))]
    return sorted(((p.kind, p.name, p.document) for p in own), key=lambda one: one[:2])


def _is_theirs(name: str) -> bool:
    return name == POLICY or not name.lower().startswith(tuple(each.lower() for each in OURS))


def _digest(held: Sequence[tuple[str, str, Mapping[str, Any]]]) -> str:
    return fingerprint({f"{kind} {name}": document for kind, name, document in held})
