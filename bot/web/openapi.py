"""The agents' API as an OpenAPI document, for those who write a client in another language."""

from __future__ import annotations

from typing import Any

from bot.domain.agent import Mode

MODES = [mode.name.lower() for mode in Mode]
NAME = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"}
WHOLE = {"type": "integer", "minimum": 0, "maximum": 2**53 - 1}
TIME = {"type": "string", "format": "date-time"}


def document() -> dict[str, Any]:
    """OpenAPI 3.1."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Firedoor: the agents' API",
            "version": "1",
            "summary": "What mode an agent's instance is to be in, and its word that it is.",
            "description": (
                "Requests are signed with the instance's key by the headers of Standard Webhooks, GET requests over an "
                "empty body; answers in the same way under the request's webhook-id. An answer that is not signed "
                "changes nothing. The end of a lease never leads back to `active`."
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            "/agents/v1/mode": {
                "get": {
                    "operationId": "mode",
                    "summary": "The newest order, with a renewed lease.",
                    "description": "At once where its epoch is newer than `since`, else after `wait` at the latest.",
                    "parameters": [
                        *_signature(),
                        _query("since", WHOLE, "The epoch that the instance is in; 0 where it is in none."),
                        _query("wait", {"type": "number", "minimum": 0, "maximum": 30}, "Seconds to be held."),
                    ],
                    "responses": {"200": _answer("The order.", "Order"), **_turned_away("401", "422", "429", "503")},
                }
            },
            "/agents/v1/acks": {
                "post": {
                    "operationId": "acknowledge",
                    "summary": "The instance says which mode it is in.",
                    "description": "Its word and no proof. The same again is answered alike and counts once.",
                    "parameters": _signature(),
                    "requestBody": {
                        "required": True,
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Ack"}}},
                    },
                    "responses": {
                        "200": _answer("Taken.", "Accepted"),
                        "409": _answer("Of an older order, or of another one of this epoch.", "Overtaken"),
                        **_turned_away("400", "401", "413", "422", "429", "503"),
                    },
                }
            },
            "/agents/v1/enrol": {
                "post": {
                    "operationId": "enrol",
                    "summary": "A pod gets the key of its instance, once.",
                    "description": (
                        "Only where agents.yaml lets the agent's pods do so. The cluster is asked whose the token is; "
                        "the instance is named as the pod. The answer is not signed: ask over TLS."
                    ),
                    "security": [],
                    "requestBody": {
                        "required": True,
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/PodToken"}}},
                    },
                    "responses": {
                        "200": _answer("Its key, which is shown this once.", "Enrolled"),
                        "409": _answer("This pod has had its key, or the agent has too many.", "TurnedAway"),
                        **_turned_away("400", "401", "413", "422", "429", "503"),
                    },
                }
            },
            "/agents/v1/openapi.json": {
                "get": {
                    "operationId": "openapi",
                    "summary": "This document.",
                    "security": [],
                    "responses": {
                        "200": {
                            "description": "This document.",
                            "content": {"application/json": {"schema": {"type": "object"}}},
                        }
                    },
                }
            },
        },
        "security": [{"instance": []}],
        "components": {
            "securitySchemes": {
                "instance": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "webhook-signature",
                    "description": (
                        "`v1,` + Base64 of HMAC-SHA256 over `webhook-id.webhook-timestamp.body`, with the bytes after "
                        "`whsec_` of the instance's key."
                    ),
                }
            },
            "schemas": _schemas(),
        },
    }


def _signature() -> list[dict[str, Any]]:
    return [
        _header("firedoor-instance", "AGENT/INSTANCE, as it was enrolled."),
        _header("webhook-id", "One for each request."),
        _header("webhook-timestamp", "Unix seconds; five minutes from Firedoor's clock at most."),
    ]


def _header(name: str, about: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": True, "description": about, "schema": {"type": "string"}}


def _query(name: str, schema: dict[str, Any], about: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": about, "schema": schema}


def _answer(about: str, schema: str) -> dict[str, Any]:
    return {
        "description": about,
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
    }


def _turned_away(*statuses: str) -> dict[str, Any]:
    about = {
        "400": "The body is not JSON.",
        "401": "Not signed by an enrolled instance, or not now; no token that is taken. This answer cannot be signed.",
        "413": "Over 4096 bytes. This answer is not signed.",
        "422": "A field cannot be read, no such epoch was ordered, or the mode is looser than what is ordered.",
        "429": "Too often; the header Retry-After says when.",
        "503": "Firedoor's store does not answer; the header Retry-After says when.",
    }
    return {status: _answer(about[status], "TurnedAway") for status in statuses}


def _object(about: str, **properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "description": about, "required": [*properties], "properties": properties}


def _schemas() -> dict[str, Any]:
    mode = {"type": "string", "enum": MODES, "description": "Loosest first."}
    text = {"type": "string"}
    lease = _object("How long this order is good without being renewed.", until=TIME, renew_after=TIME)
    return {
        "Order": _object(
            "What the instance is to be in.",
            agent=NAME,
            instance=NAME,
            mode=mode,
            epoch=WHOLE | {"description": "Only grows; 0 before the first order."},
            nonce=text,
            incident={"type": ["string", "null"], "description": "Whose hold it is."},
            lease=lease,
            on_lease_loss={"type": "string", "enum": ["shadow", "advisory", "keep"]},
            issued_at=TIME,
        ),
        "Ack": _object(
            "The order's epoch and nonce, and the mode that the instance is in: that one or a stricter.",
            agent=NAME,
            instance=NAME,
            epoch=WHOLE,
            nonce=text | {"maxLength": 128},
            mode=mode,
            last_effect_seq=WHOLE | {"description": "Number of the last side effect that was carried out."},
            ts={"type": ["number", "string"], "description": "Unix seconds, or RFC 3339 with an offset."},
        ),
        "Accepted": _object("Taken.", accepted={"const": True}, epoch=WHOLE, mode=mode),
        "PodToken": _object(
            "Whose pod asks.", agent=NAME, token=text | {"description": "Of the pod's own service account, projected."}
        ),
        "Enrolled": _object("What the instance signs with.", agent=NAME, instance=NAME, serial=WHOLE, key=text),
        "Overtaken": _object("Not taken.", code=text, message=text, epoch=WHOLE | {"description": "What is ordered."}),
        "TurnedAway": _object("Not carried out. `code` is stable, `message` is for people.", code=text, message=text),
    }
