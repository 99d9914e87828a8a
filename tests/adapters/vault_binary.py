"""A real Vault or OpenBao in dev mode, where its program is on PATH, and what agent-7 holds in it."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

BINARIES = tuple(name for name in ("vault", "bao") if shutil.which(name))
PATIENCE = 30.0  # seconds until it must serve


@dataclass(frozen=True)
class Held:
    """By agent-7: an entity with a token, an AppRole of its name with a secret id, and two leases under `prefix`.
    agent-8 has a
    lease under `pki/issue/agent-8/`. `kv` is the path of a secret that is not there yet."""

    url: str
    bot_token: str
    entity: str
    token: str
    accessor: str
    prefix: str
    kv: str

    def works(self) -> bool:
        """Whether the agent's token is still let in: asked with it."""
        answer = httpx.get(f"{self.url}/v1/auth/token/lookup-self", headers={"x-vault-token": self.token}, timeout=10)
        assert answer.status_code in (200, 403), answer.text
        return answer.status_code == 200


@contextmanager
def serving(binary: str, folder: Path) -> Iterator[Held]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    root = secrets.token_hex(8)
    with (folder / f"{binary}.log").open("wb") as log:
        process = subprocess.Popen(
            [binary, "server", "-dev", f"-dev-root-token-id={root}", f"-dev-listen-address=127.0.0.1:{port}"],
            env={**os.environ, "HOME": str(folder)},  # it leaves its token there
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(url, process)
        yield _give(url, root)
    finally:
        process.kill()
        process.wait()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        assert process.poll() is None, f"it ended with {process.returncode}"
        try:
            if httpx.get(f"{url}/v1/sys/health", timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(f"no Vault at {url} after {PATIENCE:.0f} s")


def _give(url: str, root: str) -> Held:
    """The PKI engine gives leases without a system behind it. A dev server has a KV version 2 at `secret`."""

    def say(path: str, **body: Any) -> dict[str, Any]:
        answer = httpx.post(f"{url}/v1/{path}", json=body, headers={"x-vault-token": root}, timeout=30)
        assert answer.is_success, f"{path}: {answer.text}"
        return dict(answer.json()) if answer.content else {}

    say("sys/mounts/pki", type="pki")
    say("pki/root/generate/internal", common_name="example.com", key_type="ec", key_bits=256)
    say("pki/roles/agent-7", allow_any_name=True, generate_lease=True, key_type="ec", key_bits=256, max_ttl="30m")
    for host in ("a", "b"):
        say("pki/issue/agent-7", common_name=f"{host}.example.com")
    say("pki/roles/agent-8", allow_any_name=True, generate_lease=True, key_type="ec", key_bits=256, max_ttl="30m")
    say("pki/issue/agent-8", common_name="c.example.com")
    say("sys/auth/approle", type="approle")
    say("auth/approle/role/agent-7", token_ttl="1h")
    role = httpx.get(f"{url}/v1/auth/approle/role/agent-7/role-id", headers={"x-vault-token": root}, timeout=10)
    secret = say("auth/approle/role/agent-7/secret-id")["data"]["secret_id"]
    auth = say("auth/approle/login", role_id=role.json()["data"]["role_id"], secret_id=secret)["auth"]
    held = (auth["entity_id"], auth["client_token"], auth["accessor"])
    return Held(url, root, *held, "pki/issue/agent-7/", "secret/agents/agent-7/mode")
