"""A whole Firedoor on one machine (`firedoor serve --sandbox`): the simulated estate in real time, a Slack workspace
with a page, and a SIEM that sends the drills' alerts. The bot in it is the one of an incident, with its real client.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyotp
import yaml

from bot import wiring
from bot.adapters.clock import SystemClock
from bot.adapters.slack import SlackChat, SlackPager
from bot.commands.folder import make_keys
from bot.config import EXAMPLE, Config, SecretRef, resolve
from bot.config.ledger import Ledger, Place
from bot.config.secrets import references
from bot.config.settings import Keys, Slack
from bot.drill.scenario import Scenario, load_scenario
from bot.drill.siem import Siem
from bot.errors import ConfigError, FiredoorError
from bot.sandbox import workspace
from bot.sandbox.aws import SimAws
from bot.sandbox.estate import Estate
from bot.sandbox.workspace import App, Channel, Person, Workspace, WorkspaceServer
from bot.sandbox.workspace.control import Extra
from bot.sandbox.workspace.rooms import BOT_USER, Group
from bot.slack.command import VERBS
from bot.slack.html import STYLE, to_html
from bot.slack.manifest import manifest
from bot.wiring import Bot, Invented

PAGE = Path(workspace.__file__).parent / "page"
HOST = "127.0.0.1"
REAL = ("xoxb-", "xoxp-", "xoxe", "xapp-")  # how a token of a real workspace begins
SNAPSHOT_SECONDS = 5  # of the simulated AWS: a person waits for it
BOT_TOKEN, APP_TOKEN = SecretRef("sandbox", "slack-bot-token"), SecretRef("sandbox", "slack-app-token")
KEY_FILES = {"record": "record.pem", "artefacts": "artefacts.key", "salt": "salt.key", "ledger": "ledger.pem"}
KEYS = Keys(**{key: SecretRef("file", f"keys/{name}") for key, name in KEY_FILES.items()})
WORDS = [(verb.name, verb.means) for verb in VERBS.values()]  # of /inc, as the page suggests them
LEDGER, ANCHORS = "ledger", "ledger-anchors"
TERMINAL = "config"  # below the sandbox's data: FIREDOOR_CONFIG of whoever uses the command line beside the page


@dataclass(frozen=True, slots=True)
class Sandbox:
    """`page` is the workspace's address, with the secret of this launch in its fragment."""

    bot: Bot
    workspace: WorkspaceServer
    page: str
    port: int


@contextmanager
def sandbox(
    config: Config, folder: Path, data: Path, *, port: int = 0, keep: bool = False, environ: Mapping[str, str]
) -> Iterator[Sandbox]:
    """Everything but the bot's own server, which is whoever's that serves `bot`. `data` holds the record and its keys:
    made anew, or with `keep` the last one's. Raises ConfigError beside a token of a real workspace, and where another
    sandbox has `data`."""
    _refuse_real_tokens(config, folder, environ)
    with ExitStack() as stack:
        stack.enter_context(_held(data))
        keys = _keys(config, data, keep=keep)
        clock = SystemClock()
        port = port or _free_port()
        estate, invented = _estate(config, clock), Invented()
        siem = Siem(_scenarios(folder), config, estate, f"http://{HOST}:{port}", invented)
        server = stack.enter_context(_workspace(config, clock, siem, environ))
        invented.give({BOT_TOKEN: server.bot_token, APP_TOKEN: server.app_token})
        chat = SlackChat(server.bot_token, base_url=server.api_url)
        estate.pagers["slack"] = SlackPager(chat)
        bot = wiring.rehearse(
            _embedded(config, data.resolve(), port, server.api_url),
            folder,
            clock,
            estate,
            chat,
            url=f"sqlite:///{(data / 'record.db').resolve()}",
            keys=keys,
            invented=invented,
            threads=True,
        )
        _terminal(folder.resolve(), data.resolve(), port)
        yield Sandbox(bot, server, f"{server.url}/#{server.control_secret}", port)


def _refuse_real_tokens(config: Config, folder: Path, environ: Mapping[str, str]) -> None:
    found = [name for name, value in environ.items() if _is_real(value)]
    for _, ref in references(config.settings.slack):
        if ref.scheme == "file":
            try:
                found += [str(ref)] if _is_real(resolve(ref, folder)) else []
            except ConfigError:
                continue  # it is not there: all the better
    if found:
        hint = "Start it without: a sandbox and a real workspace stay apart. For the real one: firedoor serve"
        raise ConfigError(found[0], "holds a token of a real Slack workspace.", hint)


def _is_real(value: str) -> bool:
    return value.startswith(REAL) and "-sandbox-" not in value


@contextmanager
def _held(data: Path) -> Iterator[None]:
    """The folder is ours alone while this process lives."""
    data.mkdir(parents=True, exist_ok=True)
    with (data / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(str(data), "another sandbox is running on it.", "Stop it, or say --data DIR.") from None
        yield


def _keys(config: Config, data: Path, *, keep: bool) -> wiring.Secrets:
    if not keep:  # only what a sandbox writes: the folder may be anybody's
        for old in data.glob("record.db*"):
            old.unlink()
        for folder in ("keys", LEDGER, ANCHORS):
            shutil.rmtree(data / folder, ignore_errors=True)
    if not (data / "keys").exists():
        make_keys(data / "keys")
    return wiring.read_keys(replace(config, settings=replace(config.settings, keys=KEYS)), data)


def _embedded(config: Config, data: Path, port: int, api_url: str) -> Config:
    """The operator's configuration, with everything outside this machine left out."""
    channel = config.settings.slack.channel if config.settings.slack else "incidents"
    settings = replace(
        config.settings,
        host=HOST,
        port=port,
        public_url=f"http://{HOST}:{port}",
        slack=Slack(BOT_TOKEN, channel, APP_TOKEN, api_url=api_url, channels="per_incident"),
        keys=replace(KEYS, ledger=SecretRef("file", str(data / "keys" / "ledger.pem"))),
        ledger=Ledger(Place(str(data / LEDGER)), Place(str(data / ANCHORS))),
    )
    return replace(
        config,
        settings=settings,
        sources={name: source for name, source in config.sources.items() if not source.queue},
    )


def _estate(config: Config, clock: SystemClock) -> Estate:
    estate = Estate(clock)
    for agent in config.agents.agents.values():
        if (aws := agent.aws) and aws.connection not in estate.aws:
            estate.aws[aws.connection] = SimAws(
                clock,
                account=aws.account,
                region=aws.region,
                system=aws.connection,
                snapshot_seconds=SNAPSHOT_SECONDS,
            )
        estate.enrol(agent)
        if aws:
            for instance in aws.instances:
                estate.aws[aws.connection].ec2.add_instance(id=instance)
    return estate


def _terminal(folder: Path, data: Path, port: int) -> None:
    """Writes `config` below `data`: the operator's files, linked, and a firedoor.yaml that says where this sandbox
    keeps its record, its keys and its ledger, so that every command finds them."""
    terminal = data / TERMINAL
    terminal.mkdir(exist_ok=True)
    for path in (path for path in folder.iterdir() if path.suffix == ".yaml" or path.is_dir()):
        if path.name not in ("firedoor.yaml", "keys") and path.resolve() != data:
            link = terminal / path.name
            link.unlink(missing_ok=True)
            link.symlink_to(path)
    settings = yaml.safe_load((folder / "firedoor.yaml").read_text()) | {
        "mode": "sandbox",
        "store": {"url": f"sqlite:///{data / 'record.db'}"},
        "listen": {"host": HOST, "port": port},
        "public_url": f"http://{HOST}:{port}",
        "keys": {key: f"file:{data / 'keys' / name}" for key, name in KEY_FILES.items()},
        "ledger": {"path": str(data / LEDGER), "anchors": {"path": str(data / ANCHORS)}},
    }
    (terminal / "firedoor.yaml").write_text(json.dumps(settings, indent=2))  # JSON is YAML


# The workspace ---------------------------------------------------------------------------------------------------


def _workspace(config: Config, clock: SystemClock, siem: Siem, environ: Mapping[str, str]) -> WorkspaceServer:
    people = config.people.persons.values()
    insiders = [Person(p.slack, p.name, p.email, title=_title(config, p.id)) for p in people if p.slack]
    everybody = frozenset({BOT_USER, *(person.id for person in insiders)})
    name = (config.settings.slack.channel if config.settings.slack else "incidents").lstrip("#")
    guest = Person("U0GUEST", "Contractor", "contractor@example.com", is_restricted=True, title="guest")
    outsider = Person("U0PARTNER", "Partner", "partner@example.org", team_id="T0PARTNER", title="from another company")
    channels = [
        Channel("C0INCIDENTS", name, everybody | {guest.id}, topic="Every incident is announced here"),
        Channel("C0GENERAL", "general", everybody | {guest.id}, topic="Anything else"),
        Channel("C0PARTNERS", "with-partner", everybody | {outsider.id}, is_ext_shared=True, topic="Externally shared"),
    ]
    groups = [
        Group(f"S0{group.upper().replace('_', '')}", group, group.replace("_", " "), _members(config, group))
        for group in sorted(config.people.groups)
    ]
    slack = Workspace([*insiders, guest, outsider], channels, clock, groups=groups, app=App.from_manifest(manifest()))
    extras = {"alert": _sender(siem), "alerts": _shelf(siem), "code": _authenticator(config, siem)}
    extras["begin"] = _begin(config, clock)
    return WorkspaceServer(slack, render=to_html, extras=extras, page=PAGE, environ=environ)


def _members(config: Config, group: str) -> tuple[str, ...]:
    return tuple(p.slack for p in config.people.persons.values() if group in p.groups and p.slack)


def _title(config: Config, person: str) -> str:
    """What they are, for whoever chooses whom to act as."""
    person_groups = config.people.persons[person].groups
    roles = [name for name, role in config.people.roles.items() if person in role.persons]
    return ", ".join(word.replace("_", " ") for word in dict.fromkeys((*roles, *person_groups)))


def _scenarios(folder: Path) -> dict[str, Scenario]:
    own = folder / "drills"
    found = (load_scenario(path) for path in sorted((own if own.is_dir() else EXAMPLE / "drills").glob("*.yaml")))
    return {scenario.id: scenario for scenario in found}


def _sender(siem: Siem) -> Extra:
    def alert(asked: Mapping[str, Any]) -> Mapping[str, Any]:
        """Sends the alert of a drill, {"name": ...}, to the bot, signed as its source signs."""
        try:
            return siem.send(str(asked.get("name")))
        except FiredoorError as error:
            raise ValueError(str(error)) from error

    return alert


def _shelf(siem: Siem) -> Extra:
    def alerts(_: Mapping[str, Any]) -> Mapping[str, Any]:
        """The alerts that can be sent: [{name, title, agent, source}]."""
        return {
            "alerts": [
                {"name": one.id, "title": one.title, "agent": one.agent, "source": one.alerts[0].source}
                for one in siem.scenarios.values()
                if one.alerts
            ]
        }

    return alerts


def _authenticator(config: Config, siem: Siem) -> Extra:
    def code(asked: Mapping[str, Any]) -> Mapping[str, Any]:
        """The six digits on a person's authenticator, {"user": ...}; '' for one who has none."""
        person = config.people.by_slack(str(asked.get("user")))
        if person is None or person.totp is None:
            return {"code": "", "person": person.id if person else ""}
        now = siem.estate.clock.now()
        return {"code": pyotp.TOTP(siem.secret(person.totp)).at(now), "person": person.id}

    return code


def _begin(config: Config, clock: SystemClock) -> Extra:
    def begin(_: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the page needs to begin: the style sheet of rendered blocks, and whom to act as first."""
        called = (p for matrix in config.matrices.values() for p in _called(config, matrix.levels[0].roles, clock))
        return {"css": STYLE, "words": WORDS, "first": next((slack for slack in called if slack), "")}

    return begin


def _called(config: Config, roles: Sequence[str], clock: SystemClock) -> Iterator[str]:
    for role in roles:
        for person in config.people.roles[role].on_call(clock.now()):
            yield config.people.persons[person].slack


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
