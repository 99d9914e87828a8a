from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot.errors import Refused
from bot.slack.channels import KEEP, Channels

OURS = {"is_ext_shared": False, "is_shared": False, "is_org_shared": False, "is_pending_ext_shared": False}


class Slack(AsyncWebClient):
    """A workspace of channels that all look alike; counts what it is asked."""

    def __init__(self, info: Mapping[str, Any]) -> None:
        super().__init__("xoxb-test")
        self.info, self.asked, self.down = info, 0, False

    async def conversations_info(self, **_: Any) -> Any:
        self.asked += 1
        await asyncio.sleep(0)
        if self.down:
            raise SlackApiError("no", {"ok": False, "error": "missing_scope"})
        return {"channel": self.info}


def refusal(info: Mapping[str, Any], channel: str = "C1") -> str:
    try:
        asyncio.run(Channels(Slack(info)).ours(channel))
    except Refused as refused:
        return refused.code
    return ""


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, ""),
        ({"is_shared": True, "is_org_shared": True}, ""),
        ({"is_ext_shared": True, "is_shared": True}, "external_channel"),
        ({"is_ext_shared": True, "is_shared": True, "is_org_shared": True}, "external_channel"),
        ({"is_shared": True}, "external_channel"),
        ({"is_pending_ext_shared": True}, "external_channel"),
    ],
)
def test_a_channel_that_others_read_is_no_place_to_decide(changes: Mapping[str, Any], code: str) -> None:
    assert refusal({**OURS, **changes}) == code


@pytest.mark.parametrize("field", ["is_ext_shared", "is_shared"])
def test_what_slack_leaves_out_is_a_no(field: str) -> None:
    assert refusal({key: value for key, value in OURS.items() if key != field}) == "external_channel"


@pytest.mark.parametrize("channel", ["", "D0SRE1"])
def test_where_only_one_person_reads_nobody_has_to_be_asked(channel: str) -> None:
    assert refusal({"is_ext_shared": True}, channel) == ""


def test_an_answer_is_believed_for_a_minute_and_a_failure_not_at_all() -> None:
    async def story() -> None:
        now, slack = [100.0], Slack(OURS)
        channels = Channels(slack, monotonic=lambda: now[0])
        slack.down = True
        with pytest.raises(Refused, match="does not say who reads along"):
            await channels.ours("C1")
        slack.down = False
        await asyncio.gather(*(channels.ours("C1") for _ in range(9)))
        assert slack.asked == 2
        slack.info, now[0] = {**OURS, "is_ext_shared": True}, now[0] + KEEP
        with pytest.raises(Refused, match="shared with another organisation"):
            await channels.ours("C1")

    asyncio.run(story())
