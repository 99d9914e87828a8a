"""Permits: may these steps start now? Asked in the transaction that starts them: two replicas cannot both say yes.

Limits are on by default. A containing step that is deferred pages people at once and can be let through by one click
of a permitted role; a step that waits for its concurrency group goes when the incident before it is done.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from bot.domain.decisions import AskPermit
from bot.domain.incident import Incident, is_held

if TYPE_CHECKING:
    from bot.engine.responder import Responder


def answer(asked: AskPermit, incident: Incident, responder: Responder) -> str:
    """'' for yes, else why not now."""
    return _group(asked, responder) if asked.group else _limits(asked, incident, responder)


def _group(asked: AskPermit, responder: Responder) -> str:
    # An incident takes a group once, for all its steps: the group's name stands for them.
    if responder.tx.take_group(asked.group, asked.incident, asked.group, responder.now):
        return ""
    return f"another incident works in the group {asked.group}"


def _limits(asked: AskPermit, incident: Incident, responder: Responder) -> str:
    playbook = incident.frozen.playbook
    if playbook is None:
        return ""
    limits = playbook.limits
    begun = any(run.permitted and is_held(incident, run) for run in incident.steps.values())
    key = f"{playbook.id}|{asked.agent}"
    if not begun:  # one run a playbook and incident, however many steps it has
        responder.tx.lock(f"runs {key}")
        runs = responder.tx.count_runs(key, responder.now - limits.per)
        if runs >= limits.runs:
            return f"{playbook.id} ran {runs} times for {asked.agent} within {limits.per}; its limit is {limits.runs}"
    held = {call.plan.target for run in incident.steps.values() if run.permitted for call in run.calls.values()}
    targets = held | set(asked.targets)
    if len(targets) > limits.targets:
        return f"{len(targets)} targets; the limit of {playbook.id} is {limits.targets}"
    for kind, count in Counter(target.partition(":")[0] for target in targets).items():
        enrolled = responder.world.ports.directory.count(kind)
        if enrolled and count > limits.of_a_kind(enrolled):
            return f"{count} of {enrolled} {kind} targets; the limit of {playbook.id} is {limits.targets_percent} %"
    if not begun:
        responder.tx.add_run(key, asked.incident, responder.now)
    return ""
