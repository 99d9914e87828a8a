"""What can go wrong, by whose doing. Caught once, at the edge that can answer for it."""

from __future__ import annotations


class FiredoorError(Exception):
    """Anything Firedoor raises on purpose. `str(error)` is one line an operator can act on."""


class ConfigError(FiredoorError):
    """A file the operator owns is wrong. `where` is `path:line` (or `path`), `hint` what to do about it."""

    def __init__(self, where: str, problem: str, hint: str = "") -> None:
        self.where, self.problem, self.hint = where, problem, hint
        super().__init__(f"{where}: {problem}" + (f" {hint}" if hint else ""))


class BadAlert(FiredoorError):
    """A payload is not what its source sends. Answered with `status` and this text; never stored half."""

    status: int = 422  # HTTP


class Refused(FiredoorError):
    """`admit` turned an event down before anything was written. `code` is stable, the text is for people. `keep`: what
    this transaction wrote before stands, because it is why the event was turned down (a changed agent, a new request).
    """

    def __init__(self, code: str, why: str, *, keep: bool = False) -> None:
        self.code, self.keep = code, keep
        super().__init__(why)


class Conflict(FiredoorError):
    """Another writer appended first. Load the stream again and retry; the caller never sees this."""


class RecordBroken(FiredoorError):
    """A stored entry does not verify: digest, chain, signature, or what it says. `stream`: whose, where that is known:
    nothing is written to it any more, and operators are paged."""

    def __init__(self, why: str, stream: str = "") -> None:
        self.stream = stream
        super().__init__(why)


class FutureEntry(RecordBroken):
    """An entry that verifies but was written by a newer release: writes to its stream stop, and operators are paged."""


class SystemFailure(FiredoorError):
    """A connected system did not do what was asked. Adapters raise only these; `system` is its name in the config."""

    def __init__(self, system: str, why: str) -> None:
        self.system, self.why = system, why
        super().__init__(f"{system}: {why}")


class Unavailable(SystemFailure):
    """Unreachable, throttled, sealed or behind an open breaker: wait and ask again. `sent` says that the request
    may have been carried out (it left, no answer came). `retry_after` in seconds, where the system named one."""

    def __init__(self, system: str, why: str, *, sent: bool = False, retry_after: float | None = None) -> None:
        self.sent, self.retry_after = sent, retry_after
        super().__init__(system, why)


class Denied(SystemFailure):
    """The system refused the bot's own credential. Asking again does not help until a person changes a policy."""


class Rejected(SystemFailure):
    """The system is up and answered with an error of its own. `retryable` where the next answer may differ."""

    def __init__(self, system: str, why: str, *, retryable: bool = False) -> None:
        self.retryable = retryable
        super().__init__(system, why)
