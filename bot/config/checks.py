"""What only shows when the files are seen together: `firedoor check`, and what an operator's CI runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bot.config.connections import (
    AwsConnection,
    Connection,
    GatewayConnection,
    GithubConnection,
    HttpConnection,
    KubernetesConnection,
    OpaConnection,
    SmtpConnection,
    VaultConnection,
    WebhookConnection,
)
from bot.config.people import ANYONE
from bot.config.playbooks import ESCALATE, Actions
from bot.config.policy import FILE as POLICY
from bot.config.reading import suggestion
from bot.domain.expression import Literal
from bot.domain.outcome import Grade
from bot.domain.playbook import Call, Playbook, Step
from bot.domain.source import ANY
from bot.errors import ConfigError
from bot.sources import generic, slack

if TYPE_CHECKING:
    from bot.config import Config

WARNING = "warning: "


class Problem(ConfigError):
    """`blocking` ones make `firedoor check` fail; the others are advice."""

    def __init__(self, where: str, problem: str, hint: str = "", *, blocking: bool = True) -> None:
        self.blocking = blocking
        super().__init__(where, ("" if blocking else WARNING) + problem, hint)


def check(config: Config, actions: Actions) -> tuple[Problem, ...]:
    """Everything that would fail, or never happen, in an incident."""
    return (
        *_twice(config),
        *_roles(config),
        *_levels(config),
        *_ways(config),
        *_untouched(config),
        *_agents(config),
        *_sources(config),
        *_playbooks(config, actions),
        *_runbooks(config),
        *_policy(config),
    )


def _twice(config: Config) -> Iterator[Problem]:
    """Two approvers must be two human beings."""
    for person in config.people.persons:
        for other in config.people.also(person):
            if person < other:
                yield Problem(
                    "people.yaml",
                    f"{person!r} and {other!r} are one person: they share a mail address or a Slack id.",
                    "Keep one of them, with the groups of both.",
                )


def _roles(config: Config) -> Iterator[Problem]:
    """Every role that something counts on must be known and held."""
    wanted: dict[str, str] = {}
    for matrix in dict.fromkeys(config.matrices.values()):
        for role in matrix.roles:
            wanted.setdefault(role, f"escalation.yaml: the matrix {matrix.id!r}")
    for role in config.settings.notify:
        wanted.setdefault(role, "firedoor.yaml: 'notify'")
    for runbook in config.runbooks.values():
        for phase in runbook.phases:
            wanted.setdefault(phase.role, f"the runbook {runbook.id!r}")
    for playbook in config.playbooks.values():
        for step in playbook.steps.values():
            if step.manual:
                wanted.setdefault(step.manual.assignee, f"the playbook {playbook.id!r}")
    for names in config.people.verbs.values():
        for name in names:
            if name != ANYONE and name not in config.people.groups:
                wanted.setdefault(name, "the verb table")
    for role, who in wanted.items():
        if role not in config.people.roles:
            yield Problem(
                "people.yaml", f"the role {role!r} is missing; {who} needs it.", suggestion(role, config.people.roles)
            )
        elif not config.people.roles[role].persons:
            yield Problem("people.yaml", f"nobody holds the role {role!r}; {who} needs it.")


def _levels(config: Config) -> Iterator[Problem]:
    people = config.people
    for matrix in {matrix.id: matrix for matrix in config.matrices.values()}.values():
        for level in matrix.levels:
            persons = {p for role in level.roles if role in people.roles for p in people.roles[role].persons}
            if not any(people.persons[person].ways for person in persons):
                yield Problem(
                    "escalation.yaml",
                    f"{matrix.id}: nobody of the level {level.name!r} can be reached.",
                    "Give its persons an address in people.yaml.",
                )


def _ways(config: Config) -> Iterator[Problem]:
    settings = config.settings
    used = {way for person in config.people.persons.values() for way in person.ways}
    if "slack" in used and settings.slack is None and settings.mode != "sandbox":
        yield Problem("firedoor.yaml", "people are reached by slack, and 'slack' is missing.")
    kinds: dict[str, type[Connection]] = {"email": SmtpConnection, "webhook": WebhookConnection}
    for way, kind in kinds.items():
        if way in used and not isinstance(settings.connections.get(settings.ways.get(way, "")), kind):
            yield Problem("firedoor.yaml", f"people are reached by {way}, and ways.{way} names no such connection.")
    if "email" in used and not settings.public_url:
        yield Problem("firedoor.yaml", "'public_url' is missing: mails carry no acknowledge link.", blocking=False)


def _untouched(config: Config) -> Iterator[Problem]:
    """Addresses that nobody has changed since `firedoor init`."""
    if config.settings.mode != "live":
        return
    for name, made in config.settings.connections.items():
        host = made.host if isinstance(made, SmtpConnection) else urlsplit(getattr(made, "url", "")).hostname or ""
        if host == "example.com" or host.endswith(".example.com"):
            yield Problem(
                "firedoor.yaml",
                f"the connection {name!r} still leads to {host}.",
                "Write your own system's address, or take it out.",
                blocking=False,
            )


def _connection(config: Config, name: str, kind: type[Connection], where: str) -> Iterator[Problem]:
    connections = config.settings.connections
    if name not in connections:
        yield Problem(where, f"the connection {name!r} is not in firedoor.yaml.", suggestion(name, connections))
    elif not isinstance(connections[name], kind):
        word = kind.__name__.removesuffix("Connection").lower()
        yield Problem(where, f"the connection {name!r} is not of kind {word} in firedoor.yaml.")


def _agents(config: Config) -> Iterator[Problem]:
    for agent in config.agents.agents.values():
        where = f"agents.yaml: {agent.id}"
        if agent.owner and agent.owner not in config.people.persons:
            yield Problem(
                "agents.yaml",
                f"the owner {agent.owner!r} of {agent.id!r} is no person.",
                suggestion(agent.owner, config.people.persons),
            )
        for gateway in agent.gateways:
            yield from _connection(config, gateway, GatewayConnection, where)
        for opa in agent.opas:
            yield from _connection(config, opa, OpaConnection, where)
        if agent.vault:
            yield from _connection(config, agent.vault.connection, VaultConnection, where)
            vault = config.settings.connections.get(agent.vault.connection)
            if isinstance(vault, VaultConnection) and agent.vault.namespace.strip("/") != vault.namespace.strip("/"):
                yield Problem(
                    "agents.yaml",
                    f"{agent.id!r} lives in the Vault namespace {agent.vault.namespace!r}, and its connection"
                    f" {agent.vault.connection!r} reaches {vault.namespace!r}: there it would seem to hold nothing.",
                    "Give each namespace a connection of its own, and name both alike.",
                )
        if agent.aws:
            yield from _connection(config, agent.aws.connection, AwsConnection, where)
            aws = config.settings.connections.get(agent.aws.connection)
            if isinstance(aws, AwsConnection) and aws.account != agent.aws.account:
                yield Problem(
                    "agents.yaml",
                    f"{agent.id!r} lives in account {agent.aws.account}, and its connection"
                    f" {agent.aws.connection!r} reaches {aws.account}.",
                )
        if agent.github:
            yield from _connection(config, agent.github.connection, GithubConnection, where)
            if agent.github.app:
                yield from _connection(config, agent.github.app, GithubConnection, where)
                app = config.settings.connections.get(agent.github.app)
                if isinstance(app, GithubConnection) and not app.app_id:
                    yield Problem(
                        "agents.yaml",
                        f"{agent.id!r} names {agent.github.app!r} as its app, and that connection is a token's.",
                        "Only the app itself can suspend its installation: give the connection app_id and private_key.",
                    )
        if agent.kubernetes:
            yield from _connection(config, agent.kubernetes.connection, KubernetesConnection, where)
    for name, made in config.settings.connections.items():
        if isinstance(made, VaultConnection) and made.audit and made.audit.connection:
            kind = AwsConnection if made.audit.bucket else HttpConnection
            yield from _connection(config, made.audit.connection, kind, f"firedoor.yaml: {name}.audit")
    if config.settings.evidence.kind == "s3":
        yield from _connection(config, config.settings.evidence.connection, AwsConnection, "firedoor.yaml: evidence")


def _sources(config: Config) -> Iterator[Problem]:
    for source in config.sources.values():
        rules = source.rules
        if rules.owner not in config.people.persons:
            yield Problem(
                "sources.yaml",
                f"the owner {rules.owner!r} of {rules.name!r} is no person.",
                suggestion(rules.owner, config.people.persons),
            )
        for agent in rules.agents:
            if agent != ANY and agent not in config.agents.agents:
                yield Problem(
                    "sources.yaml",
                    f"{rules.name!r} may speak of {agent!r}, which is no agent.",
                    suggestion(agent, config.agents.agents),
                )
        if rules.kind == "generic":
            for problem in generic.problems(rules.field_map):
                yield Problem("sources.yaml", f"the map of {rules.name!r}: {problem}.")
        if rules.kind == "slack":
            for problem in slack.problems(rules):
                yield Problem("sources.yaml", f"the map of {rules.name!r}: {problem}.")
            if config.settings.slack is None and config.settings.mode != "sandbox":
                yield Problem("sources.yaml", f"{rules.name!r} listens to Slack, and firedoor.yaml has no 'slack'.")
            if rules.may_contain:
                yield Problem(
                    "sources.yaml",
                    f"{rules.name!r} may contain: whoever can make its app post there cuts agents off.",
                    "Leave may_contain out where the app posts what people write.",
                    blocking=False,
                )
        if source.queue:
            yield from _connection(config, source.connection, AwsConnection, f"sources.yaml: {rules.name}")
    heard: dict[tuple[str, str], str] = {}
    for source in config.sources.values():
        for pair in ((channel, app) for channel in source.rules.channels for app in source.rules.apps):
            if (other := heard.setdefault(pair, source.rules.name)) != source.rules.name:
                names = f"{other!r} and {source.rules.name!r}"
                yield Problem("sources.yaml", f"{names} both take what {pair[1]} writes in {pair[0]}.")
    made = {rule.type for rule in config.classification} | {
        type for source in config.sources.values() for type in source.rules.types if type != ANY
    }
    for type in sorted(made - config.matrices.keys()):
        yield Problem(
            "escalation.yaml",
            f"incidents of type {type!r} have no matrix and page as 'unclassified'.",
            suggestion(type, config.matrices),
            blocking=False,
        )


def _file(playbook: Playbook) -> str:
    return f"playbooks/{playbook.id}.yaml"  # the loader holds file names to ids


def _playbooks(config: Config, actions: Actions) -> Iterator[Problem]:
    reached = {runbook.playbook for runbook in config.runbooks.values()}
    reached |= {phase.playbook for runbook in config.runbooks.values() for phase in runbook.phases}
    for playbook in config.playbooks.values():
        if not playbook.triggers and playbook.id not in reached:
            yield Problem(_file(playbook), "nothing triggers it and no runbook names it.", blocking=False)
        for trigger in playbook.triggers:
            for type in trigger.types:
                if type not in config.matrices:
                    yield Problem(
                        _file(playbook),
                        f"it is triggered by {type!r}, which has no matrix.",
                        suggestion(type, config.matrices),
                    )
        for step in playbook.steps.values():
            yield from _step(config, actions, playbook, step)
        for call in playbook.on_failure:
            yield from _call(config, actions, f"{_file(playbook)}: on_failure", call)


def _step(config: Config, actions: Actions, playbook: Playbook, step: Step) -> Iterator[Problem]:
    where = f"{_file(playbook)}:{step.line}"
    for call in (step.call, step.rollback):
        if call:
            yield from _call(config, actions, where, call)
    for group, needed in (step.approval.each if step.approval else {}).items():
        members = config.people.group(group)
        provable = [person for person in members if config.people.persons[person].totp]
        if step.approval and step.approval.step_up and len(provable) < needed <= len(members):
            yield Problem(
                where,
                f"it asks {needed} of {group!r} for a TOTP code, and {len(provable)} of them have a secret.",
                "Give them 'totp' in people.yaml.",
            )
        if len(members) < needed:
            yield Problem(where, f"it asks {needed} of {group!r}, and people.yaml has {len(members)}.")
        elif len(members) == needed:
            yield Problem(
                where,
                f"it asks {needed} of {group!r}, and there is no one to stand in for them.",
                "An initiator may not approve: add a person to the group.",
                blocking=False,
            )
    if step.call and step.contains and step.call.uses == "agent.set_mode" and step.require is Grade.EFFECT:
        for agent in config.agents.agents.values():
            if not (agent.gateways or agent.opas):
                yield Problem(
                    where,
                    f"it requires verified-effect, and agent {agent.id!r} has no gateway to refuse a canary, no OPA.",
                    "Give it one in agents.yaml, or require: verified-config.",
                )


def _call(config: Config, actions: Actions, where: str, call: Call) -> Iterator[Problem]:
    """The systems its action needs permissions on must be configured."""
    action = actions.get(call.uses)
    if action is None:
        if call.uses != ESCALATE:
            yield Problem(where, f"unknown action {call.uses!r}.", suggestion(call.uses, actions))
        return
    argument = call.arguments.get("connection")
    if argument is not None and isinstance(argument.value, Literal):
        yield from _connection(config, str(argument.value.value), HttpConnection, where)
    systems: dict[str, type[Connection]] = {
        "aws": AwsConnection,
        "vault": VaultConnection,
        "kubernetes": KubernetesConnection,
        "github": GithubConnection,
    }
    for system, kind in systems.items():
        configured = any(isinstance(each, kind) for each in config.settings.connections.values())
        own = call.uses.startswith("k8s." if system == "kubernetes" else f"{system}.")
        if action.permissions.get(system) and own and not configured:
            yield Problem(where, f"{call.uses!r} needs {system}, and no connection of that kind is configured.")


def _policy(config: Config) -> Iterator[Problem]:
    """What an approval audit would hold against people although nobody could have done better."""
    if not config.policy:
        yield Problem(
            POLICY,
            "it is missing: nothing says which actions are privileged, and no approval is audited.",
            "firedoor init writes one to begin with.",
            blocking=False,
        )
    for action in config.policy.values():
        for group in sorted({one for each in action.approvers for one in each.split("|")}):
            if not config.people.group(group):
                yield Problem(
                    POLICY,
                    f"{action.id!r} wants an approval of {group!r}, and people.yaml has nobody in it.",
                    suggestion(group, config.people.groups),
                )
        if action.privileged and not action.seen_as:
            yield Problem(
                POLICY,
                f"{action.id!r} is of {action.risk} risk, and no log name ('seen_as') tells that it was done.",
                "Without one only an agent's log that names the action itself is audited.",
                blocking=False,
            )


def _runbooks(config: Config) -> Iterator[Problem]:
    for runbook in config.runbooks.values():
        where = f"runbooks/{runbook.id}.md"
        if runbook.type not in config.matrices:
            yield Problem(where, f"its type {runbook.type!r} has no matrix.", suggestion(runbook.type, config.matrices))
        for name in dict.fromkeys((runbook.playbook, *(phase.playbook for phase in runbook.phases))):
            if name and name not in config.playbooks:
                yield Problem(
                    where, f"it names the playbook {name!r}, which is missing.", suggestion(name, config.playbooks)
                )
    for type in sorted(config.matrices.keys() - config.runbooks.keys()):
        yield Problem("runbooks", f"incidents of type {type!r} have no runbook.", blocking=False)
