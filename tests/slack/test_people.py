from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.web.async_slack_response import AsyncSlackResponse

from bot.config import EXAMPLE, load
from bot.errors import Refused
from bot.slack.people import KEEP, Callers

TEAM, GRID = "T0HOME", "E0GRID"
SRE = "U0SRE1"
MEMBER = {"team_id": TEAM, "deleted": False, "is_bot": False, "is_restricted": False, "is_ultra_restricted": False}
PEOPLE = load(EXAMPLE).people


class Slack(AsyncWebClient):
    """A workspace with one user in it; counts what it is asked."""

    def __init__(self, info: Mapping[str, Any], enterprise: str = "") -> None:
        super().__init__("xoxb-test")
        self.info, self.enterprise, self.asked, self.down = info, enterprise, 0, False

    async def auth_test(self, **_: Any) -> Any:
        return {"team_id": TEAM, "enterprise_id": self.enterprise or None}

    async def users_info(self, **_: Any) -> Any:
        self.asked += 1
        await asyncio.sleep(0)
        if self.down:
            AsyncSlackResponse(
                client=self,
                http_verb="GET",
                api_url="users.info",
                req_args={},
                data={"ok": False, "error": "fatal_error"},
                headers={},
                status_code=200,
            ).validate()
        return {"user": self.info}


def who(slack: Slack, user: str = SRE, team: str = TEAM) -> str:
    return asyncio.run(Callers(slack, PEOPLE).person({"user": {"id": user, "team_id": team}}))


def refusal(slack: Slack, user: str = SRE, team: str = TEAM) -> str:
    with pytest.raises(Refused) as refused:
        who(slack, user, team)
    return refused.value.code


def test_a_member_is_the_person_of_people_yaml() -> None:
    assert who(Slack(MEMBER)) == "sre-1"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"is_restricted": True}, "guest"),
        ({"is_ultra_restricted": True}, "guest"),
        ({"deleted": True}, "no_member"),
        ({"is_bot": True}, "no_member"),
        ({"team_id": "T0OTHER"}, "other_team"),
        ({"is_stranger": True}, "other_team"),
    ],
)
def test_who_is_no_full_member_is_refused(changes: Mapping[str, Any], code: str) -> None:
    assert refusal(Slack({**MEMBER, **changes})) == code


@pytest.mark.parametrize("field", MEMBER)
def test_what_slack_leaves_out_is_a_no(field: str) -> None:
    assert refusal(Slack({key: value for key, value in MEMBER.items() if key != field}))


@pytest.mark.parametrize("user", ["U0NOBODY", ""])
def test_strangers_are_not_even_looked_up(user: str) -> None:
    slack = Slack(MEMBER)
    assert refusal(slack, user) == "stranger"
    assert slack.asked == 0


@pytest.mark.parametrize("team", ["T0PARTNER", ""])
def test_the_team_of_the_click_decides(team: str) -> None:
    assert refusal(Slack(MEMBER), team=team) == "other_team"


def test_on_a_grid_any_workspace_of_the_organisation_is_ours() -> None:
    insider = {**MEMBER, "team_id": "T0SISTER", "enterprise_user": {"enterprise_id": GRID}}
    assert who(Slack(insider, GRID), team="T0SISTER") == "sre-1"
    assert refusal(Slack(insider), team="T0SISTER") == "other_team"  # we are in no organisation
    other = {**insider, "enterprise_user": {"enterprise_id": "E0OTHER"}}
    assert refusal(Slack(other, GRID), team="T0SISTER") == "other_team"


def test_an_answer_is_believed_for_a_minute_and_a_failure_not_at_all() -> None:
    async def story() -> None:
        now, slack, click = [100.0], Slack(MEMBER), {"user": {"id": SRE, "team_id": TEAM}}
        callers = Callers(slack, PEOPLE, monotonic=lambda: now[0])
        slack.down = True
        with pytest.raises(Refused, match="fatal_error"):
            await callers.person(click)
        slack.down = False
        assert set(await asyncio.gather(*(callers.person(click) for _ in range(9)))) == {"sre-1"}
        assert slack.asked == 2
        slack.info, now[0] = {**MEMBER, "deleted": True}, now[0] + KEEP
        with pytest.raises(Refused, match="active human members"):
            await callers.person(click)

    asyncio.run(story())
