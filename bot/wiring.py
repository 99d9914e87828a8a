"""Live, tabletop or sandbox: chosen here, once. Below this file nobody can tell.

`build` makes a live bot out of an operator's folder, with real clients. `rehearse` makes one on a simulated estate, in
virtual time, which signs with a key that ends with the process and holds no live credential.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from bot.actions import registry
from bot.adapters.clock import SystemClock
from bot.adapters.slack import SlackPager
from bot.clients import aws_api, evidence, live_ports, under
from bot.config import EXAMPLE, Config, MissingSecrets, SecretRef, load, resolve
from bot.config.connections import (
    AwsConnection,
    HttpConnection,
)
from bot.config.ledger import Place
from bot.config.secrets import references
from bot.domain.redaction import SHORTEST, Redactor
from bot.drill.again import replay, rules_of
from bot.drill.rehearsal import Rehearsal
from bot.drill.scenario import Scenario
from bot.engine.engine import Engine
from bot.engine.rulebook import Rulebook
from bot.engine.world import World
from bot.errors import ConfigError
from bot.ledger.log import Log
from bot.ledger.sealer import Sealer
from bot.ledger.shelf import Bucket, Folder, Shelf
from bot.ledger.stamp import Authority, read_roots
from bot.ports import Chat, Clock, Evidence, Ports
from bot.sandbox.aws import SimEvidence
from bot.sandbox.chat import SimChat
from bot.sandbox.clock import SimClock
from bot.sandbox.estate import Estate
from bot.sandbox.people import SimEndpoint, SimPager
from bot.slack.blocks import SlackVoice
from bot.store import Signer, Store
from bot.web import bundles
from bot.web.agents import InstanceKeys
from bot.web.links import AckLinks

TEMPLATES = EXAMPLE / "templates"


@dataclass(frozen=True, slots=True)
class Bot:
    """A wired bot. `links` makes and checks the acknowledge links of its pages, `instance_keys` the keys of agents'
    instances."""

    config: Config
    folder: Path
    store: Store
    engine: Engine
    links: AckLinks
    instance_keys: InstanceKeys
    redactor: Redactor
    secret: Callable[[SecretRef], str]  # raises ConfigError for one that is missing


@dataclass(frozen=True, slots=True)
class Secrets:
    """What the keys section of firedoor.yaml names, read."""

    signer: Signer
    master: bytes
    salt: bytes


def build(folder: Path, config: Config | None = None) -> Bot:
    """A live bot, not started yet. Raises ConfigError for what is missing."""
    config = config or load(folder)
    if config.settings.mode != "live":
        raise ConfigError(f"{folder}/firedoor.yaml", f"mode is {config.settings.mode}; serve needs mode: live.")
    _require(config, folder)
    keys = read_keys(config, folder)
    redactor = Redactor(keys.salt)
    clock = SystemClock()
    secret = partial(read_secret, folder=folder, redactor=redactor)
    ports = replace(live_ports(config, folder, clock, keys.salt, secret), redactor=redactor)
    store = open_store(config, folder, keys, clock)
    return _bot(config, folder, store, ports, keys, redactor, secret, threads=True)


def open_store(config: Config, folder: Path, keys: Secrets, clock: Clock, *, read_only: bool = False) -> Store:
    """The record of this installation. Relative SQLite paths are the folder's."""
    settings = config.settings
    url = _resolved(settings.store_secret, folder) if settings.store_secret else settings.store
    if url.startswith("sqlite:///") and not url.startswith("sqlite:////"):
        url = f"sqlite:///{(folder / url.removeprefix('sqlite:///')).resolve()}"
    return Store.open(
        url,
        install=settings.install,
        mode=settings.mode,
        signer=keys.signer,
        master_key=keys.master,
        clock=clock,
        epoch=settings.epoch,
        read_only=read_only,
    )


def read_keys(config: Config, folder: Path) -> Secrets:
    """The record's signing key (a PEM file), the artefacts' master key and the redaction salt (32 bytes, Base64)."""
    keys = config.settings.keys
    if keys.record is None or keys.artefacts is None or keys.salt is None:
        raise ConfigError(f"{folder}/firedoor.yaml", "keys are missing.", "firedoor init writes them.")
    if keys.record.scheme != "file":
        raise ConfigError(f"{folder}/firedoor.yaml", "keys.record must be a file:PATH.")
    return Secrets(
        signer=Signer.load(under(folder, keys.record.name)),
        master=_bytes(_resolved(keys.artefacts, folder), "keys.artefacts"),
        salt=_bytes(_resolved(keys.salt, folder), "keys.salt"),
    )


def rehearse(
    config: Config,
    folder: Path,
    clock: Clock,
    estate: Estate,
    chat: Chat,
    *,
    url: str,
    keys: Secrets | None = None,
    invented: Invented | None = None,
    threads: bool = False,
) -> Bot:
    """A sandbox bot on a simulated estate. In virtual time, where there is no thread, no scheduler, and `clock` is all
    the time there is; with `threads` in earnest. No secret is read: `invented` has them all."""
    keys = keys or Secrets(Signer.fresh(), secrets.token_bytes(32), secrets.token_bytes(32))
    config = replace(config, settings=replace(config.settings, mode="sandbox"))
    ports = estate_ports(config, clock, estate, chat, keys.salt)
    store = Store.open(
        url,
        install=config.settings.install,
        mode="sandbox",
        signer=keys.signer,
        master_key=keys.master,
        clock=clock,
        virtual=not threads,
    )
    secret = invented or Invented()
    return _bot(config, folder, store, ports, keys, Redactor(keys.salt), secret, threads=threads)


class Invented:
    """Secrets of a sandbox: each is made when it is first asked for, if it was not given, and ends with the process.
    What the configuration names is never looked up, so no live credential gets in. Good as TOTP seeds too."""

    def __init__(self) -> None:
        self._made: dict[SecretRef, str] = {}
        self._lock = threading.Lock()

    def __call__(self, ref: SecretRef) -> str:
        with self._lock:
            return self._made.setdefault(ref, base64.b32encode(secrets.token_bytes(20)).decode())

    def give(self, known: Mapping[SecretRef, str]) -> None:
        with self._lock:
            self._made.update(known)


def rehearsal(scenario: Scenario, config: Config, folder: Path, url: str) -> Rehearsal:
    """A drill, ready to run: every agent of the configuration enrolled in a fresh estate."""
    clock = SimClock(scenario.starts)
    estate = Estate(clock)
    for agent in config.agents.agents.values():
        estate.enrol(agent)
    account = next(iter(estate.aws.values()), None)
    for instance in scenario.instances:
        if account:
            account.ec2.add_instance(id=instance)
    channel = config.settings.slack.channel if config.settings.slack else ""
    people = [person.slack for person in config.people.persons.values() if person.slack]
    chat = SimChat(clock, people, [channel])
    estate.pagers["slack"] = SlackPager(chat)
    bot = rehearse(config, folder, clock, estate, chat, url=url)
    return Rehearsal(scenario, bot.config, bot.engine, estate, chat, clock)


def estate_ports(config: Config, clock: Clock, estate: Estate, chat: Chat, salt: bytes) -> Ports:
    """The simulated estate behind the same ports; every connection that the configuration names exists."""
    for name, connection in config.settings.connections.items():
        if isinstance(connection, HttpConnection):
            estate.endpoints.setdefault(name, SimEndpoint(name))
    for way in ("slack", "email", "webhook"):
        estate.pagers.setdefault(way, SimPager(way))
    estate.evidence = estate.evidence or SimEvidence()
    return Ports(
        clock=clock,
        directory=config.agents,
        vaults=estate.vaults,
        aws={name: aws.account() for name, aws in estate.aws.items()},
        clusters=estate.clusters,
        githubs=estate.githubs,
        gateways=estate.gateways,
        opas=estate.opas,
        endpoints=estate.endpoints,
        evidence=estate.evidence,
        pagers=estate.pagers,
        chat=chat,
        salt=salt,
    )


def read_secret(ref: SecretRef, folder: Path, redactor: Redactor) -> str:
    """A secret, known to the redactor before anybody uses it."""
    value = _resolved(ref, folder)
    if len(value) >= SHORTEST:
        redactor.register(_kind(ref), value)
    return value


def _require(config: Config, folder: Path) -> None:
    """Raises MissingSecrets for those without which there is no start. The others are read by the call that needs one:
    a system whose credential is missing does not keep the rest from containing."""
    settings = config.settings
    systems = {name: made for name, made in settings.connections.items() if isinstance(made, AwsConnection)}
    needed = {
        "store": settings.store_secret,
        "keys": settings.keys if settings.ledger else replace(settings.keys, ledger=None),
        "slack": settings.slack,
        "connections": systems,
        "sources": config.sources,
    }
    missing: list[ConfigError] = []
    for where, ref in references(needed):
        try:
            _resolved(ref, folder)
        except ConfigError as error:
            missing.append(ConfigError(error.where, error.problem, f"{error.hint} It is for {where}.".strip()))
    if missing:
        raise MissingSecrets(missing)


def _bot(
    config: Config,
    folder: Path,
    store: Store,
    ports: Ports,
    keys: Secrets,
    redactor: Redactor,
    secret: Callable[[SecretRef], str],
    *,
    threads: bool,
) -> Bot:
    link_key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"firedoor acknowledge links").derive(keys.master)
    links = AckLinks(config.settings.public_url, link_key, ports.clock)
    agents_key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"firedoor agents' instances").derive(keys.master)
    world = World(
        config=config,
        ports=ports,
        rulebook=Rulebook(config, folder),
        actions=registry(),
        voice=SlackVoice(config.people),
        redactor=redactor,
        replica=f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}",
        templates=templates(folder),
        channel=config.settings.slack.channel if config.settings.slack else "",
        rooms=config.settings.slack is not None and config.settings.slack.channels == "per_incident",
        replay=partial(replay, config, folder, rehearsal),
        rules=partial(rules_of, folder),
        ack_link=links.url,
    )
    engine = Engine(store, world, threads=threads)
    return Bot(config, folder, store, engine, links, InstanceKeys(agents_key), redactor, secret)


def templates(folder: Path) -> Path:
    """The operator's own where there are any, else the shipped ones."""
    own = folder / "templates"
    return own if own.is_dir() else TEMPLATES


def evidence_store(config: Config, folder: Path) -> Evidence:
    """For commands that read it."""
    redactor = Redactor(read_keys(config, folder).salt)
    return evidence(config, folder, SystemClock(), partial(read_secret, folder=folder, redactor=redactor))


# The ledger -----------------------------------------------------------------------------------------------------


def sealer(
    config: Config, folder: Path, store: Store, secret: Callable[[SecretRef], str], replica: str
) -> Sealer | None:
    """None where no ledger is configured. Raises ConfigError where its key cannot be read."""
    made = config.settings.ledger
    if made is None:
        return None
    shelf = ledger_shelf(config, folder, made.place, secret)
    anchors = ledger_shelf(config, folder, made.anchors, secret)
    log = Log(shelf, ledger_origin(config), ledger_signer(config, folder).private)
    sealer = Sealer(store, log, shelf, anchors, replica, made.retain)
    if asked := made.timestamps:
        return replace(sealer, authority=Authority(asked.url, ledger_roots(config, folder)), stamp_every=asked.every)
    return sealer


def ledger_roots(config: Config, folder: Path) -> tuple[x509.Certificate, ...]:
    """The certificates that timestamps must lead to; () where none are asked for. Raises ConfigError."""
    made = config.settings.ledger
    if made is None or made.timestamps is None:
        return ()
    path = folder / made.timestamps.roots
    try:
        return read_roots(path.read_bytes(), str(path))
    except OSError as error:
        raise ConfigError(str(path), f"it cannot be read: {error}") from error


def ledger_origin(config: Config) -> str:
    """What the log is called: its mode is a part of its name, and so of every signature under it."""
    settings = config.settings
    named = settings.ledger.origin if settings.ledger else ""
    return f"{named or f'firedoor/{settings.install}'}/{settings.mode}"


def ledger_signer(config: Config, folder: Path) -> Signer:
    ref = config.settings.keys.ledger
    if ref is None or ref.scheme != "file":
        raise ConfigError(f"{folder}/firedoor.yaml", "keys.ledger must be a file:PATH.", "firedoor init writes one.")
    return Signer.load(under(folder, ref.name))


def ledger_shelf(config: Config, folder: Path, place: Place, secret: Callable[[SecretRef], str]) -> Shelf:
    if place.path:
        return Folder(under(folder, place.path))
    return Bucket(aws_api(config, place.connection, "ledger", secret), place.bucket, place.prefix)


def bundle_signer(config: Config, folder: Path) -> bundles.Signer | None:
    """None where no bundle is served. Raises ConfigError where its key cannot be read."""
    made = config.settings.bundles
    if made is None:
        return None
    where = f"{folder}/firedoor.yaml: bundles.key"
    try:
        key = load_pem_private_key(_resolved(made.key, folder).encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, RSAPrivateKey) or key.key_size < 2048:
        hint = "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072 -out keys/bundles.pem writes one."
        raise ConfigError(where, "this is not the PEM file of an RSA key of 2048 bits or more.", hint)
    return bundles.Signer(key, made.key_id)


def _resolved(ref: SecretRef, folder: Path) -> str:
    return resolve(replace(ref, name=str(under(folder, ref.name))) if ref.scheme == "file" else ref)


def _bytes(text: str, what: str) -> bytes:
    try:
        value = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ConfigError(
            what, "this is not Base64.", "32 random bytes are wanted: firedoor init writes them."
        ) from None
    if len(value) != 32:
        raise ConfigError(what, f"it has {len(value)} bytes; 32 are needed.", "firedoor init writes them.")
    return value


def _kind(ref: SecretRef) -> str:
    return "".join(c if c.isalpha() else "_" for c in ref.name.rpartition("/")[2].lower()) or "secret"
