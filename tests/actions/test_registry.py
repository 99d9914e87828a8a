"""Every action, walked: its example is a step that it would take."""

import pytest
import yaml

from bot.actions import Action, registry
from bot.domain.outcome import Grade


@pytest.mark.parametrize("action", registry().values(), ids=list(registry()))
def test_the_example_is_a_step_of_this_action(action: Action):
    step = yaml.safe_load(action.example)
    arguments, params = step["with"], {param.name: param for param in action.params}
    assert step["uses"] == action.id
    assert set(arguments) <= set(params)
    assert {name for name, param in params.items() if param.required} <= set(arguments)
    assert all(value in params[name].choices for name, value in arguments.items() if params[name].choices)
    assert not step.get("contains") or action.containing
    assert action.undoable or step.get("irreversible")


@pytest.mark.parametrize("action", registry().values(), ids=list(registry()))
def test_what_stands_in_the_reference_is_there(action: Action):
    assert action.__doc__
    assert action.outputs
    assert action.permissions
    assert all(param.doc or param.choices for param in action.params)
    assert action.best_grade >= Grade.CONFIG or not action.containing, "a containing step is read back at the least"
