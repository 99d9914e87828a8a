"""Open Policy Agent: where an agent's mode is data, and a decision refuses its side effects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Opa(Protocol):
    """One replica. OPA keeps pushed data in memory: a replica that was started again has lost it."""

    @property
    def name(self) -> str:
        """Of the connection and this replica, for people."""

    def mode(self, agent: str) -> Mapping[str, Any] | None:
        """The document at `data.agents.<agent>.mode`; None where there is none. Rejected where something else is."""

    def set_mode(self, agent: str, document: Mapping[str, Any]) -> None:
        """Replaces it. Rejected, not retryable, where a bundle owns the path: OPA takes no pushed data there."""

    def refuses(self, agent: str, effect: str) -> bool:
        """Asks the configured decision for a side effect: True where it denies. Rejected where it is undefined, since
        an answer that nobody wrote proves nothing."""
