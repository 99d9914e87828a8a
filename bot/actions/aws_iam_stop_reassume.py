"""`aws.iam_stop_reassume`: nobody starts another session of a role."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from bot.actions import aws
from bot.actions.aws_switch import OfRole
from bot.domain.iam import trusts_nobody
from bot.ports import AwsAccount

_NOBODY: Mapping[str, Any] = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Sid": "ClosedByFiredoor",
            "Effect": "Deny",
            "Principal": {"AWS": "*"},
            "Action": ["sts:AssumeRole", "sts:AssumeRoleWithSAML", "sts:AssumeRoleWithWebIdentity"],
        }
    ],
}


class StopReassume(OfRole):
    """Closes the trust policy of each of the agent's roles: nobody can assume it any more, from no account, service or
    identity provider. Sessions that run already go on until they expire: end them with aws.iam_revoke_sessions, after
    this. Whatever else uses the role gets no new session either. AWS needs up to five minutes until it holds
    everywhere: `alive_until`. Releasing restores the trust policy that was there before; one that somebody changed
    meanwhile is left alone and said. Service-linked and Identity Center roles are refused."""

    id = "aws.iam_stop_reassume"
    params = (aws.AGENT, aws.CONNECTION)
    outputs = ("role", "trusts", "alive_until", "target", "why")
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {"aws": ("iam:GetRole", "iam:UpdateAssumeRolePolicy")}
    example = 'uses: aws.iam_stop_reassume\nwith: {agent: "${{ agent.id }}"}\ncontains: true\n'

    def state(self, params: Mapping[str, Any], account: AwsAccount) -> Mapping[str, Any]:
        return _trust(params, account)

    def change(self, params: Mapping[str, Any], account: AwsAccount, key: str) -> Mapping[str, Any]:
        account.iam.set_trust(self.name(params), _NOBODY)
        return {}

    def seen(
        self,
        params: Mapping[str, Any],
        account: AwsAccount,
        kept: Mapping[str, Any],
    ) -> Mapping[str, Any] | None:
        trust = _trust(params, account)
        return {"role": params["role"], "trusts": "nobody"} if trust and trusts_nobody(trust) else None

    def restore(self, params: Mapping[str, Any], account: AwsAccount, before: Mapping[str, Any]) -> str:
        name, trust = self.name(params), _trust(params, account)
        if trust == before:
            return ""
        if trust != _NOBODY:
            return f"somebody changed the trust policy of {name} meanwhile: it was left alone, restore it by hand"
        account.iam.set_trust(name, before)
        return "" if _trust(params, account) == before else f"AWS took the call, but {name} does not trust as before"


def _trust(params: Mapping[str, Any], account: AwsAccount) -> Mapping[str, Any]:
    """{} where the role is gone."""
    role = account.iam.get_role(aws.role_name(params["role"]))
    return role.trust if role else {}
