"""Codes by which persons prove themselves, the same at every door: TOTP, each good for one thing.

A code counts once. Five wrong ones within five minutes lock that person's codes for five minutes, on every replica: the
tries are kept in the store. The code itself is kept nowhere.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from enum import Enum

import pyotp

from bot.config import SecretRef, resolve
from bot.config.people import People
from bot.engine.responder import Responder
from bot.errors import ConfigError

TOTP = "totp"  # as the record and approval rules name it
TRIES, LOCK = 5, timedelta(minutes=5)
CODE_LIVES = timedelta(minutes=2)  # a code is good for 90 s: its own half minute and the ones beside it
_CODE = re.compile(r"[0-9]{6}")


class Proof(Enum):
    GOOD = "good"
    WRONG = "wrong"
    USED = "used"
    LOCKED = "locked"

    @property
    def why(self) -> str:
        """What to tell the person; '' where it is good."""
        match self:
            case Proof.LOCKED:
                return f"Too many wrong codes: codes of this person are refused for {LOCK.seconds // 60} minutes."
            case Proof.USED:
                return "This code was used already: wait for the next one."
            case Proof.WRONG:
                return "The person or the code is wrong."
        return ""


def codes_of(people: People, person: str, secret: Callable[[SecretRef], str] = resolve) -> pyotp.TOTP | None:
    """None where the person has none. `secret` is read anew each time, so that one can be changed without a restart.
    Raises ConfigError for one that cannot be used."""
    found = people.persons.get(person)
    if found is None or found.totp is None:
        return None
    try:
        codes = pyotp.TOTP(secret(found.totp))
        codes.generate_otp(0)
    except binascii.Error:
        raise ConfigError("people.yaml", f"the TOTP secret {found.totp} is not Base32.") from None
    return codes


def prove(responder: Responder, person: str, codes: pyotp.TOTP | None, code: str) -> Proof:
    """Whether this is the person's code now; kept in the store, so that no replica takes it again."""
    tx, now = responder.tx, responder.now
    if tx.recall(f"totp-locked:{person}", now) is not None:
        return Proof.LOCKED
    if codes is None:
        return Proof.WRONG
    step = _step(codes, code, now)
    if step is not None:
        return Proof.GOOD if tx.seen(f"totp:{person}:{step}", now, now + CODE_LIVES) is None else Proof.USED
    free = (n for n in range(1, TRIES + 1) if tx.seen(f"totp-wrong:{person}:{n}", now, now + LOCK) is None)
    if next(free, TRIES) == TRIES:
        tx.seen(f"totp-locked:{person}", now, now + LOCK)
    return Proof.WRONG


def _step(codes: pyotp.TOTP, code: str, now: datetime) -> int | None:
    """Which half minute a code belongs to, if it is this one or one beside it."""
    if not _CODE.fullmatch(code):
        return None
    here = codes.timecode(now)
    steps = (here, here - 1, here + 1)
    return next((step for step in steps if pyotp.utils.strings_equal(codes.generate_otp(step), code)), None)
