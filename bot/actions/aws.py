"""What the `aws.*` actions share: which account, which role, which instance, and how long AWS takes to agree."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from bot.domain.agent import Agent, AwsIdentity
from bot.domain.iam import Denial
from bot.domain.outcome import Done, Failed, Grade
from bot.domain.playbook import Param, Target
from bot.ports import AwsAccount, Instance, Ports, Role, connected

AGENT = Param("agent", doc="agent id; its `aws` section in agents.yaml names its roles, users and keys")
CONNECTION = Param("connection", required=False, doc="AWS connection; the agent's own by default, else `aws`")
INSTANCE = Param("instance", doc="EC2 instance id, or its ARN")

PROPAGATION = timedelta(minutes=5)  # IAM takes effect within seconds as a rule, and AWS promises no bound


def identity(params: Mapping[str, Any], agent: Agent | None) -> AwsIdentity | None:
    """The agent's `aws` section; None where it has none. ValueError for an unknown agent."""
    if agent is None:
        raise ValueError(f"no agent {params.get('agent')!r} in agents.yaml: what it holds in AWS is not known")
    if agent.aws is None or not params.get("connection"):
        return agent.aws
    return replace(agent.aws, connection=params["connection"])


def account(params: Mapping[str, Any], ports: Ports) -> AwsAccount:
    return connected(ports.aws, params["connection"])


def partition(known: AwsIdentity) -> str:
    """`aws`, `aws-cn` or `aws-us-gov`: the second part of every ARN."""
    for arn in known.roles:
        return arn.split(":")[1]
    return next((f"aws-{each}" for each in ("cn", "us-gov") if known.region.startswith(f"{each}-")), "aws")


# Roles ----------------------------------------------------------------------------------------------------------


def role_targets(known: AwsIdentity, agent: str) -> Iterator[Target]:
    for arn in dict.fromkeys(known.roles):
        if not re.fullmatch(r"arn:[\w-]+:iam::\d{12}:role/\S+", arn):
            raise ValueError(f"{arn!r} is no ARN of a role: correct aws.roles of {agent} in agents.yaml")
        yield Target(f"iam-role:{arn}", {"agent": agent, "connection": known.connection, "role": arn}, known.connection)


def role_name(arn: str) -> str:
    return arn.rsplit("/", 1)[-1]


def service_linked(arn: str) -> Failed | None:
    """Why such a role is out of reach; None for any other."""
    if "/aws-service-role/" not in arn:
        return None
    return Failed(
        False,
        f"{role_name(arn)} is a service-linked role, which only its service can change and no service control policy "
        "reaches: stop what runs in that service",
    )


def unchangeable(arn: str) -> Failed | None:
    """Why IAM does not let anybody change such a role; None for any other."""
    name = role_name(arn)
    if not name.startswith("AWSReservedSSO_"):
        return service_linked(arn)
    return Failed(
        False,
        f"{name} belongs to IAM Identity Center and cannot be changed in IAM: disable the user or remove the "
        "assignment there, or deny it with a service control policy (aws.scp_deny)",
    )


def denial(document: Mapping[str, Any], params: Mapping[str, Any], **carries: str) -> tuple[Denial, ...]:
    """Of a policy on the role, or else the user, that `params` name. ValueError where it cannot be put there."""
    if not (role := params.get("role")):
        return (Denial(document, f"user {params['user']}", carries, keys=True),)
    if refused := unchangeable(role):
        raise ValueError(refused.why)
    return (Denial(document, f"role {role_name(role)}", carries),)


def principals(known: AwsIdentity, agent: str) -> tuple[str, ...]:
    """ARNs of the agent's roles and users, as `aws:PrincipalArn` has them (a session's is that of its role)."""
    roles = [str(target.params["role"]) for target in role_targets(known, agent)]
    users = [f"arn:{partition(known)}:iam::{known.account}:user/{user}" for user in known.users]
    if users and not known.account:
        raise ValueError(f"in which account is user {known.users[0]}? Add aws.account of {agent} to agents.yaml")
    return tuple(dict.fromkeys([*roles, *users]))


def deny_principals(arns: Sequence[str]) -> dict[str, Any]:
    """What a Deny of everything to these is conditioned on. Users under a path are met as well."""
    paths = [arn.replace(":user/", ":user/*/", 1) for arn in arns if ":user/" in arn]
    return {"ArnLike": {"aws:PrincipalArn": [*arns, *paths]}}


def find_role(arn: str, aws: AwsAccount) -> Role | Done | Failed:
    """The role, or why there is nothing to do or nothing that can be done."""
    owner, name = arn.split(":")[4], role_name(arn)
    if aws.account and owner != aws.account:
        return Failed(False, f"{arn} is in account {owner}, the connection in {aws.account}: name the right connection")
    if refused := unchangeable(arn):
        return refused
    role = aws.iam.get_role(name)
    if role is None:
        gone = f"account {owner} has no role {name}: it was deleted"
        return Done(Grade.CONFIG, {"target": f"iam-role:{arn}"}, nothing_held=gone)
    if role.arn != arn:
        return Failed(False, f"the role of that name is {role.arn}, agents.yaml says {arn}: correct it")
    return role


# Instances ------------------------------------------------------------------------------------------------------


def instance_target(params: Mapping[str, Any], agent: Agent | None) -> Target:
    """ValueError where `instance` is neither an instance id nor the ARN of one."""
    named = str(params.get("instance", ""))
    found = re.fullmatch(r"(?:arn:[\w-]+:ec2:[\w-]*:(\d{12}):instance/)?(i-[0-9a-f]{8,17})", named)
    if not found:
        raise ValueError(f"{named!r} is no EC2 instance: give an id (i-0123456789abcdef0) or its ARN")
    connection = params.get("connection") or (agent.aws.connection if agent and agent.aws else "aws")
    concrete = {"instance": found[2], "account": found[1] or "", "connection": connection}
    return Target(f"ec2-instance:{found[2]}", concrete, connection)


def find_instance(params: Mapping[str, Any], aws: AwsAccount) -> Instance | Done | Failed:
    """The instance, or why there is nothing to do or nothing that can be done. One that AWS does not know is no
    evidence: it may run in another region."""
    wanted, owner = params["instance"], params["account"]
    if owner and aws.account and owner != aws.account:
        return Failed(False, f"{wanted} is in account {owner}, the connection in {aws.account}: name the right one")
    instance = aws.ec2.instance(wanted)
    if instance is None:
        return Failed(
            False,
            f"connection {params['connection']} knows no instance {wanted}: it ended over an hour ago, or it runs in "
            "another region or account (then name its connection)",
        )
    if instance.state == "terminated":
        return Done(Grade.CONFIG, {"instance": wanted}, nothing_held=f"{wanted} is terminated")
    return instance


def own_instance_target(params: Mapping[str, Any], agent: Agent | None) -> Target:
    """An instance, with what agents.yaml says of the agent's own: `foreign` judges by it."""
    if agent is None or agent.id != params["agent"]:
        raise ValueError(f"agent {params['agent'] or 'unknown'} is not enrolled: add it to agents.yaml")
    target, known = instance_target(params, agent), agent.aws or AwsIdentity()
    belongs = {
        "agent": agent.id,
        "listed": target.params["instance"] in known.instances,
        "tags": dict(known.instance_tags),
        "profiles": list(known.instance_profiles),
    }
    return replace(target, params={**target.params, **belongs})


def foreign(params: Mapping[str, Any], instance: Instance) -> Failed | None:
    """Refused where the instance is not the agent's by its id, by all of the tags, or by its instance profile: what an
    alert names may be anybody's."""
    tags: Mapping[str, str] = params["tags"]
    tagged = bool(tags) and tags.items() <= instance.tags.items()
    if params["listed"] or tagged or instance.profile_arn in params["profiles"]:
        return None
    why = f"{instance.id} is not known to belong to {params['agent']}"
    return Failed(retryable=False, why=f"{why}: add it to agents.yaml, or isolate it by hand")


def foreign_role(params: Mapping[str, Any], role: str, what: str) -> Failed | None:
    """Refused where what runs does not run as one of the agent's roles: what an alert names may be anybody's."""
    if role in params["roles"]:
        return None
    runs = f"runs as {role}" if role else "has no role of its own"
    why = f"{what} {runs}, which is no role of {params['agent']}"
    return Failed(retryable=False, why=f"{why}: add it to aws.roles in agents.yaml, or stop it by hand")
