"""IAM of the simulated account: roles, users, keys, and what is attached to them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from bot.ports import AccessKey, PolicyVersion, Role
from bot.sandbox.aws_core import AwsCore

Document = Mapping[str, Any]


def _statement(effect: str) -> Document:
    return {"Version": "2012-10-17", "Statement": [{"Effect": effect, "Action": "*", "Resource": "*"}]}


MANAGED: Mapping[str, Document] = {
    "arn:aws:iam::aws:policy/AdministratorAccess": _statement("Allow"),
    "arn:aws:iam::aws:policy/AWSDenyAll": _statement("Deny"),
}


@dataclass(slots=True)
class _Principal:
    arn: str
    inline: dict[str, Document] = field(default_factory=dict)
    attached: list[str] = field(default_factory=list)

    console: bool = False  # a user's password
    groups: dict[str, _Principal] = field(default_factory=dict)  # a user's, by name

    def documents(self) -> tuple[Document, ...]:
        own = (*self.inline.values(), *(MANAGED[arn] for arn in self.attached))
        return (*own, *(document for group in self.groups.values() for document in group.documents()))


class SimIam:
    """ports.Iam."""

    def __init__(self, estate: AwsCore) -> None:
        self._estate = estate
        self.roles: dict[str, _Principal] = {}
        self.users: dict[str, _Principal] = {}
        self.keys: dict[str, AccessKey] = {}
        self._known: dict[str, Role] = {}

    def add_role(self, name: str, *, path: str = "/", attached: Sequence[str] = ("AdministratorAccess",)) -> str:
        """A role with these AWS-managed policies; returns its ARN."""
        arn = f"arn:aws:iam::{self._estate.id}:role{path}{name}"
        self.roles[name] = _Principal(arn, attached=[f"arn:aws:iam::aws:policy/{each}" for each in attached])
        self._known[name] = Role(arn, name, path, self._estate.new("AROA"), _statement("Allow"))
        return arn

    def add_user(self, name: str, *, attached: Sequence[str] = ("AdministratorAccess",)) -> None:
        arn = f"arn:aws:iam::{self._estate.id}:user/{name}"
        self.users[name] = _Principal(arn, attached=[f"arn:aws:iam::aws:policy/{each}" for each in attached])

    def add_group(self, name: str, user: str, policy: str, document: Document, *attached: str) -> None:
        """A group with this inline policy and these managed ones (ARNs), which the user is in."""
        arn = f"arn:aws:iam::{self._estate.id}:group/{name}"
        self.users[user].groups[name] = _Principal(arn, {policy: document}, [*attached])

    def add_key(self, user: str, *, id: str = "", active: bool = True) -> str:
        """A long-term access key of that user; returns its id."""
        key = AccessKey(id or self._estate.new("AKIA"), user, active)
        self.keys[key.id] = key
        return key.id

    def role(self, name: str) -> Role:
        self._principal(self.roles, name)
        return self._known[name]

    def get_role(self, role: str) -> Role | None:
        with self._estate.call("get_role"):
            return self._known[role] if role in self.roles else None

    def put_role_policy(self, role: str, name: str, document: Document) -> None:
        with self._estate.call("put_role_policy"):
            self._changeable(role).inline[name] = _copy(document)

    def get_role_policy(self, role: str, name: str) -> Document | None:
        with self._estate.call("get_role_policy"):
            return self.roles[role].inline.get(name) if role in self.roles else None

    def delete_role_policy(self, role: str, name: str) -> None:
        with self._estate.call("delete_role_policy"):
            if role in self.roles:
                self.roles[role].inline.pop(name, None)

    def put_user_policy(self, user: str, name: str, document: Document) -> None:
        with self._estate.call("put_user_policy"):
            self._principal(self.users, user).inline[name] = _copy(document)

    def get_user_policy(self, user: str, name: str) -> Document | None:
        with self._estate.call("get_user_policy"):
            return self.users[user].inline.get(name) if user in self.users else None

    def delete_user_policy(self, user: str, name: str) -> None:
        with self._estate.call("delete_user_policy"):
            if user in self.users:
                self.users[user].inline.pop(name, None)

    def attach_role_policy(self, role: str, policy_arn: str) -> None:
        with self._estate.call("attach_role_policy"):
            self._attach(self._changeable(role), policy_arn)

    def detach_role_policy(self, role: str, policy_arn: str) -> None:
        with self._estate.call("detach_role_policy"):
            _detach(self.roles.get(role), policy_arn)

    def attached_role_policies(self, role: str) -> tuple[str, ...]:
        with self._estate.call("attached_role_policies"):
            return tuple(self.roles[role].attached) if role in self.roles else ()

    def attach_user_policy(self, user: str, policy_arn: str) -> None:
        with self._estate.call("attach_user_policy"):
            self._attach(self._principal(self.users, user), policy_arn)

    def detach_user_policy(self, user: str, policy_arn: str) -> None:
        with self._estate.call("detach_user_policy"):
            _detach(self.users.get(user), policy_arn)

    def attached_user_policies(self, user: str) -> tuple[str, ...]:
        with self._estate.call("attached_user_policies"):
            return tuple(self.users[user].attached) if user in self.users else ()

    def list_access_keys(self, user: str) -> tuple[AccessKey, ...] | None:
        with self._estate.call("list_access_keys"):
            if user not in self.users:
                return None
            return tuple(key for key in self.keys.values() if key.user == user)

    def set_access_key_active(self, user: str, key_id: str, active: bool) -> None:
        with self._estate.call("set_access_key_active"):
            key = self.keys.get(key_id)
            if key is None or key.user != user:
                raise self._estate.refusal(f"the access key with id {key_id} cannot be found (NoSuchEntity)")
            self.keys[key_id] = replace(key, active=active)

    def set_trust(self, role: str, document: Document) -> None:
        with self._estate.call("set_trust"):
            self._changeable(role)
            self._known[role] = replace(self._known[role], trust=_copy(document))

    def set_boundary(self, role: str, policy_arn: str) -> None:
        with self._estate.call("set_boundary"):
            self._changeable(role)
            if policy_arn and policy_arn not in MANAGED:
                raise self._estate.refusal(f"policy {policy_arn} does not exist (NoSuchEntity)")
            self._known[role] = replace(self._known[role], boundary=policy_arn)

    def has_console(self, user: str) -> bool:
        with self._estate.call("has_console"):
            return user in self.users and self.users[user].console

    def delete_console(self, user: str) -> None:
        with self._estate.call("delete_console"):
            if user in self.users:
                self.users[user].console = False

    def role_policies(self, role: str) -> tuple[PolicyVersion, ...] | None:
        with self._estate.call("role_policies"):
            if role not in self.roles:
                return None
            known = self._known[role]
            limit = [PolicyVersion("boundary", known.boundary, "v1", MANAGED[known.boundary])] if known.boundary else []
            return (PolicyVersion("trust", "", "", known.trust), *limit, *_in_force(self.roles[role]))

    def user_policies(self, user: str) -> tuple[PolicyVersion, ...] | None:
        with self._estate.call("user_policies"):
            if user not in self.users:
                return None
            groups = self.users[user].groups.items()
            of_groups = (replace(one, group=name) for name, group in groups for one in _in_force(group))
            return (*_in_force(self.users[user]), *of_groups)

    def server_time(self) -> datetime:
        with self._estate.call("server_time"):
            return self._estate.clock.now().replace(microsecond=0)

    def _principal(self, among: Mapping[str, _Principal], name: str) -> _Principal:
        if name not in among:
            raise self._estate.refusal(f"{name} cannot be found (NoSuchEntity)")
        return among[name]

    def _changeable(self, role: str) -> _Principal:
        found = self._principal(self.roles, role)
        if self._known[role].path.startswith("/aws-service-role/") or role.startswith("AWSReservedSSO_"):
            raise self._estate.refusal(f"{role} can only be changed by the service it belongs to (UnmodifiableEntity)")
        return found

    def _attach(self, principal: _Principal, policy_arn: str) -> None:
        if policy_arn not in MANAGED:
            raise self._estate.refusal(f"policy {policy_arn} does not exist or is not attachable (NoSuchEntity)")
        if policy_arn not in principal.attached:
            principal.attached.append(policy_arn)


def _in_force(principal: _Principal) -> Iterator[PolicyVersion]:
    for name, document in principal.inline.items():
        yield PolicyVersion("inline", name, "", document)
    for arn in principal.attached:
        yield PolicyVersion("managed", arn, "v1", MANAGED[arn])


def _copy(document: Document) -> Document:
    copied: Document = json.loads(json.dumps(document))
    return copied


def _detach(principal: _Principal | None, policy_arn: str) -> None:
    if principal and policy_arn in principal.attached:
        principal.attached.remove(policy_arn)
