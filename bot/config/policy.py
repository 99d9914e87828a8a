"""policies/actions.yaml: which actions of agents are risky, who has to approve them, and how logs name them."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

from bot.config.reading import Problems, Section, file_section
from bot.config.yaml import Node
from bot.domain.investigation import PRIVILEGED, PolicyAction

FILE = "policies/actions.yaml"
RISKS = ("low", *PRIVILEGED)
_SEEN = re.compile(
    r"(?:tool:[^\s:]+|aws:[a-z0-9*-]+:[A-Za-z0-9*?]+|vault:(?:create|read|update|patch|delete|list|\*):\S+)"
)


def load_policy(path: Path, problems: Problems) -> dict[str, PolicyAction]:
    """By id; empty where there is no such file, and then nothing is audited."""
    if not path.exists():
        return {}
    found: dict[str, PolicyAction] = {}
    with file_section(path, problems, FILE) as top:
        top.text("apiVersion", choices=["firedoor/v1"])
        top.text("kind", choices=["ActionPolicy"])
        if "allowed_actions" not in top:
            top.report("", "'allowed_actions' is missing.")
        for node in top.elements("allowed_actions"):
            action = _action(node, problems)
            if action.id in found:
                problems.add(node.where, f"the action {action.id!r} stands twice.")
            found[action.id] = action
    return found


def _action(node: Node, problems: Problems) -> PolicyAction:
    with Section(node, problems, "an action") as section:
        found = PolicyAction(
            id=section.name("id"),
            description=section.text("description", ""),
            risk=section.text("risk", choices=RISKS),
            requires_manual_approval=section.flag("requires_manual_approval"),
            approvers=section.texts("approvers"),
            valid_for=section.duration("valid_for", timedelta(hours=2)),
            covers=section.integer("covers", 1, least=1, most=100),
            seen_as=section.texts("seen_as"),
        )
        if "requires_manual_approval" not in section:
            section.report("", f"{found.id!r} does not say whether it 'requires_manual_approval'.", "true or false.")
        if found.requires_manual_approval and not found.approvers:
            section.report("approvers", f"{found.id!r} requires an approval, and names no 'approvers'.")
        if found.approvers and not found.requires_manual_approval:
            section.report("approvers", f"{found.id!r} names approvers, and requires no approval.")
        if "covers" in section and not found.requires_manual_approval:
            section.report("covers", f"{found.id!r} says how much an approval 'covers', and requires none.")
        if not found.valid_for:
            section.report("valid_for", f"an approval of {found.id!r} would run out as it is given.")
        for each in section.elements("seen_as"):
            if isinstance(each.value, str) and not _SEEN.fullmatch(each.raw):
                problems.add(
                    each.where,
                    f"{each.raw!r} is no name of a log.",
                    "Write tool:NAME, aws:SERVICE:EVENT or vault:OPERATION:PATH, with * for anything.",
                )
        return found
