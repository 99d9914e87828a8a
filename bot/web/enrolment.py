"""Who may have a key to the agents' API: said by persons who prove themselves, as all that people say here.

    POST /v1/agents/AGENT/instances/INSTANCE/enroll    {"person", "code"} -> {agent, instance, serial, key}
    POST /v1/agents/AGENT/instances/INSTANCE/revoke    {"person", "code"} -> {agent, instance}

The key is in that one answer and is kept nowhere. Enrolled again, an instance has another, and the former is void.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from bot.engine import switchboard
from bot.errors import Refused
from bot.web.agents import NAME, InstanceKeys
from bot.web.doors import VIA, Doors, Given
from bot.web.http import Answer, Receive, Scope, TurnedAway, as_json, not_found, only

log = logging.getLogger(__name__)

PATH = "/v1/agents/"
MAY = "enroll"


@dataclass(frozen=True, slots=True)
class Enrolment:
    doors: Doors
    keys: InstanceKeys

    async def answer(self, scope: Scope, receive: Receive) -> Answer:
        """Raises TurnedAway."""
        agent, instance, verb = _route(scope["path"])
        only(scope, "POST")
        person, _ = await self.doors.speaker(scope, receive, _nothing_else)
        people = self.doors.engine.world.config.people
        if not people.may(person, MAY):
            allowed = ", ".join(people.verbs.get(MAY, ())) or "nobody"
            why = f"{person} may not {verb} instances: people.yaml allows it to {allowed}."
            raise TurnedAway(403, "not_allowed", why)
        try:
            if verb == "enroll":
                serial = await self.doors.do(switchboard.enroll(agent, instance, person, VIA))
                said = {"serial": serial, "key": self.keys.of(agent, instance, serial)}
            else:
                await self.doors.do(switchboard.revoke(agent, instance, person, VIA))
                said = {}
        except Refused as error:
            status = 404 if error.code in ("no_such_agent", "not_enrolled") else 409
            raise TurnedAway(status, error.code, str(error)) from None
        log.info("instances of an agent changed", extra={"person": person, "agent": agent, "instance": instance})
        return as_json(200, {"agent": agent, "instance": instance, **said})


def _route(path: str) -> tuple[str, str, str]:
    parts = path.removeprefix(PATH).split("/")
    if len(parts) != 4 or parts[1] != "instances" or parts[3] not in ("enroll", "revoke"):
        raise not_found()
    agent, _, instance, verb = parts
    if not NAME.fullmatch(agent) or not NAME.fullmatch(instance):
        why = "Agents and instances are named by up to 128 letters, digits, dots, dashes and underscores."
        raise TurnedAway(422, "bad_name", why)
    return agent, instance, verb


def _nothing_else(_person: str, _given: Given) -> None:
    return None
