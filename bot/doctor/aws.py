"""AWS: whose credentials they are, the clock, what they may do as far as AWS tells, the bucket and the queues."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from functools import partial
from typing import Any

from bot.actions import registry
from bot.adapters.aws_api import AwsApi
from bot.adapters.evidence import BucketEvidence
from bot.config import Config, SecretRef
from bot.config.connections import AwsConnection
from bot.doctor import PATIENCE, Check, Finding, State, clocks
from bot.errors import Denied, Rejected, SystemFailure

PERMISSIONS = "See docs/how-to/vault-and-aws-permissions.md."
LACKS = "the bot's policy lacks"  # as AwsApi says it of a permission; else the credential itself is no good
SIMULATED = 50  # actions asked about in one call
Now = Callable[[], datetime]


def checks(config: Config, secret: Callable[[SecretRef], str], now: Now, *, write: bool) -> Iterator[Check]:
    """`write`: also writes a small object to the evidence bucket, and reads it back."""
    connections = config.settings.connections
    asked = sorted(permissions(config))
    for name, made in connections.items():
        if isinstance(made, AwsConnection):
            make = partial(_api, name, made, secret)
            yield Check(name, partial(_with, make, lambda api: _account(api, asked, now)), 2 * PATIENCE)
    store = config.settings.evidence
    kept = connections.get(store.connection)
    if store.kind == "s3" and isinstance(kept, AwsConnection):
        make = partial(_api, "evidence", kept, secret)
        yield Check("evidence", partial(_with, make, lambda api: _bucket(api, config, write)))
    for name, source in config.sources.items():
        reached, subject = connections.get(source.connection), f"queue {name}"
        if source.queue and isinstance(reached, AwsConnection):
            make = partial(_api, subject, reached, secret)
            yield Check(subject, partial(_with, make, partial(_queue, subject=subject, url=source.queue)))


def _with(make: Callable[[], AwsApi], ask: Callable[[AwsApi], Iterator[Finding]]) -> Iterator[Finding]:
    with closing(make()) as api:
        yield from ask(api)


def permissions(config: Config) -> set[str]:
    """What the actions of the playbooks need in AWS."""
    actions = registry()
    calls = [call for playbook in config.playbooks.values() for step in playbook.steps.values()
             for call in (step.call, step.rollback) if call]  # fmt: skip
    return {one for call in calls if call.uses in actions for one in actions[call.uses].permissions.get("aws", ())}


def _api(name: str, made: AwsConnection, secret: Callable[[SecretRef], str]) -> AwsApi:
    return AwsApi(
        system=name,
        account=made.account,
        region=made.region,
        endpoint_url=made.endpoint_url or None,
        role=made.role_arn or None,
        external_id=secret(made.external_id) if made.external_id else None,
        read_timeout=made.timeout,
    )


def _account(api: AwsApi, asked: list[str], now: Now) -> Iterator[Finding]:
    who = api.call("sts", "get_caller_identity")
    arn = str(who["Arn"])
    if str(who["Account"]) != api.account:
        what = f"its credentials are of account {who['Account']}, configured is {api.account}"
        yield Finding(State.FAIL, api.system, what, "Correct the connection's account or role_arn.")
        return
    yield Finding(State.OK, api.system, f"it is {arn}")
    if arn.endswith(":root"):
        todo = "Make the role of docs/how-to/vault-and-aws-permissions.md."
        yield Finding(State.WARN, api.system, "it is the root of the account", todo)
    before = now()
    yield clocks(f"{api.system} clock", api.server_time(), before, now())
    yield from _simulated(api, arn, asked)


def _simulated(api: AwsApi, arn: str, asked: list[str]) -> Iterator[Finding]:
    """Whether IAM would let it: of the policies of its own, without conditions and resource policies."""
    subject = f"{api.system} policy"
    try:
        refused: list[str] = []
        for start in range(0, len(asked), SIMULATED):
            answer = api.call(
                "iam", "simulate_principal_policy",
                PolicySourceArn=_principal(arn), ActionNames=asked[start : start + SIMULATED],
            )  # fmt: skip
            results: Any = answer.get("EvaluationResults", ())
            refused += [one["EvalActionName"] for one in results if one["EvalDecision"] == "explicitDeny"]
            undecided = [one["EvalActionName"] for one in results if one["EvalDecision"] == "implicitDeny"]
            if undecided:
                what = f"on every resource alike not allowed: {', '.join(undecided)}"
                todo = f"Fine where its policy names the agents' resources. {PERMISSIONS}"
                yield Finding(State.UNVERIFIED, subject, what, todo)
    except SystemFailure as error:
        todo = "iam:SimulatePrincipalPolicy would tell; a drill on a test agent tells more."
        yield Finding(State.UNVERIFIED, subject, f"AWS does not say what it may do: {error.why}", todo)
        return
    if refused:
        yield Finding(State.FAIL, subject, f"IAM would refuse: {', '.join(refused)}", PERMISSIONS)
    else:
        yield Finding(State.OK, subject, f"IAM denies none of the {len(asked)} actions that the playbooks need")


def _principal(arn: str) -> str:
    """The role behind an assumed one: the simulation knows no sessions."""
    if ":assumed-role/" not in arn:
        return arn
    head, _, rest = arn.partition(":assumed-role/")
    return f"{head.replace(':sts:', ':iam:')}:role/{rest.partition('/')[0]}"


def _bucket(api: AwsApi, config: Config, write: bool) -> Iterator[Finding]:
    store = config.settings.evidence
    try:
        made = api.call("s3", "get_object_lock_configuration", Bucket=store.bucket).get("ObjectLockConfiguration", {})
    except Denied as error:
        if LACKS not in error.why:
            raise
        what = f"the bot may not ask whether {store.bucket} locks objects"
        yield Finding(State.UNVERIFIED, "evidence", what, "Allow s3:GetBucketObjectLockConfiguration to know.")
    except Rejected as error:
        what = f"{store.bucket}: {error.why}"
        yield Finding(State.FAIL, "evidence", what, "Evidence needs a bucket that was made with Object Lock.")
        return
    else:
        if made.get("ObjectLockEnabled") != "Enabled":
            what = f"{store.bucket} locks no objects: evidence could be deleted"
            yield Finding(State.FAIL, "evidence", what, "Make the bucket with Object Lock.")
            return
        yield Finding(State.OK, "evidence", f"{store.bucket} locks objects")
    if not write:
        what = "whether it may write there is not tried"
        yield Finding(State.UNVERIFIED, "evidence", what, "firedoor doctor --write stores a small object for good.")
        return
    stored = BucketEvidence(api, store.bucket, store.prefix).put(b"firedoor doctor\n", name="doctor", retain_until=None)
    yield Finding(State.OK, "evidence", f"it wrote and read back {stored.address}")


def _queue(api: AwsApi, subject: str, url: str) -> Iterator[Finding]:
    try:
        asked = api.call("sqs", "get_queue_attributes", QueueUrl=url, AttributeNames=["All"])
    except Denied as error:
        if LACKS not in error.why:
            raise
        yield Finding(State.UNVERIFIED, subject, "the bot may not read its attributes",
                      "Allow sqs:GetQueueAttributes to know.")  # fmt: skip
        return
    told = asked.get("Attributes", {})
    waiting = told.get("ApproximateNumberOfMessages", "0")
    yield Finding(State.OK, subject, f"it is there, about {waiting} messages wait")
    if "RedrivePolicy" not in told:
        todo = "Give it a dead-letter queue: what fails inside would come again for ever."
        yield Finding(State.WARN, subject, "it has no redrive policy", todo)
