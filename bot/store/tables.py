"""The store's tables. All times are microseconds since 1970 UTC: exact, and the same on both databases."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, MetaData, Table, Text, text

HEAD = "0002"  # the migration this release needs

metadata = MetaData()

meta = Table("meta", metadata, Column("name", Text, primary_key=True), Column("value", Text, nullable=False))

entries = Table(
    "entries",
    metadata,
    Column("stream", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("type", Text, nullable=False),
    Column("schema", Integer, nullable=False),
    Column("rules", Integer, nullable=False),
    Column("body", Text, nullable=False),  # the signed bytes, as UTF-8 text
    Column("digest", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("signature", Text, nullable=False),
)

streams = Table(  # a disposable view of each stream's state, to list and to wake by
    "streams",
    metadata,
    Column("stream", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("next_due", BigInteger),
    Column("open", Boolean, nullable=False),
    Column("summary", Text, nullable=False),
    Index("streams_kind", "kind", "since"),
    Index("streams_due", "next_due", postgresql_where=text("next_due IS NOT NULL")),
)

open_keys = Table(
    "open_keys",
    metadata,
    Column("key", Text, primary_key=True),
    Column("incident", Text, nullable=False),
    Index("open_keys_incident", "incident"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Text, primary_key=True),
    Column("stream", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("owner", Text),
    Column("lease_until", BigInteger),
    Column("not_before", BigInteger, nullable=False),
    Column("enqueued_at", BigInteger, nullable=False),
    Column("claims", Integer, nullable=False),
    Column("body", Text, nullable=False),
    Index("outbox_next", "priority", "not_before"),
    Index("outbox_stream", "stream"),
)

dedup = Table(
    "dedup",
    metadata,
    Column("key", Text, primary_key=True),
    Column("incident", Text, primary_key=True),
    Column("first", BigInteger, nullable=False),
    Column("last", BigInteger, nullable=False),
    Column("window_end", BigInteger, nullable=False),  # 0 once the incident let go of it
    Column("total", BigInteger, nullable=False),
    Column("reported", BigInteger, nullable=False),
    Column("unreported_since", BigInteger),
    Index("dedup_incident", "incident"),
    Index("dedup_unreported", "unreported_since", postgresql_where=text("unreported_since IS NOT NULL")),
)

keys = Table(  # data keys, wrapped by the master key; an incident may have several, and erasure destroys them all
    "keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("incident", Text, nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
    Index("keys_incident", "incident"),
)

texts = Table(
    "texts",
    metadata,
    Column("artefact", Text, primary_key=True),
    Column("key_id", Text, nullable=False),
    Column("salt", LargeBinary, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
)

alerts = Table(
    "alerts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("source", Text, nullable=False),
    Column("uid", Text, nullable=False),
    Column("dedup_key", Text, nullable=False),
    Column("incident", Text),
    Column("received_at", BigInteger, nullable=False),
    Column("key_id", Text, nullable=False),  # '' is the store's own key
    Column("sealed", LargeBinary, nullable=False),
    Index("alerts_uid", "source", "uid"),
    Index("alerts_incident", "incident", "received_at"),
)

pins = Table(
    "pins",
    metadata,
    Column("hash", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("text", Text, nullable=False),
)

counters = Table(
    "counters", metadata, Column("name", Text, primary_key=True), Column("value", BigInteger, nullable=False)
)

groups = Table(  # concurrency groups: who holds one and who waits for it
    "groups",
    metadata,
    Column("name", Text, primary_key=True),
    Column("incident", Text, primary_key=True),
    Column("step", Text, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("holding", Boolean, nullable=False),
    Index("groups_holder", "name", unique=True, postgresql_where=text("holding"), sqlite_where=text("holding")),
    Index("groups_step", "incident", "step"),
)

runs = Table(
    "runs",
    metadata,
    Column("key", Text, nullable=False),
    Column("incident", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Index("runs_key", "key", "at"),
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("id", Text, primary_key=True),
    Column("source", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
)

seen = Table(
    "seen",
    metadata,
    Column("id", Text, primary_key=True),
    Column("expires", BigInteger, nullable=False),
    Column("answer", Text, nullable=False),
    Index("seen_expires", "expires"),
)

replicas = Table(
    "replicas",
    metadata,
    Column("id", Text, primary_key=True),
    Column("lease_until", BigInteger, nullable=False),
)

leaves = Table(  # the place of each entry in the ledger's log
    "leaves",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("stream", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Index("leaves_entry", "stream", "version", unique=True),
)

sealed = Table(  # how far each stream is in the log
    "sealed", metadata, Column("stream", Text, primary_key=True), Column("version", Integer, nullable=False)
)

turns = Table(  # what one replica does at a time
    "turns",
    metadata,
    Column("name", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("until", BigInteger, nullable=False),
)
