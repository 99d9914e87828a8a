"""A company to measure in: an operator's folder with as many agents as wanted, one gateway, one person who is paged."""

from __future__ import annotations

import base64
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bot.store import Signer

BEARER = "bearer-secret-for-the-bench"
GATEWAY_SECRET = "gateway-secret-for-the-bench"
HOOK_SECRET = "webhook-secret-for-the-bench"
SOURCE = "siem"
TYPE = "bench"  # the incident type that the playbook contains
QUIET = "quiet"  # an incident type without a playbook, that pages once more an hour after the opening
LEAD = 3600  # seconds
ACCOUNT = "123456789012"
ROOM = "incidents"  # the Slack channel
SRE = "U0SRE1"  # the one person, in Slack

SHADOW: Mapping[str, Any] = {
    "shadow": {
        "uses": "agent.set_mode",
        "with": {"agent": "${{ agent.id }}", "mode": "shadow"},
        "contains": True,
    }
}


def chain(length: int) -> Mapping[str, Any]:
    """Steps that each need the one before and call a connection that answers at once."""
    call = {"uses": "http.call", "with": {"connection": "instant", "path": "/step"}, "irreversible": True}
    return {f"step_{n}": call | ({"needs": [f"step_{n - 1}"]} if n > 1 else {}) for n in range(1, length + 1)}


@dataclass(frozen=True, slots=True)
class Slack:
    """The workspace that a company talks in. `channels` as in firedoor.yaml."""

    api_url: str
    bot_token: str
    app_token: str
    channels: str = "announcements"


@dataclass(frozen=True, slots=True)
class Company:
    """`receiver` is the URL of the gateway and of the pager's webhook. `env` is what a bot of this folder needs."""

    folder: Path
    store: str
    receiver: str
    agents: tuple[str, ...]
    steps: Mapping[str, Any]
    port: int
    slack: Slack | None = None
    held: Mapping[str, Any] | None = None

    @classmethod
    def found(
        cls,
        folder: Path,
        store: str,
        receiver: str = "http://127.0.0.1:9",
        agents: Iterable[str] = (),
        steps: Mapping[str, Any] = SHADOW,
        slack: Slack | None = None,
        held: Mapping[str, Any] | None = None,
    ) -> Company:
        """Writes the folder, its keys included. `held`: what each agent has beside its gateway, as in agents.yaml."""
        company = cls(folder, store, receiver, tuple(agents), steps, free_port(), slack, held)
        (folder / "keys").mkdir(parents=True)
        (folder / "playbooks").mkdir()
        (folder / "runbooks").mkdir()
        Signer.generate(folder / "keys/record.pem")
        for name in ("artefacts", "salt"):
            (folder / f"keys/{name}.key").write_text(base64.b64encode(os.urandom(32)).decode())
        for name, body in company._files().items():
            (folder / name).write_text(yaml.dump(body, Dumper=yaml.CSafeDumper, sort_keys=False))
        return company

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def env(self) -> dict[str, str]:
        return {
            "B_STORE": self.store,
            "B_BEARER": BEARER,
            "B_GATEWAY": GATEWAY_SECRET,
            "B_HOOK": HOOK_SECRET,
            "B_HOOK_URL": f"{self.receiver}/page",
            "no_proxy": "127.0.0.1",
            **({"B_BOT": self.slack.bot_token, "B_APP": self.slack.app_token} if self.slack else {}),
        }

    def _files(self) -> dict[str, Any]:
        return {
            "firedoor.yaml": self._settings(),
            "agents.yaml": {"agents": {name: self._agent() for name in self.agents}},
            "people.yaml": {
                "persons": {"sre-1": self._person()},
                "roles": {role: {"on_call": ["sre-1"]} for role in ("sre", "incident_commander")},
            },
            "sources.yaml": self._sources(),
            "escalation.yaml": {
                "matrices": {TYPE: _paging((0,), TYPE, "unclassified"), QUIET: _paging((0, LEAD), QUIET)}
            },
            "playbooks/bench.yaml": {
                "apiVersion": "firedoor/v1",
                "kind": "Playbook",
                "id": "bench",
                "version": "1.0.0",
                "triggers": [{"types": [TYPE]}],
                "limits": {"runs": "1000/1h", "targets": 1000, "targets_percent": 100},
                "steps": dict(self.steps),
            },
        }

    def _person(self) -> dict[str, Any]:
        if self.slack:
            return {"name": "SRE 1", "slack": SRE, "ways": ["slack"]}
        return {"name": "SRE 1", "webhook": "env:B_HOOK_URL", "ways": ["webhook"]}

    def _settings(self) -> dict[str, Any]:
        slack = {"bot_token": "env:B_BOT", "app_token": "env:B_APP", "channel": ROOM}
        return {
            "install": "bench",
            "mode": "live",
            "store": {"url_secret": "env:B_STORE"},
            "listen": {"host": "127.0.0.1", "port": self.port},
            "public_url": self.url,
            "keys": {
                "record": "file:keys/record.pem",
                "artefacts": "file:keys/artefacts.key",
                "salt": "file:keys/salt.key",
            },
            "connections": {
                "agents": {"kind": "gateway", "url": self.receiver, "secret": "env:B_GATEWAY"},
                "instant": {"kind": "http", "url": self.receiver},
                "vault": {"kind": "vault", "url": self.receiver, "token": "env:B_GATEWAY"},
                "aws": {"kind": "aws", "account": ACCOUNT, "region": "eu-central-1"},
                "hooks": {"kind": "webhook", "secret": "env:B_HOOK"},
            },
            "ways": {"webhook": "hooks"},
            "intake": {"rate": 1_000_000, "queue": 100_000},
            "deadlines": {"containment": "24h"},
            **(
                {"slack": slack | {"api_url": self.slack.api_url, "channels": self.slack.channels}}
                if self.slack
                else {}
            ),
        }

    def _agent(self) -> dict[str, Any]:
        return {"owner": "sre-1", "gateways": ["agents"], **(self.held or {})}

    def _sources(self) -> dict[str, Any]:
        fields = {
            "uid": "id",
            "rule": "rule.id",
            "severity": "severity",
            "time": "timestamp",
            "agent": "agent.id",
            "title": "rule.name",
            "message": "message",
            "types": "types",
            "resources": "resources[].{uid: id, type: type, criticality: tier}",
            "labels": "labels",
        }
        source = {
            "kind": "generic",
            "owner": "sre-1",
            "auth": {"kind": "bearer", "secret": "env:B_BEARER"},
            "may_contain": True,
            "map": fields,
            "severity": {"low": "low", "medium": "medium", "high": "high", "critical": "critical"},
        }
        rule = {"if": f"${{{{ '{TYPE}' in alert.types }}}}", "type": TYPE}
        return {"sources": {SOURCE: source}, "classification": [rule]}


def _paging(at: Sequence[int], *types: str) -> dict[str, Any]:
    """A level for each of these seconds, of one person; what comes behind them is a day away."""
    ends = [*at[1:], 24 * 3600]
    return {
        "types": list(types),
        "levels": [
            {"name": f"L{n}", "roles": ["sre"], "page_at": f"{start}s", "ack_by": f"{end}s"}
            for n, (start, end) in enumerate(zip(at, ends, strict=True), 1)
        ],
        "repeat_every": "24h",
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
