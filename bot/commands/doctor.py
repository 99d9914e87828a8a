"""`firedoor doctor`."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections import Counter
from dataclasses import asdict, replace
from functools import partial

from bot.commands.command import Command, Exit, with_config, with_json
from bot.commands.terminal import as_json, say
from bot.config import load


def doctor(asked: Namespace) -> int:
    # Here: these bring every client library, which no other command should wait for.
    from bot import clients, wiring
    from bot.adapters.clock import SystemClock
    from bot.adapters.kubernetes import KubernetesCluster
    from bot.commands.policy import kubernetes_roles
    from bot.config.connections import KubernetesConnection
    from bot.doctor import State, aws, examine, github, kubernetes, slack, systems, vault
    from bot.domain.redaction import Redactor
    from bot.store import Store

    config, clock, redactor = load(asked.config), SystemClock(), Redactor(os.urandom(16))
    secret = partial(wiring.read_secret, folder=asked.config, redactor=redactor)

    def store() -> Store:
        return wiring.open_store(config, asked.config, wiring.read_keys(config, asked.config), clock, read_only=True)

    def cluster(name: str, made: KubernetesConnection) -> KubernetesCluster:
        return clients.cluster(name, made, asked.config, secret)

    found = []
    for finding in examine(
        [
            *systems.checks(
                config,
                secret,
                clock,
                store=store,
            ),
            *slack.checks(config, secret, clock.now),
            *vault.checks(config, secret),
            *github.checks(config, lambda name, made: clients.github(name, made, clock, secret)),
            *kubernetes.checks(config, cluster, kubernetes_roles(config)),
            *aws.checks(config, secret, clock.now, write=asked.write),
        ]
    ):
        safe = replace(finding, what=redactor.text(finding.what), todo=redactor.text(finding.todo))
        found.append(safe)
        if not asked.json:
            say(f"{safe.state.value:<10} {safe.subject}: {safe.what}{f'. {safe.todo}' if safe.todo else ''}")
    counts = Counter(finding.state for finding in found)
    if asked.json:
        as_json([asdict(finding) for finding in found])
    else:
        say(", ".join(f"{counts[state]} {state.value}" for state in State))
    return Exit.FOUND if counts[State.FAIL] else Exit.OK


def _arguments(parser: ArgumentParser) -> None:
    with_config(parser)
    with_json(parser)
    parser.add_argument(
        "--write", action="store_true", help="also store a small object in the evidence bucket: it stays there"
    )


COMMANDS = (
    Command(
        "doctor",
        "ask every configured system whether it is ready",
        "Asks Slack (tokens, scopes, channels, people), the store, Vault, AWS, Kubernetes, gateways, mail, webhooks,\n"
        "queues and the evidence bucket whether they are as the configuration says, and compares clocks. Each line\n"
        "is ok, WARN, FAIL or unverified, with what to do; a FAIL makes the exit code 1. It changes nothing, and\n"
        "sends no page.",
        "firedoor doctor --config /etc/firedoor",
        doctor,
        _arguments,
    ),
)
