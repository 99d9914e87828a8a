"""auth.test, team.info, users.*, usergroups.*: who there is, and as what the app is known."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from bot.sandbox.workspace.memory import Args, Memory, Method, paged, required, truth
from bot.sandbox.workspace.rooms import BOT, BOT_USER, TEAM, ApiError


def auth_test(room: Memory, _: Args) -> dict[str, Any]:
    return {
        "url": f"{room.address}/",
        "team": "sandbox",
        "team_id": TEAM,
        "user": room.people[BOT_USER].name,
        "user_id": BOT_USER,
        "bot_id": BOT,
        "is_enterprise_install": False,
    }


def connections_open(room: Memory, _: Args) -> dict[str, Any]:
    ticket = secrets.token_urlsafe(16)
    room.tickets.add(ticket)
    return {"url": f"{room.address.replace('http', 'ws', 1)}/socket?ticket={ticket}"}


def team_info(room: Memory, args: Args) -> dict[str, Any]:
    if str(args.get("team") or TEAM) != TEAM:
        raise ApiError("team_not_found")
    return {"team": {"id": TEAM, "name": "SANDBOX, not Slack", "domain": "sandbox", "url": f"{room.address}/"}}


def user_info(room: Memory, args: Args) -> dict[str, Any]:
    return {"user": room.person(required(args, "user")).shown(with_email=_emails(room))}


def users_list(room: Memory, args: Args) -> dict[str, Any]:
    found, cursor = paged(list(room.people.values()), args, default=1000)
    shown = [person.shown(with_email=_emails(room)) for person in found]
    return {"members": shown, "cache_ts": room.seconds(), "response_metadata": {"next_cursor": cursor}}


def user_by_email(room: Memory, args: Args) -> dict[str, Any]:
    email = required(args, "email").lower()
    for person in room.people.values():
        if person.email.lower() == email and not person.deleted:
            return {"user": person.shown()}
    raise ApiError("users_not_found")


def groups_list(room: Memory, args: Args) -> dict[str, Any]:
    with_users = truth(args, "include_users")
    return {"usergroups": [group.shown(with_users=with_users) for group in room.groups.values()]}


def group_users(room: Memory, args: Args) -> dict[str, Any]:
    group = room.groups.get(required(args, "usergroup"))
    if group is None:
        raise ApiError("no_such_subteam")
    return {"users": list(group.users)}


def _emails(room: Memory) -> bool:
    return "users:read.email" in room.scopes


METHODS: Mapping[str, Method] = {
    "auth.test": Method(auth_test, "", 1000),
    "apps.connections.open": Method(connections_open, "", 20),
    "team.info": Method(team_info, "team:read", 50),
    "users.info": Method(user_info, "users:read", 100),
    "users.list": Method(users_list, "users:read", 20),
    "users.lookupByEmail": Method(user_by_email, "users:read.email", 50),
    "usergroups.list": Method(groups_list, "usergroups:read", 20),
    "usergroups.users.list": Method(group_users, "usergroups:read", 20),
}
