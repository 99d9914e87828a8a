"""`aws.iam_reissue`: give a role or a user its permissions again, and fewer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from bot.actions import Action, aws
from bot.domain.agent import Agent
from bot.domain.approval import fingerprint
from bot.domain.outcome import Done, Failed, Grade, Outcome, Pending
from bot.domain.playbook import Param, Target
from bot.domain.scope import compare
from bot.ports import AwsAccount, PolicyVersion, Ports, Role

POLICY = "firedoor-reissued"
OURS = ("firedoor", "AWSRevokeOlderSessions")  # cuts, which are released and never re-issued away


class Reissue(Action):
    """Replaces everything that the own policies of a role or of a user allow, inline and attached, by one narrower
    policy. Without `apply` it only reads, and says whether the new policy allows provably less, and what is taken away.
    With it they are changed where they still are as they were read (`before`), and read back. Cuts of Firedoor stay:
    they are released by themselves. So do boundary, trust policy and what a user has by its groups, which the
    difference shows. Access keys stay as they are. It cannot be undone: scope does not come back by itself. Ask for it
    with `firedoor incident reissue`, which has the difference approved by two persons."""

    id = "aws.iam_reissue"
    params = (
        aws.AGENT,
        aws.CONNECTION,
        Param("role", required=False, doc="ARN of the role; needed where the agent has several, and no `user` is said"),
        Param("user", required=False, doc="name of the IAM user, in place of a role"),
        Param("policy", kind="mapping", doc="the IAM policy document that takes the place of all others"),
        Param("apply", kind="boolean", required=False, default=False, doc="false: read and compare only"),
        Param("before", required=False, doc="digest of what was read, as the output `digest` says it"),
    )
    outputs = ("role", "user", "digest", "verdict", "why", "diff", "policy", "target")
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "aws": (
            *("iam:GetRole", "iam:ListRolePolicies", "iam:GetRolePolicy", "iam:ListAttachedRolePolicies"),
            *("iam:GetPolicy", "iam:GetPolicyVersion", "iam:PutRolePolicy", "iam:DeleteRolePolicy"),
            *("iam:DetachRolePolicy", "iam:GetUser", "iam:ListUserPolicies", "iam:GetUserPolicy"),
            *("iam:ListAttachedUserPolicies", "iam:ListGroupsForUser", "iam:ListGroupPolicies", "iam:GetGroupPolicy"),
            *("iam:ListAttachedGroupPolicies", "iam:PutUserPolicy", "iam:DeleteUserPolicy", "iam:DetachUserPolicy"),
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
        shared = {"agent": agent.id, "connection": known.connection}
        users = {name: Target(f"iam-user:{name}", {**shared, "user": name}, known.connection) for name in known.users}
        if params.get("role") and params.get("user"):
            raise ValueError("say a role or a user, not both")
        kind = "user" if params.get("user") or (users and not found) else "role"
        found = users if kind == "user" else found
        wanted = params.get(kind) or (next(iter(found)) if len(found) == 1 else "")
        if wanted not in found:
            raise ValueError(f"{kind} is one of {', '.join(found) or 'none'}, not {wanted or 'said'!r}")
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
        who = _Who(aws.account(params, ports), str(params.get("role") or ""), str(params.get("user") or ""))
        if isinstance(missing := who.missing(), Failed):
            return missing
        held = who.held()
        if so_far is None:
            read = _read(params, who, held)
            if not params["apply"] or read.evidence["verdict"] == "same":
                return read
            if read.evidence["digest"] != params["before"]:
                return Failed(False, f"the policies of {who.name} changed since this was approved: ask anew")
            if read.evidence["verdict"] != "narrower":
                return Failed(False, f"the new policy of {who.name} is not provably narrower: {read.evidence['why']}")
            names = {kind: [one.name for one in held if one.kind == kind and not one.group] for kind in _KINDS}
            return Pending(ports.clock.now(), names, f"kept which policies {who.name} has")
        who.put(params["policy"])
        for name in so_far["inline"]:
            if name != POLICY:
                who.delete(name)
        for arn in so_far["managed"]:
            who.detach(arn)
        return self.verify(params, ports) or Failed(True, f"AWS took the calls, but {who.name} reads otherwise yet")

    def verify(self, params: Mapping[str, Any], ports: Ports) -> Done | None:
        who = _Who(aws.account(params, ports), str(params.get("role") or ""), str(params.get("user") or ""))
        held = who.held()
        own = [(one.kind, one.name, fingerprint(one.document)) for one in held if not one.group]
        if own != [("inline", POLICY, fingerprint(params["policy"]))]:
            return None
        return Done(Grade.CONFIG, {**who.said, "policy": POLICY, "digest": _digest(held)})


_KINDS = ("inline", "managed")


@dataclass(frozen=True, slots=True)
class _Who:
    """A role (by its ARN) or else a user, and its policies."""

    account: AwsAccount
    role: str
    user: str

    @property
    def name(self) -> str:
        return self.user or aws.role_name(self.role)

    @property
    def said(self) -> Mapping[str, str]:
        return {"user": self.user} if self.user else {"role": self.role}

    def missing(self) -> Failed | None:
        if self.user:
            gone = self.account.iam.user_policies(self.user) is None
            return Failed(False, f"user {self.user} is gone") if gone else None
        role = aws.find_role(self.role, self.account)
        if isinstance(role, Role):
            return None
        return Failed(False, f"{self.role} is gone") if isinstance(role, Done) else role

    def held(self) -> list[PolicyVersion]:
        """What its own policies and its groups' say, without Firedoor's cuts."""
        iam = self.account.iam
        found = (iam.user_policies(self.user) if self.user else iam.role_policies(self.name)) or ()
        own = [p for p in found if p.kind == "managed" or (p.kind == "inline" and (p.group or _is_theirs(p.name)))]
        return sorted(own, key=lambda p: (p.group, p.kind, p.name))

    def put(self, document: Mapping[str, Any]) -> None:
        put = self.account.iam.put_user_policy if self.user else self.account.iam.put_role_policy
        put(self.name, POLICY, document)

    def delete(self, name: str) -> None:
        delete = self.account.iam.delete_user_policy if self.user else self.account.iam.delete_role_policy
        delete(self.name, name)

    def detach(self, arn: str) -> None:
        detach = self.account.iam.detach_user_policy if self.user else self.account.iam.detach_role_policy
        detach(self.name, arn)


def _read(params: Mapping[str, Any], who: _Who, held: Sequence[PolicyVersion]) -> Done:
    stays = [one.document for one in held if one.group]
    verdict = compare([one.document for one in held], [params["policy"], *stays])
    evidence = {"digest": _digest(held), "verdict": verdict.word, "why": verdict.why, "diff": list(verdict.diff)}
    return Done(Grade.CONFIG, {**who.said, **evidence})


def _is_theirs(name: str) -> bool:
    return name == POLICY or not name.lower().startswith(tuple(each.lower() for each in OURS))


def _digest(held: Sequence[PolicyVersion]) -> str:
    return fingerprint({f"{one.group} {one.kind} {one.name}": one.document for one in held})
