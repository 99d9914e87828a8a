"""`firedoor actions policy`: the least that the bot must be allowed, for the playbooks and agents that there are."""

from __future__ import annotations

import json
import re
from argparse import ArgumentParser, Namespace
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import yaml

from bot.actions import k8s, registry
from bot.actions.github import APP_KEY
from bot.commands import rbac
from bot.commands.command import Command, Exit, with_config, with_json
from bot.commands.terminal import as_json, heading
from bot.config import Config, load
from bot.domain.agent import AwsIdentity, VaultIdentity
from bot.domain.expression import Literal
from bot.domain.playbook import Call

_OF_USERS = re.compile(r"iam:\w*(User|AccessKey|LoginProfile)\w*")
_OF_POLICIES = re.compile(r"iam:(Attach|Detach)(Role|User)Policy")
_PATH = re.compile(r'path "([^"]+)" (\{.*\})')


def show_policy(asked: Namespace) -> int:
    config = load(asked.config)
    iam, vault, kubernetes = aws_policies(config), vault_policies(config), kubernetes_roles(config)
    github = github_permissions(config)
    if asked.json:
        as_json({"aws": iam, "vault": vault, "kubernetes": kubernetes, "github": github})
        return Exit.OK
    for connection, document in iam.items():
        heading(f"AWS connection {connection}")
        print(json.dumps(document, indent=2))
    for connection, lines in vault.items():
        heading(f"Vault connection {connection}")
        print("\n".join(lines))
    for connection, manifests in kubernetes.items():
        heading(f"Kubernetes connection {connection}")
        print(yaml.safe_dump_all(manifests, sort_keys=False), end="")
    for connection, needed in github.items():
        heading(f"GitHub connection {connection}")
        print("\n".join(needed))
    return Exit.OK


def aws_policies(config: Config) -> dict[str, dict[str, Any]]:
    """Connection -> IAM policy document."""
    identities = [agent.aws for agent in config.agents.agents.values() if agent.aws]
    usual = sorted({each.connection for each in identities})
    wanted: dict[str, set[str]] = defaultdict(set)
    for call in _calls(config):
        for connection in _named(call) or usual:
            wanted[connection] |= set(_permissions(call, "aws"))
    bucket = config.settings.evidence.bucket if config.settings.evidence else ""
    return {
        connection: _document(needed, [each for each in identities if each.connection == connection], bucket)
        for connection, needed in sorted(wanted.items())
        if needed
    }


def vault_policies(config: Config) -> dict[str, list[str]]:
    """Connection -> lines of HCL."""
    held: dict[str, list[VaultIdentity]] = defaultdict(list)
    for agent in config.agents.agents.values():
        if agent.vault:
            held[agent.vault.connection].append(agent.vault)
    lines = {line for call in _calls(config) for line in _permissions(call, "vault")}
    return {
        connection: merged(narrow for line in lines for narrow in _narrowed(line, identities))
        for connection, identities in sorted(held.items())
        if lines
    }


def merged(lines: Iterable[str]) -> list[str]:
    """One line a path, with all that any of them allows: Vault takes only one of two stanzas for the same path."""
    allowed: dict[str, set[str]] = defaultdict(set)
    for line in lines:
        if found := _PATH.fullmatch(re.sub(r"\s+", " ", line.strip())):
            allowed[found[1]] |= set(re.findall(r'"(\w+)"', found[2]))
    return [
        f'path "{path}" {{ capabilities=[{",".join(f"{chr(34)}{one}{chr(34)}" for one in sorted(may))}] }}'
        for path, may in sorted(allowed.items())
    ]


def github_permissions(config: Config) -> dict[str, list[str]]:
    """Connection -> repository permissions of its GitHub App or fine-grained token, and the repositories they are for.
    A connection that only holds a key of an agent's own app needs none: the key is the right."""
    wanted = {one for call in _calls(config) for one in _permissions(call, "github")} - {APP_KEY}
    found: dict[str, set[str]] = defaultdict(set)
    for agent in config.agents.agents.values():
        if agent.github:
            named = (*agent.github.workflows, *agent.github.environments)
            found[agent.github.connection] |= {*agent.github.repositories, *(each.split(":")[0] for each in named)}
    return {
        connection: [*sorted(wanted), *(f"on {repository}" for repository in sorted(repositories))]
        for connection, repositories in sorted(found.items())
        if wanted
    }


def kubernetes_roles(config: Config) -> dict[str, list[dict[str, Any]]]:
    """Connection -> manifests of Roles."""
    agents = [*config.agents.agents.values()]
    usual = sorted({known.connection for agent in agents if (known := k8s.identity({}, agent))})
    wanted: dict[str, set[str]] = defaultdict(set)
    for call in _calls(config):
        for connection in _named(call) or usual:
            wanted[connection] |= set(_permissions(call, "kubernetes"))
    enrolling = {agent.kubernetes.connection for agent in agents if agent.kubernetes and agent.kubernetes.enrol}
    return {
        connection: rbac.roles(wanted[connection], agents, connection)
        for connection in sorted({*wanted, *enrolling})
        if wanted[connection] or connection in enrolling
    }


def _calls(config: Config) -> Iterator[Call]:
    for playbook in config.playbooks.values():
        yield from playbook.on_failure
        for step in playbook.steps.values():
            yield from filter(None, (step.call, step.rollback))


def _named(call: Call) -> list[str]:
    """The connection that the playbook writes down, if it does."""
    given = call.arguments.get("connection")
    value = given.value if given else None
    return [str(value.value)] if isinstance(value, Literal) else [str(given.parts[0])] if given and given.parts else []


def _permissions(call: Call, system: str) -> tuple[str, ...]:
    action = registry().get(call.uses)
    return action.permissions.get(system, ()) if action else ()


def _document(needed: set[str], held: Sequence[AwsIdentity], bucket: str) -> dict[str, Any]:
    grouped: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for permission in sorted(needed):
        grouped[(*_resources(permission, held, bucket), "" if not _OF_POLICIES.fullmatch(permission) else "?")].append(
            permission
        )
    statements = []
    for (*resources, conditioned), actions in grouped.items():
        if not resources:  # the agents hold nothing that it could be used on
            continue
        statement: dict[str, Any] = {"Effect": "Allow", "Action": actions, "Resource": resources}
        if conditioned:
            denies = sorted({f"arn:{_partition(each)}:iam::aws:policy/AWSDenyAll" for each in held})
            statement["Condition"] = {"ArnEquals": {"iam:PolicyARN": denies}}
        statements.append(statement)
    return {"Version": "2012-10-17", "Statement": statements}


def _resources(permission: str, held: Sequence[AwsIdentity], bucket: str) -> list[str]:
    """The ARNs that agents.yaml knows; `*` where it cannot (EC2 knows most of its resources when it is too late)."""
    service = permission.partition(":")[0]
    if _OF_USERS.fullmatch(permission):
        found = {f"arn:{_partition(one)}:iam::{one.account}:user/{user}" for one in held for user in one.users}
    elif service == "iam":
        found = {arn for one in held for arn in one.roles}
    elif service == "ssm":
        found = {
            f"arn:{_partition(one)}:ssm:{one.region}:{one.account}:parameter/{one.mode_parameter.lstrip('/')}"
            for one in held
            if one.mode_parameter
        }
    elif service == "s3":
        found = {f"arn:{_partition(one)}:s3:::{bucket}/*" for one in held if bucket}
    else:
        found = {"*"}
    return sorted(found)


def _partition(one: AwsIdentity) -> str:
    for arn in one.roles:
        return arn.split(":")[1]
    return next((f"aws-{each}" for each in ("cn", "us-gov") if one.region.startswith(f"{each}-")), "aws")


def _narrowed(line: str, held: Sequence[VaultIdentity]) -> Iterator[str]:
    """The line once for each thing that agents.yaml names, where its path has a placeholder."""
    found = _PATH.fullmatch(line)
    if found is None:
        yield line
        return
    path, capabilities = found.groups()
    names: Mapping[str, list[str]] = {
        "sys/leases/lookup/aws/creds/*": [
            f"sys/leases/lookup/{prefix.strip('/')}/*" for one in held for prefix in one.lease_prefixes
        ],
        "sys/leases/revoke-prefix/aws/creds/*": [
            f"sys/leases/revoke-prefix/{prefix.strip('/')}/*" for one in held for prefix in one.lease_prefixes
        ],
        "auth/approle/role/+": [
            path for one in held for path in (*(f"auth/approle/role/{role}" for role in one.approles), *one.auth_roles)
        ],
        "identity/entity/id/*": [f"identity/entity/id/{one.entity_id}" for one in held if one.entity_id],
        "agents/data/+/mode": [
            "/".join((mount, "data", *rest))
            for one in held
            if one.mode_path
            for mount, *rest in [one.mode_path.split("/")]
        ],
    }
    if "/role/+/" in path:
        paths = [path.replace("+", role) for one in held for role in one.approles]
    else:
        paths = names.get(path, [path])
    yield from (f'path "{each}" {capabilities}' for each in paths)


def _arguments(parser: ArgumentParser) -> None:
    with_config(parser)
    with_json(parser)


COMMANDS = (
    Command(
        "actions policy",
        "print the AWS, Vault, Kubernetes and GitHub rights that the playbooks in use need",
        "Prints what the bot must be allowed, and no more: the IAM policy of each AWS connection, the Vault policy of\n"
        "each Vault connection, a Role for each namespace of a Kubernetes connection, a GitHub app's rights; what\n"
        "the actions of all playbooks need, on the resources that agents.yaml names. What reads alerts (SQS), assumes\n"
        "the bot's role or answers `firedoor doctor` in Vault is no action, and comes on top.",
        "firedoor actions policy",
        show_policy,
        _arguments,
    ),
)
