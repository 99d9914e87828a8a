"""One Kubernetes cluster for a test: simulated, or behind the official client on the stand-in server. Both are set up
in the same words, on the same simulator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bot.adapters.kubernetes import KubernetesCluster, by_token
from bot.ports import Cluster
from bot.sandbox.clock import SimClock
from bot.sandbox.kubernetes import SimCluster
from bot.sandbox.kubernetes_server import KubernetesServer

KINDS = ("simulator", "client")
TOKEN = "the-bots-own-token"


@dataclass
class ClusterEstate:
    clock: SimClock
    sim: SimCluster
    cluster: Cluster


@contextmanager
def cluster_estate(kind: str, clock: SimClock) -> Iterator[ClusterEstate]:
    sim = SimCluster(clock)
    if kind == "simulator":
        yield ClusterEstate(clock, sim, sim)
        return
    with KubernetesServer(sim, TOKEN, hang=2) as server:
        client = KubernetesCluster(by_token(server.url, lambda: TOKEN), connect_timeout=1, read_timeout=0.8)
        yield ClusterEstate(clock, sim, client)
        client.close()
