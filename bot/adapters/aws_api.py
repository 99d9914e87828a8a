"""One AWS account through boto3: its credentials, its clients, and what its errors mean."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any

import boto3
from botocore import exceptions as aws
from botocore.config import Config
from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials
from botocore.parsers import ResponseParserError

from bot.errors import Denied, Rejected, SystemFailure, Unavailable

_THROTTLED = re.compile(r"Throttl|TooManyRequests|RequestLimitExceeded|SlowDown|RateExceeded|BandwidthLimitExceeded")
_NOT_ALLOWED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AllAccessDisabled"})
_BAD_CREDENTIAL = frozenset(
    {
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "OptInRequired",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_NEXT_TIME = frozenset(  # the estate was in motion: the same call may do after another look
    {
        "ConcurrentModification",
        "ConcurrentModificationException",
        "EntityTemporarilyUnmodifiable",
        "IncorrectInstanceState",
        "IncorrectState",
        "InvalidNetworkInterfaceID.NotFound",
        "OperationAborted",
        "SnapshotCreationPerVolumeRateExceeded",
        "TooManyUpdates",
    }
)
_SERVED_BY = {"HeadObject": "s3:GetObject", "ListObjectsV2": "s3:ListBucket"}  # where action and permission differ
_NO_CREDENTIAL = (
    aws.NoCredentialsError,
    aws.PartialCredentialsError,
    aws.CredentialRetrievalError,
    aws.TokenRetrievalError,
    aws.SSOError,
    aws.ProfileNotFound,
    aws.InvalidConfigError,
)
_FAILURES = (aws.BotoCoreError, aws.ClientError, ResponseParserError)
_NEVER_SENT = (aws.EndpointConnectionError, aws.ConnectTimeoutError, aws.ProxyConnectionError, aws.SSLError)


class AwsApi:
    """The calls to one account and region. `system` is the connection's name, for messages. Without `credentials`
    (access_key_id, secret_access_key, session_token) or `profile` the standard AWS chain is asked; with `role` that is
    used to assume it, again shortly before it expires. Timeouts in seconds. Nothing is retried here: the caller decides
    what an outage means. Clients are made at the first call, once, and are safe to share between threads.
    """

    def __init__(
        self,
        *,
        system: str = "aws",
        account: str = "",
        region: str,
        endpoint_url: str | None = None,
        credentials: Mapping[str, str] | None = None,
        profile: str | None = None,
        role: str | None = None,
        external_id: str | None = None,
        connect_timeout: float = 3.0,
        read_timeout: float = 10.0,
        pool: int = 16,
    ) -> None:
        self.system, self.account, self.region = system, account, region
        self._endpoint_url, self._profile = endpoint_url, profile
        self._credentials = {f"aws_{name}": value for name, value in (credentials or {}).items()}
        self._role, self._external_id = role, external_id
        self._config = Config(
            region_name=region,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            retries={"total_max_attempts": 1},
            max_pool_connections=pool,
            tcp_keepalive=True,
            user_agent_extra="firedoor",
        )
        self._lock = threading.Lock()
        self._session: boto3.Session | None = None
        self._clients: dict[str, Any] = {}
        self._owner: str | None = None  # the account that the credentials belong to, once asked

    def call(self, service: str, operation: str, /, **arguments: Any) -> Mapping[str, Any]:
        """One request, `call("iam", "get_role", RoleName=...)`. Raises Unavailable, Denied or Rejected."""
        try:
            answer: Mapping[str, Any] = getattr(self._client(service), operation)(**arguments)
        except _FAILURES as error:
            raise self._translated(error, service, operation) from error
        return answer

    def ask(
        self, service: str, operation: str, absent: tuple[str, ...], /, **arguments: Any
    ) -> Mapping[str, Any] | None:
        """The same; None where AWS answers one of the error codes `absent`."""
        try:
            return self.call(service, operation, **arguments)
        except Rejected as failure:
            if _code(failure.__cause__) in absent:
                return None
            raise

    def pages(self, service: str, operation: str, key: str, **arguments: Any) -> Iterator[Any]:
        """What stands under `key` in every page of the answer."""
        try:
            for page in self._client(service).get_paginator(operation).paginate(**arguments):
                yield from page.get(key, ())
        except _FAILURES as error:
            raise self._translated(error, service, operation) from error

    def close(self) -> None:
        """Lets go of its connections; a later call would make new ones."""
        with self._lock:
            clients, self._clients = self._clients, {}
        for client in clients.values():
            client.close()

    def confirm_account(self) -> None:
        """Denied where the credentials belong to another account: what is "not there" would then mean nothing. Asks
        AWS once; without a configured account there is nothing to compare."""
        if self._owner is None:
            self._owner = str(self.call("sts", "get_caller_identity")["Account"])
        if self.account and self.account != self._owner:
            raise Denied(
                self.system,
                f"its credentials belong to account {self._owner}, configured is {self.account}: "
                "correct the connection's `account` or its `role_arn`",
            )

    def server_time(self) -> datetime:
        """AWS's clock, in whole seconds, from the Date header of an STS answer (it needs no permission)."""
        answer = self.call("sts", "get_caller_identity")
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date", "")
        try:
            return parsedate_to_datetime(date).astimezone(UTC)
        except ValueError as error:
            raise Rejected(self.system, f"AWS answered without a usable Date header ({date!r})") from error

    def _client(self, service: str) -> Any:
        client = self._clients.get(service)
        if client is None:
            with self._lock:  # making a client is not thread-safe, using it is
                if service not in self._clients:
                    self._session = self._session or self._sign_in()
                    self._clients[service] = self._session.client(
                        service, config=self._config, endpoint_url=self._endpoint_url
                    )
                client = self._clients[service]
        return client

    def _sign_in(self) -> boto3.Session:
        own = boto3.Session(region_name=self.region, profile_name=self._profile, **self._credentials)
        if not self._role:
            return own
        identity = own.get_credentials()
        if identity is None:
            raise aws.NoCredentialsError
        assumed = boto3.Session(region_name=self.region)
        make_client = partial(own._session.create_client, config=self._config, endpoint_url=self._endpoint_url)
        arguments = {"RoleSessionName": "firedoor"} | ({"ExternalId": self._external_id} if self._external_id else {})
        fetcher = AssumeRoleCredentialFetcher(make_client, identity, self._role, extra_args=arguments)
        # boto3 assumes roles by itself only for profiles in a file.
        assumed._session._credentials = DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")
        return assumed

    def _translated(self, error: Exception, service: str, operation: str) -> SystemFailure:
        words = "".join(part.capitalize() for part in operation.split("_"))
        what = f"{service}:{words}"
        if isinstance(error, aws.ClientError):
            return self._answered(error, service, what)
        if isinstance(error, _NO_CREDENTIAL):
            return Denied(self.system, f"no usable AWS credentials for {what}: {error}")
        if isinstance(error, aws.HTTPClientError | aws.ConnectionError):  # botocore has two families of them
            sent = not isinstance(error, _NEVER_SENT)
            return Unavailable(self.system, f"no answer to {what}: {error}", sent=sent)
        if isinstance(error, ResponseParserError):  # a page of text: a proxy's, or of a service in trouble
            return Unavailable(self.system, f"what answered {what} is not AWS", sent=True)
        return Rejected(self.system, f"{what} could not be asked: {error}")

    def _answered(self, error: aws.ClientError, service: str, what: str) -> SystemFailure:
        answer = error.response
        code, message = answer.get("Error", {}).get("Code", ""), answer.get("Error", {}).get("Message", "")
        meta = answer.get("ResponseMetadata", {})
        status = int(meta.get("HTTPStatusCode", 0))
        if code in _NOT_ALLOWED or (code == "403" and service == "s3"):
            named = re.search(r"not authorized to perform: (\S+:\w+)", message)
            # EC2 answers an encoded message; HeadObject has no body at all.
            permission = named.group(1) if named else _SERVED_BY.get(error.operation_name, what)
            return Denied(self.system, f"AWS refused {what}: the bot's policy lacks {permission}")
        if code in _BAD_CREDENTIAL:
            return Denied(self.system, f"AWS does not accept the bot's credential for {what} ({code}): {message}")
        if _THROTTLED.search(code) or status in (429, 503):
            wait = str(meta.get("HTTPHeaders", {}).get("retry-after", ""))
            after = float(wait) if wait.isdigit() else None
            return Unavailable(self.system, f"AWS throttled {what} ({code})", retry_after=after)
        if status >= 500:
            return Unavailable(self.system, f"AWS failed on {what} ({status} {code})", sent=True)
        return Rejected(self.system, f"{what}: {message} ({code})", retryable=code in _NEXT_TIME)


def _code(error: BaseException | None) -> str:
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, aws.ClientError) else ""
