"""`aws.iam_revoke_session`: end one session of a role, and no other."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, ClassVar

from bot.actions import aws
from bot.actions.aws_switch import OfRole
from bot.domain.agent import Agent
from bot.domain.iam import STAMP, Denial, cutoff_of, denies_everything, deny_older
from bot.domain.outcome import Done, Failed, Grade
from bot.domain.playbook import Param, Target
from bot.ports import AwsAccount, Role

POLICY = "FiredoorRevokedSessions"  # one policy for all sessions of a role: inline policies share a quota
_MARGIN = timedelta(seconds=30)  # between AWS's clocks

Statement = Mapping[str, Any]


class RevokeSession(OfRole):
    """Ends one session of the agent's role, and leaves its other sessions alone: a policy on the role denies
    everything to credentials of that session name which were issued before this moment. The same name works again
    once it is assumed anew, so cut what lets the agent assume the role first (aws.iam_stop_reassume). AWS needs up to
    five minutes until it is refused everywhere: `alive_until`. Releasing takes out what was put in for this session.
    Service-linked and Identity Center roles are refused."""

    id = "aws.iam_revoke_session"
    params = (
        aws.AGENT,
        Param("session", doc="the session: its ARN (assumed-role/...), its user id (AROA...:name), or its name alone"),
        Param(
            "role",
            required=False,
            doc="ARN of one role: of its own, or of `chained_roles` in agents.yaml; all its own by default",
        ),
        aws.CONNECTION,
    )
    outputs = ("role", "session", "policy", "cutoff", "alive_until", "target", "why")
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "aws": ("iam:GetRole", "iam:GetRolePolicy", "iam:PutRolePolicy", "iam:DeleteRolePolicy")
    }
    example = (
        'uses: aws.iam_revoke_session\nwith: {agent: "${{ agent.id }}", session: "${{ agent.id }}"}\ncontains: true\n'
    )

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        named = str(params.get("session", ""))
        arn = re.fullmatch(r"arn:[\w-]+:sts::(\d{12}):assumed-role/([\w+=,.@-]+)/([\w+=,.@-]{2,64})", named)
        plain = re.fullmatch(r"(?:(AROA[A-Z0-9]+):)?([\w+=,.@-]{2,64})", named)
        session = arn[3] if arn else plain[2] if plain else ""
        if not session:
            raise ValueError(f"{named!r} names no session: give its ARN, its user id (AROA...:name) or its name")
        found = self._of_role(params, agent)
        if arn:
            of = [each.params["role"] for each in found]
            found = tuple(each for each in found if _is(each.params["role"], arn[1], arn[2]))
            if of and not found:
                raise ValueError(f"{named} is a session of none of this agent's roles ({', '.join(of)})")
        role_id = plain[1] or "" if plain else ""
        return tuple(
            replace(
                each,
                id=f"iam-session:{each.params['role']}/{session}",
                params={**each.params, "session": session, "role_id": role_id},
            )
            for each in found
        )

    def _of_role(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        role, known = str(params.get("role") or ""), aws.identity(params, agent)
        if not role or known is None or agent is None:
            return super().targets(params, agent)
        if role not in (*known.roles, *known.chained_roles):
            raise ValueError(f"{role} is no role of {agent.id}, and agents.yaml does not list it in chained_roles")
        return tuple(aws.role_targets(replace(known, roles=(role,)), agent.id))

    def name(self, params: Mapping[str, Any]) -> str:
        return f"session {params['session']} of {aws.role_name(params['role'])}"

    def absent(self, params: Mapping[str, Any], account: AwsAccount) -> Done | Failed | None:
        found = aws.find_role(params["role"], account)
        if not isinstance(found, Role):
            return found
        if params["role_id"] in ("", found.id):
            return None
        evidence = {"role": params["role"], "session": params["session"]}
        return Done(Grade.CONFIG, evidence, nothing_held=f"{params['role_id']} is not {found.name}, another role is")

    def state(self, params: Mapping[str, Any], account: AwsAccount) -> Statement | None:
        return next(
            (each for each in self._statements(params, account) if _names(each, self._id(params, account))), None
        )

    def change(self, params: Mapping[str, Any], account: AwsAccount, key: str) -> Mapping[str, Any]:
        cutoff = (account.iam.server_time() + _MARGIN).strftime(STAMP)
        self._put(params, account, deny_older(cutoff, self._id(params, account)))
        return {"cutoff": cutoff}

    def denials(self, params: Mapping[str, Any], cutoff: str) -> tuple[Denial, ...]:
        if not params["role_id"]:
            raise ValueError("the id of the role, which the policy names, is read when it runs")
        userid = f"{params['role_id']}:{params['session']}"
        document = {"Version": "2012-10-17", "Statement": [deny_older(cutoff, userid)]}
        return aws.denial(document, params, **{"aws:userid": userid})

    def seen(self, params: Mapping[str, Any], account: AwsAccount, kept: Mapping[str, Any]) -> Mapping[str, Any] | None:
        statement, userid = self.state(params, account), self._id(params, account)
        document = {"Statement": [statement]}
        cutoff = cutoff_of(document) if statement else None
        if cutoff is None or cutoff.strftime(STAMP) < kept.get("cutoff", ""):
            return None
        older: dict[str, str | datetime] = {"aws:userid": userid, "aws:TokenIssueTime": cutoff - timedelta(seconds=1)}
        evidence = {"role": params["role"], "session": userid, "policy": POLICY, "cutoff": cutoff.strftime(STAMP)}
        return evidence if denies_everything(document, older) else None

    def restore(self, params: Mapping[str, Any], account: AwsAccount, before: Statement | None) -> str:
        if self.state(params, account) != before:
            self._put(params, account, before)
        same = self.state(params, account) == before
        return "" if same else f"AWS took the call, but {POLICY} does not read as before for {self.name(params)}"

    def _put(self, params: Mapping[str, Any], account: AwsAccount, statement: Statement | None) -> None:
        role, userid = aws.role_name(params["role"]), self._id(params, account)
        others = [each for each in self._statements(params, account) if not _names(each, userid)]
        if wanted := [*others, *([statement] if statement else [])]:
            account.iam.put_role_policy(role, POLICY, {"Version": "2012-10-17", "Statement": wanted})
        else:
            account.iam.delete_role_policy(role, POLICY)

    def _statements(self, params: Mapping[str, Any], account: AwsAccount) -> Sequence[Statement]:
        document = account.iam.get_role_policy(aws.role_name(params["role"]), POLICY) or {}
        found: Sequence[Statement] = document.get("Statement", ())
        return found

    def _id(self, params: Mapping[str, Any], account: AwsAccount) -> str:
        role = account.iam.get_role(aws.role_name(params["role"]))
        return f"{role.id}:{params['session']}" if role else ""


def _is(role_arn: str, account: str, name: str) -> bool:
    return role_arn.split(":")[4] == account and aws.role_name(role_arn) == name


def _names(statement: Statement, userid: str) -> bool:
    one: object = statement.get("Condition", {}).get("StringEquals", {}).get("aws:userid")
    return one == userid
