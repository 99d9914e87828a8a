"""Everything a live bot talks to, real where it can be had, on loopback: moto for AWS, the Vault stand-in, an agents'
gateway, a Slack workspace, an SMTP server, a webhook receiver. And the operator's folder that knows them."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock

import boto3
import httpx
import pyotp
import yaml
from aiosmtpd.controller import Controller

from bot.adapters.clock import SystemClock
from bot.commands import main
from bot.commands.incident import standing
from bot.commands.records import records
from bot.config import EXAMPLE
from bot.sandbox.agents import SimAgent, SimGateway
from bot.sandbox.gateway_server import GatewayServer
from bot.sandbox.vault import SimVault
from bot.sandbox.vault_server import VaultServer
from bot.sandbox.workspace import Channel, Person, Workspace, WorkspaceServer
from bot.sandbox.workspace.rooms import BOT_USER
from bot.store import Signer

REGION, ACCOUNT = "us-east-1", "123456789012"
AWS_ENV = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": REGION}
TOTP = {person: pyotp.random_base32() for person in ("sre-1", "head-of-security")}
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "sts:AssumeRole"}
    ],
}


class Mailbox:
    """An aiosmtpd handler that keeps what arrives, and answers after `slow` seconds."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, str]] = []  # (recipient, content)
        self.refuse, self.slow = False, 0.0

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: ARG002 - aiosmtpd's
        if self.refuse:
            return "451 try again later"
        content = envelope.content.decode("utf-8", "replace")
        self.mails += [(recipient, content) for recipient in envelope.rcpt_tos]
        await asyncio.sleep(self.slow)
        return "250 OK"


class Hooks:
    """A webhook receiver that keeps bodies by `webhook-id`."""

    def __init__(self) -> None:
        self.received: list[tuple[str, dict[str, Any]]] = []
        received = self.received

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                received.append((self.headers["webhook-id"], json.loads(body)))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/page"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@dataclass
class Town:
    """One company with its systems. `folder` is the operator's; `serve` starts the bot as a process."""

    folder: Path
    moto: str
    store_url: str
    minute: float = 1.0  # seconds that a minute of the escalation matrix lasts
    id: str = field(default_factory=lambda: secrets.token_hex(4))
    stack: ExitStack = field(default_factory=ExitStack)
    env: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> Town:
        clock = SystemClock()
        self.vault = SimVault(clock)
        self.vault_server = self.stack.enter_context(VaultServer(self.vault, "bot-token"))
        self.gateway = SimGateway("agents", clock)
        self.agent: SimAgent = self.gateway.enroll("agent-7", "1", "2")
        self.gateway_server = self.stack.enter_context(GatewayServer(self.gateway, "gateway-secret-0123456789", clock))
        config = yaml.safe_load((EXAMPLE / "people.yaml").read_text())
        self.people: dict[str, Any] = config["persons"]
        everyone = [Person(p["slack"], p["name"], p["email"]) for p in self.people.values()]
        channel = Channel("C0INCIDENTS", "incidents", frozenset({BOT_USER, *(p.id for p in everyone)}))
        self.workspace = Workspace(everyone, [channel], clock)
        self.slack = self.stack.enter_context(WorkspaceServer(self.workspace))
        self.mailbox = Mailbox()
        smtp = Controller(self.mailbox, hostname="127.0.0.1", port=free_port())
        smtp.start()
        self.stack.callback(smtp.stop)
        self.smtp_port = smtp.port
        self.hooks = Hooks()
        self.stack.callback(self.hooks.stop)
        self.port = free_port()
        self._build_aws()
        self._build_vault()
        self._write_folder()
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def aws(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.moto,
            region_name=REGION,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )

    # The estate -------------------------------------------------------------------------------------------------

    def _build_aws(self) -> None:
        iam, ec2, s3, sqs = (self.aws(name) for name in ("iam", "ec2", "s3", "sqs"))
        self.role, self.user = f"agent-7-{self.id}", f"agent-7-{self.id}"
        made = iam.create_role(RoleName=self.role, Path="/agents/", AssumeRolePolicyDocument=json.dumps(TRUST))
        self.role_arn = made["Role"]["Arn"]
        iam.create_user(UserName=self.user)
        self.key = iam.create_access_key(UserName=self.user)["AccessKey"]["AccessKeyId"]
        image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
        self.instance = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
        self.bucket = f"evidence-{self.id}"
        s3.create_bucket(Bucket=self.bucket, ObjectLockEnabledForBucket=True)
        self.queue = sqs.create_queue(QueueName=f"alerts-{self.id}")["QueueUrl"]

    def _build_vault(self) -> None:
        self.vault.add_entity("e-7", "agent-7")
        self.token = self.vault.login("e-7")
        self.vault.add_secret_id("agent-7")
        for prefix in ("aws/creds/agent-7/", "database/creds/agent-7/"):
            self.vault.issue_lease(prefix, "agent-7")

    # The operator's folder --------------------------------------------------------------------------------------

    def _write_folder(self) -> None:
        folder = self.folder
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("playbooks", "runbooks"):
            (folder / name).symlink_to((EXAMPLE / name).resolve())
        (folder / "keys").mkdir()
        Signer.generate(folder / "keys/record.pem")
        for name in ("artefacts", "salt"):
            (folder / f"keys/{name}.key").write_text(base64.b64encode(os.urandom(32)).decode())
        self._write("people.yaml", self._people())
        self._write("agents.yaml", self._agents())
        self._write("sources.yaml", self._sources())
        self._write("escalation.yaml", self._escalation())
        self._write("firedoor.yaml", self._settings())
        self.env = {
            **AWS_ENV,
            "T_VAULT": "bot-token",
            "T_GATEWAY": "gateway-secret-0123456789",
            "T_BEARER": "bearer-secret-0123456789",
            "T_BOT": self.slack.bot_token,
            "T_APP": self.slack.app_token,
            "T_HOOK": "hook-secret-0123456789",
            "T_HOOK_URL": self.hooks.url,
            "T_STORE": self.store_url,
            "T_DEPLOY": "Bearer deploy-secret-0123456789",
            "no_proxy": "127.0.0.1,localhost",
            **{f"T_TOTP_{person.replace('-', '_').upper()}": secret for person, secret in TOTP.items()},
        }

    def _write(self, name: str, body: Mapping[str, Any]) -> None:
        (self.folder / name).write_text(yaml.safe_dump(dict(body), sort_keys=False))

    @contextmanager
    def editing(self, name: str) -> Iterator[dict[str, Any]]:
        """The operator edits a file of the folder, before the bot starts."""
        body: dict[str, Any] = yaml.safe_load((self.folder / name).read_text())
        yield body
        self._write(name, body)

    def _people(self) -> dict[str, Any]:
        body: dict[str, Any] = yaml.safe_load((EXAMPLE / "people.yaml").read_text())
        for name, person in body["persons"].items():
            person.pop("totp", None)
            person.pop("webhook", None)
            if name in TOTP:
                person["totp"] = f"env:T_TOTP_{name.replace('-', '_').upper()}"
        body["persons"]["head-of-security"]["webhook"] = "env:T_HOOK_URL"
        body["persons"]["head-of-security"]["ways"] = ["webhook", "email"]
        body["persons"]["cto-1"]["ways"] = body["persons"]["cto-2"]["ways"] = ["email"]
        body["roles"]["sre"] = {"on_call": ["sre-1"]}
        body["roles"]["security_ops"] = {"on_call": ["security-ops-1"]}
        body["roles"]["cto_on_call"] = {"on_call": ["cto-1"]}
        return body

    def _agents(self) -> dict[str, Any]:
        body: dict[str, Any] = yaml.safe_load((EXAMPLE / "agents.yaml").read_text())
        agent = body["agents"]["agent-7"]
        agent["aws"] = {
            "connection": "aws",
            "account": ACCOUNT,
            "region": REGION,
            "roles": [self.role_arn],
            "users": [self.user],
            "access_keys": [self.key],
            "instances": [self.instance],
            "mode_parameter": f"/agents/{self.id}/mode",
        }
        del body["agents"]["agent-9"]["aws"], body["agents"]["agent-9"]["gateways"]
        body["bot_identities"] = [f"arn:aws:iam::{ACCOUNT}:role/firedoor"]
        return body

    def _sources(self) -> dict[str, Any]:
        return {
            "sources": {
                "guardduty": {
                    "kind": "guardduty",
                    "owner": "security-ops-1",
                    "auth": {"kind": "sqs"},
                    "queue": self.queue,
                    "connection": "aws",
                    "may_contain": True,
                },
                "guardduty-web": {
                    "kind": "guardduty",
                    "owner": "security-ops-1",
                    "auth": {"kind": "bearer", "secret": "env:T_BEARER"},
                    "may_contain": True,
                },
                "anybody": {"kind": "guardduty", "owner": "security-ops-1", "auth": {"kind": "none"}},
            },
            "classification": [{"if": "${{ alert.product == 'guardduty' }}", "type": "unintended_production_change"}],
        }

    def _escalation(self) -> dict[str, Any]:
        body: dict[str, Any] = yaml.safe_load((EXAMPLE / "escalation.yaml").read_text())
        if self.minute == 60:
            return body
        for matrix in body["matrices"].values():
            for level in matrix["levels"]:
                for key in ("page_at", "ack_by"):
                    minutes = int(str(level[key]).rstrip("ms"))
                    level[key] = f"{round(minutes * self.minute)}s"
            matrix["repeat_every"] = f"{max(1, round(5 * self.minute))}s"
        return body

    def _settings(self) -> dict[str, Any]:
        return {
            "install": f"town-{self.id}",
            "mode": "live",
            "store": {"url_secret": "env:T_STORE"},
            "listen": {"host": "127.0.0.1", "port": self.port},
            "public_url": self.url,
            "slack": {
                "bot_token": "env:T_BOT",
                "app_token": "env:T_APP",
                "channel": "C0INCIDENTS",
                "api_url": self.slack.api_url,
            },
            "keys": {
                "record": "file:keys/record.pem",
                "artefacts": "file:keys/artefacts.key",
                "salt": "file:keys/salt.key",
            },
            "connections": {
                "vault": {"kind": "vault", "url": self.vault_server.url, "token": "env:T_VAULT"},
                "aws": {"kind": "aws", "account": ACCOUNT, "region": REGION, "endpoint_url": self.moto},
                "agents": {"kind": "gateway", "url": self.gateway_server.url, "secret": "env:T_GATEWAY"},
                "deploy_api": {
                    "kind": "http",
                    "url": "http://127.0.0.1:9",
                    "headers": {"Authorization": "env:T_DEPLOY"},
                },
                "mail": {
                    "kind": "smtp",
                    "host": "127.0.0.1",
                    "port": self.smtp_port,
                    "sender": "firedoor@example.com",
                    "starttls": False,
                },
                "hooks": {"kind": "webhook", "secret": "env:T_HOOK"},
            },
            "ways": {"email": "mail", "webhook": "hooks"},
            "notify": ["sre", "security_ops", "product_owner", "cto_on_call"],
            "evidence": {"kind": "s3", "bucket": self.bucket, "connection": "aws", "retain": "1d"},
        }

    # The bot ----------------------------------------------------------------------------------------------------

    def serve(self, *, env: Mapping[str, str] | None = None, port: int | None = None) -> Served:
        """Starts `firedoor serve` and waits until it is ready."""
        return Served(self, env or {}, port or self.port)

    def finding(self, *, severity: float = 8.0, uid: str = "") -> dict[str, Any]:
        """A GuardDuty finding about agent-7's access key and instance, in its EventBridge envelope."""
        path = Path(__file__).parent.parent / "sources/payloads/guardduty_event.json"
        body: dict[str, Any] = json.loads(path.read_text())
        detail = body["detail"]
        detail["id"] = uid or secrets.token_hex(16)
        detail["severity"] = severity
        now = SystemClock().now().strftime("%Y-%m-%dT%H:%M:%S.000Z")
        detail["createdAt"] = detail["updatedAt"] = now
        detail["service"]["eventFirstSeen"] = detail["service"]["eventLastSeen"] = now
        detail["accountId"] = ACCOUNT
        keys = detail["resource"]["accessKeyDetails"]
        keys |= {"accessKeyId": self.key, "userName": self.user, "userType": "IAMUser", "principalId": "AIDATEST"}
        detail["resource"]["instanceDetails"] |= {"instanceId": self.instance}
        return body

    def send_to_queue(self, body: str) -> None:
        self.aws("sqs").send_message(QueueUrl=self.queue, MessageBody=body)

    def post(
        self, body: Any, source: str = "guardduty-web", token: str = "bearer-secret-0123456789", *, url: str = ""
    ) -> httpx.Response:
        """`url` is a replica's, where there are several."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return httpx.post(f"{url or self.url}/v1/alerts/{source}", json=body, headers=headers, timeout=40)

    def metrics(self) -> str:
        return httpx.get(f"{self.url}/metrics", timeout=10).text

    def firedoor(self, *args: str) -> subprocess.CompletedProcess[str]:
        """The command line, as an operator of this folder, without the start of a process each time (tests/cli)."""
        command = [*args, "--config", str(self.folder)]
        out, err = io.StringIO(), io.StringIO()
        with mock.patch.dict(os.environ, self.env), redirect_stdout(out), redirect_stderr(err):
            code = main(command)
        return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())

    def show(self, incident: str = "INC-1") -> dict[str, Any]:
        """What `firedoor incident show --json` says, without the start of a process each time."""
        with mock.patch.dict(os.environ, self.env), records(self.folder) as kept:
            entries = kept.entries(incident)
            told = standing(kept, kept.incident(incident, entries), entries)
        shown: dict[str, Any] = json.loads(json.dumps(told, default=str))
        return shown

    def incidents(self) -> tuple[str, ...]:
        """Their ids, the oldest first."""
        with mock.patch.dict(os.environ, self.env), records(self.folder) as kept:
            return tuple(row.stream for row in kept.tx.streams("incident", newest_first=False))


class Served:
    """A running bot. `kill` is kill -9."""

    def __init__(self, town: Town, env: Mapping[str, str], port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.log = town.folder / f"serve-{port}-{secrets.token_hex(2)}.log"
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "bot", "serve", "--config", str(town.folder), "--port", str(port)],
                env={**os.environ, **town.env, **env},
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        town.stack.callback(self.kill)
        until(lambda: self.ready(), 30, lambda: self.log.read_text())

    def ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


def until(true: Callable[[], Any], seconds: float = 20, explain: Callable[[], str] = lambda: "") -> Any:
    """Waits for a condition. The limit only bounds a broken run: nothing is asserted about how long it takes."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := true():
            return found
        time.sleep(0.1)
    raise AssertionError(f"it did not happen within {seconds} s. {explain()}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def streams(folder: Path) -> Iterator[Path]:
    yield from folder.glob("*.log")
