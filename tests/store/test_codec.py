"""Every event and decision comes back from plain JSON equal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, get_type_hints

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.domain.events import Acknowledged, ActionSettled, Linked, Verb
from bot.domain.outcome import Done, Grade
from bot.domain.record import SCHEMA
from bot.errors import FutureEntry, RecordBroken
from bot.store import codec, seal

TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
INTEGERS = st.integers(-(2**53) + 1, 2**53 - 1)
SCALARS = st.booleans() | INTEGERS | FLOATS | TEXTS
JSON = st.recursive(
    st.none() | SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
TIMES = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - made aware

st.register_type_strategy(str, TEXTS)
st.register_type_strategy(int, INTEGERS)
st.register_type_strategy(float, FLOATS)
st.register_type_strategy(datetime, TIMES)


def instances(kind: type) -> st.SearchStrategy[Any]:
    """Any instance of a class of the record, with JSON wherever a field is a free mapping."""
    return st.builds(kind, **{name: _values(hint) for name, hint in get_type_hints(kind).items()})


def _values(hint: Any) -> st.SearchStrategy[Any]:
    free = st.dictionaries(TEXTS, JSON, max_size=3)
    if hint == Mapping[str, Any]:
        return free
    if hint == Mapping[str, Any] | None:
        return st.none() | free
    if getattr(hint, "__dataclass_fields__", None) is not None:
        return instances(hint)
    arguments = getattr(hint, "__args__", ())
    if any(getattr(argument, "__dataclass_fields__", None) is not None for argument in arguments):
        if getattr(hint, "__origin__", None) is tuple:
            return st.lists(_values(arguments[0]), max_size=2).map(tuple)
        if getattr(hint, "__origin__", None) is None:
            return st.one_of(*(_values(argument) for argument in arguments))
    return st.from_type(hint)


@pytest.mark.parametrize("kind", codec.EVENTS.values(), ids=codec.EVENTS)
def test_event_round_trips(kind: type) -> None:
    @settings(max_examples=15, deadline=None, database=None)
    @given(instances(kind))
    def check(event: Any) -> None:
        body = seal.canonical(codec.encode(event, ()))
        assert codec.decode(seal.parse(body.decode())) == (event, ())

    check()


@pytest.mark.parametrize("kind", codec.DECISIONS.values(), ids=codec.DECISIONS)
def test_decision_round_trips(kind: type) -> None:
    @settings(max_examples=15, deadline=None, database=None)
    @given(instances(kind))
    def check(decision: Any) -> None:
        body = seal.canonical(codec.encode(Linked("INC-1"), (decision, decision)))
        assert codec.decode(seal.parse(body.decode())) == (Linked("INC-1"), (decision, decision))
        alone = json.dumps(codec.encode_decision(decision))
        assert codec.decode_decision(json.loads(alone)) == decision

    check()


@settings(max_examples=400, deadline=None, database=None)
@given(st.dictionaries(st.text(st.characters(codec="utf-8", min_codepoint=0x20), max_size=3), JSON, max_size=4))
def test_canonical_bytes_are_rfc_8785(value: dict[str, Any]) -> None:
    assert seal.canonical(value) == rfc8785.dumps(value)


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        -0.0,
        1e-7,
        0.00001,
        1e16,
        1e21,
        123456789012345.5,
        5e-324,
        0.1,
        -2.5,
        [1.0, 2],
        {"\ue000": 1, "\U0001f600": 2},
    ],
)
def test_canonical_numbers_and_keys_are_rfc_8785(value: Any) -> None:
    assert seal.canonical({"a": value, "b": [value]}) == rfc8785.dumps({"a": value, "b": [value]})


def test_times_are_utc_with_microseconds_and_never_naive() -> None:
    time = datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    assert codec.time_text(time) == "2026-03-01T10:00:00.000000Z"
    with pytest.raises(ValueError, match="naive"):
        codec.time_text(datetime(2026, 3, 1))  # noqa: DTZ001 - that is the point


@pytest.mark.parametrize("value", [{1: "a"}, {"a": {2: "b"}}, {"a": object()}, {"a": {"x"}}, {"a": b"x"}])
def test_what_would_not_come_back_equal_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        codec.plain(value)


def test_enums_and_unions_in_the_body() -> None:
    fields = codec.encode(ActionSettled("INC-1/1.0", "a", "0:x", Verb.UNDO, Done(Grade.EFFECT)), ())
    assert fields["type"] == "ActionSettled"
    assert fields["event"]["verb"] == "undo"
    assert fields["event"]["outcome"] == {"_type": "Done", "grade": 2, "evidence": {}, "undo": None, "nothing_held": ""}


def test_a_newer_entry_is_from_the_future_and_a_misshapen_one_broken() -> None:
    fields = codec.encode(Acknowledged("p-1", "cli"), ())
    with pytest.raises(FutureEntry, match="Adjourned"):
        codec.decode(fields | {"type": "Adjourned"})
    with pytest.raises(FutureEntry, match=f"schema {SCHEMA + 1}"):
        codec.decode(fields | {"schema": SCHEMA + 1})
    for event in ({"by": "p-1"}, {"by": "p-1", "via": "cli", "extra": 1}):
        with pytest.raises(RecordBroken, match="Acknowledged"):
            codec.decode(fields | {"event": event})


def test_an_old_schema_goes_through_its_upcaster(monkeypatch: pytest.MonkeyPatch) -> None:
    old = SCHEMA - 1
    monkeypatch.setitem(codec.UPCASTERS, ("Acknowledged", old), lambda fields: fields | {"via": "slack"})
    body = {"type": "Acknowledged", "schema": old, "event": {"by": "p-1"}, "decisions": []}
    assert codec.decode(body) == (Acknowledged("p-1", "slack"), ())
