"""`aws.iam_revoke_user_sessions`: end the temporary credentials that were made from a user."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, ClassVar

from bot.actions import aws
from bot.actions.aws_switch import OfUser
from bot.actions.trail import CloudTrailed
from bot.domain.iam import STAMP, Denial, cutoff_of, denies_everything, older_denied
from bot.ports import AwsAccount

POLICY = "AWSRevokeOlderSessions"
_MARGIN = timedelta(seconds=30)  # between AWS's clocks


class RevokeUserSessions(CloudTrailed, OfUser):
    """Ends the temporary credentials that were made from each of the agent's IAM users before this moment: those of
    GetSessionToken and GetFederationToken, and console sessions. It does not reach the user's long-term keys, which
    carry no time of issue (aws.iam_disable_key), and no role that the user assumed (aws.iam_revoke_sessions). Disable
    the keys first: with one, the next session is a call away. AWS needs up to five minutes until it holds everywhere:
    `alive_until`. Releasing restores the policy that was there before, or removes ours."""

    id = "aws.iam_revoke_user_sessions"
    params = (aws.AGENT, aws.CONNECTION)
    outputs = ("user", "policy", "cutoff", "alive_until", "target", "why")
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "aws": (
            "iam:ListAccessKeys",
            "iam:GetUserPolicy",
            "iam:PutUserPolicy",
            "iam:DeleteUserPolicy",
            "cloudtrail:LookupEvents",
        )
    }
    example = 'uses: aws.iam_revoke_user_sessions\nwith: {agent: "${{ agent.id }}"}\ncontains: true\n'

    def state(self, params: Mapping[str, Any], account: AwsAccount) -> Mapping[str, Any] | None:
        return account.iam.get_user_policy(params["user"], POLICY)

    def change(self, params: Mapping[str, Any], account: AwsAccount, key: str) -> Mapping[str, Any]:
        cutoff = (account.iam.server_time() + _MARGIN).strftime(STAMP)
        account.iam.put_user_policy(params["user"], POLICY, older_denied(cutoff))
        return {"cutoff": cutoff}

    def denials(self, params: Mapping[str, Any], cutoff: str) -> tuple[Denial, ...]:
        return aws.denial(older_denied(cutoff), params)

    def seen(self, params: Mapping[str, Any], account: AwsAccount, kept: Mapping[str, Any]) -> Mapping[str, Any] | None:
        document = self.state(params, account)
        cutoff = cutoff_of(document)
        if document is None or cutoff is None or cutoff.strftime(STAMP) < kept.get("cutoff", ""):
            return None
        older = {"aws:TokenIssueTime": cutoff - timedelta(seconds=1)}
        evidence = {"user": params["user"], "policy": POLICY, "cutoff": cutoff.strftime(STAMP)}
        return evidence if denies_everything(document, older) else None

    def restore(self, params: Mapping[str, Any], account: AwsAccount, before: Mapping[str, Any] | None) -> str:
        if before is None:
            account.iam.delete_user_policy(params["user"], POLICY)
        else:
            account.iam.put_user_policy(params["user"], POLICY, before)
        same = self.state(params, account) == before
        return "" if same else f"AWS took the call, but {POLICY} of {params['user']} is not what it was before"
