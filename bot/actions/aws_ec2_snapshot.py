"""`aws.ec2_snapshot`: keep what is on an instance's disks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar

from bot.actions import Action, aws
from bot.domain.agent import Agent
from bot.domain.outcome import Done, Failed, Grade, Outcome, Pending
from bot.domain.playbook import Target
from bot.errors import Unavailable
from bot.ports import Instance, Ports, Snapshot

_DECISION, _INCIDENT, _INSTANCE = "firedoor:decision", "firedoor:incident", "firedoor:instance"
_FIRST = timedelta(seconds=1)  # small and empty volumes are done at once, and what waits for this goes on
_POLL = timedelta(seconds=15)
_LAG = timedelta(minutes=2)  # until a new snapshot must be listed
_STILL = timedelta(seconds=1)  # a process that stood still between look and deed may have been replaced: it looks again


class TakeSnapshot(Action):
    """Takes EBS snapshots of all volumes of an instance, at one moment, tagged with the incident, and waits until they
    are complete. A snapshot never holds memory. It contains nothing, changes nothing on the instance and is not undone:
    delete it when the case is closed. Because it harms no instance it is not bound to the agent: it takes any that the
    connection knows."""

    id = "aws.ec2_snapshot"
    params = (aws.INSTANCE, aws.CONNECTION)
    outputs = ("instance", "snapshots", "volumes")
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "aws": (
            "ec2:DescribeInstances",
            "ec2:DescribeNetworkInterfaces",
            "ec2:DescribeSnapshots",
            "ec2:CreateSnapshots",
            "ec2:CreateTags",
        )
    }
    example = (
        "uses: aws.ec2_snapshot\n"
        "foreach: ${{ alert.resources | selectattr('type', 'eq', 'AWS::EC2::Instance') }}\n"
        'with: {instance: "${{ item.uid }}"}\nirreversible: true\ntimeout: 10m\non_error: continue\n'
    )
    containing = False
    best_grade = Grade.CONFIG
    undoable = False

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        return (aws.instance_target(params, agent),)

    def run(
        self, params: Mapping[str, Any], ports: Ports, *, key: str, so_far: Mapping[str, Any] | None = None
    ) -> Outcome:
        account, now = aws.account(params, ports), ports.clock.now()
        taken = account.ec2.snapshots_tagged(_DECISION, key)  # the call is not idempotent: our tag is its trace
        if not taken:
            if so_far:
                return _unlisted(so_far, now)
            instance = aws.find_instance(params, account)
            if not isinstance(instance, Instance):
                return instance
            if not instance.volumes:
                return Done(Grade.CONFIG, _evidence(params, ()), nothing_held=f"{instance.id} has no EBS volume")
            try:
                if ports.clock.now() - now > _STILL:
                    taken = account.ec2.snapshots_tagged(_DECISION, key)
                taken = taken or account.ec2.snapshot_instance(instance.id, _tags(params, key))
            except Unavailable as outage:
                if outage.sent:  # AWS may have taken them: give the list time to show it before asking again
                    return Pending(now + 2 * _POLL, {}, f"{outage}; looking whether it was done", unavailable=True)
                raise
        if broken := [snapshot.id for snapshot in taken if snapshot.state == "error"]:
            return Failed(
                False, f"AWS could not complete {', '.join(broken)} of {params['instance']}: take them by hand"
            )
        if any(snapshot.state != "completed" for snapshot in taken):
            ids = [snapshot.id for snapshot in taken]
            seen = {"snapshots": ids, "seen": now.isoformat()}
            return Pending(
                now + (_POLL if so_far else _FIRST), seen, f"{len(ids)} snapshots of {params['instance']} under way"
            )
        return Done(Grade.CONFIG, _evidence(params, taken))

    def verify(self, params: Mapping[str, Any], ports: Ports) -> Done | None:
        """Any complete set of this instance, whichever incident took it."""
        taken = aws.account(params, ports).ec2.snapshots_tagged(_INSTANCE, params["instance"])
        complete = [snapshot for snapshot in taken if snapshot.state == "completed"]
        return Done(Grade.CONFIG, _evidence(params, complete)) if complete else None


def _unlisted(so_far: Mapping[str, Any], now: datetime) -> Outcome:
    ids = ", ".join(so_far["snapshots"])
    if now - datetime.fromisoformat(so_far["seen"]) > _LAG:
        return Failed(False, f"AWS does not list {ids} (any more): somebody deleted them")
    return Pending(now + _POLL, so_far, f"{ids}: not listed yet")


def _tags(params: Mapping[str, Any], key: str) -> dict[str, str]:
    """`key` is `<install>.<epoch>/INC-7/12.0`."""
    incident = key.split("/")[1] if key.count("/") == 2 else key
    return {
        "Name": f"{incident} {params['instance']}",
        _DECISION: key,
        _INCIDENT: incident,
        _INSTANCE: params["instance"],
    }


def _evidence(params: Mapping[str, Any], taken: Sequence[Snapshot]) -> dict[str, Any]:
    return {
        "instance": params["instance"],
        "snapshots": sorted(snapshot.id for snapshot in taken),
        "volumes": sorted(snapshot.volume for snapshot in taken),
    }
