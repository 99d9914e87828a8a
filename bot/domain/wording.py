"""Times, lengths and facts in words: one voice for the timeline, Slack and the documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from bot.domain.events import Aftermath, ApprovalsAudited
from bot.domain.handshake import sentence


def span(length: timedelta) -> str:
    """`40 s`, `4 min 12 s`, `2 h 5 min`, `3 d 1 h`; `120 ms`, `1.2 s`; `-40 s` for what lies before."""
    seconds = length.total_seconds()
    if seconds < 0:
        return f"-{span(-length)}"
    if 0 < seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10 and seconds % 1:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for (big, size), (small, part) in (
        (("d", 86_400), ("h", 3600)),
        (("h", 3600), ("min", 60)),
        (("min", 60), ("s", 1)),
    ):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {big} {rest} {small}" if rest else f"{whole // size} {big}"
    return f"{whole} s"


def clock(moment: datetime) -> str:
    return f"{moment:%H:%M:%S}Z"


def evidence_text(evidence: Mapping[str, Any]) -> str:
    """What was read back, as `entity disabled: yes, leases alive: 0`; its own `why` comes last."""
    if "enforced_by" in evidence:  # of a mode: how far the handshake got
        return sentence(evidence) + (f" ({evidence['why']})" if evidence.get("why") else "")
    facts = [f"{key.replace('_', ' ')}: {_value(value)}" for key, value in evidence.items() if key != "why"]
    return ", ".join(facts) + (f" ({evidence['why']})" if evidence.get("why") else "")


def _value(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case None:
            return "not known"
        case Mapping():
            return ", ".join(f"{key}={_value(item)}" for key, item in value.items()) or "none"
        case list() | tuple():
            more = f" and {len(value) - 5} more" if len(value) > 5 else ""
            return ", ".join(map(_value, value[:5])) + more if value else "none"
    return str(value) or "none"


def reason_text(reason: str) -> str:
    """Of a page, for people."""
    kind, _, rest = reason.partition(":")
    return {
        "escalation": "nobody has acknowledged",
        "not_contained": "not contained in time",
        "step": f"{rest} needs a person",
        "deferred": f"held back by a limit: {rest.replace(',', ', ')}",
        "approval": f"no decision on {rest}",
        "approval_unposted": f"the request to approve {rest} could not be posted",
        "form": f"{rest} is overdue",
        "on_failure": "the playbook failed",
        "unproved": f"{rest} is not proved: the steps that wait for that run now",
        "trigger_error": "a trigger could not be evaluated",
        "undone": f"{rest} was taken away and is put back",
        "used": f"what {rest} cut was used after the cut",
        "unread": f"{rest} cannot be verified any more",
        "left_alive": "sessions of chained roles are left alive that agents.yaml does not let be cut",
        "summoned": "somebody in the room asks for you",
        "escalated": "the room asks for the next level",
    }.get(kind, reason)


def topic_text(topic: str) -> str:
    """Of a notice, for people."""
    kind, _, rest = topic.partition(":")
    named = {
        "opened": "incident opened",
        "phase": f"phase {rest} is due",
        "form": f"{rest} to be completed",
        "task": f"task {rest} is due",
        "undone": f"{rest.partition(':')[0]} was taken away and is put back",
        "used": f"what {rest.partition(':')[0]} cut was used after the cut",
        "unread": f"{rest.partition(':')[0]} cannot be verified any more",
        "left_alive": "sessions of chained roles are left alive that agents.yaml does not let be cut",
    }
    return named.get(kind, topic)


def aftermath_text(after: Aftermath) -> str:
    """`used 2 times after the cut: GetObject at 10:21:00 UTC by ASIA...`; with the log's own limits."""
    asked = f"by the log from {clock(after.since)} to {clock(after.until)}"
    if after.alive:
        uses = [f"{use.event} at {clock(use.at)} by {use.by}" for use in after.seen[:5]]
        more = f" and {after.count - len(uses)} more" if after.count > len(uses) else ""
        return f"USED {times(after.count)} after the cut, {asked}: {'; '.join(uses)}{more}"
    if after.why:
        return f"whether it was used after the cut is inconclusive, {asked}: {after.why}"
    return f"not used after the cut, {asked}"


def audit_text(audited: ApprovalsAudited) -> str:
    """`1 bypassed, 2 valid`, worst first; or why nothing could be judged."""
    return audited.why or counts_text(
        {name: getattr(audited, name) for name in ("bypassed", "misapplied", "unknown", "valid")}
    )


def counts_text(counts: Mapping[Any, int]) -> str:
    return ", ".join(f"{n} {name}" for name, n in counts.items() if n) or "no privileged action was seen"


def counted(count: int, word: str) -> str:
    """`1 item`, `3 items`."""
    return f"{count} {word}{'' if count == 1 else 's'}"


def times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def ordinal(number: int) -> str:
    """`2nd`, `3rd`, `11th`."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))
