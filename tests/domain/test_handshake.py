"""How far a mode switch has got, and what an instance's word is worth."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest

from bot.domain.agent import Mode
from bot.domain.events import (
    AckRefused,
    Event,
    HoldReleased,
    InstanceEnrolled,
    InstanceRevoked,
    ModeAcked,
    ModeOrdered,
)
from bot.domain.handshake import (
    MOST_REFUSED,
    TRANSITIONS,
    Ack,
    Fact,
    Instances,
    Stage,
    Why,
    admit,
    apply,
    heard,
    sentence,
    stage,
)
from bot.errors import Refused

NOW = datetime(2026, 1, 5, 10, tzinfo=UTC)
GOOD = Ack("pod-1", 4, "n4", Mode.SHADOW, 118, NOW)


def after(*events: Event) -> Instances:
    state = Instances("instances:7")
    for number, event in enumerate(events):
        admit(state, event)
        state = apply(state, event, NOW + timedelta(seconds=number))
    return state


@pytest.fixture
def ordered() -> Instances:
    return after(
        InstanceEnrolled("7", "pod-1", 1, "sre-1"),
        InstanceEnrolled("7", "pod-2", 1, "sre-1"),
        ModeOrdered("7", Mode.SHADOW, 4, "n4", "INC-1"),
    )


def acked(state: Instances, ack: Ack = GOOD) -> Instances:
    why, event = heard(state, ack)
    assert why is None
    assert event is not None
    return apply(state, event, NOW)


def test_the_table_knows_every_pair_and_contained_stays() -> None:
    assert {stage: set(row) for stage, row in TRANSITIONS.items()} == {stage: set(Fact) for stage in Stage}
    assert all(reached is Stage.CONTAINED for reached in TRANSITIONS[Stage.CONTAINED].values())


def test_no_word_of_the_agent_leads_past_acked() -> None:
    assert stage([]) is Stage.REQUESTED
    assert stage([Fact.ACKED] * 3) is Stage.ACKED
    assert stage([Fact.ACKED, Fact.PASSED]) is Stage.REQUESTED
    for facts in permutations([Fact.ACKED, Fact.PASSED, Fact.ACKED]):
        assert stage(facts) in (Stage.ACKED, Stage.REQUESTED)
    assert stage([Fact.REFUSED, Fact.ACKED]) is Stage.ENFORCED
    assert stage([Fact.REFUSED, Fact.PASSED]) is Stage.REQUESTED
    assert stage([Fact.CUT]) is Stage.CONTAINED


def test_a_good_ack_is_an_entry_once(ordered: Instances) -> None:
    state = acked(ordered)
    assert (state.all["pod-1"].epoch, state.all["pod-1"].mode) == (4, Mode.SHADOW)
    assert heard(state, GOOD) == (None, None)
    stricter = replace(GOOD, mode=Mode.DISABLED)
    assert heard(state, stricter)[1] == ModeAcked("7", "pod-1", 4, Mode.DISABLED, 118, NOW)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"epoch": 5}, Why.AHEAD),
        ({"nonce": "n3"}, Why.NONCE),
        ({"mode": Mode.ADVISORY}, Why.LOOSER),
        ({"mode": Mode.ACTIVE}, Why.LOOSER),
    ],
)
def test_what_cannot_be_taken_is_recorded_once(ordered: Instances, wrong: dict[str, object], why: Why) -> None:
    ack = replace(GOOD, **wrong)  # type: ignore[arg-type]  # fields of Ack
    said, event = heard(ordered, ack)
    assert said is why
    assert isinstance(event, AckRefused)
    state = apply(ordered, event, NOW)
    assert heard(state, ack) == (why, None)
    assert state.all["pod-1"].acked_at is None


def test_a_late_ack_is_refused_and_worth_no_entry(ordered: Instances) -> None:
    assert heard(ordered, replace(GOOD, epoch=3, nonce="n3")) == (Why.STALE, None)


def test_an_ack_whose_effects_go_on_is_an_entry_against_it(ordered: Instances) -> None:
    state = acked(ordered)
    why, event = heard(state, replace(GOOD, last_effect_seq=119))
    assert why is Why.ACTS_ON
    assert isinstance(event, AckRefused)
    state = apply(state, event, NOW)
    assert state.all["pod-1"].acts_on(4)
    assert heard(state, replace(GOOD, last_effect_seq=120)) == (Why.ACTS_ON, None)


def test_nonsense_fills_no_more_than_so_many_entries(ordered: Instances) -> None:
    state = ordered
    for epoch in range(5, 200):
        _, event = heard(state, replace(GOOD, epoch=epoch))
        state = apply(state, event, NOW) if event else state
    assert state.version == ordered.version + MOST_REFUSED


def test_enrolled_anew_it_has_said_nothing(ordered: Instances) -> None:
    state = apply(acked(ordered), InstanceRevoked("7", "pod-1", "sre-1"), NOW)
    assert [one.name for one in state.enrolled] == ["pod-2"]
    with pytest.raises(Refused, match="no enrolled instance 'pod-1'"):
        admit(state, InstanceRevoked("7", "pod-1", "sre-1"))
    with pytest.raises(Refused, match="no enrolled instance"):
        admit(state, ModeAcked("7", "pod-1", 4, Mode.SHADOW, 1, NOW))
    state = apply(state, InstanceEnrolled("7", "pod-1", 2, "sre-1"), NOW)
    assert (state.all["pod-1"].serial, state.all["pod-1"].epoch) == (2, 0)


def test_orders_only_grow_and_foreign_events_are_refused(ordered: Instances) -> None:
    for epoch in (3, 4):
        with pytest.raises(Refused, match="epoch 4 is ordered"):
            admit(ordered, ModeOrdered("7", Mode.ACTIVE, epoch, "x", "INC-2"))
    with pytest.raises(Refused, match="does not belong"):
        admit(ordered, HoldReleased("agent:7", "INC-1", "shadow", "lead"))


def test_the_sentence_names_the_silent_and_the_gateways() -> None:
    evidence = {
        "mode": "shadow",
        "stage": "enforced",
        "instances": 4,
        "acknowledged": 3,
        "silent": ["pod-4"],
        "enforced_by": ["gateway mcp"],
    }
    said = "shadow enforced: 3 of 4 instances acked, pod-4 silent; gateway mcp refused the canary"
    assert sentence(evidence) == said
    alone = evidence | {"stage": "acked", "enforced_by": [], "silent": [], "acknowledged": 4}
    assert sentence(alone) == "shadow acked: 4 of 4 instances acked; nothing that enforces it was tried"
