"""Events and decisions to plain JSON values and back, exactly.

Fields are written out in full, so that a default that changes later never changes what an old entry says. Times are
RFC 3339 in UTC with microseconds, enums their value, tuples lists; a member of a union carries its class in `_type`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, cast, get_args

from cattrs import BaseValidationError, Converter
from cattrs.errors import ForbiddenExtraKeysError
from cattrs.strategies import configure_tagged_union

from bot.domain.decisions import Decision, Queued
from bot.domain.events import Event
from bot.domain.outcome import Outcome
from bot.domain.record import SCHEMA
from bot.errors import FutureEntry, RecordBroken

TAG = "_type"
Fields = dict[str, Any]
Scalar = bool | int | float | str

# (type, schema) -> how that schema's fields become the next one's. Pure, never removed: old ones are never rewritten.
UPCASTERS: dict[tuple[str, int], Callable[[Fields], Fields]] = {}


def time_text(time: datetime) -> str:
    """`2026-01-31T10:00:00.000000Z`. Raises ValueError for a naive time."""
    if time.tzinfo is not UTC:
        if time.tzinfo is None:
            raise ValueError(f"{time!r} is naive: the record holds aware UTC times only")
        time = time.astimezone(UTC)
    return time.isoformat(timespec="microseconds")[:-6] + "Z"


def plain(value: Any) -> Any:
    """A free JSON value (evidence, parameters), checked: what cannot come back equal after a replay is refused."""
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return value
    if kind is float:
        return _number(value)
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"a mapping in the record needs text keys, not {[*value]!r}")
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value)
    raise TypeError(f"{kind.__name__} is not a JSON value: {value!r}")


def encode(event: Event, decisions: tuple[Decision, ...]) -> Fields:
    """`{type, schema, event: {...}, decisions: [{_type, ...}, ...]}`."""
    name = type(event).__name__
    return {
        "type": name,
        "schema": SCHEMA,
        "event": _WRITE[name](event),
        "decisions": [_tagged(decision) for decision in decisions],
    }


def decode(body: Mapping[str, Any]) -> tuple[Event, tuple[Decision, ...]]:
    """The inverse, through the upcasters where `schema` is older. Raises FutureEntry for a type or schema of a newer
    release, RecordBroken where the fields do not fit."""
    schema = body["schema"]
    event = _read(body["type"], schema, body["event"], EVENTS)
    return event, tuple(_untagged(fields, schema) for fields in body["decisions"])


def encode_decision(decision: Queued) -> Fields:
    return {"schema": SCHEMA, "decision": _tagged(decision)}


def decode_decision(body: Mapping[str, Any]) -> Queued:
    return cast(Queued, _untagged(body["decision"], body["schema"]))


def _number(value: float) -> float | int:
    """Whole floats as integers: JCS writes them alike, and equal they come back."""
    whole = float(value).is_integer() and -(2**53) < value < 2**53
    return int(value) if whole else value


def _tagged(decision: Decision) -> Fields:
    name = type(decision).__name__
    fields = _WRITE[name](decision)
    fields[TAG] = name
    return fields


def _untagged(fields: Mapping[str, Any], schema: int) -> Decision:
    rest = dict(fields)
    return cast(Decision, _read(rest.pop(TAG), schema, rest, DECISIONS))


def _read(name: str, schema: int, fields: Fields, known: Mapping[str, type]) -> Any:
    if schema > SCHEMA or name not in known:
        raise FutureEntry(f"{name!r} of schema {schema} was written by a newer release (this one reads up to {SCHEMA})")
    for step in range(schema, SCHEMA):
        upcast = UPCASTERS.get((name, step))
        fields = upcast(fields) if upcast else fields
    try:
        return _READ[name](fields, known[name])
    except (BaseValidationError, ForbiddenExtraKeysError, KeyError, TypeError, ValueError) as error:
        raise RecordBroken(f"the fields of {name!r} (schema {schema}) cannot be read: {error!r}") from error


def _is_free(kind: Any) -> bool:
    return kind in (Mapping[str, Any], Scalar)


def _converter() -> Converter:
    converter = Converter(
        detailed_validation=False, forbid_extra_keys=True, unstruct_collection_overrides={tuple: list}
    )
    converter.register_unstructure_hook(datetime, time_text)
    converter.register_structure_hook(datetime, lambda text, _: datetime.fromisoformat(text))
    converter.register_unstructure_hook(float, _number)
    converter.register_unstructure_hook_func(_is_free, plain)
    converter.register_structure_hook_func(_is_free, lambda value, _: value)
    configure_tagged_union(Outcome, converter, tag_name=TAG)
    return converter


EVENTS: dict[str, type] = {kind.__name__: kind for kind in get_args(Event)}
DECISIONS: dict[str, type] = {kind.__name__: kind for kind in get_args(Decision)}
CONVERTER = _converter()
_WRITE: dict[str, Callable[[Any], Fields]] = {
    name: CONVERTER.get_unstructure_hook(kind) for name, kind in (EVENTS | DECISIONS).items()
}
_READ: dict[str, Callable[[Any, Any], Any]] = {
    name: CONVERTER.get_structure_hook(kind) for name, kind in (EVENTS | DECISIONS).items()
}
