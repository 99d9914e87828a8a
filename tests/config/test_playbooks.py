from __future__ import annotations

from datetime import timedelta

import pytest

from bot.config.playbooks import load_playbook
from bot.config.reading import ConfigErrors
from bot.domain.expression import Literal, evaluate, render
from bot.domain.outcome import Grade
from bot.domain.playbook import OnError, OnTimeout, Playbook, Retry, Rung
from bot.errors import ConfigError
from tests.config.actions import ACTIONS

HEAD = "apiVersion: firedoor/v1\nkind: Playbook\nid: leak\nversion: 1.2.0\n"
WHOLE = (
    HEAD
    + """\
description: A leak
rung: propose
priority: 7
timeout: 1h30m
triggers:
  - if: ${{ alert.severity_id >= 4 and alert.labels.env == 'prod' and 'x' in alert.title }}
    types: [data_exposure]
concurrency: {group: "agent-${{ agent.id }}", mode: queue}
limits: {runs: 2/10m, targets: 3, targets_percent: 50}
defaults: {timeout: 30s, retry: {attempts: 5, backoff: 1s}}
steps:
  cut:
    uses: vault.revoke_leases
    with: {agent: "${{ agent.id }}", mode: shadow}
    contains: true
    require: verified-config
    approval: {each: {security_team: 1, infra_owner: 2}, timeout: 5m, on_timeout: refuse}
  keep:
    uses: aws.snapshot
    foreach: ${{ alert.resources | selectattr('type', 'eq', 'AWS::EC2::Instance') }}
    with: {instance: "${{ item.uid }}", size: 3, tags: {incident: "${{ incident.id }}"}}
    irreversible: true
    timeout: 10m
    retry: {attempts: 1, max: 1m}
    on_error: continue
  ask:
    after: [keep]
    manual: {assignee: dpo, form: {gone: boolean, how_much: number, where: [here, there]}, due: 20m}
  restore:
    needs: [cut, ask]
    if: ${{ steps.ask.outputs.gone and steps.ask.outputs.where == 'here' and steps.cut.outputs.leases > 0 }}
    uses: aws.snapshot
    with: {instance: i-1}
    rollback: {uses: vault.revoke_leases, with: {agent: "${{ steps.restore.outputs.snapshot }}"}}
  patch:
    needs: [restore]
    uses: aws.snapshot
    foreach: ${{ alert.resources }}
    with: {instance: "${{ item.uid }}"}
    intent: Bring   back
      what was lost.
    impact: Other teams wait.
    cost: 12 EUR
    policy: modify-infra
    approval: {each: {infra_owner: 1}, step_up: totp}
    rollout: {milestones: [1, 10%, 100%]}
    rollback: {uses: vault.revoke_leases, with: {agent: "${{ agent.id }}"}}
on_failure: [{uses: page.escalate}]
"""
)


def load(text: str) -> Playbook:
    return load_playbook(text, "playbooks/leak.yaml", ACTIONS)


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load(text)
    return str(error.value).splitlines()


def step(body: str) -> str:
    """A playbook whose one step `cut` has this body; the body starts at line 7."""
    return HEAD + "steps:\n  cut:\n" + "".join(f"    {line}\n" for line in body.splitlines())


CUT = "uses: vault.revoke_leases\nwith: {agent: a}\n"


def test_the_whole_language() -> None:
    playbook = load(WHOLE)
    assert (playbook.id, playbook.version, playbook.rung, playbook.priority) == ("leak", "1.2.0", Rung.PROPOSE, 7)
    assert playbook.timeout == timedelta(minutes=90)
    assert playbook.limits.per == timedelta(minutes=10)
    assert (playbook.limits.runs, playbook.limits.targets, playbook.limits.targets_percent) == (2, 3, 50)
    assert len(playbook.hash) == 64
    assert list(playbook.steps)[:4] == ["cut", "keep", "ask", "restore"]
    assert [call.uses for call in playbook.on_failure] == ["page.escalate"]

    (trigger,) = playbook.triggers
    assert trigger.types == ("data_exposure",)
    assert trigger.condition is not None
    alert = {"severity_id": 5, "labels": {"env": "prod"}, "title": "an x"}
    assert evaluate(trigger.condition, {"alert": alert}) is True
    assert playbook.concurrency is not None
    assert playbook.concurrency.mode == "queue"
    assert render(playbook.concurrency.group, {"agent": {"id": "agent-7"}}) == "agent-agent-7"

    cut = playbook.steps["cut"]
    assert cut.call is not None
    assert cut.call.arguments["mode"].value == Literal("shadow")
    assert (cut.contains, cut.require, cut.timeout) == (True, Grade.CONFIG, timedelta(seconds=30))
    assert cut.retry == Retry(5, 1.0, 2.0, 30.0)
    assert cut.approval is not None
    assert cut.approval.each == {"security_team": 1, "infra_owner": 2}
    assert cut.approval.on_timeout is OnTimeout.REFUSE
    assert cut.line == 17

    keep = playbook.steps["keep"]
    assert (keep.irreversible, keep.on_error, keep.timeout) == (True, OnError.CONTINUE, timedelta(minutes=10))
    assert keep.retry == Retry(1, 1.0, 2.0, 60.0)

    ask = playbook.steps["ask"]
    assert ask.manual is not None
    assert ask.manual.form == {"gone": "boolean", "how_much": "number", "where": ("here", "there")}
    assert ask.after == ("keep",)
    assert playbook.steps["restore"].rollback is not None


def test_a_rollout_is_a_step_for_each_milestone() -> None:
    steps = load(WHOLE).steps
    stages = [steps[name] for name in ("patch@1", "patch@10%", "patch")]
    assert [*steps][-3:] == [stage.id for stage in stages]
    assert [stage.needs for stage in stages] == [("restore",), ("patch@1",), ("patch@10%",)]
    for stage in stages:
        assert stage.approval is not None
        assert (stage.approval.step_up, stage.stage is not None, stage.rollback is not None) == ("totp", True, True)
        assert (stage.intent, stage.impact) == ("Bring back what was lost.", "Other teams wait.")
        assert (stage.cost, stage.policy) == ("12 EUR", "modify-infra")
    for count, parts in (
        (25, [[0], [1, 2], [*range(3, 25)]]),
        (3, [[0], [], [1, 2]]),
        (1, [[0], [], []]),
        (0, [[], [], []]),
    ):
        assert [[*stage.stage.part(count)] for stage in stages if stage.stage] == parts


def test_the_hash_is_of_the_bytes() -> None:
    assert load(WHOLE).hash == load_playbook(WHOLE.encode(), "elsewhere", ACTIONS).hash != load(WHOLE + "\n").hash


def test_a_message_says_what_and_where_and_what_to_do() -> None:
    assert problems(step("uses: vault.revoke\nwith: {agent: a}")) == [
        "playbooks/leak.yaml:7: unknown action 'vault.revoke'. Did you mean 'vault.revoke_leases'?"
    ]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (CUT + "contain: true", "9: unknown key 'contain' in step 'cut'. Did you mean 'contains'?"),
        ("uses: vault.revoke_leases", "7: 'vault.revoke_leases' needs the parameter 'agent'."),
        (
            "uses: vault.revoke_leases\nwith: {agnt: a}",
            "8: 'vault.revoke_leases' has no parameter 'agnt'. Did you mean",
        ),
        ("uses: vault.revoke_leases\nwith: {agent: 7}", "8: 'agent' must be a string."),
        ("uses: vault.revoke_leases\nwith: {agent: a, mode: shadwo}", "8: 'mode' is 'shadwo', which is none of shadow"),
        ("uses: aws.snapshot\nirreversible: true\nwith: {instance: i, size: big}", "9: 'size' must be an integer."),
        ("uses: aws.snapshot\nirreversible: true\nwith: {instance: i, size: true}", "9: 'size' must be an integer."),
        ("uses: aws.snapshot\nirreversible: true\nwith: {instance: i, tags: [a]}", "9: 'tags' must be a mapping."),
        ("uses: aws.snapshot\nwith: {instance: i}", "7: 'aws.snapshot' cannot be undone. Say so: add 'irreversible"),
        (
            "uses: aws.snapshot\nwith: {instance: i}\nirreversible: true\ncontains: true",
            "10: 'aws.snapshot' contains nothing.",
        ),
        (
            CUT + "contains: true\nrequire: verified-effect",
            "10: 'vault.revoke_leases' never reaches 'verified-effect'.",
        ),
        (CUT + "require: verified-config", "9: 'require' is for steps with 'contains: true'."),
        (CUT + "contains: true\nrequire: verified", "10: 'require' is 'verified', which is none of unverified,"),
        (
            CUT + "contains: true\nrollback: {uses: vault.revoke_leases, with: {agent: a}}",
            "10: a containing step is never rolled back.",
        ),
        (CUT + "needs: [kut]", "9: step 'cut' waits for an unknown step 'kut'. Did you mean 'cut'?"),
        (CUT + "needs: [cut]", "7: steps wait for each other: cut <- cut."),
        (CUT + "timeout: 2 minutes", "9: 'timeout' is '2 minutes', not a duration. Write it like"),
        (CUT + "timeout: 0s", "9: 'timeout' must be longer than nothing."),
        (CUT + "timeout: 30", "9: 'timeout' is '30', not a duration."),
        (CUT + "retry: {attempts: 0}", "9: 'attempts' is 0; it must be between 1 and 50."),
        (CUT + "retry: {jitter: none}", "9: 'jitter' is 'none', which is none of full."),
        (CUT + "on_error: ignore", "9: 'on_error' is 'ignore', which is none of fail, continue."),
        (CUT + "contains: yes", "9: 'contains' must be true or false."),
        (CUT + "approval: {each: {}}", "9: an approval names its groups."),
        (CUT + "approval: {each: {a: 0}}", "9: 'a' is 0; it must be between 1 and 20."),
        (CUT + "approval: {each: {a: 1}, step_up: sms}", "9: 'step_up' is 'sms', which is none of totp."),
        (CUT + f"cost: {'x' * 301}", "9: 'cost' has 301 characters; people read 300 at most."),
        (CUT + "rollout: {milestones: [1, 100%]}", "9: a rollout needs 'foreach'. It asks at each milestone"),
        (CUT + "rollout: {milestones: [1, 50%]}", "9: the last milestone is 100%."),
        (CUT + "rollout: {milestones: [0, 100%]}", "9: '0' is no milestone."),
        (CUT + "rollout: {milestones: [20%, 10%, 100%]}", "9: 20%, 10% and 100% do not grow."),
        (CUT + "rollout: {milestones: [100%]}\ncontains: true", "9: a containing step waits for nothing"),
        (
            "uses: aws.snapshot\nwith: {instance: i}\nrollout: {milestones: [100%]}\n"
            "rollback: {uses: vault.revoke_leases, with: {agent: '${{ steps.cut.outputs.snapshot }}'}}",
            "10: each stage is taken back alone: it cannot read steps.cut.",
        ),
        (CUT + "contains: true\nunproved: {after: 1m}", "10: 'unproved' names the steps that run without proof."),
        (CUT + "contains: true\nunproved: {after: 0s, then: [cut]}", "10: 'after' must be longer than nothing."),
        (CUT + "contains: true\nunproved: {then: [kut]}", "10: step 'cut' names an unknown step 'kut'. Did you mean"),
        (CUT + "contains: true\nunproved: {then: [cut]}", "7: steps wait for each other: cut <- cut."),
        (CUT + "contains: true\nunproved: {then: [cut, cut]}", "10: 'cut' stands twice in 'then'."),
        (CUT + "contains: true\nunproved: {them: [cut]}", "10: unknown key 'them'"),
        (CUT + "contains: true\nunproved: [cut]", "10: 'unproved'"),
        (CUT + "unproved: {then: [cut]}", "9: 'unproved' is for steps with 'contains: true'."),
        ("manual: {assignee: dpo}\nunproved: {then: [cut]}", "8: a manual step has no 'unproved'."),
        ("manual: {assignee: dpo}\nintent: a", "8: a manual step has no 'intent'."),
        (
            CUT + "if: ${{ alert.sevrity_id > 3 }}",
            "9: alert.sevrity_id: there is no",
        ),
        (CUT + "if: ${{ alert.title == 'x' }}", "9: alert.title: there is no 'title'."),
        (CUT + "if: ${{ item.uid == 'x' }}", "9: 'item' is not known here."),
        (CUT + "if: ${{ agnt.id == 'x' }}", "9: 'agnt' is not known here. Did you mean 'agent'?"),
        (CUT + "if: ${{ alert.rule | lowr == 'x' }}", "9: unknown filter 'lowr'. Did you mean 'lower'?"),
        (CUT + "if: ${{ alert.rule.lower() == 'x' }}", "9: nothing can be called in an expression."),
        (
            CUT + "if: ${{ agent.vault.entity == 'x' }}",
            "9: agent.vault.entity: there is no 'entity'. Did you mean 'entity_id'?",
        ),
        (CUT + "if: [a]", "9: 'if' must be an expression."),
        (CUT + "foreach: ${{ alert.resources | selectattr('typ', 'eq', 'x') }}", "9: an element of alert.resources"),
        (CUT + "if: ${{ alert.resources.uid == 'x' }}", "9: alert.resources.uid: a list has no 'uid'."),
        (CUT + "if: ${{ form.gone }}", "9: 'form' is not known here."),
        ("uses: page.escalate", "7: 'page.escalate' stands in on_failure only."),
        ("needs: []", "7: step 'cut' needs either 'uses' or 'manual'."),
        (CUT + "manual: {assignee: dpo}", "7: step 'cut' needs either 'uses' or 'manual'."),
        ("manual: {assignee: dpo}\ncontains: true", "8: a manual step has no 'contains'."),
        ("manual: {form: {a: boolean}}", "7: 'assignee' is missing in a manual step."),
        ("manual: {assignee: dpo, form: {a: bool}}", "7: the form field 'a' has no known kind."),
        ("uses: vault.revoke_leases\nwith: {agent: '${{ agent.id'}", "8: a '${{' is not closed by '}}'."),
    ],
)
def test_refused_steps(body: str, message: str) -> None:
    assert any(line.startswith(f"playbooks/leak.yaml:{message}") for line in problems(step(body))), problems(step(body))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD, "a playbook needs at least one step."),
        (step(CUT).replace("1.2.0", "1.2"), ":4: the version '1.2' is not like 1.2.0."),
        (step(CUT).replace("id: leak", "id: Leak!"), ":3: 'Leak!' is not a name."),
        (step(CUT).replace("id: leak\n", ""), "'id' is missing in the playbook."),
        (step(CUT).replace("Playbook", "Runbook"), ":2: 'kind' is 'Runbook', which is none of Playbook."),
        (step(CUT) + "trigger: []\n", ":9: unknown key 'trigger' in the playbook. Did you mean 'triggers'?"),
        (step(CUT) + "triggers: [{}]\n", ":9: a trigger needs 'types' or 'if'."),
        (step(CUT) + "triggers: [{if: incident.id}]\n", ":9: 'incident' is not known here."),
        (step(CUT) + "limits: {runs: 5}\n", ":9: 'runs' is '5'. Write a number per duration, like 5/1h."),
        (step(CUT) + "limits: {targets_percent: 101}\n", ":9: 'targets_percent' is 101"),
        (step(CUT) + "rung: dream\n", ":9: 'rung' is 'dream'"),
        (step(CUT) + "on_failure: [{uses: page.escalate, with: {a: 1}}]\n", "'page.escalate' takes no arguments."),
        (step(CUT) + "steps: {}\n", ":9: the key 'steps' stands twice"),
        (step(CUT).replace("  cut:", "  Cut:"), ":7: 'Cut' is not a name."),
        ("[]", ":1: the playbook must be a mapping."),
    ],
)
def test_refused_playbooks(text: str, message: str) -> None:
    assert any(message in line for line in problems(text)), problems(text)


def test_a_step_reads_only_what_is_settled_before_it() -> None:
    text = HEAD + (
        "steps:\n"
        "  one: {uses: vault.revoke_leases, with: {agent: a}}\n"
        "  two: {uses: vault.revoke_leases, with: {agent: '${{ steps.one.outputs.leases ~ 1 }}'}}\n"
    )
    assert problems(text) == [
        "playbooks/leak.yaml:7: step 'two' reads steps.one, which may run later. Add 'one' to its 'needs' or 'after'."
    ]
    through = text.replace("agent: a}}", "agent: a}}\n  mid: {after: [one], manual: {assignee: dpo}}")
    assert load(through.replace("two: {", "two: {needs: [mid], ")).steps["two"].needs == ("mid",)


def test_unknown_outputs_of_a_step() -> None:
    text = HEAD + (
        "steps:\n"
        "  one: {uses: vault.revoke_leases, with: {agent: a}}\n"
        "  two: {needs: [one], if: '${{ steps.one.outputs.lease }}', manual: {assignee: dpo}}\n"
        "  three: {needs: [one], if: '${{ steps.onee.status }}', manual: {assignee: dpo}}\n"
    )
    assert problems(text) == [
        "playbooks/leak.yaml:7: steps.one.outputs.lease: there is no 'lease'. Did you mean 'leases'?",
        "playbooks/leak.yaml:8: steps.onee: there is no 'onee'. Did you mean 'one'?",
    ]


def test_a_cycle_is_named() -> None:
    text = HEAD + (
        "steps:\n"
        "  a: {needs: [b], manual: {assignee: dpo}}\n"
        "  b: {after: [c], manual: {assignee: dpo}}\n"
        "  c: {needs: [a], manual: {assignee: dpo}}\n"
    )
    (line,) = problems(text)
    assert "steps wait for each other: " in line
    assert line.count("<-") == 3


def test_everything_is_reported_at_once() -> None:
    text = step(CUT + "contain: true\ntimeout: soon") + "rung: dream\n"
    with pytest.raises(ConfigErrors) as error:
        load(text)
    assert len(error.value.problems) == 3
