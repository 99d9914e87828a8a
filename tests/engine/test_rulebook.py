"""Rules that an incident was frozen with are read whatever became of the actions since."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from bot.actions import Registry
from bot.config import EXAMPLE, load
from bot.config.playbooks import load_playbook
from bot.engine.rulebook import Rulebook
from tests.domain.incidents import ALERT

OLD = """
apiVersion: firedoor/v1
kind: Playbook
id: old
version: 1.0.0
triggers: [{types: [unclassified]}]
steps:
  gone: {uses: aws.no_longer_there, with: {agent: a}}
  changed: {uses: aws.ec2_isolate, with: {instance: i-1}, contains: true}
"""


def test_a_pinned_playbook_is_not_held_against_todays_actions() -> None:
    playbook = load_playbook(OLD, "pinned", None)
    assert list(playbook.steps) == ["gone", "changed"]


def test_what_it_can_no_longer_do_is_an_answer_and_no_crash() -> None:
    catalogue = Registry()
    with pytest.raises(ValueError, match=r"no action .aws\.no_longer_there."):
        catalogue.targets("aws.no_longer_there", {"agent": "a"}, None)
    with pytest.raises(ValueError, match=r"aws\.ec2_isolate needs agent"):
        catalogue.targets("aws.ec2_isolate", {"instance": "i-1"}, None)
    assert not catalogue.undoable("aws.no_longer_there")


def test_the_record_says_in_words_why_this_type_and_playbook() -> None:
    rulebook = Rulebook(load(EXAMPLE), EXAMPLE)
    choice = rulebook.choose(replace(ALERT, types=("data_exposure",)), ALERT.text, None)
    assert choice.playbook
    assert re.fullmatch(r"the rule “'data_exposure' in alert\.types” \(sources\.yaml:\d+\) gives this type", choice.why)
    told = rf"a trigger of the playbook {choice.playbook.id} matches it \(playbooks/[\w-]+\.yaml:\d+\)"
    assert re.fullmatch(rf"{told}(, before [\w, -]+ by its priority)?", choice.because)
    nothing = rulebook.choose(replace(ALERT, types=(), product="nobody", labels={}), ALERT.text, None)
    assert nothing.why == "no classification rule matched"
