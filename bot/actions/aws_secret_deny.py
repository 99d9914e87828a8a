"""`aws.secret_deny`: an agent cannot read a secret any more."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from bot.actions import aws
from bot.actions.aws_switch import Switch
from bot.domain.agent import Agent
from bot.domain.iam import UnknownPolicy, evaluate
from bot.domain.outcome import Done, Grade
from bot.domain.playbook import Param, Target
from bot.ports import AwsAccount


class DenySecret(Switch):
    """Denies the agent's roles and users everything on one secret of Secrets Manager, in the secret's own policy; who
    else uses the secret is not touched. What the agent has read already it still knows: have the secret rotated.
    Releasing takes our statement out, and leaves what else stands in the policy."""

    id = "aws.secret_deny"
    params = (aws.AGENT, Param("secret", doc="ARN of the secret"), aws.CONNECTION)
    outputs = ("secret", "denied", "statement", "alive_until", "target", "why")
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "aws": (
            "secretsmanager:GetResourcePolicy",
            "secretsmanager:PutResourcePolicy",
            "secretsmanager:DeleteResourcePolicy",
        )
    }
    example = (
        "uses: aws.secret_deny\n"
        "foreach: ${{ alert.resources | selectattr('type', 'eq', 'AWS::SecretsManager::Secret') }}\n"
        'with: {agent: "${{ agent.id }}", secret: "${{ item.uid }}"}\ncontains: true\n'
    )
    spreads = True

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        known, named = aws.identity(params, agent), str(params.get("secret", ""))
        if not re.fullmatch(r"arn:[\w-]+:secretsmanager:[\w-]+:\d{12}:secret:\S+", named):
            raise ValueError(f"{named!r} is no ARN of a secret")
        denied = aws.principals(known, agent.id) if known and agent else ()
        if known is None or agent is None or not denied:
            return ()
        concrete = {
            "agent": agent.id,
            "connection": known.connection,
            "secret": named,
            "principals": list(denied),
        }
        return (Target(f"secret:{named}/{agent.id}", concrete, known.connection),)

    def name(self, params: Mapping[str, Any]) -> str:
        return str(params["secret"])

    def absent(self, params: Mapping[str, Any], account: AwsAccount) -> Done | None:
        if account.secrets.policy(params["secret"]) is not None:
            return None
        gone = f"there is no secret {params['secret']}: it was deleted"
        return Done(Grade.CONFIG, {"secret": params["secret"]}, nothing_held=gone)

    def state(self, params: Mapping[str, Any], account: AwsAccount) -> Mapping[str, Any] | None:
        sid = _statement(params)["Sid"]
        return next((each for each in _statements(params, account) if each.get("Sid") == sid), None)

    def change(self, params: Mapping[str, Any], account: AwsAccount, key: str) -> Mapping[str, Any]:
        _put(params, account, _statement(params))
        return {}

    def seen(
        self,
        params: Mapping[str, Any],
        account: AwsAccount,
        kept: Mapping[str, Any],
    ) -> Mapping[str, Any] | None:
        statement = self.state(params, account)
        if statement is None or statement.get("Principal") not in ("*", {"AWS": "*"}):
            return None
        arns: list[str] = params["principals"]
        if not all(_denied(statement, params["secret"], arn) for arn in arns):
            return None
        return {"secret": params["secret"], "denied": len(arns), "statement": statement["Sid"]}

    def restore(self, params: Mapping[str, Any], account: AwsAccount, before: Mapping[str, Any] | None) -> str:
        if self.state(params, account) != before:
            _put(params, account, before)
        same = self.state(params, account) == before
        return "" if same else f"AWS took the call, but the policy of {params['secret']} is not as it was"


def _statement(params: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "Sid": f"Firedoor{hashlib.sha256(params['agent'].encode()).hexdigest()[:12]}",  # one for each agent
        "Effect": "Deny",
        "Principal": "*",
        "Action": "secretsmanager:*",
        "Resource": "*",
        "Condition": aws.deny_principals(params["principals"]),
    }


def _statements(params: Mapping[str, Any], account: AwsAccount) -> list[Mapping[str, Any]]:
    found = (account.secrets.policy(params["secret"]) or {}).get("Statement", [])
    return [found] if isinstance(found, Mapping) else list(found)


def _put(params: Mapping[str, Any], account: AwsAccount, statement: Mapping[str, Any] | None) -> None:
    sid = _statement(params)["Sid"]
    others = [each for each in _statements(params, account) if each.get("Sid") != sid]
    wanted = [*others, *([statement] if statement else [])]
    account.secrets.set_policy(params["secret"], {"Version": "2012-10-17", "Statement": wanted} if wanted else {})


def _denied(statement: Mapping[str, Any], secret: str, arn: str) -> bool:
    asked = {"aws:PrincipalArn": arn}
    try:
        return evaluate([{"Statement": [statement]}], "secretsmanager:GetSecretValue", secret, asked) == "explicitDeny"
    except UnknownPolicy:
        return False
