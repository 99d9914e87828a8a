"""The Slack app asks for what the code needs, and for nothing else."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from slack_bolt.async_app import AsyncApp
from slack_sdk import WebClient

from bot.sandbox.clock import SimClock
from bot.sandbox.workspace.app import App
from bot.slack.alerts import AlertMessages
from bot.slack.app import build_app
from bot.slack.manifest import COMMANDS, EVENTS, METHODS, SHORTCUT, manifest, scopes
from tests.web.desk import make_desk

ROOT = Path(__file__).parents[2]
# What the SDK does in several calls.
SEVERAL = {"files_upload_v2": {"files.getUploadURLExternal", "files.completeUploadExternal"}}


def called() -> Iterator[tuple[str, str]]:
    """(file, Web API method) of every attribute in the code that is a method of Slack's client."""
    for path in (ROOT / "bot").rglob("*.py"):
        if "sandbox" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            name = node.attr if isinstance(node, ast.Attribute) else ""
            if name in SEVERAL:
                yield from ((str(path), method) for method in SEVERAL[name])
            elif re.fullmatch(r"[a-z]+_[A-Za-z_]+", name) and callable(method := getattr(WebClient, name, None)):
                found = re.search(r'api_call\(\s*"([A-Za-z.]+)"', inspect.getsource(method))
                yield from [(str(path), found[1])] if found else []


def test_every_method_that_is_called_is_covered_and_no_other():
    found = {method for _, method in called()}
    assert found - METHODS.keys() == set(), "name the scopes of these in bot/slack/manifest.py"
    assert METHODS.keys() - found == set(), "nobody calls these"


def test_every_scope_has_its_reason_in_the_guide_and_no_other_has():
    guide = (ROOT / "docs/how-to/set-up-slack.md").read_text("utf-8")
    reasons = dict(re.findall(r"^\| `([a-z:.]+)` \| (.+) \|$", guide, re.MULTILINE))
    assert {scope for scope in reasons if ":" in scope or scope == "commands"} == {*scopes(), "connections:write"}
    assert all(f"`{event}`" in guide for event in EVENTS)


def test_what_the_app_is_sent_somebody_listens_to(tmp_path: Path, clock: SimClock):
    desk = make_desk(tmp_path / "firedoor.db", clock)

    async def built() -> AsyncApp:
        return build_app(desk.engine, bot_token="xoxb-sandbox-0")

    app = asyncio.run(built())
    AlertMessages(app, {}, desk.intake)
    heard = {word for each in app._async_listeners for one in each.matchers for word in _words(one.func)}
    assert {*COMMANDS, SHORTCUT[0], *(event.partition(".")[0] for event in EVENTS)} <= heard
    desk.stop()


def _words(func: Any) -> Iterator[str]:
    """The strings that a listener's matcher holds."""
    for value in inspect.getclosurevars(func).nonlocals.values():
        if callable(value) and inspect.isfunction(value):
            yield from _words(value)
        for one in value.values() if isinstance(value, dict) else [value]:
            if isinstance(one, str):
                yield one


@pytest.mark.parametrize("url", ["", "https://firedoor.example.com/"])
def test_the_manifest_is_one_that_slack_reads(url: str):
    made = manifest(url)
    app = App.from_manifest(made)
    assert (app.scopes, app.events) == (frozenset(scopes()), frozenset(EVENTS))
    assert [*app.commands] == ["/inc", "/incident"]
    assert [one.callback_id for one in app.shortcuts] == ["create_incident"]
    settings = made["settings"]
    assert settings["socket_mode_enabled"] is not bool(url)
    there = "https://firedoor.example.com/slack/events" if url else None
    assert settings["interactivity"].get("request_url") == there
    assert settings["event_subscriptions"].get("request_url") == there
    assert {command.get("url") for command in made["features"]["slash_commands"]} == {there}
    # Slack's bounds for the fields of a manifest.
    assert len(made["display_information"]["description"]) <= 140
    assert all(len(command["description"]) <= 2000 for command in made["features"]["slash_commands"])
    assert all(len(one["name"]) <= 24 for one in made["features"]["shortcuts"])
