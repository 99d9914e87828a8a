"""AWS: keys, console passwords, roles and instances; by CloudTrail the sessions, and the roles chained out of them."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from bot.domain.agent import Agent, AwsIdentity
from bot.domain.iam import denies_everything, trusts_nobody
from bot.domain.reach import Alive, Held
from bot.errors import SystemFailure
from bot.ports import AwsAccount, Ports, Role, connected
from bot.reach import Found, Limit, Look, Unread, each

LONGEST = timedelta(hours=12)  # no session of a role lasts longer; a chained one lasts an hour at most
LAG = timedelta(minutes=15)  # CloudTrail lists events within this, as AWS says
CALLS, DEPTH, PAGES = 40, 6, 10  # bounds of one walk: questions, roles in a row, questions about one principal
INSTANCES = 30
CUTS = ("AWSRevokeOlderSessions", "FiredoorRevokedSessions")  # inline policies that end sessions
_DENY_ALL = ":policy/AWSDenyAll"


def looks(agent: Agent, ports: Ports) -> Iterator[Look]:
    if known := agent.aws:
        yield Look(known.connection, partial(_account, agent.id, known, ports))
        yield Look(f"{known.connection} CloudTrail", partial(_trail, agent.id, known, ports))


def _account(agent: str, known: AwsIdentity, ports: Ports) -> Iterator[Found]:
    aws, now = connected(ports.aws, known.connection), ports.clock.now()
    for user in known.users:
        yield from each(partial(_user, agent, known, aws, user))
    if not known.users:
        for key in known.access_keys:
            yield Held("access-key", key, known.connection, agent, why="whose key it is stands not in agents.yaml")
    for arn in known.roles:
        yield from each(partial(_role, agent, known, aws, arn, now))
    for instance in known.instances[:INSTANCES]:
        yield from each(partial(_instance, agent, known, aws, instance))
    if len(known.instances) > INSTANCES:
        yield Unread(f"{known.connection}: {len(known.instances) - INSTANCES} more instances were not looked at")
    if known.instance_tags or known.instance_profiles:
        yield Limit(f"{known.connection}: instances that are its own by tag or profile alone are not listed")


# Users, roles, instances ----------------------------------------------------------------------------------------


def _user(agent: str, known: AwsIdentity, aws: AwsAccount, user: str) -> Iterator[Found]:
    keys = aws.iam.list_access_keys(user)
    if keys is None:
        return
    denied = any(arn.endswith(_DENY_ALL) for arn in aws.iam.attached_user_policies(user))
    for key in keys:
        why = "inactive" if not key.active else "its user is denied everything" if denied else ""
        alive = Alive.NO if why else Alive.YES
        yield Held("access-key", key.id, known.connection, agent, of=user, alive=alive, why=why)
    if aws.iam.has_console(user):
        alive, why = (Alive.NO, "its user is denied everything") if denied else (Alive.YES, "")
        yield Held("console", user, known.connection, agent, alive=alive, why=why)


def _role(agent: str, known: AwsIdentity, aws: AwsAccount, arn: str, now: datetime) -> Iterator[Found]:
    """A role is alive while it can be assumed and then does something, whatever became of the sessions it has."""
    state = _State.read(aws, arn)
    why = state.gone or state.denied or state.refuses(now + timedelta(hours=1), "")
    if not why and state.role and trusts_nobody(state.role.trust):
        why = "nobody may assume it"
    alive = Alive.NO if why else Alive.YES if state.role else Alive.UNKNOWN
    yield Held("role", arn, known.connection, agent, alive=alive, why=why or state.unread or "it can be assumed anew")


def _instance(agent: str, known: AwsIdentity, aws: AwsAccount, id: str) -> Iterator[Found]:
    found = aws.ec2.instance(id)
    if found is None:
        yield Held("instance", id, known.connection, agent, alive=Alive.NO, why="AWS knows no such instance")
        return
    groups = {group for of in found.interfaces.values() for group in of}
    isolated = bool(groups) and all(aws.ec2.group_rules(group) == (0, 0) for group in groups)
    why = f"{found.state}, {len(found.interfaces)} network interfaces" + (", isolated" if isolated else "")
    alive = Alive.YES if found.state == "running" and not isolated else Alive.NO
    yield Held("instance", id, known.connection, agent, alive=alive, why=why)


@dataclass(slots=True)
class _State:
    """What of a role says whether its sessions still work."""

    role: Role | None = None
    cuts: list[Mapping[str, Any]] = field(default_factory=list)
    gone: str = ""
    denied: str = ""
    unread: str = ""

    @classmethod
    def read(cls, aws: AwsAccount, arn: str) -> _State:
        """Raises SystemFailure where AWS does not say."""
        name = arn.rsplit("/", 1)[-1]
        if aws.account and arn.split(":")[4] != aws.account:
            return cls(unread=f"it is of account {arn.split(':')[4]}, which this connection does not read")
        role = aws.iam.get_role(name)
        if role is None or role.arn != arn:
            return cls(gone="the role is gone")
        cuts = [document for policy in CUTS if (document := aws.iam.get_role_policy(name, policy))]
        attached = (*aws.iam.attached_role_policies(name), role.boundary)
        denied = "the role is denied everything" if any(one.endswith(_DENY_ALL) for one in attached) else ""
        return cls(role, cuts, denied=denied)

    def refuses(self, issued: datetime, userid: str) -> str:
        """Why a session of then is refused; '' where nothing here refuses it."""
        context: dict[str, str | datetime] = {"aws:TokenIssueTime": issued}
        context |= {"aws:userid": userid} if userid else {}
        return "revoked" if any(denies_everything(document, context) for document in self.cuts) else ""


# CloudTrail -----------------------------------------------------------------------------------------------------


def _trail(agent: str, known: AwsIdentity, ports: Ports) -> Iterator[Found]:
    """Every session that came out of the agent's roles, users and keys, as far as CloudTrail tells. Roles that assume
    each other are walked once."""
    aws, now = connected(ports.aws, known.connection), ports.clock.now()
    yield Limit(
        f"{known.connection}: CloudTrail of {known.region} is up to {LAG.seconds // 60} min behind: "
        f"sessions got after {now - LAG:%H:%M}Z may be missing"
    )
    walk = _Walk(agent, known, aws, now)
    yield from walk.found()


@dataclass(slots=True)
class _Walk:
    agent: str
    known: AwsIdentity
    aws: AwsAccount
    now: datetime
    calls: int = 0
    cut: list[str] = field(default_factory=list)  # whose older events were not read, in words
    seen: set[str] = field(default_factory=set)  # access keys of sessions
    states: dict[str, _State] = field(default_factory=dict)  # by ARN of the role

    def found(self) -> Iterator[Found]:
        starts = [("ResourceName", role) for role in self.known.roles]
        starts += [("Username", user) for user in self.known.users]
        starts += [("AccessKeyId", key) for key in self.known.access_keys if not self.known.users]
        ahead = deque((attribute, value, "", 0) for attribute, value in starts)
        deep = 0
        while ahead and self.calls < CALLS:
            attribute, value, via, depth = ahead.popleft()
            for session in self._assumed(attribute, value, via):
                yield session[1]
                if depth < DEPTH:
                    ahead.append(("AccessKeyId", session[0], session[1].id, depth + 1))
                else:
                    deep += 1
        for what in self.cut:
            yield Unread(f"{self.known.connection}: {what}: sessions that it started earlier may be missing")
        if ahead:
            yield Unread(f"{self.known.connection}: what {len(ahead)} sessions did was not followed ({CALLS} calls)")
        if deep:
            yield Unread(f"{self.known.connection}: {deep} sessions are {DEPTH} roles away, and were not followed")

    def _assumed(self, attribute: str, value: str, via: str) -> Iterator[tuple[str, Held]]:
        """(access key, session) of what is not seen yet and has not run out."""
        pages = min(PAGES, CALLS - self.calls)
        found = self.aws.cloudtrail.events(attribute, value, self.now - LONGEST, self.now, pages)
        self.calls += found.pages
        if not found.whole:
            self.cut.append(f"of {value} only the newest {len(found.events)} events were read")
        for event in found.events:
            got = _session(event)
            if got is None or got.key in self.seen or (got.expires and got.expires <= self.now):
                continue
            self.seen.add(got.key)
            yield got.key, self._held(got, via or _caller(event))

    def _held(self, got: _Session, via: str) -> Held:
        own = got.role in self.known.roles
        state = self._state(got.role)
        why = state.gone or state.denied or state.refuses(got.since, got.userid)
        alive = Alive.NO if why else Alive.UNKNOWN if state.unread else Alive.YES
        return Held(
            "session",
            got.userid,
            self.known.connection,
            self.agent,
            of=got.role,
            via=via,
            since=got.since,
            expires=got.expires,
            alive=alive,
            why=why or state.unread,
            chained=not own,
            allowed=not own and got.role in self.known.chained_roles,
        )

    def _state(self, role: str) -> _State:
        if role not in self.states:
            try:
                self.states[role] = _State.read(self.aws, role)
            except SystemFailure as error:
                self.states[role] = _State(unread=f"whether it is cut cannot be read: {error}")
        return self.states[role]


@dataclass(frozen=True, slots=True)
class _Session:
    key: str
    role: str
    userid: str
    since: datetime
    expires: datetime | None


def _session(event: Mapping[str, Any]) -> _Session | None:
    """The session that an AssumeRole event (with SAML, with a web identity) gave out; None for any other event."""
    if not str(event.get("eventName", "")).startswith("AssumeRole") or event.get("errorCode"):
        return None
    answer, asked = event.get("responseElements") or {}, event.get("requestParameters") or {}
    credentials, user = answer.get("credentials") or {}, answer.get("assumedRoleUser") or {}
    key, role, userid = credentials.get("accessKeyId"), asked.get("roleArn"), user.get("assumedRoleId")
    since = _time(event.get("eventTime"))
    if not (isinstance(key, str) and isinstance(role, str) and isinstance(userid, str) and since):
        return None
    if not re.fullmatch(r"arn:[\w-]+:iam::\d{12}:role/\S+", role):  # the caller may have written what it liked
        return None
    return _Session(key, role, userid, since, _time(credentials.get("expiration")))


def _caller(event: Mapping[str, Any]) -> str:
    who = event.get("userIdentity") or {}
    return str(who.get("principalId") or who.get("userName") or who.get("invokedBy") or who.get("type") or "")[:200]


_FORMATS = ("%Y-%m-%dT%H:%M:%SZ", "%b %d, %Y, %I:%M:%S %p", "%b %d, %Y %I:%M:%S %p")


def _time(text: object) -> datetime | None:
    """As CloudTrail writes it; STS writes when a session runs out in words."""
    for form in _FORMATS if isinstance(text, str) else ():
        try:
            return datetime.strptime(str(text).replace("\u202f", " "), form).replace(tzinfo=UTC)
        except ValueError:
            continue
    return None
