"""The real client of each system that firedoor.yaml connects. Nothing is called yet when it is made; secrets are read
when a call needs them."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from bot.adapters.aws import aws_account
from bot.adapters.aws_api import AwsApi
from bot.adapters.evidence import BucketEvidence, FolderEvidence
from bot.adapters.gateway import HttpGateway
from bot.adapters.github import AppKey, HttpGithub
from bot.adapters.http import HttpEndpoint
from bot.adapters.kubernetes import Configure, KubernetesCluster, by_kubeconfig, by_token, in_cluster
from bot.adapters.mail import SmtpPager
from bot.adapters.opa import HttpOpa
from bot.adapters.slack import SlackChat, SlackPager
from bot.adapters.vault import HvacVault
from bot.adapters.vault_audit import LogLines, Read, bucket_lines, file_lines, http_lines
from bot.adapters.webhook import WebhookPager
from bot.config import Config, SecretRef
from bot.config.connections import (
    AwsConnection,
    GatewayConnection,
    GithubConnection,
    HttpConnection,
    KubernetesConnection,
    OpaConnection,
    SmtpConnection,
    VaultAudit,
    VaultConnection,
    WebhookConnection,
)
from bot.errors import ConfigError
from bot.ports import AwsAccount, Clock, Cluster, Endpoint, Evidence, Gateway, Github, Opa, Pager, Ports, Vault
from bot.ports.evidence import AuditLog


def live_ports(config: Config, folder: Path, clock: Clock, salt: bytes, secret: Callable[[SecretRef], str]) -> Ports:
    """The real clients. Nothing is called yet; secrets are read when a call needs them."""
    vaults: dict[str, Vault] = {}
    aws: dict[str, AwsAccount] = {}
    clusters: dict[str, Cluster] = {}
    githubs: dict[str, Github] = {}
    gateways: dict[str, Gateway] = {}
    opas: dict[str, tuple[Opa, ...]] = {}
    endpoints: dict[str, Endpoint] = {}
    pagers: dict[str, Pager] = {}
    ways = {connection: way for way, connection in config.settings.ways.items()}
    for name, made in config.settings.connections.items():
        match made:
            case VaultConnection():
                vaults[name] = _vault(name, made, secret)
            case AwsConnection():
                aws[name] = _aws(name, made, secret)
            case KubernetesConnection():
                clusters[name] = cluster(name, made, folder, secret)
            case GatewayConnection():
                gateways[name] = HttpGateway(
                    name,
                    made.url,
                    _all(made.secrets, secret),
                    clock,
                    made.timeout,
                    signed_answers=made.signed_answers,
                    tls=_tls(made.ca),
                )
            case OpaConnection():
                opas[name] = _opas(name, made, secret)
            case GithubConnection():
                githubs[name] = github(name, made, clock, secret)
            case HttpConnection():
                endpoints[name] = HttpEndpoint(name, made.url, _headers(made.headers, secret), tls=_tls(made.ca))
            case SmtpConnection() if name in ways:
                pagers[ways[name]] = _mail(name, made, clock, secret)
            case WebhookConnection() if name in ways:
                pagers[ways[name]] = WebhookPager(name, _all(made.secrets, secret), clock, made.timeout)
    chat = _slack(config, secret)
    if chat:
        pagers["slack"] = SlackPager(chat)
    return Ports(
        clock=clock,
        directory=config.agents,
        vaults=vaults,
        aws=aws,
        clusters=clusters,
        githubs=githubs,
        gateways=gateways,
        opas=opas,
        endpoints=endpoints,
        evidence=evidence(config, folder, clock, secret),
        audits=_audits(config, folder, secret),
        retain=config.settings.evidence.retain,
        pagers=pagers,
        chat=chat,
        salt=salt,
    )


def _vault(name: str, made: VaultConnection, secret: Callable[[SecretRef], str]) -> Vault:
    return HvacVault(
        made.url,
        lambda: secret(made.token),
        namespace=made.namespace,
        system=name,
        connect_timeout=made.connect_timeout,
        read_timeout=made.read_timeout,
        verify=made.verify or True,
    )


def cluster(
    name: str, made: KubernetesConnection, folder: Path, secret: Callable[[SecretRef], str]
) -> KubernetesCluster:
    way: Configure = in_cluster
    if made.kubeconfig:
        way = by_kubeconfig(str(under(folder, made.kubeconfig)), made.context)
    elif made.url:
        token = made.token
        way = by_token(made.url, (lambda: secret(token)) if token else str, made.ca)
    return KubernetesCluster(way, system=name, connect_timeout=made.connect_timeout, read_timeout=made.read_timeout)


def _aws(name: str, made: AwsConnection, secret: Callable[[SecretRef], str]) -> AwsAccount:
    return aws_account(
        account=made.account,
        region=made.region,
        system=name,
        endpoint_url=made.endpoint_url or None,
        role=made.role_arn or None,
        external_id=secret(made.external_id) if made.external_id else None,
        read_timeout=made.timeout,
    )


def github(name: str, made: GithubConnection, clock: Clock, secret: Callable[[SecretRef], str]) -> HttpGithub:
    token, key = made.token, made.private_key
    return HttpGithub(
        name,
        made.url,
        clock,
        token=(lambda: secret(token)) if token else None,
        app=AppKey(made.app_id, lambda: secret(key)) if key else None,
        timeout=made.timeout,
        tls=_tls(made.ca),
    )


def _mail(name: str, made: SmtpConnection, clock: Clock, secret: Callable[[SecretRef], str]) -> Pager:
    password = made.password
    return SmtpPager(
        name,
        made.host,
        made.port,
        made.sender,
        clock,
        starttls=made.starttls,
        user=made.user,
        password=(lambda: secret(password)) if password else str,
        timeout=made.timeout,
    )


def _slack(config: Config, secret: Callable[[SecretRef], str]) -> SlackChat | None:
    slack = config.settings.slack
    return SlackChat(secret(slack.bot_token), base_url=slack.api_url) if slack else None


def evidence(config: Config, folder: Path, clock: Clock, secret: Callable[[SecretRef], str]) -> Evidence:
    store = config.settings.evidence
    if store.kind == "folder":
        return FolderEvidence(under(folder, store.path), clock)
    return BucketEvidence(aws_api(config, store.connection, "evidence", secret), store.bucket, store.prefix)


def _audits(config: Config, folder: Path, secret: Callable[[SecretRef], str]) -> dict[str, AuditLog]:
    """The audit logs of the Vaults, by the Vault connection's name."""
    found: dict[str, AuditLog] = {}
    for name, made in config.settings.connections.items():
        if isinstance(made, VaultConnection) and made.audit:
            found[name] = LogLines(_audit_lines(name, made.audit, config, folder, secret), made.audit.device)
    return found


def _audit_lines(
    name: str, audit: VaultAudit, config: Config, folder: Path, secret: Callable[[SecretRef], str]
) -> Read:
    if audit.bucket:
        return bucket_lines(aws_api(config, audit.connection, f"{name}.audit", secret), audit.bucket, audit.prefix)
    if not audit.connection:
        return file_lines(under(folder, audit.path), name)
    http = config.settings.connections.get(audit.connection)
    if not isinstance(http, HttpConnection):
        raise ConfigError("firedoor.yaml", f"{name}.audit.connection {audit.connection!r} is no http connection.")
    url = f"{http.url.rstrip('/')}/{audit.path.lstrip('/')}"
    return http_lines(url, _headers(http.headers, secret), name, tls=_tls(http.ca))


def aws_api(config: Config, connection: str, of: str, secret: Callable[[SecretRef], str]) -> AwsApi:
    made = config.settings.connections.get(connection)
    if not isinstance(made, AwsConnection):
        raise ConfigError("firedoor.yaml", f"{of}.connection {connection!r} is no aws connection.")
    return AwsApi(
        system=connection,
        account=made.account,
        region=made.region,
        endpoint_url=made.endpoint_url or None,
        role=made.role_arn or None,
        external_id=secret(made.external_id) if made.external_id else None,
        read_timeout=made.timeout,
    )


def _headers(headers: Mapping[str, SecretRef], secret: Callable[[SecretRef], str]) -> Callable[[], Mapping[str, str]]:
    return lambda: {name: secret(ref) for name, ref in headers.items()}


def _all(refs: tuple[SecretRef, ...], secret: Callable[[SecretRef], str]) -> Callable[[], tuple[str, ...]]:
    return lambda: tuple(secret(ref) for ref in refs)


def _opas(name: str, made: OpaConnection, secret: Callable[[SecretRef], str]) -> tuple[Opa, ...]:
    token = partial(secret, made.token) if made.token else str
    return tuple(HttpOpa(name, url, made.decision, token, made.timeout, tls=_tls(made.ca)) for url in made.urls)


def _tls(ca: str) -> ssl.SSLContext | None:
    return ssl.create_default_context(cafile=ca) if ca else None


def under(folder: Path, path: str) -> Path:
    """A relative path is the configuration folder's."""
    return (folder / path).resolve()
