"""What an operator lets one alert source say (an entry of `sources.yaml`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from bot.domain.alert import Severity

ANY = "*"


class Auth(StrEnum):
    """How a source proves that it is the source."""

    BEARER = "bearer"  # Authorization: Bearer <secret>, or the bare secret in `auth_header`
    HMAC = "hmac"  # Standard Webhooks: webhook-id, webhook-timestamp, webhook-signature
    HMAC_HEX = "hmac_hex"  # hex HMAC-SHA256 of the body (`sha256=` allowed), or of `timestamp.body`
    GRAFANA = "grafana"  # hex HMAC-SHA256 of the body, or of `timestamp:body`
    SQS = "sqs"  # IAM decides who may write to the queue; nothing is taken over HTTP
    SLACK = "slack"  # Slack names the app that wrote a message; nothing is taken over HTTP
    NONE = "none"  # anybody who knows the address: it may propose and never contain


@dataclass(frozen=True, slots=True)
class SourceRules:
    """Who a source is and how far its word goes. `read` enforces what it says of the payload; whoever resolves
    `Alert.actors` to an agent asks `speaks_of` again, because an actor may lead to an agent the source may not name."""

    name: str  # as in sources.yaml; a part of the webhook's address
    kind: str  # which reader: guardduty, securityhub, alertmanager, grafana, falco, opa, generic, slack
    owner: str  # person id: the initiator of what its alerts ask for
    auth: Auth = Auth.NONE
    auth_header: str = ""  # bearer, hmac_hex, grafana: where the secret or signature stands; "" is the usual one
    timestamp_header: str = ""  # hmac_hex, grafana: signed Unix seconds; "" leaves only the replay id against replays
    agents: tuple[str, ...] = (ANY,)
    types: tuple[str, ...] = (ANY,)  # incident types it may claim
    max_severity: Severity = Severity.FATAL
    may_contain: bool = False
    severity_map: Mapping[str, int] = field(default_factory=dict)  # its own word or lower bound -> OCSF severity_id
    field_map: Mapping[str, str] = field(default_factory=dict)  # generic, slack: Alert field -> JMESPath
    patterns: Mapping[str, str] = field(default_factory=dict)  # slack: Alert field -> regular expression over the text
    channels: tuple[str, ...] = ()  # slack: ids of the channels that it is heard in
    apps: tuple[str, ...] = ()  # slack: ids of the apps (A...) or bots (B...) whose messages are alerts
    product: str = ""  # generic, slack: what Alert.product says; "" is the source's name

    def __post_init__(self) -> None:
        if self.may_contain and self.auth is Auth.NONE:
            raise ValueError(f"source {self.name!r} has auth: none, so it may not have may_contain: true")
        if wrong := {word: id for word, id in self.severity_map.items() if id not in Severity.__members__.values()}:
            raise ValueError(f"source {self.name!r} maps severities to {wrong}: an OCSF severity_id is 0 to 6")

    def speaks_of(self, agent_id: str) -> bool:
        return ANY in self.agents or agent_id in self.agents

    def may_claim(self, incident_type: str) -> bool:
        return ANY in self.types or incident_type in self.types
