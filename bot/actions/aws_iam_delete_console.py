"""`aws.iam_delete_console`: take a user's console password away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from bot.actions import aws
from bot.actions.aws_switch import OfUser
from bot.ports import AwsAccount


class DeleteConsole(OfUser):
    """Deletes the console password of each of the agent's IAM users: nobody can sign in with it any more. Who is
    signed in stays so until that session ends: aws.iam_revoke_user_sessions. It cannot be undone, because AWS gives no
    password back: to return the access, an administrator sets a new one."""

    id = "aws.iam_delete_console"
    params = (aws.AGENT, aws.CONNECTION)
    outputs = ("user", "console", "alive_until", "target", "why")
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "aws": ("iam:ListAccessKeys", "iam:GetLoginProfile", "iam:DeleteLoginProfile")
    }
    example = (
        'uses: aws.iam_delete_console\nwith: {agent: "${{ agent.id }}"}\ncontains: true\nirreversible: true\n'
        "approval: {each: {security_team: 1, infra_owner: 1}}\n"
    )
    undoable = False

    def state(self, params: Mapping[str, Any], account: AwsAccount) -> bool:
        return account.iam.has_console(params["user"])

    def change(self, params: Mapping[str, Any], account: AwsAccount, key: str) -> Mapping[str, Any]:
        account.iam.delete_console(params["user"])
        return {}

    def seen(
        self,
        params: Mapping[str, Any],
        account: AwsAccount,
        kept: Mapping[str, Any],
    ) -> Mapping[str, Any] | None:
        return None if self.state(params, account) else {"user": params["user"], "console": "no password"}
