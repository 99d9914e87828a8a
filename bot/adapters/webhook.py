"""Pages as signed webhooks, for a paging service or an own receiver."""

from __future__ import annotations

import json
import ssl
import threading
from urllib.parse import quote

import httpx

from bot.adapters import signing
from bot.adapters.http import Site
from bot.errors import Denied, Rejected
from bot.ports import Clock, PageMessage


class WebhookPager:
    """ports.Pager: a Standard Webhooks POST to the person's URL. `webhook-id` is the page's key: a receiver drops what
    it has seen. The body is `{type: "page", timestamp, data: {key, incident, person, subject, body, ack_url}}`."""

    def __init__(
        self,
        name: str,
        secret: signing.Secrets,
        clock: Clock,
        timeout: float = 10.0,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._name, self._secret, self._clock, self._timeout, self._tls = name, secret, clock, timeout, tls
        self._sites: dict[str, Site] = {}  # by origin: people's URLs are few and configured
        self._lock = threading.Lock()

    def close(self) -> None:
        for site in self._sites.values():
            site.close()

    def send(self, message: PageMessage) -> str:
        now = self._clock.now()
        data = {
            "key": message.key,
            "incident": message.incident,
            "person": message.person,
            "subject": message.subject,
            "body": message.body,
            "ack_url": message.ack_url,
        }
        content = json.dumps({"type": "page", "timestamp": now.isoformat(), "data": data}).encode()
        page_id = quote(message.key, safe="/:.@+=-_")  # a header holds ASCII without spaces
        headers = signing.sign(self._secret(), page_id, now, content) | {"content-type": "application/json"}
        site, path = self._site(message)
        answer = site.send("POST", path, headers=headers, content=content, timeout=self._timeout)
        if answer.status == 403:
            raise Denied(self._name, f"the webhook of {message.person} answered 403: check the shared secret")
        if not 200 <= answer.status < 300:
            why = f"the webhook of {message.person} answered {answer.status}"
            raise Rejected(self._name, why, retryable=answer.status >= 500)
        return str(answer.body().get("id") or page_id)

    def _site(self, message: PageMessage) -> tuple[Site, str]:
        try:
            url = httpx.URL(message.address)
            if url.userinfo:
                raise ValueError("a secret in a URL ends up in logs")
            origin = f"{url.scheme}://{url.netloc.decode()}"
            with self._lock:
                if origin not in self._sites:
                    self._sites[origin] = Site(self._name, origin, tls=self._tls)
                return self._sites[origin], url.raw_path.decode()
        except (httpx.InvalidURL, ValueError) as error:
            raise Rejected(self._name, f"the webhook of {message.person} is not an http(s) URL") from error
