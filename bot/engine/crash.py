"""Where the crash tests pull the plug. `FIREDOOR_CRASH=<point>:<n>` kills the process, hard, the n-th time it gets
there; unset, as it is everywhere but in those tests, a point costs two comparisons."""

from __future__ import annotations

import os
import signal
from collections import Counter

_point, _, _turn = os.environ.get("FIREDOOR_CRASH", "").rpartition(":")
_passed: Counter[str] = Counter()
_log = os.environ.get("FIREDOOR_CRASH_LOG", "")  # a file that lists the points passed, for finding them all


def point(name: str) -> None:
    if _log:  # one line a point, whichever thread
        with open(_log, "a", encoding="utf-8") as log:
            log.write(name + "\n")
    if not _point:
        return
    _passed[name] += 1
    if name == _point and _passed[name] == int(_turn):
        os.kill(os.getpid(), signal.SIGKILL)
