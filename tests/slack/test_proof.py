"""Approvals that ask for a code: a wrong code, a wrong person, a wrong place, and a log that shows no code."""

from __future__ import annotations

import io
import logging
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyotp
import pytest

from bot.adapters.clock import SystemClock
from bot.commands import set_up_logging
from bot.config import EXAMPLE, SecretRef
from bot.domain.events import ApprovalGiven, ApprovalRefused
from bot.engine.proof import TRIES
from bot.slack import commands
from bot.slack.approvals import CODE_BLOCK
from tests.slack.desk import GUEST, HEAD, INFRA, OWNER, PARTNER, ROOM, SECOPS, Desk, opened

RULE = "approval: {each: {security_team: 1, infra_owner: 1}, "
FORM = "six digits"


def secret_of(ref: SecretRef) -> str:
    """One for each person."""
    return "ABCDEFGH" * 3 + "ABCDEF" + {"S": "22", "I": "33", "H": "44"}[str(ref).removeprefix("env:FIREDOOR_TOTP_")[0]]


def codes(name: str) -> pyotp.TOTP:
    return pyotp.TOTP(secret_of(SecretRef("env", f"FIREDOOR_TOTP_{name}")))


def right(name: str) -> str:
    return codes(name).at(SystemClock().now())


def wrong(name: str) -> str:
    """A code that is not this person's in these minutes."""
    now = SystemClock().now()
    good = {codes(name).at(now + timedelta(seconds=30 * step)) for step in range(-4, 10)}
    return next(code for n in range(731_964, 731_999) if (code := str(n)) not in good)


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, where the quarantine asks for codes."""
    folder = shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("strict") / "config")
    file = folder / "playbooks" / "unintended-production-change.yaml"
    text = file.read_text()
    assert text.count(RULE) == 1
    file.write_text(text.replace(RULE, f"{RULE}step_up: totp, "))
    return Path(folder)


@pytest.fixture
def desk(tmp_path: Path, strict: Path) -> Iterator[Desk]:
    with opened(tmp_path, config=strict, secret=secret_of) as desk:
        yield desk


def send(desk: Desk, user: str, code: str) -> dict[str, Any]:
    view = desk.modal(user, FORM)["id"]
    return desk.act("submit", user, view=view, values={CODE_BLOCK: {CODE_BLOCK: code}})


def given(desk: Desk, id: str) -> list[tuple[str, str]]:
    return [(said.by, said.proof) for said in desk.events(id, ApprovalGiven)]


def test_a_wrong_code_is_said_at_its_input_and_can_be_corrected(desk: Desk) -> None:
    id = desk.alert()
    request = desk.request(id)
    assert "Approve with a code" in str(request.blocks)
    desk.click(HEAD, request, "approve")
    answer = send(desk, HEAD, "12 456")
    assert answer == {"result": "errors", "errors": {CODE_BLOCK: "A code has six digits."}}
    for _ in range(2):
        answer = send(desk, HEAD, wrong("HEAD_OF_SECURITY"))
        assert answer == {"result": "errors", "errors": {CODE_BLOCK: "The person or the code is wrong."}}
    assert given(desk, id) == []
    code = right("HEAD_OF_SECURITY")
    assert send(desk, HEAD, code)["result"] == "closed"
    desk.hears(HEAD, "Still missing: 1 infra owner")
    desk.until(lambda: "Approved so far" in str(desk.now(request).blocks), "the request shows it")

    desk.click(HEAD, request, "approve")
    assert send(desk, HEAD, code)["errors"] == {CODE_BLOCK: "This code was used already: wait for the next one."}
    desk.click(INFRA, request, "approve")
    assert send(desk, INFRA, right("INFRA_1"))["result"] == "closed"
    desk.hears(INFRA, "it goes ahead")
    desk.until(lambda: desk.state(id).steps["quarantine_role"].status == "done", "the role is quarantined")
    assert given(desk, id) == [("head-of-security", "totp"), ("infra-owner-1", "totp")]


def test_guesses_lock_the_codes_and_then_the_right_one_is_refused_too(desk: Desk) -> None:
    id = desk.alert()
    desk.click(HEAD, desk.request(id), "approve")
    for _ in range(TRIES):
        assert "wrong" in send(desk, HEAD, wrong("HEAD_OF_SECURITY"))["errors"][CODE_BLOCK]
    assert "Too many wrong codes" in send(desk, HEAD, right("HEAD_OF_SECURITY"))["errors"][CODE_BLOCK]
    assert given(desk, id) == []


def test_what_takes_longer_than_slack_waits_is_answered_afterwards(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    id = desk.alert()
    request = desk.request(id)
    monkeypatch.setattr(commands, "PROVED_WITHIN", 0.0)
    desk.click(HEAD, request, "approve")
    assert send(desk, HEAD, wrong("HEAD_OF_SECURITY"))["result"] == "closed"
    desk.hears(HEAD, "The person or the code is wrong.")
    desk.click(HEAD, request, "approve")
    assert send(desk, HEAD, right("HEAD_OF_SECURITY"))["result"] == "closed"
    desk.hears(HEAD, "Still missing: 1 infra owner")
    assert given(desk, id) == [("head-of-security", "totp")]


def test_whoever_may_not_decide_does_not_even_with_a_code(desk: Desk) -> None:
    id = desk.alert()
    request = desk.request(id)
    for user, words in ((GUEST, "You are a guest"), (PARTNER, "another workspace")):
        desk.click(user, request, "approve")
        desk.hears(user, words)
        assert desk.server.workspace.state(user)["modals"] == [], "no form, no plan"
    desk.click(OWNER, request, "approve")
    assert send(desk, OWNER, right("SECOPS_1"))["result"] == "closed"
    desk.hears(OWNER, "You started this incident")
    desk.click(SECOPS, request, "approve")  # of the right group, but without a code
    assert "wrong" in send(desk, SECOPS, "123456")["errors"][CODE_BLOCK]
    assert desk.events(id, ApprovalGiven, ApprovalRefused) == []


def test_nothing_is_decided_where_other_organisations_read_along(desk: Desk) -> None:
    id = desk.alert()
    request = desk.request(id)
    desk.click(HEAD, request, "approve")
    desk.act("share", HEAD, channel=ROOM)  # while the form is open
    assert send(desk, HEAD, right("HEAD_OF_SECURITY"))["result"] == "closed"
    desk.hears(HEAD, "This channel is shared with another organisation: nothing is decided here.")
    desk.click(INFRA, request, "refuse")
    desk.hears(INFRA, "This channel is shared with another organisation: nothing is decided here.")
    assert desk.events(id, ApprovalGiven, ApprovalRefused) == []


LIBRARIES = ("slack_sdk", "slack_bolt", "firedoor:AsyncApp", "hvac", "botocore", "urllib3", "kubernetes", "httpcore")


@pytest.fixture
def verbose() -> Iterator[io.StringIO]:
    """What `--verbose` logs; everything as it was afterwards."""
    root, ours = logging.getLogger(), [logging.getLogger(name) for name in ("bot", "firedoor")]
    before, handlers = [(one, one.level) for one in (root, *ours)], root.handlers[:]
    root.handlers[:] = []
    set_up_logging(verbose=True)
    (said,) = root.handlers
    assert isinstance(said, logging.StreamHandler)
    said.setStream(stream := io.StringIO())
    yield stream
    root.handlers[:] = handlers
    for one, level in before:
        one.setLevel(level)


def test_no_code_is_in_the_log_even_with_verbose(verbose: io.StringIO, desk: Desk) -> None:
    assert logging.getLogger("bot.slack.door").isEnabledFor(logging.DEBUG)
    assert [name for name in LIBRARIES if logging.getLogger(name).isEnabledFor(logging.DEBUG)] == []
    id = desk.alert()
    request = desk.request(id)
    desk.click(HEAD, request, "approve")
    typed = [wrong("HEAD_OF_SECURITY"), right("HEAD_OF_SECURITY")]
    for code in typed:
        send(desk, HEAD, code)
    desk.hears(HEAD, "Still missing: 1 infra owner")
    logging.getLogger("bot.slack").debug("at the end")
    log = verbose.getvalue()
    assert "at the end" in log
    assert [code for code in typed if code in log] == []
    assert [token for token in (desk.server.bot_token, desk.server.app_token) if token in log] == []
