"""What spans incidents: numbers, concurrency groups, and how often something ran."""

from __future__ import annotations

from datetime import datetime

from bot.store import tables
from bot.store.session import Session, micros


class Permits(Session):
    def next_number(self, name: str, count: int = 1) -> int:
        """The next of a counter, from 1; with `count` the first of that many. Gapless: a rollback gives it back."""
        self._must_write()
        row = self._row(
            """INSERT INTO counters (name, value) VALUES (:name, :count)
            ON CONFLICT (name) DO UPDATE SET value = counters.value + excluded.value RETURNING value""",
            {"name": name, "count": count},
        )
        assert row  # RETURNING always answers
        return int(row[0]) - count + 1

    def take_group(self, group: str, incident: str, step: str, at: datetime) -> bool:
        """True when the step holds the group; False when it waits for it. Asking again changes nothing."""
        self._must_write()
        self.lock(f"group {group}")
        row = self._row(
            """INSERT INTO groups (name, incident, step, at, holding)
            VALUES (:name, :incident, :step, :at, NOT EXISTS (SELECT 1 FROM groups WHERE name = :name AND holding))
            ON CONFLICT (name, incident, step) DO UPDATE SET at = groups.at RETURNING holding""",
            {"name": group, "incident": incident, "step": step, "at": micros(at)},
        )
        assert row  # RETURNING always answers
        return bool(row[0])

    def end_group(self, incident: str, step: str) -> tuple[str, str, str] | None:
        """The step no longer holds or awaits its group. Returns (incident, step, group) of the longest waiter where
        one holds it now."""
        self._must_write()
        ended = self._row(
            "DELETE FROM groups WHERE incident = :incident AND step = :step RETURNING name, holding",
            {"incident": incident, "step": step},
        )
        if ended is None or not ended[1]:
            return None
        self.lock(f"group {ended[0]}")  # a step that is joining the queue right now is seen by what follows
        row = self._row(
            """UPDATE groups SET holding = :yes WHERE name = :name AND (incident, step) =
                (SELECT incident, step FROM groups WHERE name = :name ORDER BY at, incident, step LIMIT 1)
            RETURNING incident, step, name""",
            {"name": ended[0], "yes": True},
        )
        return (row[0], row[1], row[2]) if row else None

    def add_run(self, key: str, incident: str, at: datetime) -> None:
        self._wait(tables.runs, object(), (key, incident, micros(at)))

    def count_runs(self, key: str, since: datetime) -> int:
        """Runs at or after a moment. Take `lock(key)` first where the answer decides whether to add one."""
        self._settle(tables.runs)
        row = self._row(
            "SELECT count(*) FROM runs WHERE key = :key AND at >= :since", {"key": key, "since": micros(since)}
        )
        return int(row[0]) if row else 0
