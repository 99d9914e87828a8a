"""`firedoor slack manifest`."""

from __future__ import annotations

import json

import yaml

from bot.slack.manifest import manifest
from tests.cli.conftest import Firedoor


def test_the_manifest_is_printed_as_yaml_or_json(firedoor: Firedoor) -> None:
    assert yaml.safe_load(firedoor("slack", "manifest").out) == manifest()
    assert yaml.safe_load(firedoor("slack", "manifest", "--socket").out) == manifest()
    asked = firedoor("slack", "manifest", "--http", "https://fd.example.com", "--name", "IR", "--json")
    assert json.loads(asked.out) == manifest("https://fd.example.com", "IR")


def test_an_address_that_slack_cannot_reach_is_refused(firedoor: Firedoor) -> None:
    assert firedoor("slack", "manifest", "--http", "http://fd.example.com").code == 2
    assert firedoor("slack", "manifest", "--http", "https://fd.example.com", "--socket").code == 2
