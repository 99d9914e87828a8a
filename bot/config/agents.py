"""agents.yaml: every enrolled agent, and what must never be touched."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bot.config.reading import Problems, Section, file_section, suggestion
from bot.domain.agent import Agent, AwsIdentity, GithubIdentity, KubernetesIdentity, VaultIdentity

ON_LEASE_LOSS = ("shadow", "advisory", "keep")


@dataclass(frozen=True, slots=True)
class Agents:
    """ports.Directory, as the file says. `off_limits`: target -> why."""

    agents: Mapping[str, Agent]
    off_limits: Mapping[str, str] = field(default_factory=dict)

    def agent(self, agent_id: str) -> Agent | None:
        return self.agents.get(agent_id)

    def by_actor(self, actors: Sequence[str]) -> Agent | None:
        wanted = {*actors}
        found = [agent for agent in self.agents.values() if not wanted.isdisjoint(agent.actors())]
        return found[0] if len(found) == 1 else None

    def protected(self, target: str) -> str:
        """`target` is an id, or `<kind>:<id>` as actions name theirs."""
        _, _, name = target.partition(":")
        for asked in (target, name):
            if why := self.off_limits.get(asked):
                return why
            agent = self.agents.get(asked)
            if agent and agent.protected:
                return f"agents.yaml says that {agent.id} is protected"
        return ""

    def count(self, kind: str) -> int:
        match kind:
            case "agent":
                return len(self.agents)
            case "vault-entity":
                return sum(1 for agent in self.agents.values() if agent.vault and agent.vault.entity_id)
            case "iam-role":
                return len({role for agent in self.agents.values() if agent.aws for role in agent.aws.roles})
            case "iam-user":
                return len({user for agent in self.agents.values() if agent.aws for user in agent.aws.users})
            case "access-key":
                return len({key for agent in self.agents.values() if agent.aws for key in agent.aws.access_keys})
            case "ec2-instance":
                owned = [agent.aws for agent in self.agents.values() if agent.aws]
                if any(aws.instance_tags or aws.instance_profiles for aws in owned):
                    return 0  # how many those are, only AWS knows
                return len({instance for aws in owned for instance in aws.instances})
            case "k8s-account":
                return len({each for agent in self.agents.values() for each in agent.service_accounts})
            case "k8s-workload":
                found = (agent.kubernetes for agent in self.agents.values())
                return len({each for one in found if one for each in one.workloads})
            case "github-installation":
                return len({one.installation for one in self._on_github() if one.installation})
            case "github-workflow":
                return len({each for one in self._on_github() for each in one.workflows})
            case "github-environment":
                return len({each for one in self._on_github() for each in one.environments})
            case _:
                return 0

    def _on_github(self) -> Sequence[GithubIdentity]:
        return [agent.github for agent in self.agents.values() if agent.github]


def load_agents(path: Path, problems: Problems) -> Agents:
    with file_section(path, problems) as top:
        agents = top.each("agents", "agent", _agent)
        for agent in agents.values():
            for delegate in agent.delegates:
                if delegate not in agents:
                    hint = suggestion(delegate, agents)
                    top.report("agents", f"{agent.id!r} has an unknown delegate {delegate!r}.", hint)
        owners: dict[str, str] = {}
        for agent in agents.values():
            for actor in sorted(agent.actors()):
                if actor in owners:
                    top.report(
                        "agents",
                        f"{actor!r} belongs to {owners[actor]!r} and to {agent.id!r}.",
                        "An alert naming it could not be told apart.",
                    )
                owners.setdefault(actor, agent.id)
        off_limits = dict.fromkeys(top.texts("protected"), "agents.yaml lists it under 'protected'")
        off_limits |= dict.fromkeys(top.texts("bot_identities"), "it is an identity of the bot itself")
        for actor, owner in owners.items():
            if off_limits.get(actor, "").startswith("it is"):
                top.report(
                    "bot_identities",
                    f"{actor!r} is the bot's own and belongs to agent {owner!r}.",
                    "Bot and agents share no credential.",
                )
        return Agents(agents, off_limits)


def _agent(name: str, section: Section) -> Agent:
    found = Agent(
        id=name,
        name=section.text("name", name),
        owner=section.text("owner", ""),
        team=section.text("team", ""),
        gateways=section.texts("gateways"),
        opas=section.texts("opas"),
        vault=_vault(section.section("vault")) if "vault" in section else None,
        aws=_aws(section.section("aws")) if "aws" in section else None,
        github=_github(section.section("github")) if "github" in section else None,
        delegates=section.texts("delegates"),
        service_accounts=section.texts("service_accounts"),
        labels=_labels(section.section("labels")),
        protected=section.flag("protected"),
        on_lease_loss=section.text("on_lease_loss", "shadow", choices=ON_LEASE_LOSS),
        kubernetes=_kubernetes(section.section("kubernetes")) if "kubernetes" in section else None,
    )
    if found.kubernetes and found.kubernetes.enrol and not found.service_accounts:
        section.report("kubernetes", "'enrol' needs 'service_accounts': whose tokens are taken.")
    return found


def _kubernetes(section: Section) -> KubernetesIdentity:
    with section:
        namespaces, workloads = section.texts("namespaces"), section.texts("workloads")
        for workload in workloads:
            if not re.fullmatch(r"[a-z0-9.-]+/(Deployment|StatefulSet|ReplicaSet|CronJob|Job)/[a-z0-9.-]+", workload):
                section.report(
                    "workloads",
                    f"{workload!r} is no workload that can be stopped.",
                    "Write it like agents/Deployment/agent-7; StatefulSet, ReplicaSet, CronJob and Job do as well.",
                )
        for namespace in sorted({*namespaces, *(each.partition("/")[0] for each in workloads)}):
            if namespace.startswith("kube-"):
                section.report("namespaces", f"{namespace!r} belongs to the cluster itself, and is never touched.")
        return KubernetesIdentity(
            connection=section.text("connection", "kubernetes"),
            namespaces=namespaces,
            workloads=workloads,
            pod_labels=_labels(section.section("pod_labels")),
            enrol=section.flag("enrol"),
        )


def _labels(section: Section) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((key, section.text(key)) for key in section.entries()))


def _vault(section: Section) -> VaultIdentity:
    with section:
        prefixes = section.texts("lease_prefixes")
        for prefix in prefixes:
            if not prefix.endswith("/") or prefix.count("/") < 2:
                section.report(
                    "lease_prefixes",
                    f"the lease prefix {prefix!r} is too wide.",
                    "Write the whole path with a closing slash, like aws/creds/agent-7/.",
                )
        auth_roles = section.texts("auth_roles")
        for role in auth_roles:
            if not re.fullmatch(r"auth/[\w./-]+/role/[\w.-]+", role):
                section.report(
                    "auth_roles",
                    f"{role!r} is no auth role.",
                    "Write the whole path, like auth/kubernetes/role/agent-7.",
                )
        return VaultIdentity(
            connection=section.text("connection", "vault"),
            namespace=section.text("namespace", ""),
            entity_id=section.text("entity_id", ""),
            lease_prefixes=prefixes,
            approles=section.texts("approles"),
            auth_roles=auth_roles,
            token_accessors=section.texts("token_accessors"),
            mode_path=section.text("mode_path", ""),
        )


def _github(section: Section) -> GithubIdentity:
    with section:
        repositories, workflows, environments = (
            section.texts("repositories"),
            section.texts("workflows"),
            section.texts("environments"),
        )
        written = (
            ("repositories", repositories, _REPOSITORY, "acme/shop"),
            ("workflows", workflows, _WORKFLOW, "acme/shop:deploy.yml"),
            ("environments", environments, _ENVIRONMENT, "acme/shop:production"),
        )
        for key, values, pattern, example in written:
            for value in values:
                if not re.fullmatch(pattern, value):
                    section.report(
                        key, f"{value!r} is not how GitHub's {key} are written.", f"Write it like {example}."
                    )
        found = GithubIdentity(
            connection=section.text("connection", "github"),
            app=section.text("app", ""),
            installation=section.integer("installation", 0, 0, 10**12),
            login=section.text("login", ""),
            repositories=repositories,
            workflows=workflows,
            environments=environments,
        )
        if bool(found.app) != bool(found.installation):
            section.report(
                "installation",
                "'app' and 'installation' belong together.",
                "'app' is a connection with a key of the agent's own GitHub App: nobody else can suspend it.",
            )
        if found.app == found.connection:
            section.report(
                "app",
                "'app' is the bot's own access too.",
                "Bot and agents share no credential: give each its own app.",
            )
        return found


_REPOSITORY = r"[A-Za-z0-9-]{1,39}/[\w.-]{1,100}"
_WORKFLOW = _REPOSITORY + r":[\w. -]+\.ya?ml"
_ENVIRONMENT = _REPOSITORY + r":[^:]{1,255}"


def _aws(section: Section) -> AwsIdentity:
    with section:
        account = section.text("account")
        roles = section.texts("roles")
        for role in roles:
            parts = role.split(":", 5)
            if len(parts) != 6 or parts[0] != "arn" or not parts[5].startswith("role/"):
                section.report("roles", f"{role!r} is not the ARN of a role.")
            elif parts[4] != account:
                section.report("roles", f"{role!r} is in another account than {account}.")
        chained = section.texts("chained_roles")
        for role in chained:
            if not re.fullmatch(r"arn:[\w-]+:iam::\d{12}:role/\S+", role):
                section.report("chained_roles", f"{role!r} is not the ARN of a role.")
            elif role in roles:
                section.report("chained_roles", f"{role!r} is one of its own roles.", "Name it once.")
        instances = section.texts("instances")
        for instance in instances:
            if not re.fullmatch(r"i-[0-9a-f]{8,17}", instance):
                section.report(
                    "instances", f"{instance!r} is no EC2 instance id.", "Write it like i-0123456789abcdef0."
                )
        return AwsIdentity(
            connection=section.text("connection", "aws"),
            account=account,
            region=section.text("region", AwsIdentity().region),
            roles=roles,
            chained_roles=chained,
            users=section.texts("users"),
            access_keys=section.texts("access_keys"),
            instance_profiles=section.texts("instance_profiles"),
            instances=instances,
            instance_tags=_labels(section.section("instance_tags")),
            mode_parameter=section.text("mode_parameter", ""),
        )
