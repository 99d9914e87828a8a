from dataclasses import replace

import pytest

from bot.errors import Unavailable
from bot.ports import PageMessage
from bot.sandbox.people import SimEndpoint, SimPager

PAGE = PageMessage("INC-7/L1/0/oncall/sms", "INC-7", "oncall", "1", "SEV1", "Agent 7")


def test_a_receiver_that_knows_the_key_shows_a_repeat_once():
    pager = SimPager()
    lead = replace(PAGE, key="INC-7/L2/0/lead/sms", person="lead")
    for page in (PAGE, lead, replace(PAGE, subject="may repeat")):
        pager.send(page)
    assert pager.paged == ["oncall", "lead"]
    assert [page.subject for page in pager.pages] == ["SEV1", "SEV1"]
    assert len(pager.sent) == 3


def test_a_page_whose_answer_got_lost_arrived():
    pager = SimPager()
    pager.faults.add("send", Unavailable("pager", "no answer", sent=True), after=True)
    with pytest.raises(Unavailable):
        pager.send(PAGE)
    assert pager.paged == ["oncall"]


def test_an_endpoint_gives_a_repeated_key_its_first_answer():
    endpoint = SimEndpoint(answers={("POST", "/a"): (201, {"n": 1})})
    first = endpoint.request("POST", "/a", None, key="k", timeout=1)
    endpoint.answers["POST", "/a"] = (500, {})
    assert endpoint.request("POST", "/a", None, key="k", timeout=1) == first == (201, {"n": 1})
    assert endpoint.request("POST", "/a", None, key="k2", timeout=1) == (500, {})
    assert endpoint.request("GET", "/b", None, key="k3", timeout=1) == (200, {})
