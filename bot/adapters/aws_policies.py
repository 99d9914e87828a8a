"""The IAM policies that are in force for a role or a user, as documents, through boto3."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from bot.adapters.aws_api import AwsApi
from bot.ports import PolicyVersion

_GONE = ("NoSuchEntity",)


class IamPolicies:
    """The reading part of ports.Iam. Permissions: iam:Get{Role,User}, iam:List{Role,User,Group}Policies,
    iam:Get{Role,User,Group}Policy, iam:ListAttached{Role,User,Group}Policies, iam:ListGroupsForUser, iam:GetPolicy,
    iam:GetPolicyVersion."""

    def __init__(self, api: AwsApi) -> None:
        self._api = api

    def role_policies(self, role: str) -> tuple[PolicyVersion, ...] | None:
        return self._policies("role", role)

    def user_policies(self, user: str) -> tuple[PolicyVersion, ...] | None:
        own = self._policies("user", user)
        return None if own is None else (*own, *self._groups(user))

    def _groups(self, user: str) -> Iterator[PolicyVersion]:
        for group in self._listed("list_groups_for_user", "Groups", {"UserName": user}):
            name = str(group["GroupName"])
            for policy in self._each("group", {"GroupName": name}, {}):
                yield replace(policy, group=name)

    def _policies(self, kind: str, name: str) -> tuple[PolicyVersion, ...] | None:
        who = {f"{kind.capitalize()}Name": name}
        found = self._api.ask("iam", f"get_{kind}", _GONE, **who)
        if found is None:
            self._api.confirm_account()
            return None
        return tuple(self._each(kind, who, found[kind.capitalize()]))

    def _each(self, kind: str, who: Mapping[str, str], described: Mapping[str, Any]) -> Iterator[PolicyVersion]:
        if "AssumeRolePolicyDocument" in described:
            yield PolicyVersion("trust", "", "", policy_document(described["AssumeRolePolicyDocument"]))
        if boundary := described.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn", ""):
            yield from self._managed("boundary", boundary)
        for name in self._listed(f"list_{kind}_policies", "PolicyNames", who):
            inline = self._api.ask("iam", f"get_{kind}_policy", _GONE, **who, PolicyName=name)
            if inline:  # else it was deleted while we read
                yield PolicyVersion("inline", name, "", policy_document(inline["PolicyDocument"]))
        for policy in self._listed(f"list_attached_{kind}_policies", "AttachedPolicies", who):
            yield from self._managed("managed", policy["PolicyArn"])

    def _managed(self, kind: str, arn: str) -> Iterator[PolicyVersion]:
        policy = self._api.ask("iam", "get_policy", _GONE, PolicyArn=arn)
        version = policy["Policy"]["DefaultVersionId"] if policy else ""
        found = self._api.ask("iam", "get_policy_version", _GONE, PolicyArn=arn, VersionId=version) if version else None
        document = policy_document(found["PolicyVersion"]["Document"]) if found else {}
        yield PolicyVersion(kind, arn, version, document)

    def _listed(self, operation: str, key: str, who: Mapping[str, str]) -> Iterator[Any]:
        more: dict[str, str] = {}
        while (page := self._api.ask("iam", operation, _GONE, **who, **more)) is not None:
            yield from page[key]
            if not page.get("IsTruncated"):
                return
            more = {"Marker": page["Marker"]}


def policy_document(document: Any) -> Mapping[str, Any]:
    """boto3 decodes policy documents; one that came as URL-encoded JSON is decoded here."""
    read: Mapping[str, Any] = json.loads(unquote(document)) if isinstance(document, str) else document
    return read
