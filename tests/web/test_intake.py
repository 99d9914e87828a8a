"""Alerts over HTTP: what is taken, what is turned away, and that nothing is ever half recorded."""

from __future__ import annotations

import gzip
import json
import logging
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bot.config import EXAMPLE, ConfigErrors, load
from bot.errors import RecordBroken, Unavailable
from bot.sandbox.clock import SimClock
from bot.web.intake import source_secrets
from tests.web.desk import Desk, finding, make_desk

SECRETS = {
    "github": "ghp_" + "a1B2" * 9,
    "assigned": "hunter2-and-more-of-it",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.c2lnbmF0dXJlLW9mLXRlc3Q",
}


def test_an_alert_opens_an_incident_and_its_sender_is_told_which(desk: Desk):
    answer = desk.alert("siem", finding(desk.clock))
    assert answer.status_code == 202
    (alert,) = answer.json()["alerts"]
    assert (alert["status"], alert["incident"]) == ("opened", "INC-1")
    assert desk.incident("INC-1").agent.id == "agent-7"


def test_a_repeat_says_what_it_repeats_and_news_joins_the_incident(desk: Desk):
    desk.opened()
    repeat = desk.alert("siem", finding(desk.clock, id="f-2")).json()["alerts"][0]
    assert (repeat["status"], repeat["incident"]) == ("repeated", "INC-1")
    assert "number 2" in repeat["why"]
    other = finding(desk.clock, id="f-3", rule={"id": "another", "name": "Another"})
    news = desk.alert("siem", other).json()["alerts"][0]
    assert (news["status"], news["incident"]) == ("attached", "INC-1")


def test_a_signed_delivery_that_comes_again_gets_its_first_answer_and_counts_once(desk: Desk):
    body = json.dumps(finding(desk.clock)).encode()
    headers = desk.signed("siem", body, id="msg-again")
    first = desk.ask("POST", "/v1/alerts/siem", content=body, headers=headers)
    kept = desk.kept()
    assert desk.ask("POST", "/v1/alerts/siem", content=body, headers=headers).json() == first.json()
    desk.clock.forward(seconds=40)  # its sender tries again: the same id, stamped anew
    later = desk.ask("POST", "/v1/alerts/siem", content=body, headers=desk.signed("siem", body, id="msg-again"))
    assert later.json() == first.json()
    assert desk.kept() == kept
    desk.clock.forward(minutes=6)
    assert desk.ask("POST", "/v1/alerts/siem", content=body, headers=headers).status_code == 401, "a stale one"


def test_all_alerts_of_a_delivery_are_answered_in_order(desk: Desk):
    payload = {"alerts": [_firing(n, f"agent-{agent}") for n, agent in enumerate((7, 9, 7))]}
    answer = desk.alert("alertmanager", payload)
    assert answer.status_code == 202, answer.text
    assert [alert["incident"] for alert in answer.json()["alerts"]] == ["INC-1", "INC-2", "INC-1"]
    with desk.engine.store.reading() as tx:
        kept = [alert.body for alert in tx.alerts("INC-1")]
    assert len(kept) == 2
    assert all(b"agent-9" not in body for body in kept if body), "each keeps its own part of a delivery"


def test_of_a_delivery_with_one_bad_alert_nothing_is_kept(desk: Desk):
    before = desk.kept()
    answer = desk.alert("alertmanager", {"alerts": [_firing(0, "agent-7"), {"status": "firing", "startsAt": "once"}]})
    assert answer.status_code == 422
    assert "alerts[1]" in answer.json()["message"]
    assert desk.kept() == before


def test_where_one_alert_of_many_cannot_be_recorded_none_is(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    from bot.engine import intake

    genuine = intake.place

    def broken(responder, arrival):
        if arrival.alert.agent_uid == "agent-9":
            raise RecordBroken("INC-2/3: the digest does not fit the bytes")
        return genuine(responder, arrival)

    desk.alert("alertmanager", {"alerts": [_firing(0, "agent-7")]})
    monkeypatch.setattr(intake, "place", broken)
    before = desk.kept()
    answer = desk.alert("alertmanager", {"alerts": [_firing(n, f"agent-{a}") for n, a in enumerate((7, 9))]})
    assert (answer.status_code, answer.json()["code"]) == (503, "not_recorded")
    body = json.dumps(finding(desk.clock, agent={"id": "agent-9"})).encode()
    headers = desk.signed("siem", body, id="msg-1")
    assert desk.ask("POST", "/v1/alerts/siem", content=body, headers=headers).status_code == 503
    assert desk.kept() == before, "no repeat is counted, no delivery remembered as answered"
    monkeypatch.undo()
    again = desk.ask("POST", "/v1/alerts/siem", content=body, headers=headers)
    assert (again.status_code, len(again.json()["alerts"])) == (202, 1)


def test_who_is_not_the_source_is_told_why_and_keeps_nothing(refusing: Desk):
    before = refusing.kept()
    body = json.dumps(finding(refusing.clock)).encode()
    headers = refusing.signed("siem", body)
    for changed in ({}, {**headers, "webhook-id": "other"}, {**headers, "webhook-signature": "v1,AAAA"}):
        assert refusing.ask("POST", "/v1/alerts/siem", content=body, headers=changed).status_code == 401
    assert refusing.ask("POST", "/v1/alerts/siem", content=body + b" ", headers=headers).status_code == 401
    assert refusing.alert("falco", {}, authorization="Bearer nonsense").status_code == 401
    assert refusing.alert("guardduty", {}).status_code == 401, "a queue takes nothing over HTTP"
    assert refusing.kept() == before


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/v1/alerts/nobody", 404, "no_such_source"),
        ("POST", "/v1/alerts/siem/x", 404, "no_such_source"),
        ("POST", "/v1/alerts/", 404, "no_such_source"),
        ("GET", "/v1/alerts/siem", 405, "wrong_method"),
        ("DELETE", "/v1/alerts/siem", 405, "wrong_method"),
        ("GET", "/", 404, "not_found"),
        ("GET", "/v1/alerts", 404, "not_found"),
    ],
)
def test_wrong_addresses_and_methods(refusing: Desk, method: str, path: str, status: int, code: str):
    answer = refusing.ask(method, path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    if status == 405:
        assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"\xff\xfe", {}, 400),
        (b"[NaN]", {}, 400),
        (b"[1e999]", {}, 422),
        (b"7" * 5000, {}, 400),
        (b"[" * 100 + b"]" * 100, {}, 422),
        (b'{"rule": "\\ud800"}', {}, 422),
        (b"not gzip", {"content-encoding": "gzip"}, 400),
        (b"{}", {"content-encoding": "br"}, 415),
        (b"a=b", {"content-type": "application/x-www-form-urlencoded"}, 415),
        (gzip.compress(b"[" + b"0," * 700_000 + b"0]"), {"content-encoding": "gzip"}, 413),
        (b'"' + b"x" * 1_048_576 + b'"', {}, 413),
    ],
)
def test_what_cannot_be_read_is_turned_away(refusing: Desk, body: bytes, headers: dict[str, str], status: int):
    before = refusing.kept()
    for source in ("siem", "falco"):
        assert refusing.alert(source, body, **headers).status_code == status
    assert refusing.kept() == before


def test_a_field_that_is_wrong_is_named_and_its_value_is_not_shown(refusing: Desk):
    answer = refusing.alert("siem", finding(refusing.clock, timestamp="the day of " + SECRETS["github"]))
    assert answer.status_code == 422
    assert "timestamp" in answer.json()["message"] or "time" in answer.json()["message"]
    assert SECRETS["github"] not in answer.text


def test_a_compressed_delivery_is_signed_as_it_was_sent(desk: Desk):
    body = gzip.compress(json.dumps(finding(desk.clock)).encode())
    assert desk.alert("siem", body, **{"content-encoding": "gzip"}).status_code == 202


def test_a_body_without_a_length_is_counted_as_it_comes(refusing: Desk):
    taken = 0

    async def endless():
        nonlocal taken
        while True:
            taken += 65_536
            yield b" " * 65_536

    answer = refusing.ask("POST", "/v1/alerts/falco", content=endless(), headers=refusing.signed("falco", b""))
    assert answer.status_code == 413
    assert taken < 3 * 1_048_576


def test_a_source_that_sends_too_much_is_told_to_wait_and_the_others_are_not(tmp_path: Path, clock: SimClock):
    desk = make_desk(tmp_path / "firedoor.db", clock, rate=3)
    statuses = [desk.alert("siem", finding(clock, id=str(n))).status_code for n in range(5)]
    assert statuses == [202, 202, 202, 429, 429]
    refused = desk.alert("siem", finding(clock))
    assert refused.headers["retry-after"] == "1"
    assert desk.alert("falco", {}, authorization="Bearer wrong").status_code == 401
    assert desk.alert("alertmanager", {"alerts": [_firing(0, "agent-9")]}).status_code == 202
    clock.forward(seconds=1)
    assert desk.alert("siem", finding(clock, id="later")).status_code == 202
    desk.stop()


def test_a_stranger_does_not_use_up_the_rate_of_a_source(tmp_path: Path, clock: SimClock):
    desk = make_desk(tmp_path / "firedoor.db", clock, rate=1)
    for _ in range(5):
        assert desk.ask("POST", "/v1/alerts/siem", content=b"{}").status_code == 401
    assert desk.alert("siem", finding(clock)).status_code == 202
    desk.stop()


def test_a_full_queue_and_a_store_that_is_away_ask_for_it_again(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        patch.setattr(type(desk.engine.writer), "waiting", 10_000)
        full = desk.alert("siem", finding(desk.clock))
        assert desk.ask("GET", "/readyz").status_code == 503
    assert (full.status_code, full.json()["code"]) == (503, "queue_full")

    def away():
        raise Unavailable("store", "the database went away", retry_after=7)

    with monkeypatch.context() as patch:
        patch.setattr(desk.engine.store, "transaction", away)
        gone = desk.alert("siem", finding(desk.clock))
    assert (gone.status_code, gone.json()["code"], gone.headers["retry-after"]) == (503, "store_away", "7")
    assert desk.alert("siem", finding(desk.clock)).status_code == 202


def test_a_bug_is_shown_as_one_and_the_next_alert_is_taken(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def bug(*_: object) -> None:
        raise KeyError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr("bot.engine.intake.place", bug)
        assert desk.alert("siem", finding(desk.clock)).status_code == 500
    assert "failed inside" in caplog.text
    assert desk.alert("siem", finding(desk.clock)).status_code == 202


def test_a_planted_secret_is_in_no_file_log_or_metric(desk: Desk, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    planted = finding(
        desk.clock,
        message=f"token {SECRETS['github']} and password={SECRETS['assigned']} in one line",
        rule={"id": SECRETS["github"], "name": f"Found {SECRETS['jwt']}"},
        env=[{"name": "DB_PASSWORD", "value": SECRETS["assigned"]}],
        **{SECRETS["github"]: "as a key"},
    )
    answer = desk.alert("siem", planted)
    labels = {"alertname": "x", "agent": "agent-9", "password": SECRETS["assigned"]}
    many = {"alerts": [_firing(n, "agent-9", labels) for n in range(2)]}
    again = desk.alert("alertmanager", many)
    assert (answer.status_code, again.status_code) == (202, 202)
    desk.engine.settle()
    with desk.engine.store.reading() as tx:
        kept = b"".join(a.body or b"" for id in ("INC-1", "INC-2") for a in tx.alerts(id))
        texts = [tx.get_text(desk.incident(id).begun.text) or b"" for id in ("INC-1", "INC-2")]
        entries = repr([tx.read(id) for id in ("INC-1", "INC-2")]).encode()
    seen = b"".join((kept, *texts, entries, desk.bytes_on_disk(), caplog.text.encode(), answer.content, again.content))
    seen += desk.ask("GET", "/metrics").content
    assert b"[redacted:" in kept
    assert [name for name, secret in SECRETS.items() if secret.encode() in seen] == []


def test_the_secrets_of_the_sources_are_read_at_start():
    config = load(EXAMPLE)
    assert source_secrets(config, lambda _: "0123456789abcdef")["siem"] == (b"0123456789abcdef",)
    with pytest.raises(ConfigErrors, match="shorter than 16") as short:
        source_secrets(config, lambda _: "short")
    assert len(short.value.problems) == len([s for s in config.sources.values() if s.secrets])


# Anything at all ------------------------------------------------------------------------------------------------

_leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40)
_json = st.recursive(
    _leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)
_fields = st.sampled_from(
    ["id", "rule", "severity", "timestamp", "agent", "message", "types", "alerts", "detail", "findings", "labels"]
)
_deep = st.builds(
    lambda depth, opening, core: (opening * depth + core + _CLOSING[opening] * depth).encode(),
    st.integers(1, 5_000),
    st.sampled_from(["[", '{"a":', '{"rule":', '[{"a":']),
    st.sampled_from(["0", "{}", "[]", '""', ""]),
)
_CLOSING = {"[": "]", '{"a":': "}", '{"rule":': "}", '[{"a":': "}]"}
_long = st.builds(
    lambda form, size: form.replace(b"*", b" " * size) if b"* " in form else form.replace(b"*", b"x" * size),
    st.sampled_from([b'"*"', b'{"message": "*"}', b'{"rule": {"id": "*"}}', b"[* 0]", b"*"]),
    st.integers(0, 1_200_000),
)
_bodies = (
    st.binary(max_size=300)
    | st.builds(lambda value: json.dumps(value).encode(), _json | st.dictionaries(_fields, _json, max_size=6))
    | _deep
    | _long
)
SOURCES = ("siem", "falco", "alertmanager", "grafana", "securityhub", "policy_engine", "guardduty", "nobody")


@settings(max_examples=200, deadline=None)
@given(source=st.sampled_from(SOURCES), body=_bodies, signed=st.booleans(), encoding=st.sampled_from(["", "gzip", "x"]))
@example(source="siem", body=b'{"message": "' + b"x" * 10_000_000 + b'"}', signed=True, encoding="")
@example(source="falco", body=b"[" * 10_000_000, signed=True, encoding="")
@example(source="siem", body=gzip.compress(b"[" * 10_000_000), signed=True, encoding="gzip")
def test_garbage_is_never_a_fault_and_leaves_nothing_behind(
    refusing: Desk, source: str, body: bytes, signed: bool, encoding: str
):
    before = refusing.kept()
    headers = {"content-encoding": encoding} if encoding else {}
    if signed and source != "nobody":
        headers |= refusing.signed(source, body)
    answer = refusing.ask("POST", f"/v1/alerts/{source}", content=body, headers=headers)
    assert answer.status_code in (202, 400, 401, 404, 413, 415, 422), answer.text
    if answer.status_code != 202 or not answer.json()["alerts"]:
        assert refusing.kept() == before


@settings(max_examples=60, deadline=None)
@given(data=st.data(), source=st.sampled_from(["siem", "falco", "grafana"]))
def test_a_signature_that_is_changed_anywhere_is_a_wrong_one(refusing: Desk, data: st.DataObject, source: str):
    body = json.dumps(finding(refusing.clock)).encode()
    headers = {name: value.encode() for name, value in refusing.signed(source, body).items()}
    printable = st.binary(max_size=90).map(lambda text: bytes(0x21 + byte % 0x5E for byte in text))
    match data.draw(st.sampled_from(["a header", "a byte of a header", "a header gone", "the body"])):
        case "a header":
            name = data.draw(st.sampled_from(sorted(headers)))
            headers[name] = data.draw(printable.filter(lambda text: text != headers[name]))
        case "a byte of a header":
            name = data.draw(st.sampled_from(sorted(headers)))
            at = data.draw(st.integers(0, len(headers[name]) - 1))
            with_other = bytes([headers[name][at] ^ 1])
            headers[name] = headers[name][:at] + with_other + headers[name][at + 1 :]
        case "a header gone":
            del headers[data.draw(st.sampled_from(sorted(headers)))]
        case "the body" if source != "falco":  # a bearer says nothing of the body
            at = data.draw(st.integers(0, len(body) - 1))
            body = body[:at] + bytes([body[at] ^ data.draw(st.integers(1, 255))]) + body[at + 1 :]
        case "the body":
            headers = {}
    before = refusing.kept()
    answer = refusing.ask("POST", f"/v1/alerts/{source}", content=body, headers=list(headers.items()))
    assert answer.status_code == 401, answer.text
    assert refusing.kept() == before


@settings(max_examples=60, deadline=None)
@given(seconds=st.lists(st.integers(0, 400), min_size=1, max_size=4), anew=st.booleans(), other=_json)
def test_a_replayed_request_changes_nothing(refusing: Desk, seconds: list[int], anew: bool, other: object):
    """Word for word, or stamped anew by its sender; with its own body or with another one under its id."""
    refusing.sent += 1
    id, sent_at = f"replayed-{refusing.sent}", refusing.clock.now()
    body = json.dumps(finding(refusing.clock, id=id, agent={"id": "agent-7"})).encode()
    headers = refusing.signed("siem", body, id=id)
    first = refusing.ask("POST", "/v1/alerts/siem", content=body, headers=headers)
    assert first.status_code == 202, first.text
    before = refusing.kept()
    for wait in seconds:
        refusing.clock.forward(seconds=wait)
        sent = refusing.signed("siem", body, id=id) if anew else headers
        again = refusing.ask("POST", "/v1/alerts/siem", content=body, headers=sent)
        if anew or refusing.clock.now() - sent_at <= timedelta(minutes=5):
            assert again.json() == first.json()
        else:
            assert again.status_code == 401
        forged = json.dumps(other).encode()
        under_its_id = refusing.ask(
            "POST", "/v1/alerts/siem", content=forged, headers=refusing.signed("siem", forged, id=id)
        )
        assert under_its_id.status_code < 500
        assert refusing.kept() == before


@settings(max_examples=60, deadline=None)
@given(changed=st.dictionaries(_fields, _json, max_size=2))
def test_an_alert_with_odd_fields_is_taken_whole_or_not_at_all(refusing: Desk, changed: dict[str, object]):
    before = refusing.kept()
    answer = refusing.alert("siem", {**finding(refusing.clock), **changed})
    assert answer.status_code in (202, 400, 422), answer.text
    if answer.status_code != 202:
        assert refusing.kept() == before


@settings(max_examples=40, deadline=None)
@given(name=st.text(max_size=30), value=st.binary(max_size=60))
def test_no_path_and_no_header_is_a_fault(refusing: Desk, name: str, value: bytes):
    headers = [(b"content-length", value), (b"content-type", value), (b"webhook-signature", value)]
    for path in (f"/{name}", f"/ack/{name}", f"/v1/incidents/{name}", f"/v1/alerts/{name}", "/v1/alerts/siem"):
        assert refusing.raw("POST", path, headers, b"{}") in (400, 401, 404, 405, 408, 413, 415, 422)


def _firing(n: int, agent: str, labels: dict[str, str] | None = None) -> dict[str, object]:
    return {
        "status": "firing",
        "fingerprint": f"fp-{n}",
        "startsAt": "2026-01-05T09:59:00Z",
        "labels": labels or {"alertname": f"rule-{n}", "severity": "high", "agent": agent},
        "annotations": {"summary": f"{agent} did something"},
    }


def test_in_a_storm_the_first_word_about_an_agent_does_not_queue(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    lanes: list[bool] = []
    submit = desk.engine.writer.submit

    def watched(job, *, urgent=True, done=None):
        lanes.append(urgent)
        return submit(job, urgent=urgent, done=done)

    monkeypatch.setattr(desk.engine.writer, "submit", watched)
    rule = iter(range(9))

    def told(**changes):
        n = next(rule)
        payload = finding(desk.clock, id=f"f-{n}", rule={"id": f"rule-{n}", "name": "Another"}) | changes
        assert desk.alert("siem", payload).status_code == 202

    told()
    told()  # the same agent again
    told(agent={"id": "agent-9"})
    told(agent={"id": "nobody-of-ours"})
    desk.clock.forward(minutes=2)
    told()
    assert lanes == [True, False, True, False, True]
