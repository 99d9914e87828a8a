"""Pods that enrol themselves: their cluster says whose a token is, and agents.yaml whose agent that is.

    POST /agents/v1/enrol    {"agent", "token"} -> {agent, instance, serial, key}

`token` is the pod's own, projected for the audience `agents_api.audience`. It is taken only where the agent has
`kubernetes: {enrol: true}` and the token's service account is its own and no other agent's; the instance is named as
the pod. A pod gets one key, once: what is asked again is refused, revoked or not. The answer cannot be signed: it is
worth as much as the TLS that it comes by.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable

from bot.domain.agent import Agent
from bot.engine import switchboard
from bot.engine.engine import Engine
from bot.errors import Conflict, Refused, SystemFailure, Unavailable
from bot.ports import Cluster, PodToken
from bot.web.agents import LARGEST, NAME, InstanceKeys
from bot.web.http import Answer, Receive, Scope, TurnedAway, as_json, only, read_body
from bot.web.intake import Bucket

log = logging.getLogger(__name__)

PATH = "/agents/v1/enrol"
VIA = "kubernetes"
RATE = 20  # reviews that the clusters are asked for in a second, all agents together
AT_ONCE = 4  # that wait for their answers
PATIENCE = 20.0  # seconds for the record to take it


class Pods:
    def __init__(self, engine: Engine, keys: InstanceKeys, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._engine, self._keys, self._monotonic = engine, keys, monotonic
        self._bucket, self._asking = Bucket(RATE), 0

    async def answer(self, scope: Scope, receive: Receive) -> Answer:
        """Raises TurnedAway."""
        only(scope, "POST")
        uid, token = _read(await read_body(scope, receive, LARGEST))
        agent, cluster = self._expected(uid)
        pod = await self._reviewed(cluster, token)
        if pod is None or not self._belongs(pod.user, agent) or not pod.uid or not NAME.fullmatch(pod.pod):
            log.warning("a pod was not enrolled", extra={"agent": uid, "account": pod.user if pod else "", "via": VIA})
            raise _not_authentic()
        try:
            await asyncio.to_thread(self._engine.switchboard.read, uid)  # the writer need not
            job = switchboard.enroll(uid, pod.pod, pod.user, VIA, pod.uid)
            serial = await asyncio.wait_for(asyncio.wrap_future(self._engine.submit(job, urgent=False)), PATIENCE)
        except Refused as error:
            raise TurnedAway(409, error.code, str(error)) from None
        except (Unavailable, Conflict, TimeoutError) as error:
            log.warning("a pod was told to come again: %s", error)
            raise _not_now() from None
        log.info("a pod enrolled itself", extra={"agent": uid, "instance": pod.pod, "account": pod.user})
        said = {"agent": uid, "instance": pod.pod, "serial": serial, "key": self._keys.of(uid, pod.pod, serial)}
        return as_json(200, said)

    def _expected(self, uid: str) -> tuple[Agent, Cluster]:
        """Who is unknown, or may not, learns no more than who has a bad token; and no cluster is asked."""
        world = self._engine.world
        agent = world.config.agents.agents.get(uid)
        if agent is None or agent.kubernetes is None or not agent.kubernetes.enrol:
            raise _not_authentic()
        cluster = world.ports.clusters.get(agent.kubernetes.connection)
        if cluster is None:
            raise _not_now()
        return agent, cluster

    def _belongs(self, user: str, agent: Agent) -> bool:
        everybody = self._engine.world.config.agents.agents.values()
        return [each.id for each in everybody if user in each.service_accounts] == [agent.id]

    async def _reviewed(self, cluster: Cluster, token: str) -> PodToken | None:
        if self._asking >= AT_ONCE or not self._bucket.take(self._monotonic()):
            raise TurnedAway(429, "too_many", "More pods than can be looked at ask at once.", retry_after=1)
        audience = self._engine.world.config.settings.agents_api.audience
        self._asking += 1
        try:
            return await asyncio.to_thread(cluster.review_token, token, audience)
        except SystemFailure as error:
            log.warning("a pod's token could not be reviewed: %s", error)
            raise _not_now() from None
        finally:
            self._asking -= 1


def _read(body: bytes) -> tuple[str, str]:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        raise TurnedAway(400, "not_json", "The body is not JSON.") from None
    agent, token = (said.get("agent"), said.get("token")) if isinstance(said, dict) else (None, None)
    if not isinstance(agent, str) or not isinstance(token, str) or not token.isascii() or not token.strip():
        raise TurnedAway(422, "bad_field", "agent and token: two texts are wanted here.")
    return agent, token.strip()


def _not_authentic() -> TurnedAway:
    return TurnedAway(401, "not_authentic", "This is no token of a pod that may enrol itself for this agent.")


def _not_now() -> TurnedAway:
    return TurnedAway(503, "not_now", "Firedoor cannot tell right now.", retry_after=2)
