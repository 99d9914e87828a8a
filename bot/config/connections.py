"""The systems the bot may reach, by name. No address ever comes from anywhere else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from bot.config.reading import Section
from bot.config.secrets import SecretRef

GITHUB = "https://api.github.com"
_UNSET = SecretRef("env", "UNSET")  # stands in for a missing secret until the collected problems are raised


@dataclass(frozen=True, slots=True)
class VaultAudit:
    """Where the log of one audit device is: a file (`path`), an HTTP connection and a path there, or a bucket that an
    AWS connection reaches. `device` is the device's path in Vault, whose key hashes what the log hides."""

    device: str = "file"
    path: str = ""
    connection: str = ""
    bucket: str = ""
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class VaultConnection:
    """`verify` is a CA file, '' the system's own."""

    url: str
    token: SecretRef
    namespace: str = ""
    verify: str = ""
    connect_timeout: float = 3.0
    read_timeout: float = 10.0
    audit: VaultAudit | None = None


@dataclass(frozen=True, slots=True)
class AwsConnection:
    """Credentials come from the standard AWS chain; with `role_arn` they assume that role. `endpoint_url` is for a
    simulated estate."""

    account: str
    region: str
    role_arn: str = ""
    external_id: SecretRef | None = None
    endpoint_url: str = ""
    timeout: float = 10.0


@dataclass(frozen=True, slots=True)
class GatewayConnection:
    """An agents' side by the signed contract. `secrets`: the newest first."""

    url: str
    secrets: tuple[SecretRef, ...]
    timeout: float = 5.0
    signed_answers: bool = False
    ca: str = ""


@dataclass(frozen=True, slots=True)
class OpaConnection:
    """`urls` are the replicas, each of them. `decision` is the path below /v1/data of what decides on side effects."""

    urls: tuple[str, ...]
    decision: str
    token: SecretRef | None = None
    timeout: float = 5.0
    ca: str = ""


@dataclass(frozen=True, slots=True)
class GithubConnection:
    """By a token, or as a GitHub App: its id and one of its private keys (PEM). `url` is the API's: of a GitHub
    Enterprise Server https://HOST/api/v3."""

    url: str
    token: SecretRef | None = None
    app_id: str = ""
    private_key: SecretRef | None = None
    timeout: float = 10.0
    ca: str = ""


@dataclass(frozen=True, slots=True)
class HttpConnection:
    """For `http.call`. `headers` are whole values (`Authorization: Bearer ...`) by name."""

    url: str
    headers: Mapping[str, SecretRef]
    ca: str = ""


@dataclass(frozen=True, slots=True)
class SmtpConnection:
    host: str
    port: int
    sender: str
    starttls: bool = True
    user: str = ""
    password: SecretRef | None = None
    timeout: float = 10.0


@dataclass(frozen=True, slots=True)
class WebhookConnection:
    """Signs the pages that go to people's webhook URLs. `secrets`: the newest first."""

    secrets: tuple[SecretRef, ...]
    timeout: float = 10.0


@dataclass(frozen=True, slots=True)
class KubernetesConnection:
    """An API server by `url` and `token`, or by a kubeconfig file, or the cluster that the bot itself runs in. `ca` is
    a file, '' the system's own."""

    url: str = ""
    token: SecretRef | None = None
    ca: str = ""
    kubeconfig: str = ""
    context: str = ""
    in_cluster: bool = False
    connect_timeout: float = 3.0
    read_timeout: float = 10.0


Connection = (
    VaultConnection
    | AwsConnection
    | KubernetesConnection
    | GatewayConnection
    | GithubConnection
    | OpaConnection
    | HttpConnection
    | SmtpConnection
    | WebhookConnection
)


def read_connection(_: str, section: Section) -> Connection:
    return _READERS[section.text("kind", choices=KINDS)](section)


def _vault(section: Section) -> VaultConnection:
    return VaultConnection(
        url=_url(section),
        token=section.secret("token", required=True) or _UNSET,
        namespace=section.text("namespace", ""),
        verify=section.text("verify", ""),
        connect_timeout=_timeout(section, "connect_timeout", 3),
        read_timeout=_timeout(section, "read_timeout", 10),
        audit=_audit(section),
    )


def _audit(section: Section) -> VaultAudit | None:
    configured, audit = "audit" in section, section.section("audit")
    with audit:
        found = VaultAudit(
            device=audit.text("device", "file"),
            path=audit.text("path", ""),
            connection=audit.text("connection", ""),
            bucket=audit.text("bucket", ""),
            prefix=audit.text("prefix", ""),
        )
        if configured and bool(found.path) == bool(found.bucket):
            audit.report("", "'audit' needs either 'path' or 'bucket'.", "A file: path: /var/log/vault/audit.log")
        if found.bucket and not found.connection:
            audit.report("", "'audit' needs the 'connection' that reaches its bucket.")
    return found if configured else None


def _kubernetes(section: Section) -> KubernetesConnection:
    found = KubernetesConnection(
        url=_url(section, required=False),
        token=section.secret("token"),
        ca=section.text("ca", ""),
        kubeconfig=section.text("kubeconfig", ""),
        context=section.text("context", ""),
        in_cluster=section.flag("in_cluster"),
        connect_timeout=_timeout(section, "connect_timeout", 3),
        read_timeout=_timeout(section, "read_timeout", 10),
    )
    if [bool(found.url), bool(found.kubeconfig), found.in_cluster].count(True) != 1:
        section.report("", "a kubernetes connection needs one of 'url', 'kubeconfig' and 'in_cluster'.")
    if bool(found.url) != bool(found.token):
        section.report("token", "'url' and 'token' belong together.", "A kubeconfig brings its own credential.")
    if found.url.startswith("http://") and urlsplit(found.url).hostname not in ("127.0.0.1", "localhost", "::1"):
        section.report("url", "'url' gets the bot's token: it is https, or on this machine.")
    return found


def _aws(section: Section) -> AwsConnection:
    return AwsConnection(
        account=section.text("account"),
        region=section.text("region", "us-east-1"),
        role_arn=section.text("role_arn", ""),
        external_id=section.secret("external_id"),
        endpoint_url=_url(section, "endpoint_url", required=False),
        timeout=_timeout(section, "timeout", 10),
    )


def _gateway(section: Section) -> GatewayConnection:
    return GatewayConnection(
        url=_url(section),
        secrets=_secrets(section),
        timeout=_timeout(section, "timeout", 5),
        signed_answers=section.flag("signed_answers"),
        ca=section.text("ca", ""),
    )


def _opa(section: Section) -> OpaConnection:
    urls = section.texts("urls")
    if not urls:
        section.report("urls", "'urls' is missing.", "Name each replica: one that is left out goes on as before.")
    for url in urls:
        _judged(section, "urls", url)
    return OpaConnection(
        urls=urls,
        decision=section.text("decision", "firedoor/allow"),
        token=section.secret("token"),
        timeout=_timeout(section, "timeout", 5),
        ca=section.text("ca", ""),
    )


def _github(section: Section) -> GithubConnection:
    found = GithubConnection(
        url=_url(section, "url", required=False) or GITHUB,
        token=section.secret("token"),
        app_id=section.text("app_id", ""),
        private_key=section.secret("private_key"),
        timeout=_timeout(section, "timeout", 10),
        ca=section.text("ca", ""),
    )
    if bool(found.token) == bool(found.app_id) or bool(found.app_id) != bool(found.private_key):
        section.report("", "a github connection needs either 'token', or 'app_id' and 'private_key'.")
    return found


def _http(section: Section) -> HttpConnection:
    with section.section("headers", "'headers'") as headers:
        found = {name: headers.secret(name) or _UNSET for name in headers.entries()}
    return HttpConnection(url=_url(section), headers=found, ca=section.text("ca", ""))


def _smtp(section: Section) -> SmtpConnection:
    return SmtpConnection(
        host=section.text("host"),
        port=section.integer("port", 587, 1, 65_535),
        sender=section.text("sender"),
        starttls=section.flag("starttls", True),
        user=section.text("user", ""),
        password=section.secret("password"),
        timeout=_timeout(section, "timeout", 10),
    )


def _webhook(section: Section) -> WebhookConnection:
    return WebhookConnection(secrets=_secrets(section), timeout=_timeout(section, "timeout", 10))


_READERS: Mapping[str, Callable[[Section], Connection]] = {
    "vault": _vault,
    "aws": _aws,
    "gateway": _gateway,
    "github": _github,
    "opa": _opa,
    "http": _http,
    "smtp": _smtp,
    "webhook": _webhook,
    "kubernetes": _kubernetes,
}
KINDS = tuple(_READERS)


def _timeout(section: Section, key: str, default: float) -> float:
    """Seconds, written as a number."""
    return section.number(key, default, 0.1, 120)


def _secrets(section: Section) -> tuple[SecretRef, ...]:
    found = section.secret("secret", required=True), section.secret("previous_secret")
    return tuple(secret for secret in found if secret)


def _url(section: Section, key: str = "url", required: bool = True) -> str:
    text = section.text(key, None if required else "")
    if text:
        _judged(section, key, text)
    return text


def _judged(section: Section, key: str, text: str) -> None:
    try:
        parts = urlsplit(text)
        wrong = parts.scheme not in ("http", "https") or not parts.hostname
        holds_user = bool(parts.username or parts.password)
    except ValueError:
        wrong, holds_user = True, False
    if holds_user:
        section.report(key, f"{key!r} holds a user or password.", "Name a secret and take it out of this file.")
    elif wrong:
        section.report(key, f"{key!r} is not an http(s) URL.")
