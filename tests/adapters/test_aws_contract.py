"""What every AWS account does: the simulator, and boto3 against moto's server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from bot.adapters.aws import aws_account
from bot.errors import Denied, Rejected, Unavailable
from bot.ports import AwsAccount, Logged
from bot.sandbox.aws import MANAGED
from bot.sandbox.clock import SimClock
from tests.aws_estate import CREDENTIALS, REGION, Estate, Real, Simulated, fresh

DENY_ALL = "arn:aws:iam::aws:policy/AWSDenyAll"
POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Deny", "Action": ["*"], "Resource": ["*"], "Condition": {"Null": {"a:b": "true"}}}],
}


@pytest.fixture(params=["simulator", "boto3"])
def estate(request: pytest.FixtureRequest, clock: SimClock) -> Estate:
    return Simulated(clock) if request.param == "simulator" else Real(request.getfixturevalue("moto"), clock)


def test_a_role_and_its_inline_policy(estate: Estate):
    iam, name = estate.account.iam, fresh("role")
    arn = estate.add_role(name, path="/agents/")
    role = iam.get_role(name)
    assert role is not None
    assert (role.arn, role.name, role.path, role.id[:4]) == (arn, name, "/agents/", "AROA")
    assert iam.get_role_policy(name, "p") is None
    iam.put_role_policy(name, "p", POLICY)
    iam.put_role_policy(name, "p", POLICY)
    assert iam.get_role_policy(name, "p") == POLICY
    iam.delete_role_policy(name, "p")
    iam.delete_role_policy(name, "p")
    assert iam.get_role_policy(name, "p") is None


def test_a_managed_policy_is_attached_once(estate: Estate):
    iam, role, user = estate.account.iam, fresh("role"), fresh("user")
    estate.add_role(role)
    estate.add_user(user)
    for _ in range(2):
        iam.attach_role_policy(role, DENY_ALL)
        iam.attach_user_policy(user, DENY_ALL)
    assert iam.attached_role_policies(role).count(DENY_ALL) == 1
    assert iam.attached_user_policies(user).count(DENY_ALL) == 1
    for _ in range(2):
        iam.detach_role_policy(role, DENY_ALL)
        iam.detach_user_policy(user, DENY_ALL)
    assert DENY_ALL not in iam.attached_role_policies(role) + iam.attached_user_policies(user)
    with pytest.raises(Rejected, match="NoSuchEntity"):
        iam.attach_role_policy(role, "arn:aws:iam::aws:policy/NoSuchPolicy")


def test_a_user_with_keys(estate: Estate):
    iam, user = estate.account.iam, fresh("user")
    estate.add_user(user)
    assert iam.list_access_keys(user) == ()
    key = estate.add_key(user)
    iam.set_access_key_active(user, key, False)
    iam.set_access_key_active(user, key, False)
    (listed,) = iam.list_access_keys(user) or ()
    assert (listed.id, listed.user, listed.active) == (key, user, False)
    iam.put_user_policy(user, "p", POLICY)
    assert iam.get_user_policy(user, "p") == POLICY
    iam.delete_user_policy(user, "p")
    iam.delete_user_policy(user, "p")
    assert iam.get_user_policy(user, "p") is None


def test_who_is_not_there_is_an_answer_when_asked_and_an_error_when_changed(estate: Estate):
    iam = estate.account.iam
    assert iam.get_role("nobody") is None
    assert iam.get_role_policy("nobody", "p") is None
    assert iam.list_access_keys("nobody") is None
    assert iam.attached_role_policies("nobody") == ()
    for change in (
        lambda: iam.put_role_policy("nobody", "p", POLICY),
        lambda: iam.attach_user_policy("nobody", DENY_ALL),
        lambda: iam.set_access_key_active("nobody", "AKIA0000000000000000", False),
    ):
        with pytest.raises(Rejected, match="NoSuchEntity") as caught:
            change()
        assert not caught.value.retryable


def test_server_time_is_aware_and_in_whole_seconds(estate: Estate):
    now = estate.account.iam.server_time()
    assert (now.utcoffset(), now.microsecond) == (timedelta(0), 0)


def test_interfaces_go_into_a_group_without_rules_and_back(estate: Estate):
    ec2 = estate.account.ec2
    instance = estate.add_instance(interfaces=2)
    assert (instance.state, len(instance.interfaces), len(instance.volumes)) == ("running", 2, 1)
    quarantine = ec2.quarantine_group(instance.vpc)
    assert ec2.quarantine_group(instance.vpc) == quarantine
    assert ec2.group_rules(quarantine) == (0, 0)
    for interface in instance.interfaces:
        ec2.set_interface_groups(interface, [quarantine])
    after = ec2.instance(instance.id)
    assert after is not None
    assert set(after.interfaces.values()) == {(quarantine,)}
    for interface, groups in instance.interfaces.items():
        ec2.set_interface_groups(interface, groups)
    assert ec2.instance(instance.id) == instance


def test_an_instance_says_whose_it_is_by_its_tags_and_its_profile(moto: str, clock: SimClock):
    real, name = Real(moto, clock), fresh("agent")
    profile = real.iam.create_instance_profile(InstanceProfileName=name)["InstanceProfile"]["Arn"]
    made = real.ec2.run_instances(
        ImageId="ami-12c6146b",
        MinCount=1,
        MaxCount=1,
        IamInstanceProfile={"Arn": profile},
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "agent", "Value": name}]}],
    )["Instances"][0]["InstanceId"]
    instance = real.account.ec2.instance(made)
    assert instance is not None
    assert (instance.tags, instance.profile_arn) == ({"agent": name}, profile)


def test_what_ec2_does_not_know(estate: Estate):
    ec2 = estate.account.ec2
    assert ec2.instance("i-0123456789abcdef0") is None
    assert ec2.group_rules("sg-0123456789abcdef0") is None
    assert ec2.snapshots_tagged("firedoor:decision", "never") == ()
    with pytest.raises(Rejected) as caught:
        ec2.set_interface_groups("eni-0123456789abcdef0", ["sg-0123456789abcdef0"])
    assert "NotFound" in str(caught.value)


def test_a_terminated_instance_is_still_known(estate: Estate):
    instance = estate.add_instance()
    estate.terminate(instance.id)
    after = estate.account.ec2.instance(instance.id)
    assert after is not None
    assert after.state == "terminated"


def test_snapshots_are_found_by_their_tag_and_complete(estate: Estate):
    instance, mark = estate.add_instance(volumes=2), fresh("decision")
    made = estate.account.ec2.snapshot_instance(instance.id, {"firedoor:decision": mark})
    assert {snapshot.volume for snapshot in made} == set(instance.volumes)
    estate.clock.forward(minutes=1)
    found = estate.account.ec2.snapshots_tagged("firedoor:decision", mark)
    assert {snapshot.id for snapshot in found} == {snapshot.id for snapshot in made}
    assert {snapshot.state for snapshot in found} == {"completed"}


def test_a_parameter_counts_its_versions(estate: Estate):
    parameters, name = estate.account.parameters, f"/{fresh('mode')}"
    assert parameters.get(name) is None
    assert [parameters.put(name, value) for value in ("active", "shadow", "shadow")] == [1, 2, 3]
    assert parameters.get(name) == ("shadow", 3)


def test_the_simulator_knows_aws_policies_as_aws_publishes_them(moto: str, clock: SimClock):
    iam = Real(moto, clock).iam
    for arn, document in MANAGED.items():
        version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        published = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
        (theirs,), (ours,) = published["Statement"], document["Statement"]
        assert (theirs["Effect"], theirs["Action"], theirs["Resource"]) in (
            (ours["Effect"], "*", "*"),
            (ours["Effect"], ["*"], "*"),
        )


# What AWS answers when it does not do as asked -------------------------------------------------------------------


class Answers(ThreadingHTTPServer):
    """Gives every request the one answer it is told to, or none for a while."""

    daemon_threads = True

    def __init__(self) -> None:
        self.answer: tuple[int, str, dict[str, str]] = (200, "", {})
        self.hang = threading.Event()
        self.hanging = False
        self.asked = 0
        super().__init__(("127.0.0.1", 0), _Answer)
        self.account = aws_account(
            account="111111111111",
            region=REGION,
            endpoint_url=f"http://127.0.0.1:{self.server_port}",
            credentials=CREDENTIALS,
            connect_timeout=1,
            read_timeout=0.3,
        )

    def error(self, status: int, code: str, message: str = "", **headers: str) -> None:
        body = f"<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
        self.answer = (status, body, headers)


class _Answer(BaseHTTPRequestHandler):
    server: Answers

    def do_POST(self) -> None:
        self.server.asked += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.hanging:
            self.server.hang.wait(5)
            return
        status, body, headers = self.server.answer
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def answers() -> Iterator[Answers]:
    with Answers() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.hang.set()
        server.shutdown()
        thread.join()


def attach(account: AwsAccount) -> None:
    account.iam.attach_role_policy("agent", DENY_ALL)


@pytest.mark.parametrize(("status", "code"), [(400, "Throttling"), (503, "RequestLimitExceeded"), (429, "Slow")])
def test_throttled_was_not_done_and_is_not_retried_here(answers: Answers, status: int, code: str):
    answers.error(status, code, **{"Retry-After": "7"})
    with pytest.raises(Unavailable) as caught:
        attach(answers.account)
    assert (caught.value.sent, caught.value.retry_after, answers.asked) == (False, 7, 1)


def test_a_server_error_may_have_been_done(answers: Answers):
    answers.error(500, "InternalFailure")
    with pytest.raises(Unavailable) as caught:
        attach(answers.account)
    assert caught.value.sent


def test_refused_names_the_missing_permission(answers: Answers):
    said = "User: arn:aws:iam::1:user/bot is not authorized to perform: iam:AttachRolePolicy on resource: role agent"
    answers.error(403, "AccessDenied", said)
    with pytest.raises(Denied, match=r"lacks iam:AttachRolePolicy$"):
        attach(answers.account)
    answers.answer = (
        403,
        "<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>You are not authorized to perform this "
        "operation. Encoded authorization failure message: x</Message></Error></Errors></Response>",
        {},
    )
    with pytest.raises(Denied, match=r"lacks ec2:ModifyNetworkInterfaceAttribute$"):
        answers.account.ec2.set_interface_groups("eni-1", ["sg-1"])


def test_a_bad_credential_is_not_a_missing_permission(answers: Answers):
    answers.error(403, "InvalidClientTokenId", "The security token included in the request is invalid.")
    with pytest.raises(Denied, match="does not accept the bot's credential"):
        attach(answers.account)


def test_other_errors_are_rejections_and_say_whether_another_look_helps(answers: Answers):
    answers.error(400, "MalformedPolicyDocument", "no")
    with pytest.raises(Rejected, match="MalformedPolicyDocument") as caught:
        attach(answers.account)
    assert not caught.value.retryable
    answers.error(409, "ConcurrentModification", "wait")
    with pytest.raises(Rejected) as caught:
        attach(answers.account)
    assert caught.value.retryable


def test_no_answer_may_have_been_done_and_no_connection_was_not(answers: Answers):
    answers.hanging = True
    with pytest.raises(Unavailable) as caught:
        attach(answers.account)
    assert caught.value.sent
    closed = aws_account(account="", region=REGION, endpoint_url="http://127.0.0.1:9", credentials=CREDENTIALS)
    with pytest.raises(Unavailable) as caught:
        attach(closed)
    assert not caught.value.sent


def test_nobody_is_there_only_in_the_account_that_was_meant(moto: str):
    elsewhere = aws_account(account="999999999999", region=REGION, endpoint_url=moto, credentials=CREDENTIALS)
    with pytest.raises(Denied, match="belong to account 123456789012"):
        elsewhere.iam.get_role("nobody")
    with pytest.raises(Denied, match="belong to account 123456789012"):
        elsewhere.ec2.instance("i-0123456789abcdef0")


def test_without_credentials_the_refusal_says_so(moto: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with pytest.raises(Denied, match="no usable AWS credentials"):
        attach(aws_account(account="", region=REGION, endpoint_url=moto))


def test_a_role_is_assumed_with_the_credentials_that_were_given(moto: str, clock: SimClock):
    role = Real(moto, clock).add_role(fresh("bot"))
    assumed = aws_account(account="123456789012", region=REGION, endpoint_url=moto, credentials=CREDENTIALS, role=role)
    name = fresh("role")
    Real(moto, clock).add_role(name)
    assert assumed.iam.get_role(name) is not None


def test_trail_events_are_read_as_cloudtrail_wrote_them(answers: Answers):
    event = {"eventName": "GetObject", "userIdentity": {"accessKeyId": "AKIA1"}}
    answers.answer = (
        200,
        json.dumps({"Events": [{"EventId": "1", "CloudTrailEvent": json.dumps(event)}]}),
        {"Content-Type": "application/x-amz-json-1.1"},
    )
    since = datetime(2026, 1, 1, tzinfo=UTC)
    until = since + timedelta(hours=1)
    assert answers.account.cloudtrail.events("AccessKeyId", "AKIA1", since, until) == Logged((event,))


# What only the simulator can show: the estate refuses -------------------------------------------------------------


def test_the_estate_refuses_what_is_contained(clock: SimClock):
    estate = Simulated(clock)
    sim, iam = estate.sim, estate.account.iam
    estate.add_role("agent")
    estate.add_user("agent")
    session, key = sim.assume("agent"), estate.add_key("agent")
    assert sim.attempt(session, "s3:GetObject")
    assert sim.attempt(key, "s3:GetObject")
    iam.attach_role_policy("agent", DENY_ALL)
    iam.set_access_key_active("agent", key, False)
    assert not sim.attempt(session, "s3:GetObject")
    assert not sim.attempt(key, "s3:GetObject")
    iam.detach_role_policy("agent", DENY_ALL)
    assert sim.attempt(session, "s3:GetObject")
    clock.forward(hours=1)
    assert not sim.attempt(session, "s3:GetObject"), "it has expired"


def test_the_simulated_trail_lags(clock: SimClock):
    estate = Simulated(clock)
    estate.add_role("agent")
    session, since = estate.sim.assume("agent"), clock.now()
    estate.sim.attempt(session, "s3:GetObject")
    estate.sim.attempt("AKIA-unknown", "s3:GetObject")

    def listed(key: str) -> list[str | None]:
        events = estate.account.cloudtrail.events("AccessKeyId", key, since, clock.now()).events
        return [event.get("errorCode") for event in events]

    assert listed(session.key) == []
    clock.forward(minutes=2)
    assert listed(session.key) == [None]
    assert listed("AKIA-unknown") == ["AccessDenied"]
