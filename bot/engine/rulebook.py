"""Which rules an incident runs on: chosen at its opening, pinned by content hash, read from the pins ever after."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from bot.actions import Registry
from bot.config import Config
from bot.config.playbooks import load_playbook
from bot.config.runbooks import load_runbook
from bot.domain.agent import Agent
from bot.domain.alert import Alert, AlertText
from bot.domain.classification import UNCLASSIFIED, classify
from bot.domain.escalation import Level, Matrix
from bot.domain.events import Pins
from bot.domain.expression import ExpressionError, holds
from bot.domain.incident import Frozen
from bot.domain.playbook import Playbook, Trigger
from bot.domain.runbook import Runbook
from bot.domain.view import agent_names, alert_names
from bot.domain.wording import listed
from bot.errors import RecordBroken


@dataclass(frozen=True, slots=True)
class Choice:
    """What an alert calls for. `errors` are playbooks whose trigger could not be evaluated: they are only proposed.
    `why` is of the type, `because` of the playbook."""

    type: str
    playbook: Playbook | None
    proposed: tuple[str, ...]
    errors: tuple[str, ...]
    why: str
    because: str


class Rulebook:
    """The operator's rules as they are now, and those that open incidents were frozen with."""

    def __init__(self, config: Config, folder: Path) -> None:
        self._config = config
        self._texts = _texts(folder)
        self._frozen: dict[Pins, Frozen] = {}
        self._catalogue = Registry()

    def choose(self, alert: Alert, text: AlertText, agent: Agent | None, claimed: tuple[str, ...] = ()) -> Choice:
        """Type by the first classification rule, or the source's own claim; the playbook of highest priority whose
        trigger matches. Triggers are the one place where rules read an alert's free text."""
        names = {
            "alert": alert_names(alert, text),
            "agent": agent_names(agent) if agent else {"id": alert.agent_uid or ""},
        }
        classified = classify(self._config.classification, names)
        type, why = classified.type, classified.why
        if type == UNCLASSIFIED and claimed:
            type, why = claimed[0], "the source claims this type"
        matching: list[tuple[Playbook, Trigger]] = []
        errors: list[str] = []
        for playbook in sorted(self._config.playbooks.values(), key=lambda p: (-p.priority, p.id)):
            try:
                # Not any(): an error in one trigger must not hide behind another that matched first.
                if found := [t for t in playbook.triggers if _matches(t, type, names)]:
                    matching.append((playbook, found[0]))
            except ExpressionError as error:
                errors.append(f"{playbook.id}: {error}")
        chosen = matching[0][0] if matching else None
        proposed = (*(p.id for p, _ in matching[1:]), *(error.partition(":")[0] for error in errors))
        because = _because(matching) if matching else "no playbook's trigger matches it"
        return Choice(type, chosen, proposed, (*classified.errors, *errors), why, because)

    def for_type(self, type: str) -> Playbook | None:
        """The playbook of a type, where a person and no alert opens the incident."""
        fitting = [p for p in self._config.playbooks.values() if any(type in t.types for t in p.triggers)]
        return min(fitting, key=lambda p: (-p.priority, p.id), default=None)

    def pins(self, type: str, playbook: Playbook | None) -> tuple[Pins, Mapping[str, tuple[str, str]]]:
        """The hashes to freeze, and the texts behind them: hash -> (kind, text)."""
        matrix = self._config.matrices.get(type) or self._config.matrices[UNCLASSIFIED]
        runbook = self._config.runbooks.get(type) or self._config.runbooks.get(UNCLASSIFIED)
        text = matrix_text(matrix)
        digest = hashlib.sha256(text.encode()).hexdigest()
        kept = {digest: ("matrix", text)}
        if playbook:
            kept[playbook.hash] = ("playbook", self._texts[playbook.hash])
        if runbook:
            kept[runbook.hash] = ("runbook", self._texts[runbook.hash])
        pins = Pins(playbook.hash if playbook else "", digest, runbook.hash if runbook else "")
        if pins not in self._frozen:
            self._frozen[pins] = Frozen(matrix, self._catalogue, playbook, runbook)
        return pins, kept

    def frozen(self, pins: Pins, pinned: Callable[[str], str | None]) -> Frozen:
        """The rules behind these pins, whatever the files say today. RecordBroken where a pinned text is missing."""
        if pins not in self._frozen:
            self._frozen[pins] = Frozen(
                matrix=read_matrix(_pinned(pins.matrix, pinned), pins.matrix),
                catalogue=self._catalogue,
                playbook=_playbook(pins.playbook, pinned) if pins.playbook else None,
                runbook=_runbook(pins.runbook, pinned) if pins.runbook else None,
            )
        return self._frozen[pins]


def _matches(trigger: Trigger, type: str, names: Mapping[str, object]) -> bool:
    if trigger.types and type not in trigger.types:
        return False
    return trigger.condition is None or holds(trigger.condition, names)


def _because(matching: Sequence[tuple[Playbook, Trigger]]) -> str:
    (playbook, trigger), *others = matching
    before = f", before {listed([other.id for other, _ in others])} by its priority" if others else ""
    return f"a trigger of the playbook {playbook.id} matches it ({trigger.where}){before}"


def _texts(folder: Path) -> dict[str, str]:
    files = [*folder.glob("playbooks/*.y*ml"), *folder.glob("runbooks/*.md")]
    return {hashlib.sha256(data).hexdigest(): data.decode() for data in (path.read_bytes() for path in files)}


def _pinned(digest: str, pinned: Callable[[str], str | None]) -> str:
    text = pinned(digest)
    if text is None:
        raise RecordBroken(f"The text pinned as {digest[:12]} is not in the store.")
    return text


def _playbook(digest: str, pinned: Callable[[str], str | None]) -> Playbook:
    return load_playbook(_pinned(digest, pinned), f"pinned playbook {digest[:12]}", None)


def _runbook(digest: str, pinned: Callable[[str], str | None]) -> Runbook:
    return load_runbook(_pinned(digest, pinned), f"pinned runbook {digest[:12]}")


def matrix_text(matrix: Matrix) -> str:
    """A matrix as the text that is pinned; seconds."""
    levels = [
        {"name": v.name, "roles": v.roles, "page_at": v.page_at.total_seconds(), "ack_by": v.ack_by.total_seconds()}
        for v in matrix.levels
    ]
    body = {
        "id": matrix.id,
        "levels": levels,
        "repeat_every": matrix.repeat_every.total_seconds(),
        "final_repeats": matrix.final_repeats,
        "slow_repeat": matrix.slow_repeat.total_seconds(),
    }
    return json.dumps(body, sort_keys=True)


def read_matrix(text: str, digest: str) -> Matrix:
    body = json.loads(text)
    levels = tuple(
        Level(v["name"], tuple(v["roles"]), timedelta(seconds=v["page_at"]), timedelta(seconds=v["ack_by"]))
        for v in body["levels"]
    )
    return Matrix(
        id=body["id"],
        hash=digest,
        levels=levels,
        repeat_every=timedelta(seconds=body["repeat_every"]),
        final_repeats=body["final_repeats"],
        slow_repeat=timedelta(seconds=body["slow_repeat"]),
    )
