"""Agents on GitHub, for tests: the simulator, and the real client talking to the stand-in server over it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from bot.adapters.github import AppKey, HttpGithub
from bot.ports import Environment, Github, RefPattern
from bot.sandbox.clock import SimClock
from bot.sandbox.github import SimGithub
from bot.sandbox.github_server import GithubServer

SHOP = "acme/shop"
APP = "1234"
INSTALLED = 77
GUARDED = Environment(
    "production",
    "patterns",
    (RefPattern("main"), RefPattern("v*", "tag")),
    wait_timer=30,
    reviewers=(("Team", 5), ("User", 9)),
    prevent_self_review=True,
    admins_bypass=True,
)
WAYS = ("simulator", "http")


@dataclass
class Town:
    """`github` is the bot's own access, `app` the one with the key of the agent's app."""

    clock: SimClock
    sim: SimGithub
    github: Github
    app: Github
    server: GithubServer | None = None


@cache
def key() -> tuple[str, str]:
    """A private key and its public one, in PEM: made once, it takes a moment."""
    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = made.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    return private.decode(), made.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@contextmanager
def town(way: str, clock: SimClock) -> Iterator[Town]:
    """agent-7 has an app, a workflow with a run, and an environment; agent-8 a workflow with a run beside it."""
    sim = SimGithub(clock)
    sim.add_installation(INSTALLED, app="agent-7")
    for file, who in (("deploy.yml", "agent-7[bot]"), ("nightly.yml", "agent-8[bot]")):
        sim.add_workflow(SHOP, file)
        sim.start(SHOP, file, who)
    sim.add_environment(SHOP, GUARDED)
    if way == "simulator":
        yield Town(clock, sim, sim, sim)
        return
    private, public = key()
    with GithubServer(sim, "token", app=APP, public_key=public, hang=2) as server:
        github = HttpGithub("github", server.url, clock, token=lambda: "token", timeout=1.0)
        app = HttpGithub("github", server.url, clock, app=AppKey(APP, lambda: private), timeout=1.0)
        yield Town(clock, sim, github, app, server)
        github.close()
        app.close()
