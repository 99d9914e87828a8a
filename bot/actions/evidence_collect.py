"""evidence.collect: what an agent did, kept where nobody can change it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from functools import partial
from typing import Any, ClassVar

from bot.actions import Action, evidence
from bot.actions.evidence import Part, Source
from bot.domain.agent import Agent
from bot.domain.outcome import Done, Failed, Grade, Outcome
from bot.domain.playbook import Param, Target
from bot.errors import Rejected
from bot.ports import Ports, connected

WINDOW = timedelta(hours=24)
PAGES = 20  # of 50 events, for one lookup: CloudTrail answers two a second
ACTIVITY = 10_000  # entries of a gateway's log


class CollectEvidence(Action):
    """Collects what an agent did in the last 24 hours and what it was allowed to: its interaction log from each gateway
    (prompts, tool calls, memory, effects, policy decisions), the CloudTrail events of its access keys, users and roles,
    the IAM policies in force for them and for the users' groups, and from Vault its leases, its entity's policies and
    its lines of the audit log, where firedoor.yaml says where that is. All sources are asked at once, for 45 seconds;
    one that cannot be read, or not in time, is named in `missing`, and containment waits for none of them. Secrets are
    taken out, and the manifest says how many, of which kind and where. Each item goes into the evidence store under its
    SHA-256, locked for as long as `evidence.retain` says, and a manifest lists them all."""

    id = "evidence.collect"
    params = (Param("agent", doc="id of an enrolled agent"),)
    outputs = ("manifest", "manifest_sha256", "items", "missing", "redacted", "locked_until")
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "gateway": ("GET /v1/agents/{id}/activity",),
        "aws": (
            "cloudtrail:LookupEvents",
            *(f"iam:Get{kind}" for kind in ("Role", "User", "Policy", "PolicyVersion")),
            *(f"iam:Get{kind}Policy" for kind in ("Role", "User", "Group")),
            *(f"iam:List{kind}Policies" for kind in ("Role", "User", "Group")),
            *(f"iam:ListAttached{kind}Policies" for kind in ("Role", "User", "Group")),
            "iam:ListGroupsForUser",
            *("s3:PutObject", "s3:PutObjectRetention", "s3:GetObjectVersion", "s3:GetObjectRetention"),
        ),
        "vault": (
            'path "sys/leases/lookup/aws/creds/*" { capabilities=["list","sudo"] }',
            'path "identity/entity/id/*" { capabilities=["read","update"] }',
            'path "identity/group/id/*" { capabilities=["read"] }',
            'path "sys/policies/acl/*" { capabilities=["read"] }',
            'path "sys/audit-hash/*" { capabilities=["update"] }',
        ),
    }
    example = """\
uses: evidence.collect
with: {agent: "${{ agent.id }}"}
irreversible: true
"""
    containing = False
    best_grade = Grade.CONFIG
    undoable = False
    box: ClassVar[float] = 45.0  # seconds for all sources together; a call's timeout is two minutes

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        if agent is None or agent.id != params["agent"]:
            raise ValueError(f"agent {params['agent'] or 'unknown'} is not enrolled: add it to agents.yaml")
        aws, vault = agent.aws, agent.vault
        roles = list(aws.roles) if aws else []
        users = list(aws.users) if aws else []
        sources = {
            "agent": agent.id,
            "gateways": list(agent.gateways),
            "aws": aws.connection if aws else "",
            "lookups": [
                *(["AccessKeyId", key] for key in (aws.access_keys if aws else ())),
                *(["Username", user] for user in users),
                *(["ResourceName", role] for role in roles),
            ],
            "roles": [role.rpartition("/")[2] for role in roles],
            "users": users,
            "vault": vault.connection if vault else "",
            "prefixes": list(vault.lease_prefixes) if vault else [],
            "entity": vault.entity_id if vault else "",
            "accessors": list(vault.token_accessors) if vault else [],
        }
        if not any(sources[name] for name in ("gateways", "lookups", "prefixes", "entity", "accessors")):
            return ()
        return (Target(f"agent-evidence:{agent.id}", sources, evidence.SYSTEM),)

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
        keep_until = until + ports.retain
        sources = tuple(_sources(params, ports, until))
        items, missing = evidence.collect(ports, ports.evidence, sources, key=key, box=self.box, keep_until=keep_until)
        manifest = {
            "schema": evidence.SCHEMA,
            "agent": params["agent"],
            "key": key,
            "collected_at": until.isoformat(),
            "window": {"from": (until - WINDOW).isoformat(), "to": until.isoformat()},
            "items": items,
            "missing": missing,
        }
        stored = ports.evidence.put(
            evidence.as_bytes(manifest), name=f"{params['agent']}-manifest.json", retain_until=keep_until
        )
        return Done(
            Grade.CONFIG,
            {
                "manifest": stored.address,
                "manifest_sha256": stored.sha256,
                "items": len(items),
                "missing": [f"{one['source']}: {one['why']}" for one in missing],
                "redacted": sum(item["redacted"]["count"] for item in items),
                "locked_until": stored.locked_until.isoformat() if stored.locked_until else "",
            },
        )

    def verify(self, params: Mapping[str, Any], ports: Ports) -> Done | None:
        """None: what was stored is checked by its manifest, whose address is in the record and not in the params."""
        return None


def _sources(params: Mapping[str, Any], ports: Ports, until: datetime) -> Iterator[Source]:
    """What destruction would take away first stands first."""
    aws, vault = params["aws"], params["vault"]
    for prefix in params["prefixes"]:
        name = f"vault/{vault}/leases/{prefix}"
        yield Source(name, "vault_leases", vault, partial(_leases, ports, vault, prefix))
    for gateway in params["gateways"]:
        name = f"gateway/{gateway}/activity"
        yield Source(name, "agent_activity", gateway, partial(_activity, ports, gateway, params["agent"]))
    for kind in ("role", "user"):
        for who in params[f"{kind}s"]:
            read = partial(_iam_policies, ports, aws, kind, who)
            yield Source(f"iam/{aws}/{kind}/{who}/policies", "iam_policies", aws, read)
    if params["entity"]:
        name = f"vault/{vault}/entity/{params['entity']}/policies"
        yield Source(name, "vault_policies", vault, partial(_vault_policies, ports, vault, params["entity"]))
    for attribute, value in params["lookups"]:
        name = f"cloudtrail/{aws}/{attribute}={value}"
        yield Source(name, "cloudtrail", aws, partial(_events, ports, aws, attribute, value, until))
    if params["entity"] or params["accessors"]:
        # A log that nobody has configured is missing too: who reads the manifest must not take it for an empty one.
        yield Source(f"vault/{vault}/audit", "vault_audit", f"{vault}-audit", partial(_audit, params, ports, until))


def _activity(ports: Ports, gateway: str, agent: str) -> Sequence[Any]:
    return connected(ports.gateways, gateway).activity(agent, ACTIVITY)


def _events(ports: Ports, account: str, attribute: str, value: str, until: datetime) -> Sequence[Any] | Part:
    found = connected(ports.aws, account).cloudtrail.events(attribute, value, until - WINDOW, until, PAGES)
    if found.whole:
        return found.events
    return Part(found.events, f"it has more than the newest {len(found.events)} events: the older ones were not read")


def _leases(ports: Ports, vault: str, prefix: str) -> Sequence[Any]:
    return connected(ports.vaults, vault).list_leases(prefix)


def _iam_policies(ports: Ports, account: str, kind: str, name: str) -> Sequence[Any]:
    iam = connected(ports.aws, account).iam
    found = iam.role_policies(name) if kind == "role" else iam.user_policies(name)
    if found is None:
        raise Rejected(account, f"there is no {kind} {name}")
    return [asdict(policy) for policy in found]


def _vault_policies(ports: Ports, vault: str, entity: str) -> Sequence[Any]:
    found = connected(ports.vaults, vault).entity_policies(entity)
    if found is None:
        raise Rejected(vault, f"there is no entity {entity}")
    return [{"name": name, "policy": text} for name, text in found.items()]


def _audit(params: Mapping[str, Any], ports: Ports, until: datetime) -> Sequence[Any]:
    name = params["vault"]
    log = ports.audits.get(name)
    if log is None:
        raise Rejected(name, "firedoor.yaml does not say where its audit log is (`audit` of the connection)")
    vault = connected(ports.vaults, name)
    hashed = [vault.audit_hash(log.device, accessor) for accessor in params["accessors"]]
    # By its plain form too: a device may be told not to hash accessors (`hmac_accessor=false`).
    who = [one for one in (params["entity"], *hashed, *params["accessors"]) if one]
    return log.entries(who, until - WINDOW, until)
