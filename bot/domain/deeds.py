"""What an agent did, as three logs that others keep tell it: its gateway's, CloudTrail and Vault's audit log.

What stands in a log is hostile: anything may be missing, of another type, or written to mislead a reader. A record that
says no time is passed over and counted; nothing here raises.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from bot.domain.agent import Agent

GATEWAY, CLOUDTRAIL, VAULT, RECORD = "gateway", "cloudtrail", "vault", "record"
SOURCES = {"agent_activity": GATEWAY, "cloudtrail": CLOUDTRAIL, "vault_audit": VAULT}  # by an item's kind
CAVEATS: Mapping[str, str] = {
    GATEWAY: "the gateway's own clock, when it logged the entry",
    CLOUDTRAIL: "AWS's clock, whole seconds; management events only, listed up to 15 minutes after they happened",
    VAULT: "the clock of the Vault node that answered",
    RECORD: "the database's clock, when Firedoor recorded it, which is after it happened",
}
ACTS = ("tool_call", "effect")  # kinds of a gateway's entry that do something
LONGEST = 300  # characters of any text that is taken over


@dataclass(frozen=True, slots=True)
class Deed:
    """One record of a log. `name` is what policies/actions.yaml matches: `tool:deploy.run`, `aws:ec2:RunInstances`,
    `vault:update:secret/data/prod`; '' where nothing was done (a prompt, a refused call, an error). `ref` is the log's
    own id of it, `caused` the ids that other logs have for what it set off. `where` is the item's SHA-256 and the
    record's JSON pointer in it."""

    at: datetime
    source: str
    name: str
    text: str
    where: str
    ref: str = ""
    action: str = ""  # a policy's action id, where the log says one
    approval: str = ""
    plan: str = ""
    caused: tuple[str, ...] = ()
    attempted: str = ""  # the name, of what was refused or failed


def read_deeds(kind: str, source: str, sha256: str, records: Iterable[Any], agent: Agent | None) -> tuple[Deed, ...]:
    """Of one item. `kind` and `source` are the manifest's. Of CloudTrail's events about the agent's roles only
    those are read that the agent made."""
    about = "/ResourceName=" in source
    found: list[Deed] = []
    calls: dict[str, str] = {}  # of a gateway: seq -> the tool that ran
    for number, record in enumerate(records):
        if not isinstance(record, Mapping):
            continue
        where = f"{sha256}#/{number}"
        match SOURCES.get(kind):
            case "gateway":
                deed = _gateway(record, where, calls)
            case "cloudtrail":
                deed = _cloudtrail(record, where) if not about or is_made_by(agent, record) else None
            case "vault":
                deed = _vault(record, where)
            case _:
                deed = None
        if deed:
            found.append(deed)
    return tuple(found)


def merged(deeds: Iterable[Deed]) -> tuple[Deed, ...]:
    """In the order of their times, each once: several lookups find the same event. What happened in one second, or on
    clocks that differ, may have come about the other way round; the order is the same every time."""
    last_first = sorted(deeds, key=lambda one: _natural(one.where), reverse=True)  # of the same, the first stays
    once = {replace(deed, where=""): deed for deed in last_first}
    rank = [*CAVEATS]
    return tuple(sorted(once.values(), key=lambda one: (one.at, rank.index(one.source), _natural(one.where))))


def is_made_by(agent: Agent | None, event: Mapping[str, Any]) -> bool:
    """Whether a CloudTrail event is by one of the agent's own identities."""
    if agent is None or agent.aws is None:
        return False
    who = _mapping(event.get("userIdentity"))
    issuer = _mapping(_mapping(who.get("sessionContext")).get("sessionIssuer"))
    named = {_text(who.get("accessKeyId")), _text(who.get("userName")), _text(issuer.get("arn"))} - {""}
    arn = _text(who.get("arn"))  # arn:aws:sts::<account>:assumed-role/<role>/<session>
    role = arn.split("/")[1] if ":assumed-role/" in arn and arn.count("/") > 1 else ""
    own = {*agent.aws.access_keys, *agent.aws.users, *agent.aws.roles}
    return bool(named & own) or role in {one.rpartition("/")[2] for one in agent.aws.roles}


def moment(value: Any) -> datetime | None:
    """Aware, or None. RFC 3339; Unix seconds are no text and none either."""
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else None
        return at if at and at.utcoffset() is not None else None
    except ValueError:
        return None


def _gateway(entry: Mapping[str, Any], where: str, calls: dict[str, str]) -> Deed | None:
    at, kind, seq = moment(entry.get("at")), _text(entry.get("kind")), _text(entry.get("seq"))
    if at is None:
        return None
    tool = _text(entry.get("tool"))
    refused = entry.get("refused") is True
    name = f"tool:{tool}" if kind in ACTS and tool else ""
    if kind == "effect" and name and calls.get(_text(entry.get("call"))) == tool:
        name = ""  # that call's, which is judged
    if kind == "tool_call" and seq and not refused:
        calls[seq] = tool
    said = next((_text(entry.get(key)) for key in ("text", "decision", "key", "mode") if entry.get(key)), "")
    text = " ".join(filter(None, (kind or "entry", tool, "(refused)" if refused else "", said)))
    return Deed(
        at,
        GATEWAY,
        "" if refused else name,
        text[:LONGEST],
        where,
        ref=seq,
        action=_text(entry.get("action")),
        approval=_text(entry.get("approval")),
        plan=_text(entry.get("plan")),
        caused=tuple(_text(one) for one in _list(entry.get("requests")) if _text(one)),
        attempted=name if refused else "",
    )


def _cloudtrail(event: Mapping[str, Any], where: str) -> Deed | None:
    at = moment(event.get("eventTime"))
    if at is None:
        return None
    service, call = _text(event.get("eventSource")).partition(".")[0], _text(event.get("eventName"))
    error, name = _text(event.get("errorCode")), f"aws:{service}:{call}"
    ids = tuple(_text(event.get(key)) for key in ("eventID", "requestID") if _text(event.get(key)))
    text = f"{service}:{call}" + (f" ({error})" if error else "")
    done = "" if error else name
    return Deed(
        at, CLOUDTRAIL, done, text[:LONGEST], where, next(iter(ids), ""), caused=ids, attempted=name if error else ""
    )


def _vault(entry: Mapping[str, Any], where: str) -> Deed | None:
    """The response of a request: the request alone does not say whether Vault did it."""
    at, request = moment(entry.get("time")), _mapping(entry.get("request"))
    if at is None or entry.get("type") != "response":
        return None
    operation, path, error = _text(request.get("operation")), _text(request.get("path")), _text(entry.get("error"))
    name, id = f"vault:{operation}:{path}", _text(request.get("id"))
    text = f"{operation} {path}" + (f" ({error})" if error else "")
    done = "" if error else name
    return Deed(at, VAULT, done, text[:LONGEST], where, id, caused=(id,) if id else (), attempted=name if error else "")


def _text(value: Any) -> str:
    """One line of what can be shown; numbers too, since some logs count with them."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    return "".join(c if c.isprintable() else " " for c in str(value)[:LONGEST])


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> Sequence[Any]:
    return value[:100] if isinstance(value, list) else ()


def _natural(where: str) -> tuple[str, int]:
    item, _, number = where.partition("#/")
    return item, int(number) if number.isdigit() else 0
