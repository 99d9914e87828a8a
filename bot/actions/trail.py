"""What CloudTrail says of a principal after it was cut: its own calls, and those of every session it started."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar

from bot.actions import aws
from bot.domain.events import Aftermath, Use
from bot.errors import SystemFailure
from bot.ports import CloudTrail, Ports

LAG = timedelta(minutes=15)  # AWS: events are delivered within an average of about 5 minutes, which is not guaranteed
BEFORE = timedelta(hours=12)  # no session of a role lives longer
LOOKUPS = 40  # questions, at two a second
PAGES = 10  # of them for one principal
SEEN = 20  # uses that are named
NO_PROOF = frozenset({"GetCallerIdentity"})  # succeeds under an explicit Deny
_ASSUMING = frozenset({"AssumeRole", "AssumeRoleWithSAML", "AssumeRoleWithWebIdentity", "GetSessionToken"})


class CloudTrailed:
    """An action on an IAM principal: `params` name its `key`, `role` or `user`, the first that is there."""

    trail: ClassVar[timedelta | None] = LAG

    def after(self, params: Mapping[str, Any], ports: Ports, *, since: datetime, until: datetime) -> Aftermath:
        walk = _Walk(aws.account(params, ports).cloudtrail, since, until)
        if key := params.get("key"):
            walk.look("AccessKeyId", key, key)
        elif role := params.get("role"):
            walk.sessions_of(role)
        else:
            walk.look("Username", str(params.get("user", "")), str(params.get("user", "")))
        return walk.told()


@dataclass(slots=True)
class _Walk:
    """Follows sessions to the sessions they started: cutting a role does not end what it had assumed before."""

    trail: CloudTrail
    since: datetime
    until: datetime
    uses: list[Use] = field(default_factory=list)
    events: int = 0
    lookups: int = 0
    left: list[str] = field(default_factory=list)  # access keys that were not asked about
    cut: list[str] = field(default_factory=list)  # whose older events were not read, in words
    trouble: str = ""  # why nothing more was asked
    asked: set[str] = field(default_factory=set)

    def sessions_of(self, role: str) -> None:
        """The sessions that somebody has started of a role, and all that came of them. That one was started is no use
        by itself: what runs the agent may go on asking for sessions that can do nothing."""
        for event in self._events("ResourceName", role, role):
            for key, name in _started(event):
                self.look("AccessKeyId", key, name)

    def look(self, attribute: str, value: str, name: str) -> None:
        """`name` is what people read."""
        if value in self.asked:
            return
        if self.lookups >= LOOKUPS:
            self.left.append(value)
            return
        self.asked.add(value)
        found = self._events(attribute, value, name)
        self.events += len(found)
        for event in found:
            at = datetime.fromisoformat(str(event["eventTime"]))
            used = "errorCode" not in event and event.get("eventName") not in NO_PROOF
            if used and at >= self.since:
                self.uses.append(Use(at, str(event.get("eventName", "?")), name))
            for key, session in _started(event):
                self.look("AccessKeyId", key, f"{session}, started by {name}"[:200])

    def _events(self, attribute: str, value: str, name: str) -> tuple[Mapping[str, Any], ...]:
        if self.trouble:
            return ()
        try:
            pages = min(PAGES, LOOKUPS - self.lookups)
            found = self.trail.events(attribute, value, self.since - BEFORE, self.until, pages)
        except SystemFailure as error:  # the uses that were seen by then are uses
            self.trouble = f"the log could not be read: {error}"
            return ()
        self.lookups += found.pages
        if not found.whole:  # a session that was started earlier may be in what was not read
            self.cut.append(f"of {name} only the newest {len(found.events)} events were read")
        return found.events

    def told(self) -> Aftermath:
        why = self.trouble
        if self.cut and not why:
            why = f"cut short: {self.cut[0]}"
        elif self.left and not why:
            why = f"{len(self.left)} more sessions were not looked at: {LOOKUPS} lookups is all that is asked at a time"
        elif not self.events and not why:
            why = "the log has no event at all of it, which proves nothing"
        uses = sorted(self.uses, key=lambda use: use.at)
        return Aftermath(self.since, self.until, len(uses), tuple(uses[:SEEN]), "" if uses else why)


def _started(event: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(access key, name) of the session that an event of STS handed out."""
    if event.get("eventName") not in _ASSUMING or "errorCode" in event:
        return
    answer = event.get("responseElements") or {}
    key = (answer.get("credentials") or {}).get("accessKeyId")
    if key:
        yield key, str((answer.get("assumedRoleUser") or {}).get("arn") or key)
