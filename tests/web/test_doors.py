"""The verbs for people at the command line: proved by a code, refused with a sentence."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.domain.containment import Containment
from bot.domain.events import EvidenceRead
from bot.engine.proof import TRIES
from bot.errors import Unavailable
from bot.web.doors import VERBS
from tests.web.desk import Desk


def test_a_person_declares_and_is_told_how_it_stands(desk: Desk):
    answer = desk.says(
        "sre-1", "/v1/incidents", title="It deletes tables", type="data_exposure", severity="SEV1", agent="agent-7"
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["incident"] == "INC-1"
    assert desk.incident("INC-1").begun.declared_by == "sre-1"
    again = _next(desk, "sre-1", "/v1/incidents", title="Again", type="data_exposure", agent="agent-7")
    assert (again.status_code, again.json()["code"]) == (409, "already_open")


def test_acknowledging_and_taking_it_back(desk: Desk):
    id = desk.opened()
    assert desk.says("sre-1", f"/v1/incidents/{id}/ack").json()["acked_by"] == "sre-1"
    second = _next(desk, "security-ops-1", f"/v1/incidents/{id}/acknowledge")
    assert (second.status_code, second.json()["code"]) == (409, "already_acknowledged")
    assert "by sre-1" in second.json()["message"]
    assert _next(desk, "sre-1", f"/v1/incidents/{id}/unack").json()["acked_by"] == ""


def test_an_incident_from_approval_to_resolved(desk: Desk):
    id = desk.opened()
    desk.engine.settle()
    (asked,) = desk.says("sre-1", f"/v1/incidents/{id}/note", text="I look at it").json()["approvals"]
    request = asked["request"]
    own = desk.says("security-ops-1", f"/v1/incidents/{id}/approve", request=request)
    assert (own.status_code, own.json()["code"]) == (403, "own_request"), "the source's owner is the initiator"
    yes = _next(desk, "head-of-security", f"/v1/incidents/{id}/approve", request=request.partition("/")[2])
    assert (yes.status_code, yes.json()["approvals"]) == (200, [])
    desk.engine.settle()
    step = next(run.id for run in desk.incident(id).steps.values() if str(run.status) == "awaiting_form")
    form = desk.incident(id).spec(step).manual.form
    answers = {"boolean": True, "number": 3, "text": "it was read"}
    values = {name: answers[kind] if isinstance(kind, str) else kind[0] for name, kind in form.items()}
    bad = _next(desk, "sre-1", f"/v1/incidents/{id}/form", step=step, values={"nonsense": 1})
    assert (bad.status_code, bad.json()["code"]) == (409, "bad_form")
    assert _next(desk, "sre-1", f"/v1/incidents/{id}/form", step=step, values=values).status_code == 200
    for _ in range(10):
        desk.engine.settle()
        desk.clock.forward(seconds=15)
    assert desk.incident(id).containment is Containment.CONTAINED
    assert _next(desk, "sre-1", f"/v1/incidents/{id}/resolve").json()["status"] == "resolved"
    assert _next(desk, "sre-1", f"/v1/incidents/{id}/status", to="investigating").json()["status"] == "investigating"


def test_releasing_is_for_the_commander(desk: Desk):
    id = desk.opened()
    desk.engine.settle()
    refused = desk.says("security-ops-1", f"/v1/incidents/{id}/release", step="shadow")
    assert (refused.status_code, refused.json()["code"]) == (403, "not_allowed")
    allowed = _next(desk, "head-of-security", f"/v1/incidents/{id}/release", step="shadow")
    assert allowed.status_code == 200, allowed.text


def test_a_code_counts_once_and_for_its_person(desk: Desk):
    id = desk.opened()
    code = desk.code()
    assert desk.says("sre-1", f"/v1/incidents/{id}/ack", code).status_code == 200
    used = desk.says("sre-1", f"/v1/incidents/{id}/unack", code)
    assert (used.status_code, used.json()["code"]) == (401, "used_code")
    assert desk.incident(id).acked_by == "sre-1"
    desk.clock.forward(minutes=2)
    assert desk.says("sre-1", f"/v1/incidents/{id}/unack", code).json()["code"] == "wrong_code", "it is stale by now"


def test_a_code_is_used_up_by_what_was_refused_too(desk: Desk):
    code = desk.code()
    assert desk.says("sre-1", "/v1/incidents/INC-99/ack", code).status_code == 404
    assert desk.says("sre-1", "/v1/incidents/INC-99/ack", code).json()["code"] == "used_code"


def test_the_phone_may_be_half_a_minute_off(desk: Desk):
    code = desk.code()
    desk.clock.forward(seconds=30)
    assert desk.says("sre-1", "/v1/incidents", code, title="Late").status_code == 200


def test_wrong_codes_lock_that_person_for_a_while_and_nobody_else(desk: Desk):
    id = desk.opened()
    for _ in range(TRIES):
        assert desk.says("sre-1", f"/v1/incidents/{id}/ack", "000000").json()["code"] == "wrong_code"
    locked = desk.says("sre-1", f"/v1/incidents/{id}/ack")
    assert (locked.status_code, locked.json()["code"], locked.headers["retry-after"]) == (429, "locked", "300")
    assert desk.incident(id).acked_by == ""
    assert desk.says("security-ops-1", f"/v1/incidents/{id}/note", text="Mine works").status_code == 200
    desk.clock.forward(minutes=5)
    assert desk.says("sre-1", f"/v1/incidents/{id}/ack").status_code == 200


def test_wrong_codes_far_apart_do_not_lock(desk: Desk):
    for _ in range(2 * TRIES):
        assert desk.says("sre-1", "/v1/incidents", "000000", title="x").status_code == 401
        desk.clock.forward(minutes=2)
    assert desk.says("sre-1", "/v1/incidents", title="x").status_code == 200


def test_strangers_and_persons_without_a_code_get_the_same_answer(desk: Desk):
    id = desk.opened()
    answers = [desk.says(person, f"/v1/incidents/{id}/ack") for person in ("agent-7", "dpo")]
    answers.append(desk.says("sre-1", f"/v1/incidents/{id}/ack", "000000"))
    assert {answer.text for answer in answers} == {answers[0].text}
    assert {answer.status_code for answer in answers} == {401}


def test_what_people_write_loses_its_secrets(desk: Desk):
    id = desk.opened()
    desk.says("sre-1", f"/v1/incidents/{id}/note", text="it printed ghp_" + "a1B2" * 9)
    entry = desk.engine.entries(id)[-1]
    with desk.engine.store.reading() as tx:
        text = tx.get_text(entry.event.text)
    assert text.startswith(b"it printed [redacted:github:")


def test_a_store_that_is_away_is_said_so(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    def away():
        raise Unavailable("store", "gone")

    monkeypatch.setattr(desk.engine.store, "transaction", away)
    answer = desk.says("sre-1", "/v1/incidents", title="x")
    assert (answer.status_code, answer.json()["code"]) == (503, "not_written")


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        ("/v1/incidents", {}, 422),
        ("/v1/incidents", {"title": ""}, 422),
        ("/v1/incidents", {"title": "x", "severity": "SEV9"}, 422),
        ("/v1/incidents", {"title": "x", "surprise": 1}, 422),
        ("/v1/incidents/INC-1/approve", {}, 422),
        ("/v1/incidents/INC-1/approve", {"request": "INC-2/1.0"}, 422),
        ("/v1/incidents/INC-1/form", {"step": "x", "values": {"a": [1]}}, 422),
        ("/v1/incidents/INC-1/form", {"step": "x", "values": {"a": 10**400}}, 422),
        ("/v1/incidents/INC-1/status", {"to": "gone"}, 422),
        ("/v1/incidents/INC-1/ack", {"code": 123456}, 422),
        ("/v1/incidents/INC-1/explode", {}, 404),
        ("/v1/incidents/INC-0/ack", {}, 404),
        ("/v1/incidents/agent:agent-7/ack", {}, 404),
        ("/v1/incidents/", {}, 404),
    ],
)
def test_a_body_that_does_not_fit_is_refused_before_anything_is_looked_at(refusing: Desk, path, fields, status):
    before = refusing.kept()
    answer = refusing.ask("POST", path, json={"person": "sre-1", "code": "000000", **fields})
    assert answer.status_code == status, answer.text
    assert refusing.kept() == before


def test_nothing_is_read_here(refusing: Desk):
    assert refusing.ask("GET", "/v1/incidents").status_code == 405
    assert refusing.ask("GET", "/v1/incidents/INC-1").status_code == 404
    assert refusing.ask("GET", "/v1/incidents/INC-1/ack").status_code == 405
    assert refusing.ask("POST", "/v1/incidents", content=b"[" * 60_000).status_code == 400
    assert refusing.ask("POST", "/v1/incidents", content=b" " * 70_000).status_code == 413


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_names = st.sampled_from(["step", "request", "text", "to", "values", "hash", "why", "accept", "title", "severity"])


@settings(max_examples=120, deadline=None)
@given(verb=st.sampled_from([*VERBS, ""]), fields=st.dictionaries(_names, _values, max_size=4))
def test_a_proved_person_cannot_cause_a_fault_either(refusing: Desk, verb: str, fields: dict[str, object]):
    refusing.clock.forward(seconds=30)
    path = f"/v1/incidents/INC-1/{verb}" if verb else "/v1/incidents"
    body = json.dumps({"person": "sre-1", "code": refusing.code(), **fields}).encode()
    assert refusing.ask("POST", path, content=body).status_code in (200, 403, 404, 409, 422)


def test_a_secret_that_is_none_is_the_operators_fault(
    desk: Desk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tests.web.desk.TOTP", "not base 32!")
    answer = desk.says("sre-1", "/v1/incidents", "123456", title="x")
    assert (answer.status_code, answer.json()["code"]) == (503, "no_secret")
    assert "the TOTP secret env:FIREDOOR_TOTP_SRE_1 is not Base32" in caplog.text


def _next(desk: Desk, person: str, path: str, **fields: object):
    """The same person again, with the phone's next code."""
    desk.clock.forward(seconds=30)
    return desk.says(person, path, **fields)


def test_everything_said_in_the_room_can_be_said_here(desk: Desk):
    id = desk.opened().lower()  # `inc-1` is understood
    at = f"/v1/incidents/{id}"
    assert desk.says("infra-owner-1", f"{at}/severity", to="SEV4").status_code == 403, "lowering it is the commander's"
    assert _next(desk, "head-of-security", f"{at}/severity", to="SEV4").json()["severity"] == "SEV4"
    assert _next(desk, "infra-owner-1", f"{at}/severity", to="SEV2").json()["severity"] == "SEV2"
    assert _next(desk, "infra-owner-1", f"{at}/role", role="incident_commander").json()["code"] == "not_allowed"
    for person, verb, fields in (
        ("infra-owner-1", "role", {"role": "scribe"}),
        ("head-of-security", "role", {"role": "incident_commander", "who": "infra-owner-1"}),
        ("infra-owner-1", "silence", {"minutes": 30}),
        ("infra-owner-1", "task", {"text": "Rotate the key", "owner": "sre-1", "due": "2h"}),
        ("sre-1", "change-task", {"task": "t1", "done": True}),
        ("infra-owner-1", "update", {"conditions": "Contained", "actions": "We restore"}),
        ("infra-owner-1", "snooze", {"minutes": 30}),
        ("infra-owner-1", "snooze", {"stop": True}),
        ("infra-owner-1", "escalate", {}),
        ("infra-owner-1", "page", {"who": "dpo"}),
        ("infra-owner-1", "private", {}),
    ):
        answer = _next(desk, person, f"{at}/{verb}", **fields)
        assert answer.status_code == 200, (verb, answer.text)
    state = desk.incident(id.upper())
    assert state.roles == {"scribe": "infra-owner-1", "incident_commander": "infra-owner-1"}
    assert (state.tasks["T1"].done_by, state.updates, state.reminders) == ("sre-1", 1, False)
    assert state.private
    assert state.silenced_until is not None
    assert {s.page.person for s in state.pages.values()} >= {"dpo"}


@pytest.mark.parametrize(
    ("verb", "fields", "code"),
    [
        ("severity", {"to": "SEV9"}, 422),
        ("task", {"text": "x", "due": "tomorrow"}, 422),
        ("task", {"text": "x", "due": "2020-01-01T00:00:00Z"}, 409),
        ("task", {"text": "x", "owner": "nobody-1"}, 409),
        ("change-task", {"task": "T9", "done": True}, 409),
        ("snooze", {"minutes": "30"}, 422),
        ("snooze", {"minutes": 0}, 409),
        ("silence", {"minutes": 30}, 403),
        ("evidence", {"purpose": "export", "sha256": ""}, 403),
        ("evidence", {"purpose": "delete"}, 422),
        ("page", {"who": "nobody-1"}, 409),
        ("role", {"role": "king"}, 409),
        ("merge", {"into": "INC-1"}, 403),
        ("status", {"to": "merged"}, 422),
        ("approve", {"request": "99.0"}, 409),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_reason(desk: Desk, verb: str, fields: dict, code: int):
    id = desk.opened()
    answer = desk.says("infra-owner-1", f"/v1/incidents/{id}/{verb}", **fields)
    assert (answer.status_code, bool(answer.json()["message"])) == (code, True), answer.text


def test_who_reads_evidence_is_in_the_record_before_it_is_shown(desk: Desk):
    id = desk.opened()
    answer = desk.says("head-of-security", f"/v1/incidents/{id}/evidence", purpose="export", sha256="")
    assert answer.status_code == 200, answer.text
    assert any(isinstance(one.event, EvidenceRead) for one in desk.engine.entries(id))


def test_a_wrong_request_is_answered_with_the_open_ones(desk: Desk):
    id = desk.opened()
    desk.engine.settle()
    wrong = desk.says("head-of-security", f"/v1/incidents/{id}/approve", request="99.0")
    assert "has no request 'INC-1/99.0'. Open: INC-1/" in wrong.json()["message"]


def test_one_incident_goes_on_in_another(desk: Desk):
    one = desk.opened()
    other = _next(desk, "infra-owner-1", "/v1/incidents", title="And this", agent="agent-9").json()["incident"]
    merged = _next(desk, "head-of-security", f"/v1/incidents/{one}/merge", into=other)
    assert merged.json()["incident"] == other, merged.text
    assert str(desk.incident(one).status) == "merged"
    assert desk.incident(other).absorbed == (one,)
    assert desk.incident(other).severity == desk.incident(one).severity
    for into, by in ((other, one), (one, other), (other, other)):
        again = _next(desk, "head-of-security", f"/v1/incidents/{by}/merge", into=into)
        assert again.status_code == 409, again.text
