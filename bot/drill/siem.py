"""The sandbox's SIEM: sends what the drills' alerts say to a bot's own webhook, fresh, signed as by their source."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx

from bot.adapters.signing import sign
from bot.config import Config, SecretRef
from bot.domain.source import Auth
from bot.drill.scenario import Scenario
from bot.errors import ConfigError, Rejected, Unavailable
from bot.sandbox.estate import Estate
from bot.sandbox.faults import Faults

PATIENCE = 35.0  # seconds; the bot answers within thirty


@dataclass(frozen=True, slots=True)
class Siem:
    """`url` is the bot's; `secret` reads what its sources sign with."""

    scenarios: Mapping[str, Scenario]
    config: Config
    estate: Estate
    url: str
    secret: Callable[[SecretRef], str]

    def send(self, name: str) -> dict[str, Any]:
        """The scenario's first alert, as if it had just happened: the agent's deeds before it are in its gateway's log,
        and what is broken from the start breaks. Returns the bot's answer; raises Rejected or Unavailable where it
        took none, LookupError for an unknown name."""
        scenario = self.scenarios[name]
        now = self.estate.clock.now()
        self._prepare(scenario, now)
        finding = scenario.alerts[0]
        body = json.dumps(finding.stamped(now, secrets.token_hex(4))).encode()
        headers = {"content-type": "application/json", **self._proof(finding.source, now, body)}
        try:
            answer = httpx.post(
                f"{self.url}/v1/alerts/{finding.source}",
                content=body,
                headers=headers,
                timeout=PATIENCE,
                trust_env=False,  # a proxy has no business between this machine and itself
            )
        except httpx.HTTPError as error:
            raise Unavailable("firedoor", f"{self.url} gave no answer: {error}") from error
        if not answer.is_success:
            raise Rejected("firedoor", f"the alert was answered with {answer.status_code}: {answer.text[:300]}")
        taken: dict[str, Any] = answer.json()
        return taken

    def _prepare(self, scenario: Scenario, now: datetime) -> None:
        agent = self.config.agents.agents[scenario.agent]
        for deed in scenario.before:
            for gateway in agent.gateways:
                at = (now - deed.ago).isoformat()
                self.estate.gateways[gateway].record(agent.id, deed.kind, text=deed.text, tool=deed.tool, at=at)
        for fault in scenario.faults:
            if fault.at == timedelta():
                faults_of(self.estate, fault.system).add("*", Unavailable(fault.system, fault.why), fault.times)

    def _proof(self, source: str, now: datetime, body: bytes) -> dict[str, str]:
        rules = self.config.sources[source].rules
        keys = [self.secret(ref) for ref in self.config.sources[source].secrets]
        match rules.auth:
            case Auth.HMAC:
                return sign(keys, f"sandbox-{secrets.token_hex(8)}", now, body)
            case Auth.BEARER:
                return {"authorization": f"Bearer {keys[0]}"}
            case Auth.NONE:
                return {}
        raise ConfigError("sources.yaml", f"the sandbox cannot send as {source!r}, whose auth is {rules.auth}.")


def faults_of(estate: Estate, system: str) -> Faults:
    """Where a simulated system's failures are ordered. Raises ConfigError for one that cannot fail."""
    known: dict[str, Faults] = {name: vault.faults for name, vault in estate.vaults.items()}
    known |= {name: aws.faults for name, aws in estate.aws.items()}
    known |= {name: github.faults for name, github in estate.githubs.items()}
    known |= {name: cluster.faults for name, cluster in estate.clusters.items()}
    known |= {name: gateway.faults for name, gateway in estate.gateways.items()}
    if system not in known:
        raise ConfigError(system, "no system of this name can fail here.", f"There is: {', '.join(known)}.")
    return known[system]
