"""What reads this machine's clock, and what hangs on it in a live bot: frozen time goes in at the one adapter."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import freezegun
import pyotp
import pytest
from freezegun import freeze_time

from bot.adapters import signing
from bot.adapters.clock import SystemClock
from bot.config import EXAMPLE, load
from bot.domain.source import Auth, SourceRules
from bot.sources.authentication import NotAuthentic, authenticate
from bot.store import Signer, Store
from bot.web.links import AckLinks

# Freezing looks at every name of every module there is, and this one would import all that it has for that.
freezegun.configure(extend_ignore_list=["kubernetes"])

SECRET = "a secret of the SIEM"
NIGHT = "2026-03-02T02:47:00Z"


def test_time_is_aware_and_utc() -> None:
    with freeze_time(NIGHT):
        assert SystemClock().now() == datetime(2026, 3, 2, 2, 47, tzinfo=UTC)
        assert SystemClock().now().utcoffset() == timedelta()


def test_an_acknowledge_link_is_good_for_a_day() -> None:
    links = AckLinks("https://firedoor.example.com", bytes(32), SystemClock())
    with freeze_time(NIGHT) as time:
        token = links.token(links.url("INC-7", "sre-1"))
        time.tick(timedelta(hours=23, minutes=59, seconds=59))
        assert not links.check(token).expired
        time.tick(timedelta(seconds=1))
        assert links.check(token).expired


@pytest.mark.parametrize("away", [timedelta(minutes=-5), timedelta(minutes=5)])
def test_a_signed_delivery_is_taken_within_five_minutes_either_way(away: timedelta) -> None:
    siem = SourceRules(name="siem", kind="generic", owner="sre-1", auth=Auth.HMAC)
    with freeze_time(NIGHT) as time:
        headers = signing.sign([SECRET], "msg-1", SystemClock().now(), b"{}")
        time.tick(away)
        assert authenticate(siem, headers, b"{}", SystemClock().now(), [SECRET.encode()])
        time.tick(away / 300)
        with pytest.raises(NotAuthentic, match="5 minutes away"):
            authenticate(siem, headers, b"{}", SystemClock().now(), [SECRET.encode()])


def test_the_rotation_hands_over_at_its_hour() -> None:
    people = load(EXAMPLE).people
    with freeze_time("2026-01-12T08:59:59Z") as time:
        assert [contact.person for contact in people.roster(SystemClock().now())["sre"]] == ["sre-1"]
        time.tick(timedelta(seconds=1))
        assert [contact.person for contact in people.roster(SystemClock().now())["sre"]] == ["sre-2"]


def test_a_code_of_the_authenticator_follows_the_clock() -> None:
    totp = pyotp.TOTP(pyotp.random_base32())
    with freeze_time(NIGHT) as time:
        code = totp.at(SystemClock().now())
        assert totp.verify(code)
        time.tick(timedelta(seconds=31))
        assert not totp.verify(code)
        assert totp.verify(code, for_time=SystemClock().now(), valid_window=1)


def test_a_night_in_between_changes_nothing_but_the_time(tmp_path: Path) -> None:
    """The store's clock on SQLite is the process clock: it follows it through a jump, without a restart."""
    store = Store.open(
        f"sqlite:///{tmp_path}/firedoor.db",
        install="test",
        mode="sandbox",
        signer=Signer.fresh(),
        master_key=bytes(32),
        clock=SystemClock(),
    )
    with freeze_time(NIGHT) as time:
        before = store.database_now()
        time.tick(timedelta(hours=9))
        assert store.database_now() - before == timedelta(hours=9)
    store.close()
