"""Decisions waiting to be performed: claimed by one replica at a time, under a lease."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from bot.domain.decisions import Queued
from bot.store import codec, tables
from bot.store.database import Row, as_list
from bot.store.session import Session, maybe_moment, micros, moment


@dataclass(frozen=True, slots=True)
class Claim:
    """A decision in the outbox. `claims` counts the performers that took it, the enqueuing one included: above 1, an
    earlier one may have performed it and crashed. Lower `priority` goes first."""

    decision: Queued
    stream: str
    claims: int
    enqueued_at: datetime
    not_before: datetime
    priority: int = 0
    owner: str | None = None


_COLUMNS = (
    "outbox.body, outbox.stream, outbox.claims, outbox.enqueued_at, outbox.not_before, outbox.priority, outbox.owner"
)
_CLAIM = """WITH due AS MATERIALIZED (
        SELECT id FROM outbox
        WHERE not_before <= :now AND (owner IS NULL OR lease_until < :now OR owner IN ({items}))
        ORDER BY priority, not_before LIMIT :limit {lock})
    UPDATE outbox SET owner = :owner, lease_until = :lease, claims = claims + 1
    WHERE id IN (SELECT id FROM due) RETURNING {columns}"""


class Outbox(Session):
    def enqueue(
        self,
        decision: Queued,
        *,
        stream: str,
        priority: int,
        owner: str | None,
        lease_until: datetime | None,
        not_before: datetime,
    ) -> None:
        """With an `owner` the decision is claimed from the start."""
        lease = None if lease_until is None else micros(lease_until)
        body = json.dumps(codec.encode_decision(decision), ensure_ascii=False)
        claims = 0 if owner is None else 1
        times = (micros(not_before), micros(self.now()))
        row = (decision.id, stream, priority, owner, lease, *times, claims, body)
        self._wait(tables.outbox, decision.id, row)

    def dequeue(self, ids: Iterable[str]) -> set[str]:
        """Takes decisions out; returns the ids that were still there."""
        self._must_write()
        self._settle(tables.outbox)
        rows = self._rows(
            f"DELETE FROM outbox WHERE id IN ({self._database.json_items}) RETURNING id", {"ids": as_list(ids)}
        )
        return {row[0] for row in rows}

    def claim(self, owner: str, lease_until: datetime, limit: int, *, dead: tuple[str, ...] = ()) -> tuple[Claim, ...]:
        """Takes up to `limit` due decisions that nobody holds, whose lease ran out, or whose owner is dead."""
        self._must_write()
        self._settle(tables.outbox)
        sql = _CLAIM.format(items=self._database.json_items, lock=self._database.claim_lock, columns=_COLUMNS)
        values = {"now": micros(self.now()), "owner": owner, "lease": micros(lease_until), "limit": limit}
        return _claims(self._rows(sql, values | {"ids": as_list(dead)}))

    def postpone(
        self, id: str, not_before: datetime, owner: str | None = None, *, left: bool = False, holder: str | None = None
    ) -> None:
        """Not performed, and not before then. Without an owner the claim is handed back, and not counted unless it may
        have `left` all the same. With a `holder` only where that replica has it still: nobody hands back a peer's."""
        self._must_write()
        self._settle(tables.outbox)
        self._run(
            """UPDATE outbox SET not_before = :not_before, owner = :owner,
                lease_until = CASE WHEN :kept THEN lease_until ELSE NULL END,
                claims = CASE WHEN :kept OR :left OR claims = 0 THEN claims ELSE claims - 1 END
                WHERE id = :id AND (:anybodys OR owner = :holder)""",
            {
                "id": id,
                "not_before": micros(not_before),
                "owner": owner,
                "kept": owner is not None,
                "left": left,
                "anybodys": holder is None,
                "holder": holder,
            },
        )

    def renew_leases(self, owner: str, lease_until: datetime, ids: Iterable[str] | None = None) -> None:
        """Of all that an owner holds, or of these: what it has no longer in hand comes free."""
        self._must_write()
        self._settle(tables.outbox)
        sql, values = "UPDATE outbox SET lease_until = :lease WHERE owner = :owner", {"owner": owner}
        if ids is not None:
            sql, values = f"{sql} AND id IN ({self._database.json_items})", values | {"ids": as_list(ids)}
        self._run(sql, {**values, "lease": micros(lease_until)})

    def holder(self, id: str) -> str | None:
        """Who holds a decision now; None where nobody does, or where it is settled."""
        self._settle(tables.outbox)
        row = self._row("SELECT owner FROM outbox WHERE id = :id", {"id": id})
        return row[0] if row else None

    def claims(self, id: str) -> int:
        """How often a decision was claimed by now; 0 where it is settled."""
        self._settle(tables.outbox)
        row = self._row("SELECT claims FROM outbox WHERE id = :id", {"id": id})
        return int(row[0]) if row else 0

    def disown(self, owner: str, begun: Iterable[str] | None = None) -> None:
        """Lets go of all that a replica holds. Each counts as claimed once, since it may have been performed; those
        that are not among the `begun` do not."""
        self._must_write()
        self._settle(tables.outbox)
        self._run(
            f"""UPDATE outbox SET owner = NULL, lease_until = NULL, claims = CASE WHEN :all OR claims = 0
                OR id IN ({self._database.json_items}) THEN claims ELSE claims - 1 END WHERE owner = :owner""",
            {"owner": owner, "all": begun is None, "ids": as_list(begun or ())},
        )

    def queued(self, stream: str | None = None) -> tuple[Claim, ...]:
        """Everything in the outbox, or one stream's, most urgent first."""
        self._settle(tables.outbox)
        where = "" if stream is None else "WHERE stream = :stream"
        return _claims(self._rows(f"SELECT {_COLUMNS} FROM outbox {where}", {"stream": stream}))

    def backlog(self) -> tuple[int, datetime | None]:
        """How many decisions wait, and since when the oldest does."""
        self._settle(tables.outbox)
        row = self._row("SELECT count(*), min(enqueued_at) FROM outbox") or (0, None)
        return row[0], maybe_moment(row[1])

    def next_queued_at(self) -> datetime | None:
        """When the first decision that nobody holds may be performed."""
        self._settle(tables.outbox)
        row = self._row("SELECT min(not_before) FROM outbox WHERE owner IS NULL")
        return maybe_moment(row[0]) if row else None


def _claims(rows: list[Row]) -> tuple[Claim, ...]:
    claims = [
        Claim(codec.decode_decision(json.loads(body)), stream, count, moment(enqueued), moment(start), priority, owner)
        for body, stream, count, enqueued, start, priority, owner in rows
    ]
    return tuple(sorted(claims, key=lambda claim: (claim.priority, claim.not_before, claim.enqueued_at)))
