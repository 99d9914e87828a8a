"""The record and everything beside it, on SQLite or PostgreSQL."""

from bot.store.entries import Head, StreamRow
from bot.store.faults import Fault
from bot.store.intake import DedupHit, Quarantined, RawAlert, Repeats
from bot.store.outbox import Claim
from bot.store.seal import Signer
from bot.store.store import Store, Transaction

__all__ = [
    "Claim",
    "DedupHit",
    "Fault",
    "Head",
    "Quarantined",
    "RawAlert",
    "Repeats",
    "Signer",
    "Store",
    "StreamRow",
    "Transaction",
]
