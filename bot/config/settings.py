"""firedoor.yaml: how this installation runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from bot.config.bundles import Bundles, read_bundles
from bot.config.connections import Connection, read_connection
from bot.config.ledger import Ledger, read_ledger
from bot.config.reading import Problems, Section, file_section
from bot.config.secrets import SecretRef
from bot.domain.alert import Sev

MODES = ("live", "sandbox", "tabletop")
CHANNELS = ("announcements", "per_incident")
SLACK_API = "https://slack.com/api/"


@dataclass(frozen=True, slots=True)
class Slack:
    """`app_token` makes it Socket Mode, `signing_secret` HTTP. `channel` takes the announcements; `channels` says where
    the rest stands: in a channel of each incident's own (`per_incident`), or there too (`announcements`)."""

    bot_token: SecretRef
    channel: str
    app_token: SecretRef | None = None
    signing_secret: SecretRef | None = None
    channels: str = "announcements"  # announcements | per_incident
    api_url: str = SLACK_API  # another one only for the embedded workspace


@dataclass(frozen=True, slots=True)
class Oidc:
    """The provider whose tokens prove a person beside TOTP. `claim` holds the e-mail address by which people.yaml knows
    them; `jwks_url` is where its keys are, '' asks its discovery document."""

    issuer: str
    audience: str
    claim: str = "email"
    jwks_url: str = ""


@dataclass(frozen=True, slots=True)
class EvidenceStore:
    """A folder, or a bucket with Object Lock reached through the AWS connection."""

    kind: str = "folder"  # folder | s3
    path: str = "evidence"
    bucket: str = ""
    prefix: str = ""
    connection: str = "aws"
    retain: timedelta = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class Keys:
    """`record` signs the entries, `artefacts` wraps the per-incident keys, `salt` marks redacted secrets, `ledger`
    signs the ledger's checkpoints. '' (None) is allowed in sandbox mode only, where they are made for the occasion."""

    record: SecretRef | None = None
    artefacts: SecretRef | None = None
    salt: SecretRef | None = None
    ledger: SecretRef | None = None


@dataclass(frozen=True, slots=True)
class Intake:
    """`body`: bytes at most. `rate`: a second and source, then 429. `dedup_window`: repeats within it are no news."""

    body: int = 1024 * 1024
    rate: int = 2_000
    queue: int = 10_000
    dedup_window: timedelta = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class AgentsApi:
    """`lease`: how long an instance may act on an order without hearing from us again."""

    lease: timedelta = timedelta(seconds=45)
    audience: str = "firedoor"  # of the tokens by which pods enrol themselves, where agents.yaml lets them


@dataclass(frozen=True, slots=True)
class Deadlines:
    """From the opening (semantics, Defaults)."""

    containment: timedelta = timedelta(minutes=15)
    containment_repeat: timedelta = timedelta(minutes=5)
    communication: timedelta = timedelta(minutes=60)
    investigation: timedelta = timedelta(minutes=120)
    remediation: timedelta = timedelta(hours=24)
    review: timedelta = timedelta(hours=72)


ACK_TTL: Mapping[Sev, timedelta] = {
    Sev.SEV1: timedelta(minutes=30),
    Sev.SEV2: timedelta(minutes=60),
    Sev.SEV3: timedelta(hours=4),
    Sev.SEV4: timedelta(hours=4),
}

# How often people owe a status update; none where a severity is missing.
UPDATES: Mapping[Sev, timedelta] = {Sev.SEV1: timedelta(minutes=30), Sev.SEV2: timedelta(minutes=60)}


@dataclass(frozen=True, slots=True)
class Settings:
    install: str
    mode: str
    store: str  # SQLAlchemy URL without a password, or use store_secret
    store_secret: SecretRef | None = None
    epoch: int = 1  # raised when the record was restored from a backup
    host: str = "127.0.0.1"
    port: int = 8080
    public_url: str = ""  # where people's acknowledge links lead
    slack: Slack | None = None
    oidc: Oidc | None = None
    connections: Mapping[str, Connection] = field(default_factory=dict)
    ways: Mapping[str, str] = field(default_factory=dict)  # email, webhook -> connection
    notify: tuple[str, ...] = ()  # roles told of every opening (blueprint A4)
    evidence: EvidenceStore = EvidenceStore()
    ledger: Ledger | None = None
    bundles: Bundles | None = None
    keys: Keys = Keys()
    intake: Intake = Intake()
    agents_api: AgentsApi = AgentsApi()
    deadlines: Deadlines = Deadlines()
    ack_ttl: Mapping[Sev, timedelta] = field(default_factory=lambda: dict(ACK_TTL))
    updates: Mapping[Sev, timedelta] = field(default_factory=lambda: dict(UPDATES))


def load_settings(path: Path, problems: Problems) -> Settings:
    with file_section(path, problems) as top:
        mode = top.text("mode", "live", choices=MODES)
        store, store_secret = _store(top)
        with top.section("listen") as listen:
            host, port = listen.text("host", "127.0.0.1"), listen.integer("port", 8080, 0, 65_535)
        return Settings(
            install=top.name("install"),
            mode=mode,
            store=store,
            store_secret=store_secret,
            epoch=top.integer("epoch", 1, least=1),
            host=host,
            port=port,
            public_url=top.text("public_url", ""),
            slack=_slack(top),
            oidc=_oidc(top),
            connections=top.each("connections", "connection", read_connection),
            ways=_ways(top),
            notify=top.texts("notify"),
            evidence=_evidence(top),
            ledger=read_ledger(top),
            bundles=read_bundles(top),
            keys=_keys(top, mode),
            intake=_intake(top),
            agents_api=_agents_api(top),
            deadlines=_deadlines(top),
            ack_ttl=_ack_ttl(top),
            updates=_updates(top),
        )


def _store(top: Section) -> tuple[str, SecretRef | None]:
    with top.section("store") as store:
        url, secret = store.text("url", ""), store.secret("url_secret")
        if bool(url) == bool(secret):
            store.report("", "'store' needs either 'url' or 'url_secret'.", "SQLite: url: sqlite:///firedoor.db")
        try:
            password = urlsplit(url).password
        except ValueError:
            password = None
            store.report("url", "'url' is not a database URL.")
        if password:
            store.report("url", "'url' holds a password.", "Use url_secret: env:NAME, and take it out of this file.")
        return url, secret


def _slack(top: Section) -> Slack | None:
    if "slack" not in top:
        return None
    with top.section("slack") as slack:
        found = Slack(
            bot_token=slack.secret("bot_token", required=True) or SecretRef("env", "UNSET"),
            channel=slack.text("channel"),
            app_token=slack.secret("app_token"),
            signing_secret=slack.secret("signing_secret"),
            channels=slack.text("channels", CHANNELS[0], choices=CHANNELS),
            api_url=slack.text("api_url", SLACK_API),
        )
        if bool(found.app_token) == bool(found.signing_secret):
            slack.report("", "'slack' needs either 'app_token' (Socket Mode) or 'signing_secret' (HTTP).")
        if not found.api_url.startswith(("https://", "http://127.0.0.1:", "http://localhost:")):
            slack.report("api_url", "'api_url' gets the bot token: it is https, or on this machine.")
        return found


def _oidc(top: Section) -> Oidc | None:
    needed = None if "oidc" in top else ""
    with top.section("oidc") as oidc:
        found = Oidc(
            oidc.text("issuer", needed),
            oidc.text("audience", needed),
            oidc.text("claim", "email"),
            oidc.text("jwks_url", ""),
        )
        for key, url in (("issuer", found.issuer), ("jwks_url", found.jwks_url)):
            if url and not is_safe_url(url):
                oidc.report(key, f"{key!r} decides who people are: it is https, or on this machine.")
        return found if needed is None else None


def is_safe_url(url: str) -> bool:
    """https, or plain HTTP that does not leave this machine."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return bool(parts.hostname) and (
        parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1"))
    )


def _ways(top: Section) -> dict[str, str]:
    with top.section("ways") as ways:
        return {way: ways.text(way) for way in ("email", "webhook") if way in ways}


def _evidence(top: Section) -> EvidenceStore:
    usual = EvidenceStore()
    with top.section("evidence") as section:
        found = EvidenceStore(
            kind=section.text("kind", usual.kind, choices=["folder", "s3"]),
            path=section.text("path", usual.path),
            bucket=section.text("bucket", ""),
            prefix=section.text("prefix", ""),
            connection=section.text("connection", usual.connection),
            retain=section.duration("retain", usual.retain),
        )
        if (found.kind == "s3") != bool(found.bucket):
            section.report("bucket", "'bucket' and kind s3 belong together.")
        return found


def _keys(top: Section, mode: str) -> Keys:
    required = mode != "sandbox"
    if required and "keys" not in top:
        top.report("", f"'keys' is missing; mode {mode} signs its record with a key of its own.")
        return Keys()
    with top.section("keys") as keys:
        return Keys(
            keys.secret("record", required),
            keys.secret("artefacts", required),
            keys.secret("salt", required),
            keys.secret("ledger", required and "ledger" in top),
        )


def _intake(top: Section) -> Intake:
    usual = Intake()
    with top.section("intake") as section:
        window = section.duration("dedup_window", usual.dedup_window)
        if window > timedelta(days=1):
            section.report("dedup_window", "'dedup_window' is longer than a day.", "What is older is news.")
        return Intake(
            section.integer("body", usual.body, 1024, 64 * 1024 * 1024),
            section.integer("rate", usual.rate, 1, 1_000_000),
            section.integer("queue", usual.queue, 1, 1_000_000),
            window,
        )


def _agents_api(top: Section) -> AgentsApi:
    with top.section("agents_api") as section:
        lease = section.duration("lease", AgentsApi().lease) or AgentsApi().lease
        if not timedelta(seconds=31) <= lease <= timedelta(hours=1):
            section.report("lease", "'lease' is 31 s to 1 h: a question is held for 30 s.", "45s is usual.")
        audience = section.text("audience", AgentsApi().audience)
        if not audience:
            section.report("audience", "'audience' is empty: a token for the API server itself would be taken.")
        return AgentsApi(lease, audience)


def _deadlines(top: Section) -> Deadlines:
    usual = Deadlines()
    with top.section("deadlines") as section:
        names = Deadlines.__dataclass_fields__
        found = {name: section.duration(name, getattr(usual, name)) for name in names}
        for name, span in found.items():
            if not span:
                section.report(name, f"{name!r} must be longer than nothing.")
        return Deadlines(**{name: span or getattr(usual, name) for name, span in found.items()})


def _ack_ttl(top: Section) -> dict[Sev, timedelta]:
    with top.section("ack_ttl") as section:
        return {sev: section.duration(sev.name, usual) or usual for sev, usual in ACK_TTL.items()}


def _updates(top: Section) -> dict[Sev, timedelta]:
    nothing = timedelta(0)
    with top.section("updates") as section:
        found = {sev: section.duration(sev.name, UPDATES.get(sev, nothing)) for sev in Sev}
        for sev, every in found.items():
            if every and every < timedelta(minutes=5):
                section.report(
                    sev.name, f"{sev.name!r}: an update every {every} keeps people from working.", "5m or 0s."
                )
        return {sev: every for sev, every in found.items() if every}
