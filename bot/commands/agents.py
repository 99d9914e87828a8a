"""Instances of agents at the agents' API: who has a key, and what each last said."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from typing import Any

from bot.commands.command import Command, Exit, with_config, with_json
from bot.commands.records import Records, records
from bot.commands.server import tell, with_server
from bot.commands.terminal import as_json, moment, say, table
from bot.config.reading import suggestion
from bot.domain import handshake
from bot.domain.handshake import STREAMS, Instances
from bot.errors import Refused


def enroll(asked: Namespace) -> int:
    answer = tell(asked, f"/v1/agents/{asked.agent}/instances/{asked.instance}/enroll")
    if asked.json:
        as_json(answer)
        return Exit.OK
    say(f"{answer['agent']}/{answer['instance']} is enrolled. This once its key is shown, for the agents' API only:")
    print(answer["key"])
    if answer["serial"] > 1:
        say("Its former key is void.")
    return Exit.OK


def revoke(asked: Namespace) -> int:
    answer = tell(asked, f"/v1/agents/{asked.agent}/instances/{asked.instance}/revoke")
    if asked.json:
        as_json(answer)
    else:
        say(f"{answer['agent']}/{answer['instance']} is revoked: its key is void, and nobody waits for its word.")
    return Exit.OK


def list_instances(asked: Namespace) -> int:
    with records(asked.config) as found:
        known = found.config.agents.agents
        if asked.agent and asked.agent not in known:
            near = suggestion(asked.agent, known)
            raise Refused("no_such_agent", f"agents.yaml has no agent {asked.agent!r}. {near}".strip())
        rows = [row for agent in known if asked.agent in ("", agent) for row in _rows(found, agent)]
    if asked.json:
        as_json(rows)
        return Exit.OK
    if not rows:
        say("No instance is enrolled. See: firedoor agents enroll --help")
        return Exit.OK
    shown = [
        (
            f"{row['agent']}/{row['instance']}",
            "revoked" if row["revoked"] else f"{row['ordered']} ({row['epoch_ordered']})",
            f"{row['mode']} ({row['epoch']})" if row["acked_at"] else "nothing yet",
            moment(row["acked_at"]),
            row["enrolled_by"],
        )
        for row in rows
    ]
    table([("instance", "ordered (epoch)", "says (epoch)", "at", "enrolled by"), *shown], "")
    return Exit.OK


def _rows(found: Records, agent: str) -> list[dict[str, Any]]:
    state = Instances(f"{STREAMS}{agent}")
    for entry in found.tx.read(state.id):
        state = handshake.apply(state, entry.event, entry.at)
    return [
        {
            "agent": agent,
            "instance": one.name,
            "serial": one.serial,
            "revoked": one.revoked,
            "enrolled_by": one.by,
            "ordered": state.order.mode.name.lower(),
            "epoch_ordered": state.order.epoch,
            "mode": one.mode.name.lower(),
            "epoch": one.epoch,
            "acked_at": one.acked_at,
            "last_effect_seq": one.last_effect_seq,
            "acts_on": one.acts_on(state.order.epoch),
        }
        for one in state.all.values()
    ]


def openapi(_: Namespace) -> int:
    from bot.web.openapi import document  # here: no other command needs what the web brings with it

    print(json.dumps(document(), indent=2))
    return Exit.OK


def _instance(parser: ArgumentParser) -> None:
    parser.add_argument("agent", metavar="AGENT", help="its id in agents.yaml")
    parser.add_argument("instance", metavar="INSTANCE", help="a name of its own, such as that of its pod")
    with_server(parser)


def _listing(parser: ArgumentParser) -> None:
    parser.add_argument("agent", metavar="AGENT", nargs="?", default="", help="only this one's (default: all)")
    with_config(parser)
    with_json(parser)


COMMANDS = (
    Command(
        "agents enroll",
        "give an instance of an agent its key",
        "Enrols one process of an agent at the agents' API and shows its key, this once: it is kept nowhere. The key\n"
        "is good for asking which mode is ordered and for saying which one it is in, and for nothing else. Enrolled\n"
        "again, an instance has another key. From now on agent.set_mode waits for its word too.",
        "firedoor agents enroll agent-7 pod-1 --as sre-1 --code 123456",
        enroll,
        _instance,
    ),
    Command(
        "agents revoke",
        "void an instance's key",
        "Voids the key of an instance that is gone, or is no longer trusted. Nobody waits for its word any more.",
        "firedoor agents revoke agent-7 pod-1 --as sre-1 --code 123456",
        revoke,
        _instance,
    ),
    Command(
        "agents list",
        "the instances, and what each last said",
        "Lists the enrolled instances: what is ordered of each, and what it last said that it is in.",
        "firedoor agents list agent-7",
        list_instances,
        _listing,
    ),
    Command(
        "agents openapi",
        "the agents' API as an OpenAPI document",
        "Prints the OpenAPI 3.1 document of the agents' API, for clients in other languages. A running server has it\n"
        "at /agents/v1/openapi.json.",
        "firedoor agents openapi",
        openapi,
        lambda _: None,
    ),
)
