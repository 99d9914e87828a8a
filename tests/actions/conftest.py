from __future__ import annotations

import pytest

from bot.sandbox.clock import SimClock
from tests.aws_estate import Estate, Real, Simulated


@pytest.fixture(params=["simulator", "boto3"])
def aws_estate(request: pytest.FixtureRequest, clock: SimClock) -> Estate:
    return Simulated(clock) if request.param == "simulator" else Real(request.getfixturevalue("moto"), clock)
