"""evidence.collect: what an agent did, kept where nobody can change it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any, ClassVar

from bot.actions import Action
from bot.domain.agent import Agent
from bot.domain.outcome import Done, Failed, Grade, Outcome
from bot.domain.playbook import Param, Target
from bot.errors import SystemFailure
from bot.ports import Evidence, Ports, connected

WINDOW = timedelta(hours=24)
RETENTION = timedelta(days=365)
ACTIVITY = 10_000  # entries of a gateway's log


class CollectEvidence(Action):
    """Collects what an agent did in the last 24 hours: its interaction log from each gateway, the CloudTrail events of
    its access keys, users and roles, and the Vault leases under its prefixes. Secrets are taken out. Each item goes
    into the evidence store under its SHA-256, kept for 365 days, and a manifest lists them all. A source that cannot be
    read is named in `missing`, and in the manifest: the others are collected all the same."""

    id = "evidence.collect"
    params = (Param("agent", doc="id of an enrolled agent"),)
    outputs = ("manifest", "manifest_sha256", "items", "missing")
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "gateway": ("GET /v1/agents/{id}/activity",),
        "aws": ("cloudtrail:LookupEvents", "s3:PutObject", "s3:PutObjectRetention", "s3:GetObjectVersion"),
        "vault": ('path "sys/leases/lookup/aws/creds/*" { capabilities=["list","sudo"] }',),
    }
    example = """\
uses: evidence.collect
with: {agent: "${{ agent.id }}"}
irreversible: true
"""
    containing = False
    best_grade = Grade.CONFIG
    undoable = False

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        if agent is None or agent.id != params["agent"]:
            raise ValueError(f"agent {params['agent'] or 'unknown'} is not enrolled: add it to agents.yaml")
        aws, vault = agent.aws, agent.vault
        lookups = [
            *(["AccessKeyId", key] for key in (aws.access_keys if aws else ())),
            *(["Username", user] for user in (aws.users if aws else ())),
            *(["ResourceName", role] for role in (aws.roles if aws else ())),
        ]
        prefixes = list(vault.lease_prefixes) if vault else []
        connections = (*agent.gateways, aws.connection if aws and lookups else "", vault.connection if vault else "")
        sources = {
            "agent": agent.id,
            "gateways": list(agent.gateways),
            "aws": aws.connection if aws else "",
            "lookups": lookups,
            "vault": vault.connection if vault else "",
            "prefixes": prefixes,
        }
        if not (agent.gateways or lookups or prefixes):
            return ()
        return (Target(f"agent-evidence:{agent.id}", sources, next(filter(None, connections))),)

    def run(
        self,
        params: Mapping[str, Any],
        ports: Ports,
        *,
        key: str,
        so_far: Mapping[str, Any] | None = None,
    ) -> Outcome:
        """One stage. Again: what is the same is stored once, and the new manifest stands beside the old."""
        if ports.evidence is None:
            return Failed(retryable=False, why="no evidence store is configured: add `evidence` to firedoor.yaml")
        until = ports.clock.now()
        keep_until = until + RETENTION
        items: list[dict[str, Any]] = []
        missing: list[dict[str, str]] = []
        for name, read in _sources(params, ports, until):
            try:
                found = read()
            except SystemFailure as failure:  # of the source; one of the store below is not caught
                missing.append({"source": name, "why": str(ports.clean(failure.why))})
                continue
            items.append(_store(ports, ports.evidence, name, found, keep_until))
        manifest = {
            "schema": "firedoor/evidence/v1",
            "agent": params["agent"],
            "key": key,
            "collected_at": until.isoformat(),
            "window": {"from": (until - WINDOW).isoformat(), "to": until.isoformat()},
            "items": items,
            "missing": missing,
        }
        stored = ports.evidence.put(_json(manifest), name=f"{params['agent']}-manifest.json", retain_until=keep_until)
        evidence = {
            "manifest": stored.address,
            "manifest_sha256": stored.sha256,
            "items": len(items),
            "missing": [f"{one['source']}: {one['why']}" for one in missing],
        }
        return Done(Grade.CONFIG, evidence)

    def verify(self, params: Mapping[str, Any], ports: Ports) -> Done | None:
        """None: what was stored is checked by its manifest, whose address is in the record and not in the params."""
        return None


def _sources(
    params: Mapping[str, Any], ports: Ports, until: datetime
) -> Iterator[tuple[str, Callable[[], tuple[Any, ...]]]]:
    """Each with its name; read when its turn comes."""
    for gateway in params["gateways"]:
        yield f"gateway/{gateway}/activity", partial(_activity, ports, gateway, params["agent"])
    for attribute, value in params["lookups"]:
        name = f"cloudtrail/{params['aws']}/{attribute}={value}"
        yield name, partial(_events, ports, params["aws"], attribute, value, until)
    for prefix in params["prefixes"]:
        yield f"vault/{params['vault']}/leases/{prefix}", partial(_leases, ports, params["vault"], prefix)


def _activity(ports: Ports, gateway: str, agent: str) -> tuple[Any, ...]:
    return connected(ports.gateways, gateway).activity(agent, ACTIVITY)


def _events(ports: Ports, account: str, attribute: str, value: str, until: datetime) -> tuple[Any, ...]:
    return connected(ports.aws, account).cloudtrail.events(attribute, value, until - WINDOW, until)


def _leases(ports: Ports, vault: str, prefix: str) -> tuple[Any, ...]:
    return connected(ports.vaults, vault).list_leases(prefix)


def _store(ports: Ports, evidence: Evidence, name: str, found: tuple[Any, ...], keep_until: datetime) -> dict[str, Any]:
    clean = _json(ports.clean(json.loads(_json(found))))
    stored = evidence.put(clean, name=f"{name.replace('/', '_')}.json", retain_until=keep_until)
    return {
        "source": name,
        "records": len(found),
        "redacted": clean.count(b"[redacted:"),
        "sha256": stored.sha256,
        "size": stored.size,
        "address": stored.address,
    }


def _json(value: Any) -> bytes:
    """The same value, the same bytes. Times of a vendor's client become text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode()
