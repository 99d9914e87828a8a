"""What every CloudTrail does: the simulator, and boto3 against LookupEvents on loopback."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from types import SimpleNamespace

import pytest

from bot.actions import registry
from bot.adapters.aws import BotoCloudTrail
from bot.adapters.aws_api import AwsApi
from bot.domain.agent import Agent, AwsIdentity
from bot.domain.events import Aftermath
from bot.domain.reach import Reach
from bot.errors import Denied, Rejected, Unavailable
from bot.ports import CloudTrail, Logged, Ports
from bot.reach import survey
from bot.sandbox.aws import PAGE, Session, SimAws
from bot.sandbox.clock import SimClock
from bot.sandbox.cloudtrail_server import CloudTrailServer
from tests.aws_estate import CREDENTIALS, REGION

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
DENIED = Denied("aws", "cloudtrail:LookupEvents")


def boto(url: str, **pace: object) -> BotoCloudTrail:
    api = AwsApi(account="111111111111", region=REGION, endpoint_url=url, credentials=CREDENTIALS)
    return BotoCloudTrail(api, **({"every": 0.0} | pace))  # type: ignore[arg-type] # pace, as the test says


@dataclass
class Trail:
    """A simulated account whose log is read through `port`."""

    sim: SimAws
    clock: SimClock
    port: CloudTrail
    server: CloudTrailServer | None = None

    def events(self, attribute: str, value: str, pages: int = 10) -> Logged:
        return self.port.events(attribute, value, NOON - timedelta(hours=1), self.clock.now(), pages)

    def ports(self) -> Ports:
        account = dataclasses.replace(self.sim.account(), cloudtrail=self.port)
        return Ports(self.clock, None, aws={"aws": account})  # type: ignore[arg-type] # no directory is asked

    def after(self, action: str, **params: str) -> Aftermath:
        params = {"connection": "aws", **params}
        return registry()[action].after(params, self.ports(), since=NOON + timedelta(minutes=5), until=self.clock.now())

    def busy(self, credential: Session | str, calls: int) -> None:
        for _ in range(calls):
            self.sim.attempt(credential, "s3:GetObject")


def account() -> SimAws:
    sim = SimAws(SimClock(NOON), trail_lag=0)
    sim.iam.add_role("deploy")
    sim.iam.add_user("agent")
    return sim


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[CloudTrailServer, BotoCloudTrail]]:
    with CloudTrailServer(account()) as server:
        yield server, boto(server.url)


@pytest.fixture(params=["simulator", "boto3"])
def trail(request: pytest.FixtureRequest, served: tuple[CloudTrailServer, BotoCloudTrail]) -> Trail:
    sim = account()
    assert isinstance(sim.clock, SimClock)
    if request.param == "simulator":
        return Trail(sim, sim.clock, sim.cloudtrail)
    server, port = served
    server.sim = sim
    server.asked.clear()
    return Trail(sim, sim.clock, port, server)


@pytest.fixture
def simulated() -> Trail:
    sim = account()
    assert isinstance(sim.clock, SimClock)
    return Trail(sim, sim.clock, sim.cloudtrail)


def test_events_are_found_by_key_by_user_and_by_role(trail: Trail):
    key, role = trail.sim.iam.add_key("agent"), trail.sim.iam.role("deploy").arn
    session = trail.sim.assume("deploy")
    trail.sim.attempt(key, "s3:GetObject")
    trail.clock.forward(seconds=5)
    trail.sim.attempt(session, "s3:PutObject")
    trail.clock.forward(seconds=5)
    assert [event["eventName"] for event in trail.events("AccessKeyId", key).events] == ["GetObject"]
    assert [event["eventName"] for event in trail.events("Username", "agent").events] == ["GetObject"]
    (assumed,) = trail.events("ResourceName", role).events
    assert assumed["responseElements"]["credentials"]["accessKeyId"] == session.key
    assert trail.events("AccessKeyId", session.key).events[0]["eventTime"] == "2026-03-02T12:00:05Z"
    assert trail.events("AccessKeyId", "AKIANOBODY") == Logged((), 1)
    late = trail.port.events("AccessKeyId", session.key, NOON + timedelta(seconds=6), trail.clock.now())
    assert late.events == ()


@pytest.mark.parametrize(
    ("calls", "pages", "read"), [(PAGE, 1, PAGE), (PAGE + 1, 2, PAGE + 1), (5 * PAGE, 3, 3 * PAGE)]
)
def test_pages_are_read_to_their_bound_the_newest_first(trail: Trail, calls: int, pages: int, read: int):
    key = trail.sim.iam.add_key("agent")
    trail.busy(key, calls)
    found = trail.events("AccessKeyId", key, pages=3)
    assert (len(found.events), found.pages, found.whole) == (read, pages, read == calls)
    ids = [event["eventID"] for event in found.events]
    assert ids == sorted(ids, reverse=True)
    assert len({*ids}) == read


def test_trouble_is_told_and_not_taken_for_silence(trail: Trail):
    for error in (Unavailable("aws", "throttled"), DENIED, Rejected("aws", "no")):
        trail.sim.faults.add("lookup_events", error)
        with pytest.raises(type(error)):
            trail.events("Username", "agent")
    trail.sim.faults.add("lookup_events", Unavailable("aws", "no answer", sent=True))
    with pytest.raises(Unavailable):
        trail.events("Username", "agent")
    trail.sim.faults.add("lookup_events", DENIED)
    found = trail.after("aws.iam_deny_all", user="agent")
    assert (found.verdict, "cloudtrail:LookupEvents" in found.why) == ("inconclusive", True)


def test_what_was_read_before_it_was_throttled_counts_and_is_not_the_whole(trail: Trail):
    key = trail.sim.iam.add_key("agent")
    trail.busy(key, 2 * PAGE)
    throttle(trail, after=1)
    found = trail.events("AccessKeyId", key)
    assert (len(found.events), found.pages, found.whole) == (PAGE, 2, False)


def throttle(trail: Trail, after: int) -> None:
    """The question after so many is not answered."""
    real, asked = trail.sim.cloudtrail.page, count()

    def page(attribute: str, value: str, since: datetime, until: datetime, start: int) -> object:
        if next(asked) == after:
            raise Unavailable("aws", "throttled")
        return real(attribute, value, since, until, start)

    trail.sim.cloudtrail.page = page  # type: ignore[method-assign,assignment] # the trouble of this test


def test_a_busy_key_is_read_in_part_and_its_silence_is_not_claimed(trail: Trail):
    key = trail.sim.iam.add_key("agent")
    trail.busy(key, 11 * PAGE)  # before the cut: nothing since
    trail.clock.forward(minutes=30)
    found = trail.after("aws.iam_disable_key", key=key)
    assert (found.verdict, found.count) == ("inconclusive", 0)
    assert found.why == f"cut short: of {key} only the newest 500 events were read"
    if trail.server:
        assert len(trail.server.asked) == 10
    trail.busy(key, 1)
    assert trail.after("aws.iam_disable_key", key=key).verdict == "alive"


# The walk, which does not care whose log it is ---------------------------------------------------------------------


def test_busy_sessions_share_the_questions_that_are_asked_at_a_time(simulated: Trail):
    trail, real, asked = simulated, simulated.port.events, []

    def events(attribute: str, value: str, since: datetime, until: datetime, pages: int = 10) -> Logged:
        asked.append(found := real(attribute, value, since, until, pages))
        return found

    trail.port = SimpleNamespace(events=events)  # type: ignore[assignment] # it counts
    for number in range(5):
        trail.busy(trail.sim.assume("deploy", f"s{number}"), 11 * PAGE)
    trail.clock.forward(minutes=30)
    found = trail.after("aws.iam_revoke_sessions", role=trail.sim.iam.role("deploy").arn)
    assert (found.verdict, found.why[:9]) == ("inconclusive", "cut short")
    assert [one.pages for one in asked] == [1, 10, 10, 10, 9]


def test_a_use_that_was_seen_before_the_log_stopped_answering_is_a_use(simulated: Trail):
    trail = simulated
    first, second = trail.sim.assume("deploy", "one"), trail.sim.assume("deploy", "two")
    trail.clock.forward(minutes=30)
    trail.busy(second, 1)  # asked about first: the newest stand first
    trail.busy(first, 1)
    throttle(trail, after=2)
    found = trail.after("aws.iam_revoke_sessions", role=trail.sim.iam.role("deploy").arn)
    assert (found.verdict, found.count) == ("alive", 1)


def test_a_throttled_walk_without_a_use_is_inconclusive(trail: Trail):
    trail.busy(trail.sim.assume("deploy"), 1)
    trail.clock.forward(minutes=30)
    throttle(trail, after=1)
    found = trail.after("aws.iam_revoke_sessions", role=trail.sim.iam.role("deploy").arn)
    assert found.verdict == "inconclusive"
    assert found.why.startswith("the log could not be read: aws: ")


def test_reach_names_what_a_busy_key_hides(simulated: Trail):
    trail = simulated
    key = trail.sim.iam.add_key("agent")
    trail.busy(key, 11 * PAGE)
    agent = Agent("agent-7", aws=AwsIdentity(connection="aws", region=REGION, access_keys=(key,)))
    found: Reach = survey([agent], trail.ports(), threads=False)
    assert [why for why in found.unread if "only the newest 500 events were read" in why]


# The real client alone ------------------------------------------------------------------------------------------


def test_questions_leave_half_a_second_apart():
    sim = account()
    key = sim.iam.add_key("agent")
    for _ in range(3 * PAGE):
        sim.attempt(key, "s3:GetObject")
    now, slept = [100.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    with CloudTrailServer(sim) as server:
        port = boto(server.url, every=0.5, monotonic=lambda: now[0], sleep=sleep)
        assert port.events("AccessKeyId", key, NOON, NOON).pages == 3
        assert slept == [0.5, 0.5]
        now[0] += 60
        port.events("AccessKeyId", "AKIANOBODY", NOON, NOON)
    assert slept == [0.5, 0.5]


@pytest.mark.parametrize("text", ["{not json", "[1]", None])
def test_an_event_that_is_no_json_is_an_error_and_not_left_out(
    served: tuple[CloudTrailServer, BotoCloudTrail], monkeypatch: pytest.MonkeyPatch, text: str | None
):
    server, port = served
    listed = {"EventId": "e-1"} | ({"CloudTrailEvent": text} if text else {})
    monkeypatch.setattr(server, "answer", lambda *_: (200, {"Events": [listed]}))
    with pytest.raises(Rejected, match="event e-1 is not JSON"):
        port.events("AccessKeyId", "AKIA1", NOON, NOON)


def test_the_stand_in_refuses_what_aws_refuses():
    sim = SimAws(SimClock(NOON))
    server = CloudTrailServer(sim)
    good = {"LookupAttributes": [{"AttributeKey": "Username", "AttributeValue": "a"}], "StartTime": 1, "EndTime": 2}
    target = "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.LookupEvents"

    def code(change: dict[str, object], asked: str = target) -> object:
        return server.answer(asked, json.dumps(good | change).encode())[1].get("__type")

    assert code({}) is None
    assert code({}, "Other") == "UnknownOperationException"
    assert code({"MaxResults": 51}) == "InvalidMaxResultsException"
    assert code({"StartTime": 3}) == "InvalidTimeRangeException"
    odd = [{"AttributeKey": "Agent", "AttributeValue": "a"}]
    assert code({"LookupAttributes": odd}) == "InvalidLookupAttributesException"
    assert code({"LookupAttributes": []}) == "InvalidParameterException"
    assert code({"NextToken": "bm9uZSA1MA=="}) == "InvalidNextTokenException"
    server._server.server_close()
