"""An agent's gateway over signed HTTP: it holds the agent's mode and refuses side effects that the mode forbids."""

from __future__ import annotations

import json
import ssl
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from bot.adapters import signing
from bot.adapters.http import MIB, Answer, Site
from bot.domain.agent import Mode
from bot.errors import Denied, Rejected
from bot.ports import Clock, GatewayState, InstanceMode

ACTIVITY_LIMIT = 16 * MIB


class HttpGateway:
    """ports.Gateway. Requests carry the three Standard Webhooks headers; a signed answer must be signed by the same
    secret under the request's own `webhook-id`, so that an old answer cannot stand for a new one. `signed_answers`:
    an answer without a signature is refused too."""

    def __init__(
        self,
        name: str,
        url: str,
        secret: signing.Secrets,
        clock: Clock,
        timeout: float = 5.0,
        *,
        signed_answers: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._site = Site(name, url, tls=tls)
        self._secret, self._clock, self._timeout, self._signed_answers = secret, clock, timeout, signed_answers

    def close(self) -> None:
        self._site.close()

    def set_mode(
        self, agent: str, mode: Mode, epoch: int, nonce: str, incident: str, not_after: datetime | None
    ) -> GatewayState:
        order = {
            "agent": agent,
            "mode": mode.name.lower(),
            "epoch": epoch,
            "nonce": nonce,
            "incident": incident,
            "not_after": not_after.isoformat() if not_after else None,
        }
        # The same order keeps its id: a gateway that remembers ids gives the first answer again.
        answer = self._ask("PUT", agent, "/mode", order, message_id=f"mode-{nonce}-{epoch}")
        if answer.status == 409:
            held = answer.body().get("epoch", "unknown")
            raise Rejected(self._name, f"epoch {epoch} is too old: the gateway is at epoch {held}", retryable=True)
        return self._state(self._expect_ok(answer, agent))

    def canary(self, agent: str, nonce: str, effect: str) -> bool:
        answer = self._ask("POST", agent, "/canary", {"nonce": nonce, "effect": effect})
        # Only the gateway's own words count: any proxy can say 403.
        if answer.status == 403 and answer.body().get("refused") is True:
            return True
        self._expect_ok(answer, agent)
        return False

    def state(self, agent: str) -> GatewayState | None:
        answer = self._ask("GET", agent, "")
        return None if answer.status == 404 else self._state(self._expect_ok(answer, agent))

    def activity(self, agent: str, limit: int = 1000) -> tuple[Mapping[str, Any], ...]:
        answer = self._ask("GET", agent, f"/activity?limit={limit}", most=ACTIVITY_LIMIT)
        found = () if answer.status == 404 else self._expect_ok(answer, agent).body().get("activity")
        if not isinstance(found, list | tuple) or not all(isinstance(entry, dict) for entry in found):
            raise self._nonsense("`activity` is not a list of objects")
        return tuple(found)

    @property
    def _name(self) -> str:
        return self._site.system

    def _ask(
        self,
        method: str,
        agent: str,
        rest: str,
        order: Mapping[str, Any] | None = None,
        *,
        message_id: str = "",
        most: int = MIB,
    ) -> Answer:
        content = b"" if order is None else json.dumps(order).encode()
        message_id = message_id or str(uuid.uuid4())
        headers = signing.sign(self._secret(), message_id, self._clock.now(), content)
        if order is not None:
            headers["content-type"] = "application/json"
        path = f"/v1/agents/{quote(agent, safe='')}{rest}"
        answer = self._site.send(method, path, headers=headers, content=content, timeout=self._timeout, limit=most)
        self._check(answer, message_id)
        return answer

    def _check(self, answer: Answer, message_id: str) -> None:
        if signing.SIGNATURE not in answer.headers and not self._signed_answers:
            return
        try:
            answers = signing.verify(self._secret(), answer.headers, answer.content, self._clock.now())
        except signing.BadSignature as error:
            raise Rejected(self._name, f"its answer is not to be trusted: {error}", retryable=True) from error
        if answers != message_id:
            raise Rejected(self._name, "its answer belongs to another request", retryable=True)

    def _expect_ok(self, answer: Answer, agent: str) -> Answer:
        match answer.status:
            case 200:
                return answer
            case 403:
                raise Denied(self._name, f"answered 403 for agent {agent}: the bot may not do this there")
            case 404:
                raise Rejected(self._name, f"does not know agent {agent}: enrol it at the gateway")
            case status:
                raise Rejected(self._name, f"answered {status} for agent {agent}", retryable=status >= 500)

    def _state(self, answer: Answer) -> GatewayState:
        body = answer.body()
        try:
            instances = tuple(
                InstanceMode(str(one["instance"]), int(one["epoch"]), _mode(one), int(one.get("last_effect_seq", 0)))
                for one in body.get("instances", ())
            )
            return GatewayState(_mode(body), int(body["epoch"]), str(body["nonce"]), instances)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._nonsense(f"no mode, epoch and nonce to be read ({error!r})") from error

    def _nonsense(self, why: str) -> Rejected:
        return Rejected(self._name, f"does not speak the gateway contract: {why}")


def _mode(value: Mapping[str, Any]) -> Mode:
    return Mode[str(value["mode"]).upper()]
