"""Actions that are nothing but their description, for the loader's tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bot.actions import Action
from bot.domain.agent import Agent
from bot.domain.outcome import Done, Grade, Outcome
from bot.domain.playbook import Param, Target
from bot.ports import Ports


class Described(Action):
    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        raise NotImplementedError

    def run(
        self, params: Mapping[str, Any], ports: Ports, *, key: str, so_far: Mapping[str, Any] | None = None
    ) -> Outcome:
        raise NotImplementedError

    def verify(self, params: Mapping[str, Any], ports: Ports) -> Done | None:
        raise NotImplementedError


class Cut(Described):
    id = "vault.revoke_leases"
    params = (Param("agent"), Param("mode", choices=("shadow", "disabled"), required=False))
    outputs = ("leases",)
    permissions: Mapping[str, tuple[str, ...]] = {"vault": ("update",)}
    example = ""
    containing = True
    best_grade = Grade.CONFIG


class Keep(Described):
    id = "aws.snapshot"
    params = (Param("instance"), Param("size", "integer", required=False), Param("tags", "mapping", required=False))
    outputs = ("snapshot",)
    permissions: Mapping[str, tuple[str, ...]] = {}
    example = ""
    containing = False
    best_grade = Grade.UNVERIFIED
    undoable = False


ACTIONS: Mapping[str, Action] = {action.id: action for action in (Cut(), Keep())}
