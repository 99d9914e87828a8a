"""What Prometheus may know. Labels are names out of the configuration and words of the code: no id, no person, no
text of an alert.

What happened here is counted as it happens, each replica for itself; what stands in the store is read at the scrape,
and every replica says the same of it.
"""

from __future__ import annotations

import logging
import time
from collections import Counter as Tally
from collections.abc import Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from bot.domain.events import PageFailed, PageSent
from bot.domain.incident import Incident
from bot.engine.engine import Engine
from bot.engine.responder import Effects
from bot.errors import FiredoorError

log = logging.getLogger(__name__)

MOST_INCIDENTS = 20_000  # open ones that a scrape looks at
LATENESS = (0.1, 0.5, 1, 2, 5, 15, 60, 300, 900, 3600)  # seconds
CONTAINMENT = (1, 2, 5, 10, 30, 60, 120, 300, 600, 900, 1800, 3600)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counts from the moment it is made: `Engine` tells it of each commit."""

    def __init__(self, engine: Engine) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library left its annotation out
        self._registry = registry = CollectorRegistry()
        self._alerts = Counter(
            "firedoor_alerts",
            "Alerts taken in, and deliveries turned away, by what became of them.",
            ("source", "result"),
            registry=registry,
        )
        self._pages = Counter(
            "firedoor_pages",
            "Pages and notices: sent, sent though an earlier try may have left (may_repeat), failed.",
            ("way", "result"),
            registry=registry,
        )
        self._lateness = Histogram(
            "firedoor_page_lateness_seconds",
            "From when a page was due to when it left.",
            buckets=LATENESS,
            registry=registry,
        )
        self._containment = Histogram(
            "firedoor_containment_seconds",
            "From an incident's opening to its containment, proved.",
            buckets=CONTAINMENT,
            registry=registry,
        )
        self._batches = Histogram(
            "firedoor_commit_jobs", "Jobs that went into one commit.", buckets=BATCHES, registry=registry
        )
        registry.register(_Standing(engine))
        ProcessCollector(registry=registry)
        engine.writer.watch = self.committed

    def received(self, source: str, result: str, count: int = 1) -> None:
        self._alerts.labels(source, result).inc(count)

    def committed(self, jobs: int, effects: Effects) -> None:
        self._batches.observe(jobs)
        for written in effects.written:
            match written.event:
                case PageSent(way=way, late=late, may_repeat=may_repeat):
                    self._pages.labels(way, "may_repeat" if may_repeat else "sent").inc()
                    self._lateness.observe(late)
                case PageFailed(way=way):
                    self._pages.labels(way, "failed").inc()
                case _ if isinstance(after := written.after, Incident) and after.contained_at:
                    before = written.before
                    if not isinstance(before, Incident) or before.contained_at is None:
                        self._containment.observe((after.contained_at - after.start).total_seconds())

    def exposition(self) -> bytes:
        """Prometheus text format 0.0.4. Reads the store, so it may take a while; without the store the rest is told."""
        return generate_latest(self._registry)


class _Standing(Collector):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def describe(self) -> Iterator[Metric]:
        """Nothing at registration: the store is asked at a scrape only."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        waiting = GaugeMetricFamily("firedoor_writer_waiting", "Jobs that wait for their commit.")
        waiting.add_metric((), self._engine.writer.waiting)
        yield waiting
        yield self._breakers()
        up = GaugeMetricFamily("firedoor_store_up", "1 while the store answers.")
        try:
            read = self._stored()
        except FiredoorError as error:
            log.warning("the store did not answer a scrape: %s", error)
            read = ()
        up.add_metric((), 1 if read else 0)
        yield up
        yield from read

    def _stored(self) -> tuple[Metric, ...]:
        with self._engine.store.reading() as tx:
            depth, oldest = tx.backlog()
            age = (tx.now() - oldest).total_seconds() if oldest else 0.0
            rows = tx.streams("incident", open=True, limit=MOST_INCIDENTS)
        standing = Tally((row.summary.get("severity", ""), row.summary.get("containment", "")) for row in rows)
        labels = ("severity", "containment")
        incidents = GaugeMetricFamily("firedoor_incidents_open", "Incidents that are not over.", labels=labels)
        for key, count in sorted(standing.items()):
            incidents.add_metric(key, count)
        outbox = GaugeMetricFamily("firedoor_outbox_decisions", "Decisions not settled yet.")
        outbox.add_metric((), depth)
        oldest_age = GaugeMetricFamily("firedoor_outbox_oldest_seconds", "Since the oldest of them was decided.")
        oldest_age.add_metric((), max(0.0, age))
        return incidents, outbox, oldest_age

    def _breakers(self) -> Metric:
        states = GaugeMetricFamily("firedoor_breaker_open", "1 while a system is left alone.", labels=("system",))
        now = time.monotonic()
        for system, breaker in sorted(self._engine.performer.breakers.items()):
            cooling = breaker.opened_at is not None and breaker.opened_at + breaker.cool > now
            states.add_metric((system,), 1 if cooling else 0)
        return states
