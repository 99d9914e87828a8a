"""The store, the mail server, gateways, other HTTP systems, page webhooks and the OpenID provider."""

from __future__ import annotations

import smtplib
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from functools import partial
from urllib.parse import urlsplit

from bot.adapters.gateway import HttpGateway
from bot.adapters.oidc import Issuer
from bot.adapters.opa import HttpOpa
from bot.config import Config, SecretRef
from bot.config.connections import (
    GatewayConnection,
    HttpConnection,
    OpaConnection,
    SmtpConnection,
    WebhookConnection,
)
from bot.config.settings import Oidc
from bot.doctor import Check, Finding, State, clocks
from bot.errors import ConfigError, Unavailable
from bot.ports import Clock
from bot.store import Store

CONNECT = 5.0  # seconds
Secret = Callable[[SecretRef], str]


def checks(
    config: Config,
    secret: Secret,
    clock: Clock,
    *,
    store: Callable[[], Store],
) -> Iterator[Check]:
    """`store` opens it read only."""
    yield Check("store", partial(_store, store, clock.now))
    for name, made in config.settings.connections.items():
        match made:
            case SmtpConnection():
                yield Check(name, partial(_mail, name, made, secret))
            case GatewayConnection():
                agents = [agent.id for agent in config.agents.agents.values() if name in agent.gateways]
                yield Check(name, partial(_gateway, name, made, agents, clock, secret))
            case OpaConnection():
                agents = [agent.id for agent in config.agents.agents.values() if name in agent.opas]
                for url in made.urls:
                    yield Check(name, partial(_opa, name, url, made, agents, secret))
            case HttpConnection():
                yield Check(name, partial(_http, name, made.url, made.ca, [*made.headers.values()], secret))
            case WebhookConnection():
                yield Check(name, partial(_webhooks, name, made, config, secret))
    if oidc := config.settings.oidc:
        yield Check("oidc", partial(_oidc, oidc, clock))


def _store(open: Callable[[], Store], now: Callable[[], datetime]) -> Iterator[Finding]:
    try:
        store = open()
    except ConfigError as error:
        new = "version none" in error.problem or "no store" in error.problem
        yield Finding(State.WARN if new else State.FAIL, "store", error.problem.removesuffix("."), error.hint)
        return
    try:
        before = now()
        theirs = store.database_now()
        yield Finding(State.OK, "store", "it answers, its tables are of this release")
        yield clocks("store clock", theirs, before, now())
        serving = store.serving()
        yield Finding(State.OK, "store lock", f"served by {', '.join(serving) or 'nobody'} now")
    finally:
        store.close()


def _mail(name: str, made: SmtpConnection, secret: Secret) -> Iterator[Finding]:
    """As far as a mail goes before there is one: greeting, TLS, login."""
    try:
        with smtplib.SMTP(made.host, made.port, timeout=min(made.timeout, CONNECT)) as server:
            if made.starttls:
                server.starttls(context=ssl.create_default_context())
            if made.user:
                server.login(made.user, secret(made.password) if made.password else "")
            server.noop()
    except smtplib.SMTPAuthenticationError:
        yield Finding(State.FAIL, name, f"{made.host} refuses the login of {made.user}", "Correct user or password.")
    except smtplib.SMTPNotSupportedError as error:
        todo = "Let it offer STARTTLS, or say starttls: false where it is on this machine."
        yield Finding(State.FAIL, name, f"{made.host} does not offer it: {error}", todo)
    except (smtplib.SMTPException, OSError) as error:
        yield Finding(State.FAIL, name, f"{made.host}:{made.port} does not answer as a mail server: {error}",
                      "Correct host and port, or open the way there.")  # fmt: skip
    else:
        tls = "with TLS" if made.starttls else "without TLS"
        yield Finding(State.OK, name, f"{made.host} takes the connection {tls}{' and the login' if made.user else ''}")
        if not made.starttls and made.host not in ("127.0.0.1", "::1", "localhost"):
            yield Finding(State.WARN, name, "pages and acknowledge links go there in the clear", "Say starttls: true.")


def _opa(name: str, url: str, made: OpaConnection, agents: list[str], secret: Secret) -> Iterator[Finding]:
    """What the decision says of an agent that nobody knows: it must not be undefined, and it must deny."""
    if not agents:
        yield Finding(State.WARN, name, "no agent names it", "Name it under `opas` in agents.yaml, or take it out.")
    token = partial(secret, made.token) if made.token else str
    tls = ssl.create_default_context(cafile=made.ca) if made.ca else None
    with closing(HttpOpa(name, url, made.decision, token, made.timeout, tls=tls)) as opa:
        if not opa.refuses("firedoor.nobody", "firedoor.canary"):
            todo = "Let it deny by default: a replica that was started again has lost what was pushed."
            yield Finding(State.FAIL, opa.name, "it allows side effects of an agent that it does not know", todo)
            return
        for agent in agents:
            opa.mode(agent)
        yield Finding(State.OK, opa.name, f"its decision {made.decision} denies by default")


def _gateway(name: str, made: GatewayConnection, agents: list[str], clock: Clock, secret: Secret) -> Iterator[Finding]:
    if not agents:
        yield Finding(State.WARN, name, "no agent names it", "Name it under `gateways` in agents.yaml, or take it out.")
        return
    tls = ssl.create_default_context(cafile=made.ca) if made.ca else None
    keys = tuple(secret(ref) for ref in made.secrets)
    opened = HttpGateway(name, made.url, lambda: keys, clock, made.timeout, signed_answers=made.signed_answers, tls=tls)
    with closing(opened) as gateway:
        for agent in agents:
            state = gateway.state(agent)
            if state is None:
                yield Finding(
                    State.FAIL, name, f"it knows no {agent}", "Register the agent there, or correct agents.yaml."
                )
            elif not state.instances:
                yield Finding(
                    State.WARN, name, f"no instance of {agent} is registered", "Its mode could not be proved."
                )
            else:
                yield Finding(State.OK, name, f"it knows {agent} ({len(state.instances)} instances, {state.mode.name})")


def _http(name: str, url: str, ca: str, secrets: list[SecretRef], secret: Secret) -> Iterator[Finding]:
    for ref in secrets:
        secret(ref)
    _connect(name, url, ca)
    todo = "Only a call proves it: rehearse the playbook that uses it."
    yield Finding(State.UNVERIFIED, name, "it takes connections; whether it takes the credential is not tried", todo)


def _webhooks(name: str, made: WebhookConnection, config: Config, secret: Secret) -> Iterator[Finding]:
    for ref in made.secrets:
        secret(ref)
    for person in config.people.persons.values():
        if person.webhook is None or "webhook" not in person.ways:
            continue
        try:
            _connect(name, secret(person.webhook), "")
        except Unavailable as error:
            todo = "Correct the URL, or open the way there."
            yield Finding(State.FAIL, name, f"the webhook of {person.id}: {error.why}", todo)
        else:
            what = f"the webhook of {person.id} takes connections; no page was sent"
            yield Finding(State.UNVERIFIED, name, what, "A tabletop pages for real.")


def _oidc(made: Oidc, clock: Clock) -> Iterator[Finding]:
    count = Issuer(made.issuer, made.audience, clock, jwks_url=made.jwks_url).reach()
    yield Finding(State.OK, "oidc", f"{made.issuer} publishes keys that count: {count}")


def _connect(name: str, url: str, ca: str) -> None:
    """TCP and TLS, and nothing said."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        with socket.create_connection((host, parts.port or (443 if parts.scheme == "https" else 80)), CONNECT) as raw:
            if parts.scheme == "https":
                ssl.create_default_context(cafile=ca or None).wrap_socket(raw, server_hostname=host).close()
    except (OSError, ValueError) as error:
        raise Unavailable(name, f"cannot connect to {host}: {error}") from None
