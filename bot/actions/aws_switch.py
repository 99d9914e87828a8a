"""The shape that most `aws.*` actions have: remember how one thing is, change it, read it back, give it back."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, ClassVar

from bot.actions import Action, aws
from bot.domain.agent import Agent
from bot.domain.outcome import Done, Failed, Grade, Outcome, Pending, Skipped
from bot.domain.playbook import Target
from bot.errors import Rejected
from bot.ports import AwsAccount, Instance, Ports, Role


class Switch(Action):
    """Says what is particular to one action; when each is asked stands in `run` and `undo`. Each may be asked again."""

    containing = True
    best_grade = Grade.CONFIG
    patience: ClassVar[timedelta] = aws.PATIENCE  # until it must read as changed
    spreads: ClassVar[bool] = False  # IAM: it takes up to five minutes to hold everywhere

    @abstractmethod
    def name(self, params: Mapping[str, Any]) -> str:
        """The thing, in a sentence."""

    @abstractmethod
    def absent(self, params: Mapping[str, Any], account: AwsAccount) -> Done | Failed | None:
        """Why there is nothing to do (Done), or why it cannot or must not be done (Failed); None where it can."""

    @abstractmethod
    def state(self, params: Mapping[str, Any], account: AwsAccount) -> Any:
        """How the thing is: what a release needs (JSON)."""

    @abstractmethod
    def change(self, params: Mapping[str, Any], account: AwsAccount, key: str) -> Mapping[str, Any]:
        """Changes it. What it returns is kept for `seen`. Already changed: the same result."""

    @abstractmethod
    def seen(self, params: Mapping[str, Any], account: AwsAccount, kept: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The evidence, where it reads as changed. `kept`: what `change` returned; {} where only looking."""

    def restore(self, params: Mapping[str, Any], account: AwsAccount, before: Any) -> str:
        """Puts it back to `before` and reads it back; returns why it is not as it was, or ''."""
        raise NotImplementedError(f"{self.id} cannot be undone")

    def unwanted(self, params: Mapping[str, Any], account: AwsAccount) -> Done | Failed | None:
        """Why it is refused, or not needed, at the start; a release does not ask this."""
        return None

    def run(
        self, params: Mapping[str, Any], ports: Ports, *, key: str, so_far: Mapping[str, Any] | None = None
    ) -> Outcome:
        named = [str(params.get(each, "")) for each in ("agent", "role", "user", "instance")]
        if why := aws.protected(ports, *named, *params.get("principals", ())):
            return Skipped(why)
        account, now, name = aws.account(params, ports), ports.clock.now(), self.name(params)
        if absent := self.absent(params, account) or (self.unwanted(params, account) if so_far is None else None):
            return absent
        if so_far is None:
            return Pending(now, {"before": self.state(params, account)}, f"saved how {name} was")
        if "since" not in so_far:
            so_far = {**so_far, "kept": dict(self.change(params, account, key))}
        seen = self.seen(params, account, so_far["kept"])
        spread = {"alive_until": f"{now + aws.PROPAGATION:%Y-%m-%dT%H:%M:%SZ}"} if self.spreads else {}
        done = None if seen is None else Done(Grade.CONFIG, {**seen, **spread})
        undo = {"before": so_far["before"]} if self.undoable else {}
        why = f"{self.id} was asked of {name} and does not read so"
        return aws.settled(done, now, so_far, undo, name, why, self.patience)

    def verify(self, params: Mapping[str, Any], ports: Ports) -> Done | None:
        evidence = self.seen(params, aws.account(params, ports), {})
        return None if evidence is None else Done(Grade.CONFIG, evidence)

    def undo(
        self,
        params: Mapping[str, Any],
        ports: Ports,
        *,
        undo: Mapping[str, Any],
        key: str,
    ) -> Outcome:
        account = aws.account(params, ports)
        if absent := self.absent(params, account):
            return absent
        if why := self.restore(params, account, undo["before"]):
            return Failed(True, why)
        return Done(Grade.CONFIG, {"target": self.name(params)})


class OfRole(Switch):
    """Acts on each of the agent's roles."""

    spreads = True

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        known = aws.identity(params, agent)
        return tuple(aws.role_targets(known, agent.id)) if known and agent else ()

    def name(self, params: Mapping[str, Any]) -> str:
        return aws.role_name(params["role"])

    def absent(self, params: Mapping[str, Any], account: AwsAccount) -> Done | Failed | None:
        found = aws.find_role(params["role"], account)
        return None if isinstance(found, Role) else found


class OfUser(Switch):
    """Acts on each of the agent's IAM users."""

    spreads = True

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        known = aws.identity(params, agent)
        if known is None or agent is None:
            return ()
        shared = {"agent": agent.id, "connection": known.connection}
        return tuple(
            Target(f"iam-user:{known.account}:user/{user}", {**shared, "user": user}, known.connection)
            for user in dict.fromkeys(known.users)
        )

    def name(self, params: Mapping[str, Any]) -> str:
        return str(params["user"])

    def absent(self, params: Mapping[str, Any], account: AwsAccount) -> Done | None:
        if account.iam.list_access_keys(params["user"]) is not None:
            return None
        gone = f"there is no user {params['user']}: it was deleted"
        return Done(Grade.CONFIG, {"user": params["user"]}, nothing_held=gone)


class OfInstance(Switch):
    """Acts on one instance of the agent."""

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        return (aws.own_instance_target(params, agent),)

    def name(self, params: Mapping[str, Any]) -> str:
        return str(params["instance"])

    def absent(self, params: Mapping[str, Any], account: AwsAccount) -> Done | Failed | None:
        found = aws.find_instance(params, account)
        return None if isinstance(found, Instance) else found

    def unwanted(self, params: Mapping[str, Any], account: AwsAccount) -> Done | Failed | None:
        return aws.foreign(params, self.instance(params, account))

    def instance(self, params: Mapping[str, Any], account: AwsAccount) -> Instance:
        """Once `absent` said that it is there."""
        found = account.ec2.instance(params["instance"])
        if found is None:
            raise Rejected(params["connection"], f"{params['instance']} was there, and is not any more", retryable=True)
        return found
