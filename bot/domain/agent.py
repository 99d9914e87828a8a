"""An AI agent and every credential and access path it is known to have."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum


class Mode(IntEnum):
    """What an agent may do, loosest first; a hold only ever makes it stricter."""

    ACTIVE = 0
    ADVISORY = 1
    SHADOW = 2
    DISABLED = 3


@dataclass(frozen=True, slots=True)
class VaultIdentity:
    """Where Vault knows the agent. A lease lookup returns neither entity nor accessor, so prefixes are written down."""

    connection: str = "vault"
    namespace: str = ""
    entity_id: str = ""
    lease_prefixes: tuple[str, ...] = ()  # e.g. aws/creds/agent-7/
    approles: tuple[str, ...] = ()
    auth_roles: tuple[str, ...] = ()  # other roles it logs in by, e.g. auth/kubernetes/role/agent-7
    token_accessors: tuple[str, ...] = ()
    mode_path: str = ""  # KV v2 path of the mode document, e.g. agents/agent-7/mode


@dataclass(frozen=True, slots=True)
class AwsIdentity:
    """Where one AWS account knows the agent."""

    connection: str = "aws"
    account: str = ""
    region: str = "us-east-1"
    roles: tuple[str, ...] = ()  # role ARNs
    chained_roles: tuple[str, ...] = ()  # ARNs of others' roles: the sessions of them that it got may be cut
    users: tuple[str, ...] = ()  # IAM user names
    access_keys: tuple[str, ...] = ()  # long-term access key ids, of the users above
    instance_profiles: tuple[str, ...] = ()  # ARNs
    instances: tuple[str, ...] = ()  # EC2 instance ids that are its own
    instance_tags: tuple[tuple[str, str], ...] = ()  # an instance with all of these is its own
    mode_parameter: str = ""  # SSM parameter name of the mode


@dataclass(frozen=True, slots=True)
class KubernetesIdentity:
    """Where one cluster runs the agent. Its service accounts stand with the agent: alerts name it by them."""

    connection: str = "kubernetes"
    namespaces: tuple[str, ...] = ()  # where its pods are; those of its accounts and workloads, where left out
    workloads: tuple[str, ...] = ()  # namespace/Kind/name, e.g. agents/Deployment/agent-7
    pod_labels: tuple[tuple[str, str], ...] = ()  # a pod there with all of these is its own
    enrol: bool = False  # whether its pods get keys to the agents' API by their own tokens


@dataclass(frozen=True, slots=True)
class GithubIdentity:
    """Where GitHub knows the agent. A repository is `owner/name`."""

    connection: str = "github"  # with the bot's own access
    app: str = ""  # the connection with a key of the agent's own app: nobody else can suspend its installation
    installation: int = 0
    login: str = ""  # whose runs are its own, e.g. agent-7[bot]
    repositories: tuple[str, ...] = ()
    workflows: tuple[str, ...] = ()  # owner/name:deploy.yml
    environments: tuple[str, ...] = ()  # owner/name:production


@dataclass(frozen=True, slots=True)
class Agent:
    """One enrolled agent, as `agents.yaml` says at the moment of resolution."""

    id: str
    name: str = ""
    owner: str = ""  # person id
    team: str = ""
    gateways: tuple[str, ...] = ()  # names of configured gateway connections
    vault: VaultIdentity | None = None
    aws: AwsIdentity | None = None
    github: GithubIdentity | None = None
    delegates: tuple[str, ...] = ()  # agents that act for it
    service_accounts: tuple[str, ...] = ()  # Kubernetes, as `system:serviceaccount:<namespace>:<name>`
    labels: tuple[tuple[str, str], ...] = ()
    protected: bool = False
    on_lease_loss: str = "shadow"  # what its instances fall into when they hear nothing: shadow | advisory | keep
    kubernetes: KubernetesIdentity | None = None
    opas: tuple[str, ...] = ()  # names of OPA connections that decide on its side effects

    def actors(self) -> frozenset[str]:
        """Every identifier an alert may name this agent by."""
        found = {self.id, *self.service_accounts}
        if self.vault:
            found |= {self.vault.entity_id, *self.vault.token_accessors}
        if self.aws:
            found |= {*self.aws.roles, *self.aws.access_keys, *self.aws.instance_profiles}
            found |= {f"{self.aws.account}:user/{user}" for user in self.aws.users}
        if self.github:
            found |= {self.github.login}
        return frozenset(found - {""})


CHILDREN = 50  # delegates that one agent may have, those of its delegates counted


def delegates_of(agent: Agent, find: Callable[[str], Agent | None]) -> tuple[Agent, ...]:
    """Everybody who acts for it, and for those in turn, the nearest first, each once; at most CHILDREN. Agents that
    delegate to each other are no trouble."""
    found: dict[str, Agent] = {agent.id: agent}
    ahead = deque((agent,))
    while ahead:
        for id in ahead.popleft().delegates:
            child = None if id in found or len(found) > CHILDREN else find(id)
            if child is not None:
                found[id] = child
                ahead.append(child)
    return tuple(found.values())[1:]
