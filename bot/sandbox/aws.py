"""An AWS account that fits in memory: what the sandbox, the drills and the tests contain agents in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bot.domain.iam import STAMP, Decision, evaluate, may_assume, trusts_nobody
from bot.errors import Unavailable
from bot.ports import AwsAccount, Clock, Logged, Retention, Role, StoredObject
from bot.sandbox.aws_core import AwsCore
from bot.sandbox.aws_ec2 import SimEc2, SimScaling
from bot.sandbox.aws_iam import MANAGED, SimIam
from bot.sandbox.aws_workloads import SimContainers, SimDatabases, SimFunctions, SimOrganization, SimSecrets
from bot.sandbox.faults import Faults

__all__ = ["MANAGED", "Session", "SimAws", "SimCloudTrail", "SimEc2", "SimEvidence", "SimIam", "SimParameters"]

PAGE = 50  # events in one answer of CloudTrail
_STRICTEST: tuple[Decision, ...] = ("explicitDeny", "implicitDeny", "allowed")


@dataclass(frozen=True, slots=True)
class Session:
    """Temporary credentials of a role: what an agent works with."""

    role: str  # name
    userid: str  # AROA...:session
    key: str  # ASIA...
    issued: datetime
    expires: datetime


class SimAws(AwsCore):
    """One account and region. `iam`, `ec2`, `parameters` and `cloudtrail` are its ports. Policies are evaluated as AWS
    evaluates them, so that what is contained really is refused: see `attempt`.

    Trouble: `faults` scripts single calls of any port by the method's name (`put_parameter`, `get_parameter` and
    `lookup_events` for the parameters and the trail). Snapshots complete `snapshot_seconds` after they were begun,
    events are listed `trail_lag` seconds after they happened.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        account: str = "111111111111",
        region: str = "us-east-1",
        system: str = "aws",
        snapshot_seconds: float = 30,
        trail_lag: float = 120,
    ) -> None:
        super().__init__(clock, account, region, system)
        self.iam, self.ec2 = SimIam(self), SimEc2(self, timedelta(seconds=snapshot_seconds))
        self.scaling, self.databases, self.functions = SimScaling(self), SimDatabases(self), SimFunctions(self)
        self.containers, self.secrets, self.organization = SimContainers(self), SimSecrets(self), SimOrganization(self)
        self.parameters, self.cloudtrail = SimParameters(self), SimCloudTrail(self, timedelta(seconds=trail_lag))

    def account(self) -> AwsAccount:
        parts = (self.iam, self.ec2, self.parameters, self.cloudtrail)
        return AwsAccount(
            *parts,
            self.id,
            scaling=self.scaling,
            databases=self.databases,
            functions=self.functions,
            containers=self.containers,
            secrets=self.secrets,
            organization=self.organization,
        )

    # The agents' side -------------------------------------------------------------------------------------------

    def assume(
        self, role: str, session: str = "agent", *, hours: float = 1, by: Session | str | None = None
    ) -> Session:
        """Fresh credentials of a role, by name, for the service that runs the agent; or `by` a session or a key that is
        held already, which is what chaining roles is. CloudTrail sees it. Rejected where the role is gone, where its
        trust policy does not name who asks, or where who asks is itself denied."""
        with self.lock:
            held, now = self.iam.role(role), self.clock.now()
            asks = "" if by is None else self._principal(by)
            allowed = by is None or self.decide(by, "sts:AssumeRole", held.arn) == "allowed"
            if not allowed or trusts_nobody(held.trust) or (asks and not _trusts(held.trust, asks)):
                self.cloudtrail.assumed(by, held, None)
                raise self.refusal(f"not authorized to perform sts:AssumeRole on {held.arn} (AccessDenied)")
            issued = Session(role, f"{held.id}:{session}", self.new("ASIA"), now, now + timedelta(hours=hours))
            self.cloudtrail.assumed(by, held, issued)
            return issued

    def _principal(self, credential: Session | str) -> str:
        """ARN of the role or user whose credential it is; '' of a key that nobody has."""
        if isinstance(credential, Session):
            return self.iam.role(credential.role).arn if credential.role in self.iam.roles else ""
        key = self.iam.keys.get(credential)
        return self.iam.users[key.user].arn if key else ""

    def decide(self, credential: Session | str, action: str, resource: str = "*") -> Decision:
        """What AWS would answer to a session, or to the access key of that id."""
        with self.lock:
            if isinstance(credential, str):
                key = self.iam.keys.get(credential)
                if key is None or not key.active:
                    return "implicitDeny"
                user = self.iam.users[key.user]
                return self._strictest(
                    [user.documents()], action, resource, {"aws:username": key.user, "aws:PrincipalArn": user.arn}
                )
            now = self.clock.now()
            if now >= credential.expires or credential.role not in self.iam.roles:
                return "implicitDeny"
            context: dict[str, str | datetime] = {
                "aws:TokenIssueTime": credential.issued,
                "aws:userid": credential.userid,
                "aws:PrincipalArn": self.iam.role(credential.role).arn,
                "aws:CurrentTime": now,
            }
            role = self.iam.role(credential.role)
            limits = [[MANAGED[role.boundary]]] if role.boundary else []
            held = [self.iam.roles[credential.role].documents(), *limits]
            return self._strictest(held, action, resource, context)

    def _strictest(
        self,
        held: Sequence[Iterable[Mapping[str, Any]]],
        action: str,
        resource: str,
        context: Mapping[str, str | datetime],
    ) -> Decision:
        """Each of `held` must allow it, and neither the organization nor the resource deny it."""
        decisions = [evaluate(each, action, resource, context) for each in held]
        above = [*self.organization.reaching(self.id), *filter(None, [self.secrets.policies.get(resource)])]
        if evaluate(above, action, resource, context) == "explicitDeny":
            return "explicitDeny"
        return min(decisions, key=_STRICTEST.index)

    def attempt(self, credential: Session | str, action: str, resource: str = "*") -> bool:
        """The agent tries something: whether it got through. Either way CloudTrail sees it."""
        passed = self.decide(credential, action, resource) == "allowed"
        self.cloudtrail.record(credential, action, passed)
        return passed


class SimParameters:
    """ports.Parameters."""

    def __init__(self, estate: SimAws) -> None:
        self._estate = estate
        self._values: dict[str, tuple[str, int]] = {}

    def put(self, name: str, value: str) -> int:
        with self._estate.call("put_parameter"):
            version = self._values.get(name, ("", 0))[1] + 1
            self._values[name] = (value, version)
            return version

    def get(self, name: str) -> tuple[str, int] | None:
        with self._estate.call("get_parameter"):
            return self._values.get(name)


class SimCloudTrail:
    """ports.CloudTrail: what agents attempted, once the lag is over."""

    def __init__(self, estate: SimAws, lag: timedelta) -> None:
        self._estate, self._lag = estate, lag
        self._events: list[tuple[datetime, Mapping[str, Any]]] = []

    def record(self, credential: Session | str | None, action: str, passed: bool, **more: Any) -> None:
        """None: the service that runs the agent asked."""
        service, _, name = action.partition(":")
        now = self._estate.clock.now()
        event: dict[str, Any] = {
            "eventID": self._estate.new("event-"),
            "eventTime": now.strftime(STAMP),
            "eventSource": f"{service}.amazonaws.com",
            "eventName": name,
            "userIdentity": self._identity(credential),
            **more,
        }
        self._events.append((now, event if passed else event | {"errorCode": "AccessDenied"}))

    def assumed(self, by: Session | str | None, role: Role, issued: Session | None) -> None:
        """A role was assumed, or could not be (None)."""
        session = issued.userid.partition(":")[2] if issued else ""
        answer: dict[str, Any] = {}
        if issued:
            arn = f"arn:aws:sts::{self._estate.id}:assumed-role/{role.name}/{session}"
            expires = issued.expires.strftime("%b %d, %Y, %I:%M:%S %p")  # as STS writes it there
            answer["responseElements"] = {
                "credentials": {"accessKeyId": issued.key, "expiration": expires},
                "assumedRoleUser": {"assumedRoleId": issued.userid, "arn": arn},
            }
        self.record(
            by,
            "sts:AssumeRole",
            issued is not None,
            requestParameters={"roleArn": role.arn, "roleSessionName": session},
            resources=[{"ARN": role.arn, "accountId": self._estate.id, "type": "AWS::IAM::Role"}],
            **answer,
        )

    def _identity(self, credential: Session | str | None) -> Mapping[str, Any]:
        if credential is None:
            return {"type": "AWSService", "invokedBy": "ecs-tasks.amazonaws.com"}
        if isinstance(credential, str):
            key = self._estate.iam.keys.get(credential)
            return {"type": "IAMUser", "userName": key.user if key else "", "accessKeyId": credential}
        issuer = {"type": "Role", "userName": credential.role}
        if credential.role in self._estate.iam.roles:
            issuer["arn"] = self._estate.iam.role(credential.role).arn
        return {
            "type": "AssumedRole",
            "principalId": credential.userid,
            "accessKeyId": credential.key,
            "sessionContext": {"sessionIssuer": issuer},
        }

    def events(self, attribute: str, value: str, since: datetime, until: datetime, pages: int = 10) -> Logged:
        """By AccessKeyId, Username, ResourceName (the ARN of the role that was assumed) or EventName."""
        found: list[Mapping[str, Any]] = []
        for page in range(pages):
            try:
                listed, more = self.page(attribute, value, since, until, page * PAGE)
            except Unavailable:
                if not found:
                    raise
                return Logged(tuple(found), page + 1, whole=False)
            found += listed
            if not more:
                return Logged(tuple(found), page + 1)
        return Logged(tuple(found), pages, whole=False)

    def page(
        self, attribute: str, value: str, since: datetime, until: datetime, start: int
    ) -> tuple[Sequence[Mapping[str, Any]], bool]:
        """One answer of AWS: the events from the `start`th on, the newest first, and whether there are more."""
        with self._estate.call("lookup_events"):
            listed = min(until, self._estate.clock.now() - self._lag)
            found = [
                event
                for at, event in reversed(self._events)
                if since <= at <= listed and _attribute(event, attribute) == value
            ]
            return found[start : start + PAGE], len(found) > start + PAGE


class SimEvidence:
    """ports.Evidence in memory; it locks as a bucket with Object Lock does."""

    def __init__(self) -> None:
        self.faults = Faults()
        self._objects: dict[str, tuple[bytes, datetime | None]] = {}
        self.names: dict[str, list[str]] = {}  # address -> the names it was stored by

    def put(self, data: bytes, *, name: str, retain_until: datetime | None) -> StoredObject:
        self.faults.before("put")
        digest = hashlib.sha256(data).hexdigest()
        address = f"memory://sha256/{digest}"
        _, locked = self._objects.get(address, (data, None))
        locked = max(filter(None, (locked, retain_until)), default=None)
        self._objects[address] = (data, locked)
        self.names.setdefault(address, []).append(name)
        self.faults.after("put")
        return StoredObject(address, digest, len(data), locked, "COMPLIANCE" if locked else "")

    def get(self, address: str) -> bytes | None:
        self.faults.before("get")
        return self._objects[address][0] if address in self._objects else None

    def retention(self, address: str) -> Retention | None:
        self.faults.before("retention")
        _, until = self._objects.get(address, (b"", None))
        return Retention("COMPLIANCE", until) if until else None


def _trusts(trust: Mapping[str, Any], principal: str) -> bool:
    """A statement without a Principal, as in the roles that a scenario makes, is about everybody."""
    said = [{"Principal": "*", **statement} for statement in trust.get("Statement", ())]
    return may_assume({"Statement": said}, principal) == "allowed"


def _attribute(event: Mapping[str, Any], attribute: str) -> Any:
    match attribute:
        case "AccessKeyId":
            return event["userIdentity"].get("accessKeyId")
        case "Username":
            return event["userIdentity"].get("userName")
        case "ResourceName":
            return next((resource["ARN"] for resource in event.get("resources", ())), None)
        case _:
            return event.get(attribute)
