"""Slack: tokens, scopes, clock, channels, and whether each person is who people.yaml says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError

from bot.config import Config, SecretRef
from bot.config.people import Person
from bot.config.settings import Slack
from bot.doctor import PATIENCE, Check, Finding, State, clocks
from bot.errors import Denied, SystemFailure, Unavailable
from bot.slack.manifest import scopes

GUIDE = "See docs/how-to/set-up-slack.md."
TIMEOUT = 8  # seconds of one call
EACH = 0.5  # seconds more for each person to ask about
REINSTALL = "Put them in the app's manifest (firedoor slack manifest) and install the app again."

Answer = tuple[Mapping[str, Any], Mapping[str, str]]  # what it says, and its headers in lower case


def checks(config: Config, secret: Callable[[SecretRef], str], now: Callable[[], datetime]) -> Iterator[Check]:
    made = config.settings.slack
    if made is None:
        return

    def client() -> WebClient:
        return WebClient(secret(made.bot_token), base_url=made.api_url, timeout=TIMEOUT, retry_handlers=[])

    people = [person for person in config.people.persons.values() if person.slack]
    yield Check("slack", lambda: _bot(client(), now))
    yield Check("slack delivery", lambda: _delivery(made, secret))
    yield Check("slack channels", lambda: _channels(client(), _wanted(config, made)))
    yield Check("slack people", lambda: _people(client(), people, config), PATIENCE + EACH * len(people))


def _bot(client: WebClient, now: Callable[[], datetime]) -> Iterator[Finding]:
    before = now()
    said, headers = _asked(client.auth_test)
    after = now()
    yield Finding(State.OK, "slack", f"the bot token is of the workspace {said.get('team_id')} ({said.get('team')})")
    if "x-oauth-scopes" in headers:
        granted = {scope.strip() for scope in headers["x-oauth-scopes"].split(",") if scope.strip()}
        if missing := sorted({*scopes()} - granted):
            yield Finding(State.FAIL, "slack scopes", f"missing: {', '.join(missing)}", REINSTALL)
        else:
            yield Finding(State.OK, "slack scopes", f"all {len(scopes())} that Firedoor needs")
        if more := sorted(granted - {*scopes()}):
            todo = "Take out what nothing else needs: least privilege."
            yield Finding(State.WARN, "slack scopes", f"more than Firedoor needs: {', '.join(more)}", todo)
    else:
        yield Finding(State.UNVERIFIED, "slack scopes", "Slack did not say which scopes the token has")
    if "date" in headers:
        yield clocks("slack clock", parsedate_to_datetime(headers["date"]).astimezone(UTC), before, after)


def _delivery(made: Slack, secret: Callable[[SecretRef], str]) -> Iterator[Finding]:
    subject = "slack delivery"
    if made.signing_secret:
        secret(made.signing_secret)
        yield Finding(
            State.UNVERIFIED, subject, "HTTP: only a request of Slack proves the signing secret and the address",
            "Press Verify under Event Subscriptions in the app's settings.",
        )  # fmt: skip
    if made.app_token:
        client = WebClient(base_url=made.api_url, timeout=TIMEOUT, retry_handlers=[])
        _asked(client.apps_connections_open, app_token=secret(made.app_token))
        yield Finding(State.OK, subject, "Socket Mode: the app token may open connections")


def _wanted(config: Config, made: Slack) -> dict[str, str]:
    """Channel -> who needs it."""
    wanted = {made.channel.removeprefix("#"): "slack.channel of firedoor.yaml"}
    for source in config.sources.values():
        for channel in source.rules.channels:
            wanted.setdefault(channel, f"the source {source.rules.name}")
    return wanted


def _channels(client: WebClient, wanted: Mapping[str, str]) -> Iterator[Finding]:
    mine: dict[str, Mapping[str, Any]] | None = None
    for name, needed_by in wanted.items():
        subject = f"slack channel {name}"
        if _is_id(name):
            info = _found(client, name)
        else:
            mine = _mine(client) if mine is None else mine
            info = _found(client, str(mine[name]["id"])) if name in mine else None
        if info is None:
            what = f"the bot sees no such channel; {needed_by} needs it"
            yield Finding(State.FAIL, subject, what, "Invite the app to it, and write its id (C...).")
            continue
        yield from _channel(subject, info)


def _channel(subject: str, info: Mapping[str, Any]) -> Iterator[Finding]:
    wrong = False
    if info.get("is_member") is not True:
        wrong = True
        yield Finding(State.FAIL, subject, "the bot is no member of it", "Invite the app: /invite @Firedoor")
    if info.get("is_archived"):
        wrong = True
        yield Finding(State.FAIL, subject, "it is archived", "Unarchive it, or name another one.")
    if info.get("is_ext_shared") or info.get("is_pending_ext_shared"):
        wrong = True
        yield Finding(
            State.FAIL, subject, "another organisation reads along in it",
            "End the sharing, or name another channel: no decision counts there, and no alert.",
        )  # fmt: skip
    if not wrong:
        yield Finding(State.OK, subject, f"the bot is in it ({info.get('id')})")


def _people(client: WebClient, people: Iterable[Person], config: Config) -> Iterator[Finding]:
    team = str(_asked(client.auth_test)[0].get("team_id"))
    good: set[str] = set()
    for person in people:
        what, todo, state = _person(client, person, team)
        if state is not State.FAIL:
            good.add(person.id)
        if what:
            yield Finding(state, f"slack person {person.id}", what, todo)
    total = sum(1 for person in config.people.persons.values() if person.slack)
    if len(good) == total:
        yield Finding(State.OK, "slack people", f"all {total} are active members with their own address")
    for group in sorted(config.people.groups):
        members = config.people.group(group)
        usable = [member for member in members if member in good or config.people.persons[member].totp]
        state = State.OK if len(usable) == len(members) else State.FAIL if len(usable) < 2 else State.WARN
        todo = "" if state is State.OK else "Their approvals would be missing: correct people.yaml."
        yield Finding(state, f"group {group}", f"{len(usable)} of {len(members)} can decide", todo)


def _person(client: WebClient, person: Person, team: str) -> tuple[str, str, State]:
    try:
        info = _asked(client.users_info, user=person.slack)[0].get("user") or {}
    except SystemFailure as error:
        if "user_not_found" in error.why or "user_not_visible" in error.why:
            return f"there is no user {person.slack}", "Correct their slack id in people.yaml.", State.FAIL
        if isinstance(error, Unavailable):
            return f"not asked: {error.why}", "Run doctor again in a minute.", State.UNVERIFIED
        raise
    correct = "Correct people.yaml, or the account."
    if info.get("deleted"):
        return f"{person.slack} is deactivated", correct, State.FAIL
    if info.get("is_bot"):
        return f"{person.slack} is a bot: it can decide nothing", correct, State.FAIL
    if info.get("is_restricted") or info.get("is_ultra_restricted"):
        return f"{person.slack} is a guest: guests can decide nothing", correct, State.FAIL
    if info.get("is_stranger") or (info.get("team_id") != team and not info.get("enterprise_user")):
        return f"{person.slack} belongs to another workspace", correct, State.FAIL
    theirs = str((info.get("profile") or {}).get("email") or "").lower()
    if not theirs:
        return "Slack does not show their e-mail address", "Give the app users:read.email.", State.UNVERIFIED
    if person.email and theirs != person.email.lower():
        return f"{person.slack} has another e-mail address than people.yaml", "Is it somebody else's id?", State.FAIL
    return "", "", State.OK


def _found(client: WebClient, channel: str) -> Mapping[str, Any] | None:
    try:
        return dict(_asked(client.conversations_info, channel=channel)[0].get("channel") or {})
    except SystemFailure as error:
        if "channel_not_found" in error.why:
            return None
        raise


def _mine(client: WebClient) -> dict[str, Mapping[str, Any]]:
    """The channels that the bot is in, by name."""
    found: dict[str, Mapping[str, Any]] = {}
    cursor = None
    for _ in range(20):
        page, _headers = _asked(
            client.users_conversations, types="public_channel,private_channel", limit=200, cursor=cursor
        )
        found |= {str(one.get("name")): one for one in page.get("channels") or ()}
        cursor = (page.get("response_metadata") or {}).get("next_cursor") or None
        if cursor is None:
            break
    return found


def _asked(call: Callable[..., Any], **arguments: Any) -> Answer:
    """Raises Denied or Unavailable, with what to do."""
    try:
        answer = call(**arguments)
    except SlackApiError as error:
        data = error.response.data if isinstance(error.response.data, dict) else {}
        code = str(data.get("error") or f"status {error.response.status_code}")
        if error.response.status_code == 429 or error.response.status_code >= 500:
            raise Unavailable("slack", f"Slack answered {code}") from None
        needs = f" (it needs {data['needed']}). {REINSTALL}" if data.get("needed") else f". {GUIDE}"
        raise Denied("slack", f"Slack refused {_name(call)}: {code}{needs}") from None
    except (OSError, SlackClientError) as error:
        raise Unavailable("slack", f"Slack does not answer: {error}") from None
    said = answer.data if isinstance(answer.data, dict) else {}
    return said, {str(name).lower(): str(value) for name, value in answer.headers.items()}


def _name(call: Callable[..., Any]) -> str:
    return getattr(call, "__name__", "a call").replace("_", ".", 1)


def _is_id(name: str) -> bool:
    return name[:1] in "CG" and name.isalnum() and name.isupper() and len(name) > 2
