"""A simulated company: Vault, AWS, gateways, mail and Slack that know the agents of agents.yaml.

Behind the same ports as the real systems; below `wiring` nobody can tell. What stands in here really refuses what it
was told to refuse, so that a drill proves containment and does not assert it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from bot.domain.agent import Agent, GithubIdentity, KubernetesIdentity
from bot.errors import Rejected
from bot.ports import Clock, Environment, Pager
from bot.sandbox.agents import LyingAgent, Rogue, SimGateway
from bot.sandbox.aws import Session, SimAws, SimEvidence
from bot.sandbox.faults import Faults
from bot.sandbox.github import SimGithub
from bot.sandbox.kubernetes import SimCluster
from bot.sandbox.opa import SimOpa
from bot.sandbox.people import SimEndpoint
from bot.sandbox.vault import SimVault


@dataclass(slots=True)
class Estate:
    """Everything the agents hold, and handles for a scenario to act and to look."""

    clock: Clock
    vaults: dict[str, SimVault] = field(default_factory=dict)
    aws: dict[str, SimAws] = field(default_factory=dict)
    clusters: dict[str, SimCluster] = field(default_factory=dict)
    githubs: dict[str, SimGithub] = field(default_factory=dict)
    gateways: dict[str, SimGateway] = field(default_factory=dict)
    opas: dict[str, tuple[SimOpa, ...]] = field(default_factory=dict)
    endpoints: dict[str, SimEndpoint] = field(default_factory=dict)
    pagers: dict[str, Pager] = field(default_factory=dict)
    evidence: SimEvidence | None = None
    tokens: dict[str, str] = field(default_factory=dict)  # agent -> accessor of its Vault token
    sessions: dict[str, Session] = field(default_factory=dict)  # agent -> its live AWS session
    account_tokens: dict[str, list[str]] = field(default_factory=dict)  # agent -> its Kubernetes tokens

    def enrol(self, agent: Agent) -> None:
        """Gives an agent everything agents.yaml says it holds: two instances behind its gateways, Vault leases, an AWS
        session."""
        for name in agent.gateways:
            gateway = self.gateways.setdefault(name, SimGateway(name, self.clock, Faults()))
            gateway.enroll(agent.id, "1", "2")
        for name in agent.opas:
            for opa in self.opas.setdefault(name, (SimOpa(f"{name} 1"), SimOpa(f"{name} 2"))):
                opa.set_mode(agent.id, {"agent": agent.id, "mode": "active", "epoch": 0, "nonce": ""})
        if agent.vault:
            self._enrol_vault(agent)
        if agent.aws:
            self._enrol_aws(agent)
        if agent.github:
            self._enrol_github(agent, agent.github)
        if agent.kubernetes:
            self._enrol_kubernetes(agent, agent.kubernetes)

    def _enrol_vault(self, agent: Agent) -> None:
        identity = agent.vault
        if identity is None:
            return
        vault = self.vaults.setdefault(identity.connection, SimVault(self.clock, system=identity.connection))
        if identity.entity_id:
            vault.add_entity(identity.entity_id, agent.id)
            self.tokens[agent.id] = vault.login(identity.entity_id)
        for role in identity.approles:
            vault.add_secret_id(role)
        for prefix in identity.lease_prefixes:
            vault.issue_lease(prefix, agent.id)

    def _enrol_aws(self, agent: Agent) -> None:
        identity = agent.aws
        if identity is None:
            return
        aws = self.aws.setdefault(
            identity.connection,
            SimAws(self.clock, account=identity.account, region=identity.region, system=identity.connection),
        )
        for arn in identity.roles:
            path, _, name = arn.partition(":role")[2].rpartition("/")
            aws.iam.add_role(name, path=f"{path}/")
            self.sessions[agent.id] = aws.assume(name, agent.id)
        for user in identity.users:
            aws.iam.add_user(user)
        for key in identity.access_keys:
            aws.iam.add_key(identity.users[0] if identity.users else agent.id, id=key)

    def compromise(self, agent: Agent) -> LyingAgent:
        """The agent in an intruder's hands: each `act` tries its gateways, its AWS session and its keys, and
        whatever a story adds to `others`. Call `breaks_gateway` on it for a gateway that does not enforce."""
        liar = LyingAgent(agent.id, [self.gateways[name] for name in agent.gateways])
        if agent.aws:
            aws, call = self.aws[agent.aws.connection], "s3:GetObject"
            if session := self.sessions.get(agent.id):
                liar.others["its session"] = partial(aws.attempt, session, call)
            for key in agent.aws.access_keys:
                liar.others[f"key {key}"] = partial(aws.attempt, key, call)
        return liar

    def rogue(self, agent: Agent) -> Rogue:
        """The agent from its own side, with everything that it holds in AWS. Rejected where it holds nothing there."""
        if agent.aws is None:
            raise Rejected(agent.id, "it is not known to AWS")
        session = [self.sessions[agent.id]] if agent.id in self.sessions else []
        return Rogue(agent.id, self.aws[agent.aws.connection], [*agent.aws.access_keys, *session])

    def _enrol_github(self, agent: Agent, identity: GithubIdentity) -> None:
        """A run of each of its workflows is under way; any branch deploys to its environments."""
        for name in filter(None, (identity.connection, identity.app)):
            self.githubs.setdefault(name, SimGithub(self.clock, system=name))
        github = self.githubs[identity.connection]
        if identity.app:
            self.githubs[identity.app].add_installation(identity.installation, app=agent.id)
        for repository, file in (each.split(":", 1) for each in identity.workflows):
            github.add_workflow(repository, file)
            github.start(repository, file, identity.login or agent.id)
        for repository, name in (each.split(":", 1) for each in identity.environments):
            github.add_environment(repository, Environment(name))

    def _enrol_kubernetes(self, agent: Agent, identity: KubernetesIdentity) -> None:
        cluster = self.clusters.setdefault(identity.connection, SimCluster(self.clock, system=identity.connection))
        accounts = [tuple(user.split(":")[2:4]) for user in agent.service_accounts]
        for namespace, name in accounts:
            cluster.add_account(namespace, name)
            self.account_tokens.setdefault(agent.id, []).append(cluster.issue(namespace, name, hours=8))
        for namespace, kind, name in (each.split("/") for each in identity.workloads):
            account = next((account for where, account in accounts if where == namespace), "default")
            labels = dict(identity.pod_labels) | {"workload": name}
            cluster.add_workload(kind, namespace, name, account=account, labels=labels)
            for pod in cluster.running(namespace, account):
                cluster.output[namespace, pod, "agent", False] = f"{agent.id} started\n"

    def alive(self, agent: Agent) -> list[str]:
        """What the agent could still do right now, by trying it."""
        found: list[str] = []
        for name in agent.gateways:
            if self.gateways[name].attempt_effect(agent.id, "probe"):
                found.append(f"side effects through {name}")
        for opa in (replica for name in agent.opas for replica in self.opas[name]):
            if not opa.refuses(agent.id, "probe"):
                found.append(f"side effects that {opa.name} allows")
        if agent.vault:
            vault = self.vaults[agent.vault.connection]
            found += [f"Vault lease {lease}" for lease in vault.leases_of(agent.id)]
        if agent.aws:
            aws = self.aws[agent.aws.connection]
            session = self.sessions.get(agent.id)
            if session and aws.attempt(session, "s3:GetObject"):
                found.append(f"session of {session.role}")
            found += [f"key {key}" for key in agent.aws.access_keys if aws.attempt(key, "s3:GetObject")]
        if agent.github:
            found += self._alive_at(agent.github)
        if agent.kubernetes:
            found += self._alive_in(self.clusters[agent.kubernetes.connection], agent)
        return found

    def _alive_at(self, identity: GithubIdentity) -> Iterator[str]:
        github = self.githubs[identity.connection]
        if identity.app and self.githubs[identity.app].is_usable(identity.installation):
            yield f"installation {identity.installation} of its app"
        for repository, file in (each.split(":", 1) for each in identity.workflows):
            if github.is_startable(repository, file):
                yield f"workflow {file} of {repository}"
        for repository in dict.fromkeys(each.split(":", 1)[0] for each in identity.workflows):
            yield from (f"run {run} of {repository}" for run in sorted(github.running(repository)))
        for repository, name in (each.split(":", 1) for each in identity.environments):
            if github.may_deploy(repository, name, "main"):
                yield f"deployments to {name} of {repository}"

    def _alive_in(self, cluster: SimCluster, agent: Agent) -> Iterator[str]:
        for user in filter(None, map(cluster.user_of, self.account_tokens.get(agent.id, ()))):
            yield f"token of {user}"
        for namespace, name in (user.split(":")[2:4] for user in agent.service_accounts):
            for pod in cluster.running(namespace, name):
                if cluster.reaches_out(namespace, pod):
                    yield f"pod {namespace}/{pod} on the network"
