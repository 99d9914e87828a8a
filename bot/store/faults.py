"""Streams whose record cannot be read: noted beside the record, for nothing can be appended to it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime

from bot.store import tables
from bot.store.session import Session, maybe_moment, micros

_NAME = "broken/"  # in `meta`, before the stream


@dataclass(frozen=True, slots=True)
class Fault:
    """`told`: the persons reached so far. `again_at`: when they are told next; None once somebody was reached."""

    stream: str
    why: str
    again_at: datetime | None
    told: tuple[str, ...] = ()
    tries: int = 0


class Faults(Session):
    def note_fault(self, stream: str, why: str) -> None:
        """Keeps the first reason of a stream; what is noted already stays as it is."""
        self._must_write()
        value = _text(Fault(stream, why, self.now()))
        self._run(
            "INSERT INTO meta (name, value) VALUES (:name, :value) ON CONFLICT (name) DO NOTHING",
            {"name": _NAME + stream, "value": value},
        )

    def faults(self) -> tuple[Fault, ...]:
        rows = self._rows("SELECT name, value FROM meta WHERE name LIKE :names ORDER BY name", {"names": _NAME + "%"})
        return tuple(_fault(name.removeprefix(_NAME), json.loads(value)) for name, value in rows)

    def change_fault(self, before: Fault, after: Fault | None) -> bool:
        """False where another replica has changed it first. None: the record can be read again."""
        self._must_write()
        known = {"name": _NAME + before.stream, "before": _text(before)}
        if after is None:
            done = self._run("DELETE FROM meta WHERE name = :name AND value = :before", known)
        else:
            change = f"UPDATE {tables.meta.name} SET value = :after WHERE name = :name AND value = :before"
            done = self._run(change, known | {"after": _text(after)})
        return bool(done.rowcount)


def _text(fault: Fault) -> str:
    told = asdict(fault) | {"again_at": micros(fault.again_at) if fault.again_at else None}
    del told["stream"]
    return json.dumps(told, ensure_ascii=False, sort_keys=True)


def _fault(stream: str, told: dict[str, object]) -> Fault:
    again_at = told["again_at"]
    assert again_at is None or isinstance(again_at, int)
    names = told["told"]
    assert isinstance(names, list)
    return Fault(stream, str(told["why"]), maybe_moment(again_at), tuple(map(str, names)), int(str(told["tries"])))
