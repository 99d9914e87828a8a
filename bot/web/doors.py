"""What people say from the command line: the verbs as a JSON API, each by a person who proves it with a TOTP code.

    POST /v1/incidents               {"person", "code", "title", "message", "type", "severity", "agent"}
    POST /v1/incidents/INC-7/VERB    {"person", "code", ...}    the fields of each verb stand in VERBS

Instead of person and code, `Authorization: Bearer <token>` of the OpenID provider in firedoor.yaml: whoever it names.

Acknowledge links and Slack are not touched by the lock of wrong codes (engine.proof), but for Slack's own codes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar, cast

from bot.config import SecretRef, resolve
from bot.config.reading import duration
from bot.domain.alert import Sev
from bot.domain.approval import ApprovalState
from bot.domain.events import Status
from bot.domain.incident import Incident
from bot.engine import verbs
from bot.engine.engine import Engine
from bot.engine.proof import LOCK, TOTP, Proof, codes_of, prove
from bot.engine.responder import Responder
from bot.engine.verbs import Job
from bot.errors import ConfigError, FiredoorError, Refused, SystemFailure, Unavailable
from bot.web.http import Answer, Receive, Scope, TurnedAway, as_json, headers_of, not_found, only, read_body

log = logging.getLogger(__name__)

T = TypeVar("T")
PATH = "/v1/incidents"
VIA = "cli"
LARGEST = 64 * 1024  # bytes of a body
LONGEST = 16_000  # characters of a text
PATIENCE = 30.0  # seconds
SAFE_INTEGER = 2**53 - 1  # a larger one has no exact place in the record
_INCIDENT = re.compile(r"INC-[1-9]\d{0,15}")
_STATUS = {"not_allowed": 403, "stranger": 403, "not_an_approver": 403, "own_request": 403, "no_such_incident": 404}
_SURROGATES = re.compile("[\ud800-\udfff]")


class Tokens(Protocol):
    """adapters.oidc.Issuer."""

    def email(self, token: str) -> str: ...


class Given:
    """A body's fields, each taken once; what is left over is nobody's. `proof` is `totp` where a code came with it."""

    def __init__(self, values: Mapping[str, Any], redact: Callable[[str], str], proof: str = "") -> None:
        self._values, self._redact, self.proof = dict(values), redact, proof

    def word(self, name: str, default: str | None = None) -> str:
        """A name, an id or a code; needed where there is no default."""
        value = self._values.pop(name, default)
        if not isinstance(value, str) or not value.isprintable() or len(value) > 512 or (default is None and not value):
            raise _bad(f"{name}: a word is wanted here.")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """What a person wrote, without secrets."""
        value = self._values.pop(name, default)
        if not isinstance(value, str) or len(value) > LONGEST or (default is None and not value.strip()):
            raise _bad(f"{name}: a text of 1 to {LONGEST} characters is wanted here.")
        return self._redact(_SURROGATES.sub("\ufffd", value))

    def number(self, name: str) -> int:
        value = self._values.pop(name, None)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= SAFE_INTEGER:
            raise _bad(f"{name}: a whole number is wanted here.")
        return value

    def moment(self, name: str) -> Callable[[datetime], datetime | None]:
        """`2h` from now, or a time with its offset; '' is none."""
        word = self.word(name, "")
        if span := duration(word):
            return lambda now: now + span
        try:
            at = datetime.fromisoformat(word) if word else None
        except ValueError:
            at = None
        if word and (at is None or at.tzinfo is None):
            raise _bad(f"{name}: a time like 2h or 2026-01-05T09:00:00Z is wanted here.")
        return lambda _: at.astimezone(UTC) if at else None

    def flag(self, name: str) -> bool:
        value = self._values.pop(name, False)
        if not isinstance(value, bool):
            raise _bad(f"{name}: true or false is wanted here.")
        return value

    def one_of(self, name: str, words: Mapping[str, Any], default: str | None = None) -> Any:
        word = self.word(name, default)
        if word not in words:
            raise _bad(f"{name}: one of {', '.join(words)} is wanted here.")
        return words[word]

    def form(self, name: str) -> dict[str, Any]:
        """Plain values by field; what each must be is the form's business."""
        values = self._values.pop(name, None)
        if not isinstance(values, dict) or len(values) > 100:
            raise _bad(f"{name}: an object of form fields is wanted here.")
        for key, value in values.items():
            if not _is_plain(value):
                raise _bad(f"{name}.{key}: a text, a number, true or false is wanted here.")
        clean = {key: _SURROGATES.sub("\ufffd", v) if isinstance(v, str) else v for key, v in values.items()}
        return {key: self._redact(v) if isinstance(v, str) else v for key, v in clean.items()}

    def document(self, name: str) -> dict[str, Any]:
        """A JSON object as it is, without secrets; what is in it is the action's business."""
        value = self._values.pop(name, None)
        if not isinstance(value, dict) or not all(map(_is_json, value.values())):
            raise _bad(f"{name}: an object of texts, whole numbers, lists and objects is wanted here.")
        return cast("dict[str, Any]", self._clean(value))

    def _clean(self, value: Any) -> Any:
        match value:
            case str():
                return self._redact(_SURROGATES.sub("\ufffd", value))
            case list():
                return [self._clean(one) for one in value]
            case dict():
                return {str(self._clean(key)): self._clean(one) for key, one in value.items()}
        return value

    def end(self) -> None:
        if self._values:
            raise _bad(f"{', '.join(sorted(map(repr, self._values)))}: no such field here.")


Verb = Callable[[str, str, Given], Job]  # incident, person, fields


def _approve(incident: str, person: str, given: Given) -> Job:
    return verbs.approve(_request(incident, given), person, VIA, given.word("hash", ""), given.proof)


def _refuse(incident: str, person: str, given: Given) -> Job:
    return verbs.refuse(_request(incident, given), person, VIA, given.text("why", ""))


def _override(incident: str, person: str, given: Given) -> Job:
    return verbs.override(incident, given.word("step"), person, VIA, accept=given.flag("accept"))


def _status(incident: str, person: str, given: Given) -> Job:
    to = given.one_of("to", {str(status): status for status in Status if status is not Status.MERGED})
    return verbs.status(incident, to, person, VIA)


def _form(incident: str, person: str, given: Given) -> Job:
    return verbs.submit_form(incident, given.word("step"), given.form("values"), person)


def _severity(incident: str, person: str, given: Given) -> Job:
    return verbs.severity(incident, given.one_of("to", {sev.name: sev for sev in Sev}), person, VIA)


def _role(incident: str, person: str, given: Given) -> Job:
    drop = given.flag("drop")
    who = given.word("who", "") or person
    return verbs.take_role(incident, given.word("role"), "" if drop else who, person, VIA)


def _task(incident: str, person: str, given: Given) -> Job:
    text, owner, due = given.text("text"), given.word("owner", ""), given.moment("due")
    return lambda responder: verbs.add_task(incident, text, owner, due(responder.now), person, VIA)(responder)


def _change_task(incident: str, person: str, given: Given) -> Job:
    task, owner, due, done = given.word("task"), given.word("owner", ""), given.moment("due"), given.flag("done")

    def job(responder: Responder) -> Incident:
        change = verbs.change_task(incident, task, person, VIA, owner=owner, due=due(responder.now), done=done)
        return change(responder)

    return job


def _update(incident: str, person: str, given: Given) -> Job:
    texts = given.text("conditions"), given.text("actions", ""), given.text("needs", "")
    return verbs.update(incident, *texts, person, VIA)


def _snooze(incident: str, person: str, given: Given) -> Job:
    return verbs.snooze(incident, None if given.flag("stop") else given.number("minutes"), person, VIA)


def _evidence(incident: str, person: str, given: Given) -> Job:
    purpose = given.one_of("purpose", {"show": "show", "export": "export"})
    sha256 = given.word("sha256", "")
    return verbs.read_evidence(incident, purpose, (sha256,) if sha256 else (), person, VIA)


def _reissue(incident: str, person: str, given: Given) -> Job:
    return verbs.reissue(incident, given.word("action"), given.document("params"), person, VIA)


VERBS: Mapping[str, Verb] = {
    "rollback": lambda incident, person, _: verbs.rollback(incident, person, VIA),
    "reissue": _reissue,  # action, params
    "return": lambda incident, person, given: verbs.bring_back(incident, given.word("to", ""), person, VIA),  # to
    "replay": lambda incident, person, _: verbs.replay(incident, person, VIA),
    "ack": lambda incident, person, _: verbs.acknowledge(incident, person, VIA),
    "acknowledge": lambda incident, person, _: verbs.acknowledge(incident, person, VIA),
    "unack": lambda incident, person, _: verbs.unacknowledge(incident, person, VIA),
    "contain": lambda incident, person, _: verbs.contain(incident, person, VIA),
    "approve": _approve,  # request; hash, what the screen showed
    "refuse": _refuse,  # request; why
    "override": _override,  # step; accept
    "release": lambda incident, person, given: verbs.release(incident, given.word("step"), person, VIA),  # step
    "status": _status,  # to
    "resolve": lambda incident, person, _: verbs.status(incident, Status.RESOLVED, person, VIA),
    "note": lambda incident, person, given: verbs.note(incident, given.text("text"), person),  # text
    "form": _form,  # step, values
    "severity": _severity,  # to
    "role": _role,  # role; who, or drop
    "task": _task,  # text; owner, due
    "change-task": _change_task,  # task; owner, due, done
    "update": _update,  # conditions; actions, needs
    "snooze": _snooze,  # minutes, or stop
    "escalate": lambda incident, person, _: verbs.escalate(incident, person, VIA),
    "page": lambda incident, person, given: verbs.summon(incident, given.word("who"), person, VIA),  # who
    "silence": lambda incident, person, given: verbs.silence(incident, given.number("minutes"), person, VIA),  # minutes
    "private": lambda incident, person, _: verbs.make_private(incident, person, VIA),
    "audit": lambda incident, person, _: verbs.audit(incident, person, VIA),
    "evidence": _evidence,  # purpose; sha256
    "merge": lambda incident, person, given: verbs.merge(incident, given.word("into").upper(), person, VIA),  # into
}


@dataclass(frozen=True, slots=True)
class Doors:
    """`secret` reads a TOTP secret when it is needed, so that one can be changed without a restart."""

    engine: Engine
    secret: Callable[[SecretRef], str] = resolve
    tokens: Tokens | None = None

    async def answer(self, scope: Scope, receive: Receive) -> Answer:
        """Raises TurnedAway."""
        make = _route(scope["path"])
        only(scope, "POST")
        person, job = await self.speaker(scope, receive, make)
        try:
            incident = await self.do(job)
        except Refused as error:
            raise TurnedAway(_STATUS.get(error.code, 409), error.code, str(error)) from None
        log.info("a person spoke", extra={"person": person, "incident": incident.id, "path": scope["path"]})
        return as_json(200, summary(incident))

    async def speaker(self, scope: Scope, receive: Receive, take: Callable[[str, Given], T]) -> tuple[str, T]:
        """Who speaks, proved, and what `take` made of the fields: those are read first, so that a code is not used up
        by a slip. Raises TurnedAway."""
        token = bearer(scope)
        given = self._read(await read_body(scope, receive, LARGEST), "" if token else TOTP)
        person, code = (await self._bearer(given, token), "") if token else (given.word("person"), given.word("code"))
        taken = take(person, given)
        given.end()
        if not token:
            await self._prove(person, code)
        return person, taken

    def _read(self, body: bytes, proof: str) -> Given:
        try:
            values = json.loads(body)
        except (ValueError, RecursionError):
            raise TurnedAway(400, "not_json", "The body is not JSON.") from None
        if not isinstance(values, dict):
            raise _bad("The body is not a JSON object.")
        return Given(values, self.engine.world.redactor.text, proof)

    async def do(self, job: Callable[[Responder], Any]) -> Any:
        """Written, and what came of it. Raises Refused, TurnedAway."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await asyncio.wrap_future(self.engine.submit(job))
        except Refused:
            raise
        except (FiredoorError, TimeoutError) as error:
            log.warning("what a person said could not be written: %s", error)
            why = "This could not be written now. Look at the incident before you say it again."
            raise TurnedAway(503, "not_written", why, retry_after=2) from None

    async def _bearer(self, given: Given, token: str) -> str:
        """The person whom the token names; one that the body names too must be the same."""
        if self.tokens is None:
            raise TurnedAway(401, "no_tokens", "firedoor.yaml names no OpenID provider: prove who you are with a code.")
        try:
            email = await asyncio.to_thread(self.tokens.email, token)
        except Unavailable as error:
            log.warning("a token could not be checked: %s", error)
            why = "The provider's keys cannot be had now. Use a TOTP code, or try again."
            raise TurnedAway(503, "no_keys", why, retry_after=error.retry_after or 2) from None
        except SystemFailure as error:
            log.warning("a token was not accepted: %s", error)
            raise TurnedAway(401, "wrong_token", f"{error.why[:1].upper()}{error.why[1:]}.") from None
        person = self.engine.world.config.people.by_email(email)
        if person is None:
            log.warning("a good token names nobody of people.yaml")
            raise TurnedAway(403, "stranger", "The token is good, and people.yaml has no one person with its address.")
        if given.word("person", person.id) != person.id:
            raise TurnedAway(403, "other_person", f"The token is {person.id}'s.")
        return person.id

    async def _prove(self, person: str, code: str) -> None:
        try:
            codes = codes_of(self.engine.world.config.people, person, self.secret)
        except ConfigError as error:
            log.error("the codes of %s cannot be checked: %s", person, error)
            raise TurnedAway(503, "no_secret", "The bot cannot check this person's codes; its log says why.") from None
        proof = await self.do(lambda responder: prove(responder, person, codes, code))
        if proof is Proof.GOOD:
            return
        log.warning("a code was not accepted", extra={"person": person, "proof": proof.value})
        if proof is Proof.LOCKED:
            raise TurnedAway(429, "locked", proof.why, retry_after=LOCK.total_seconds())
        raise TurnedAway(401, f"{proof.value}_code", proof.why)


def bearer(scope: Scope) -> str:
    """The token of the Authorization header, '' where there is none."""
    scheme, _, token = headers_of(scope).get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def summary(incident: Incident) -> dict[str, Any]:
    """How an incident stands, for the person who just changed it. No free text."""
    opened = incident.begun
    return {
        "incident": incident.id,
        "version": incident.version,
        "type": opened.type,
        "severity": incident.severity.name,
        "agent": opened.agent_uid,
        "status": str(incident.status),
        "containment": str(incident.containment),
        "opened_at": incident.start.isoformat(),
        "acked_by": incident.acked_by,
        "steps": {run.id: str(run.status) for run in incident.steps.values()},
        "approvals": [
            {"request": id, "step": approval.step, "state": str(approval.state)}
            for id, approval in incident.approvals.items()
            if approval.state is ApprovalState.OPEN
        ],
    }


def _route(path: str) -> Callable[[str, Given], Job]:
    if path == PATH:
        return _declare
    incident, _, name = path.removeprefix(f"{PATH}/").partition("/")
    verb, incident = VERBS.get(name), incident.upper()
    if verb is None or not _INCIDENT.fullmatch(incident):
        raise not_found()
    return lambda person, given: verb(incident, person, given)


def _declare(person: str, given: Given) -> Job:
    return verbs.declare(
        person=person,
        type=given.word("type", ""),
        severity=given.one_of("severity", {sev.name: sev for sev in Sev}, Sev.SEV3.name),
        agent=given.word("agent", ""),
        title=given.text("title"),
        message=given.text("message", ""),
    )


def _request(incident: str, given: Given) -> str:
    """`INC-7/12.0`, or `12.0` of the incident in the address."""
    request = given.word("request").upper()
    if "/" not in request:
        return f"{incident}/{request}"
    if request.partition("/")[0] != incident:
        raise _bad(f"request: it is not one of {incident}.")
    return request


def _is_json(value: Any, depth: int = 8) -> bool:
    match value:
        case str() | bool():
            return True
        case int():
            return abs(value) <= SAFE_INTEGER
        case list():
            return depth > 0 and all(_is_json(one, depth - 1) for one in value)
        case dict():
            return depth > 0 and all(_is_json(one, depth - 1) for one in value.values())
    return False


def _is_plain(value: Any) -> bool:
    match value:
        case str():
            return len(value) <= LONGEST
        case int():
            return abs(value) <= SAFE_INTEGER
        case float():
            return math.isfinite(value)
    return False


def _bad(why: str) -> TurnedAway:
    return TurnedAway(422, "bad_field", why)
