"""The reference pages that are made of the code; a test holds docs/reference/ to them.

python -m bot.commands.reference commands > docs/reference/commands.md      (or: actions)
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from bot.actions import Action, registry
from bot.commands import COMMANDS, help_of
from bot.commands.catalogue import facts
from bot.commands.command import CONFIG_VARIABLE, MEANING, Command

COMMANDS_HEAD = f"""# Commands

Commands that read open the store read only: they work while `firedoor serve` runs and while it is down. Those that say
something go through the running server, as a person of `people.yaml` with a TOTP code.

`--config DIR` names the configuration folder; without it `${CONFIG_VARIABLE}` counts, else the current folder. An
expected failure is one line on stderr; `--verbose` logs what happens, and where it failed.

| Exit code | Meaning |
|---|---|
"""
ACTIONS_HEAD = """# Actions

What a step's `uses` can name. *Best proof* is the highest grade an action can ever reach: `verified-effect` (a probe
was refused), `verified-config` (read back) or `unverified`. *Permissions* are the least it needs in each system.
`firedoor actions show ACTION` says the same.
"""


def commands() -> str:
    codes = "".join(f"| {code:d} | {meaning} |\n" for code, meaning in MEANING.items())
    return COMMANDS_HEAD + codes + "".join(map(_command, COMMANDS))


def _command(command: Command) -> str:
    help, _, _ = help_of(command).partition("\nexit codes:")  # they stand at the top of the page
    return f"\n## firedoor {command.name}\n\n```text\n{help.rstrip()}\n```\n"


def actions() -> str:
    return ACTIONS_HEAD + "".join(f"{line}\n" for action in registry().values() for line in _action(action))


def _action(action: Action) -> Iterator[str]:
    told = facts(action)
    yield from ("", f"## {action.id}", "", told["about"], "")
    yield "| Contains | Best proof | Can be undone | Version |"
    yield "|---|---|---|---|"
    yield f"| {_yes(action.containing)} | {action.best_grade.label} | {_yes(action.undoable)} | {action.version} |"
    yield from ("", "| Parameter | Kind | Default | Meaning |", "|---|---|---|---|")
    for one in told["params"]:
        kind = ", ".join(f"`{choice}`" for choice in one["choices"]) or one["kind"]
        default = "none" if one["default"] in (None, "") else f"`{one['default']}`"
        default = "required" if one["required"] else default
        yield f"| `{one['name']}` | {kind} | {default} | {one['doc'].replace('|', chr(92) + '|')} |"
    yield ""
    yield f"Outputs: {', '.join(f'`{name}`' for name in told['outputs']) or 'none'}."
    for system, names in told["permissions"].items():
        yield from ("", f"Permissions in {system}: {', '.join(f'`{name}`' for name in names) or 'none'}.")
    yield from ("", "```yaml", told["example"], "```")


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"


PAGES = {"commands": commands, "actions": actions}

if __name__ == "__main__":
    sys.stdout.write(PAGES[sys.argv[1]]())
