"""Open Policy Agent over its REST API: data pushed, read back, and tried with a decision."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from bot.adapters.http import Answer, Site
from bot.errors import Denied, Rejected


class HttpOpa:
    """ports.Opa. `token` is asked at each call; '' where OPA asks for none. `decision`: the path below /v1/data of what
    decides, like `firedoor/allow`; its result is a boolean, or an object whose `allow` is one."""

    def __init__(
        self,
        connection: str,
        url: str,
        decision: str,
        token: Callable[[], str] = str,
        timeout: float = 5.0,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._site = Site(f"{connection} {urlsplit(url).netloc}", url, tls=tls)
        self._decision, self._token, self._timeout = decision.strip("/"), token, timeout

    @property
    def name(self) -> str:
        return self._site.system

    def close(self) -> None:
        self._site.close()

    def mode(self, agent: str) -> Mapping[str, Any] | None:
        found = self._result(self._ask("GET", _path(agent)))
        if found is not None and not isinstance(found, dict):
            raise Rejected(self.name, f"data.agents.{agent}.mode is {found!r}, not a mode that Firedoor wrote")
        return found

    def set_mode(self, agent: str, document: Mapping[str, Any]) -> None:
        answer = self._ask("PUT", _path(agent), document)
        if answer.status == 204:
            return
        said = str(answer.body().get("message", ""))
        if answer.status == 400 and "owned by bundle" in said:
            why = f"it takes no pushed mode of {agent}: {said}. Push modes or serve them as a bundle, not both"
            raise Rejected(self.name, f"{why}: take `opas` out of the agent, or `agents` out of the bundle's roots")
        raise self._failed(answer, "to the new mode")

    def refuses(self, agent: str, effect: str) -> bool:
        asked = {"input": {"agent": agent, "effect": effect, "side_effects": True}}
        found = self._result(self._ask("POST", f"/v1/data/{quote(self._decision)}", asked))
        allowed = found.get("allow") if isinstance(found, dict) else found
        if not isinstance(allowed, bool):
            said = "is undefined" if found is None else f"is {found!r}"
            hint = "give it a default, and name it in the connection's `decision`"
            raise Rejected(self.name, f"the decision data.{self._decision.replace('/', '.')} {said}: {hint}")
        return not allowed

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        content = b"" if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"} if content else {}
        if token := self._token():
            headers["authorization"] = f"Bearer {token}"
        answer = self._site.send(method, path, headers=headers, content=content, timeout=self._timeout)
        if answer.status == 403:
            raise Denied(self.name, f"answered 403 to {method} {path}: its own policy does not let the bot")
        return answer

    def _result(self, answer: Answer) -> Any:
        """What is undefined there answers 200 without a result."""
        if answer.status != 200:
            raise self._failed(answer, "to a question")
        try:
            value = json.loads(answer.content)
            return value.get("result")
        except (ValueError, RecursionError, AttributeError) as error:
            raise Rejected(self.name, f"does not speak OPA's data API ({error!r})") from error

    def _failed(self, answer: Answer, what: str) -> Rejected:
        said = answer.body()
        told = f": {said.get('code')}, {said.get('message')}" if said else ""
        return Rejected(self.name, f"answered {answer.status} {what}{told}", retryable=answer.status >= 500)


def _path(agent: str) -> str:
    return f"/v1/data/agents/{quote(agent, safe='')}/mode"
