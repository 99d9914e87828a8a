"""Who may let a dangerous step through. An approval binds to the hash of exactly what will be done."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from bot.domain.playbook import OnTimeout
from bot.errors import Refused


class ApprovalState(StrEnum):
    OPEN = "open"
    GRANTED = "granted"
    REFUSED = "refused"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"  # the plan changed: it was asked again
    WITHDRAWN = "withdrawn"  # the incident or its playbook was over first


@dataclass(frozen=True, slots=True)
class Approval:
    """`each`: group -> how many persons, all different; `a|b` is either group. `given`: (person, their groups)."""

    request: str
    step: str
    hash: str
    each: Mapping[str, int]
    asked_at: datetime
    expires_at: datetime
    on_timeout: OnTimeout
    given: tuple[tuple[str, tuple[str, ...]], ...] = ()
    refused_by: str = ""
    state: ApprovalState = ApprovalState.OPEN
    step_up: str = ""
    message: tuple[str, str] | None = None  # (channel, ts) of the request as people see it

    @property
    def looks(self) -> tuple[object, ...]:
        """What its message shows of it: when that changes, the message is edited."""
        return self.state, self.given

    def with_yes(self, person: str, groups: tuple[str, ...]) -> Approval:
        given = (*self.given, (person, groups))
        state = ApprovalState.GRANTED if not missing(self.each, given) else ApprovalState.OPEN
        return replace(self, given=given, state=state)


def fingerprint(value: Mapping[str, Any]) -> str:
    """SHA-256 of the value's JCS form (RFC 8785), hex. Holds for the strings, integers, booleans, lists and mappings
    that a plan is made of; floats are written as strings first, since JSON writers disagree on them."""
    text = json.dumps(_canonical(value), separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def missing(each: Mapping[str, int], given: Sequence[tuple[str, tuple[str, ...]]]) -> dict[str, int]:
    """Group -> how many more persons it needs, when each person counts for one group only, as usefully as possible."""
    slots = [group for group, count in each.items() for _ in range(count)]
    taken: dict[int, int] = {}  # slot -> index into `given`

    def seat(person: int, tried: set[int]) -> bool:
        for slot, group in enumerate(slots):
            if slot in tried or not set(group.split("|")) & set(given[person][1]):
                continue
            tried.add(slot)
            if slot not in taken or seat(taken[slot], tried):
                taken[slot] = person
                return True
        return False

    for person in range(len(given)):
        seat(person, set())
    left: dict[str, int] = {}
    for slot, group in enumerate(slots):
        if slot not in taken:
            left[group] = left.get(group, 0) + 1
    return left


def admit(
    approval: Approval | None,
    person: str,
    groups: tuple[str, ...],
    hash: str | None,
    initiators: set[str],
    *,
    also: Collection[str] = (),
    proof: str = "",
) -> None:
    """Refuses a click, saying why. `hash` is None for a refusal, which does not depend on what the screen showed.
    `also` are other ids of the same human being: nobody counts twice, or decides on what they started, under two names.
    `proof` is what they proved besides who they are."""
    if approval is None:
        raise Refused("no_such_request", "This approval request does not exist.")
    if approval.state is ApprovalState.SUPERSEDED:
        raise Refused("closed", "This request is already superseded: the plan changed. Read the newer request.")
    if approval.state is not ApprovalState.OPEN:
        raise Refused("closed", f"This request is already {approval.state}.")
    if not any(set(group.split("|")) & set(groups) for group in approval.each):
        raise Refused("not_an_approver", f"Only {', '.join(approval.each)} may decide this.")
    if initiators & {person, *also}:
        raise Refused("own_request", "You started this incident, so another person has to decide.")
    if hash is None:
        return
    if any(already == person or already in also for already, _ in approval.given):
        raise Refused("already_given", "You approved this already; another person is needed.")
    if hash != approval.hash:
        raise Refused("plan_changed", "The plan changed after it was shown to you. Read the new request.")
    if approval.step_up and proof != approval.step_up:
        raise Refused("proof_needed", f"This step asks for a {approval.step_up.upper()} code with each approval.")


def _canonical(value: Any) -> Any:
    match value:
        case float():
            return repr(value)
        case Mapping():
            texts = {str(key): _canonical(item) for key, item in value.items()}
            # RFC 8785 sorts by UTF-16 code units, in which an emoji comes before U+E000.
            return dict(sorted(texts.items(), key=lambda pair: pair[0].encode("utf-16-be", "surrogatepass")))
        case list() | tuple():
            return [_canonical(item) for item in value]
    return value
