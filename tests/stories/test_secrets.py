"""Secrets are planted wherever somebody else's words come in, and the bot's own are known: afterwards they are nowhere
that anybody could read, the encrypted texts included."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock

import psycopg
import pyotp
import pytest
import yaml

from bot.commands.records import records
from bot.config import EXAMPLE
from bot.errors import Rejected
from tests.stories.town import TOTP, Served, Town, until

VAULT_TOKEN = "hvs.CAESIJ" + "x7Kq2mVb9TzR4wPn8sLd3fGh6jYcE1aU5oQi0eXt"
AWS_SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCY" + "zQ9rTvKe2x"
GITHUB_TOKEN = "ghp_" + "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8"
PASSWORD = "correct-horse-battery-9931"
OTHER_TOKEN = "ghp_" + "Z9y8X7w6V5u4T3s2R1q0P9o8N7m6L5k4J3i2"
PLANTED = {
    "vault": VAULT_TOKEN,
    "aws": AWS_SECRET,
    "github": GITHUB_TOKEN,
    "password": PASSWORD,
    "in an answer": OTHER_TOKEN,
}
OWN = ("T_VAULT", "T_GATEWAY", "T_BEARER", "T_BOT", "T_APP", "T_HOOK", "T_DEPLOY")  # without `bot-token`, a word


class Talker:
    """The operator's deploy API, which says more than it was asked."""

    def __init__(self, deploy: str) -> None:
        said = json.dumps({"note": f"export TOKEN={OTHER_TOKEN}", "seen": deploy, "token": PASSWORD}).encode()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Talker:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def town(tmp_path: Path, moto: str, store_url: str) -> Iterator[Town]:
    with Town(tmp_path / "operator", moto, store_url, minute=60) as built:
        yield built


def prepare(town: Town, api: Talker) -> None:
    with town.editing("firedoor.yaml") as settings:
        settings["connections"]["deploy_api"]["url"] = api.url
    town.env["T_VAULT"] = town.vault_server.token = "own-vault-token-0123456789"
    playbooks = town.folder / "playbooks"
    playbooks.unlink()
    shutil.copytree(EXAMPLE / "playbooks", playbooks)
    path = playbooks / "unintended-production-change.yaml"
    body = yaml.safe_load(path.read_text())
    body["steps"]["ask"] = {
        "uses": "http.call",
        "with": {"connection": "deploy_api", "method": "GET", "path": "/status", "keep": ["note", "seen", "token"]},
        "irreversible": True,
    }
    path.write_text(yaml.safe_dump(body, sort_keys=False))


def hostile(town: Town) -> dict[str, Any]:
    finding = town.finding()
    detail = finding["detail"]
    detail["title"] = f"The agent wrote {VAULT_TOKEN} into a ticket"
    detail["description"] = f"and {GITHUB_TOKEN}; aws_secret_access_key = {AWS_SECRET}"
    detail["service"]["additionalInfo"] = {"password": PASSWORD, "env": [{"name": "DB_PASSWORD", "value": PASSWORD}]}
    detail["resource"]["instanceDetails"]["tags"].append({"key": "Name", "value": GITHUB_TOKEN})
    detail["type"] = f"UnauthorizedAccess:IAMUser/{GITHUB_TOKEN}"
    return finding


@pytest.mark.parametrize("store_url", ["sqlite", pytest.param("postgresql", marks=pytest.mark.soak)], indirect=True)
def test_a_planted_secret_is_nowhere_afterwards(town: Town) -> None:
    with Talker(town.env["T_DEPLOY"]) as api:
        prepare(town, api)
        own = {name: town.env[name].removeprefix("Bearer ") for name in OWN}
        town.gateway.record("agent-7", "tool_call", text=f"export TOKEN={GITHUB_TOKEN} {own['T_GATEWAY']}")
        served = town.serve()
        talk = f"backend said {VAULT_TOKEN} to {own['T_VAULT']}"
        town.vault.faults.add("list_leases", Rejected("vault", talk), times=10_000)
        town.vault_server.answer_once("/v1/sys/leases/revoke", 500, f"backend said {VAULT_TOKEN}")
        town.mailbox.refuse = True
        assert town.post(hostile(town)).status_code == 202
        until(lambda: town.show()["steps"]["evidence"]["status"] == "done", 60)
        until(lambda: "backend said" in str(town.show()["steps"]["revoke_vault"]["why"]), 30)
        town.vault.faults.clear()
        town.mailbox.refuse = False
        until(lambda: town.show()["containment"] == "contained", 120, lambda: str(town.show()["steps"]))
        until(lambda: "internal-brief" in town.show()["documents"], 30)
        code = pyotp.TOTP(TOTP["head-of-security"]).now()
        said = f"rotated {OTHER_TOKEN}, the password is password={PASSWORD}"
        noted = town.firedoor("incident", "note", "INC-1", said, "--as", "head-of-security", "--code", code)
        assert noted.returncode == 0, noted.stderr
        unread = town.post("x" + GITHUB_TOKEN)  # nobody can read it
        assert unread.status_code == 422
        town.send_to_queue(f"not JSON, but {GITHUB_TOKEN} and {own['T_HOOK']}")
        until(lambda: "guardduty" in town.firedoor("quarantine", "list").stdout, 40)
        places = {**readable(town, served), **stored(town), "an answer": (unread.text + noted.stdout).encode()}
        served.stop()
    places["the log to its end"] = served.log.read_bytes()
    assert all(places.values()), [where for where, text in places.items() if not text]
    assert b"backend said" in places["evidence"], "it was told, without the secret"
    secrets = PLANTED | own
    found = [(where, name) for name, it in secrets.items() for where, text in places.items() if it.encode() in text]
    assert found == []


def readable(town: Town, served: Served) -> dict[str, bytes]:
    """Whatever people or machines can read of a running bot."""
    s3 = town.aws("s3")
    evidence = [
        s3.get_object(Bucket=town.bucket, Key=one["Key"])["Body"].read()
        for one in s3.list_objects_v2(Bucket=town.bucket)["Contents"]
    ]
    return {
        "Slack": str(town.workspace.state()).encode(),
        "mails": str(town.mailbox.mails).encode(),
        "webhooks": str(town.hooks.received).encode(),
        "metrics": town.metrics().encode(),
        "documents": "".join(
            town.firedoor("incident", "document", "INC-1", kind).stdout
            for kind in ("internal-brief", "customer-initial")
        ).encode(),
        "evidence": b"".join(evidence),
        "the record, read": json.dumps(town.show()).encode(),
        "quarantine": town.firedoor("quarantine", "list").stdout.encode(),
        "the log": served.log.read_bytes(),
    }


def stored(town: Town) -> dict[str, bytes]:
    """Raw, and the encrypted texts and alerts opened with the operator's key."""
    found: dict[str, bytes] = {}
    if town.store_url.startswith("sqlite"):
        path = Path(town.store_url.removeprefix("sqlite:///"))
        found["the database"] = b"".join(one.read_bytes() for one in path.parent.glob(path.name + "*"))
    else:
        with psycopg.connect(town.store_url.replace("+psycopg", "", 1)) as connection:
            tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
            rows = [row for (name,) in tables for row in connection.execute(f'SELECT * FROM "{name}"').fetchall()]
        cells = (cell for row in rows for cell in row)
        found["the database"] = b"\n".join(one if isinstance(one, bytes) else str(one).encode() for one in cells)
    with mock.patch.dict(os.environ, town.env), records(town.folder) as kept:
        found["the alerts, opened"] = b"".join(one.body or b"" for one in kept.tx.alerts("INC-1"))
        found["quarantine, opened"] = b"".join(one.body for one in kept.tx.quarantined())
    return found
