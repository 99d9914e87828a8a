from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.domain.redaction import Redactor, redact, redact_text

SALT = b"salt of this installation"

# Put together at run time, so that nothing in this file looks like a secret to those who look for them.
SHAPED = {
    "vault": "hvs." + "CAESIJ1a2b3c4d5e6f7g8h9i0jKLMNOPQRST",
    "vault batch": "hvb." + "AAAAAQJ1a2b3c4d5e6f7g8h9i0jKLMNOPQRST",
    "vault legacy": "s." + "aB3dE5gH7jK9mN1pQ3sT5vW7",
    "github": "ghp" + "_16C7e42F292c6912E7710c838347Ae178B4a",
    "github fine": "github" + "_pat_11ABCDEFG0aBcDeFgHiJkL_mNoPqRsTuVwXyZ",
    "slack": "xoxb" + "-17653672481-19874698323-pdFZKVeTuE8sk7oOcHrzqqgy",
    "slack app": "xapp" + "-1-A0123456789-0123456789-abcdef0123456789",
    "slack hook": "https://hooks.slack" + ".com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX",
    "jwt": "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "aws secret": "wJalrXUtnFEMI/K7MDENG/" + "bPxRfiCYEXAMPL3KEY",
    "aws session": "IQoJb3JpZ2lu" + "X2VjEJr//////////wEaCXVzLWVhc3QtMSJHMEUCIQDabcdefgh",
    "model": "sk-" + "proj-aB3dE5gH7jK9mN1pQ3sT5vW7xY9z",
    "pem": "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\nabc/def+ghi==\n-----END RSA PRIVATE KEY-----",
    "pem cut off": "-----BEGIN " + "PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\nabc/def+ghi",
}
PASSWORD_KEYS = ("password", "DB_PASSWORD", "dbPasswords", "secret", "client_secret", "clientSecret", "credentials")
TOKEN_KEYS = ("token", "session_token", "SessionToken", "accessToken", "Authorization", "cookie", "Set-Cookie")
API_KEYS = ("api_key", "apiKey", "X-API-Key", "aws_secret_access_key", "SecretAccessKey", "private_key", "secret_key")
IDENTIFIERS = [
    "AKIAIOSFODNN7EXAMPLE",
    "ASIAIOSFODNN7EXAMPLE",
    "AROACKCEVSQ6C2EXAMPLE:i-0123456789abcdef0",
    "arn:aws:iam::111122223333:role/agents/Agent7WithAVeryLongNameOf40Characters12",
    "arn:aws:secretsmanager:us-east-1:111122223333:secret:prod/db-AbCdEf",
    "111122223333:user/agent-7-ci",
    "system:serviceaccount:agents:agent-7",
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "8b2c1d3e-4f5a-6b7c-8d9e-0f1a2b3c4d5e",
    "https://grafana.example/alerting/1afz29v7z/edit?orgId=1",
    "i-0123456789abcdef0",
    "UnauthorizedAccess:IAMUser/InstanceCredentialExfiltration.OutsideAWS",
    "da39a3ee5e6b4b0d3255bfef95601890afd80709",
]


@pytest.mark.parametrize("secret", SHAPED.values(), ids=SHAPED.keys())
@pytest.mark.parametrize("around", ["{}", "before {} after", "x={};", '"{}"', "({})", "\n{}\n", "Bearer {}"])
def test_a_shaped_secret_is_found_wherever_it_stands_in_a_text(secret: str, around: str):
    text = around.format(secret)
    clean, found = redact({"note": text}, salt=SALT)
    assert secret not in json.dumps(clean)
    assert max(secret.split("\n"), key=len) not in str(clean)
    assert found
    assert found[0].path == "note"


@pytest.mark.parametrize("identifier", IDENTIFIERS)
@pytest.mark.parametrize("around", ["{}", "used by {} today"])
def test_identifiers_stay(identifier: str, around: str):
    value = {"uid": around.format(identifier), "accessKeyId": identifier, "list": [identifier]}
    assert redact(value, salt=SALT) == (value, ())


@pytest.mark.parametrize("key", [*PASSWORD_KEYS, *TOKEN_KEYS, *API_KEYS])
@pytest.mark.parametrize("secret", ["hunter2", "x", "correct horse battery staple", '"quoted" \\ and {odd}'])
def test_what_a_sensitive_key_holds_goes_whatever_it_looks_like(key: str, secret: str):
    for value in ({key: secret}, {"a": [{key: secret}]}, {key: [secret, "other"]}):
        clean, found = redact(value, salt=SALT)
        assert json.dumps(secret)[1:-1] not in json.dumps(clean).replace(key, "").replace("keyed", "")
        assert found


@pytest.mark.parametrize(
    "value",
    [
        {
            "secretName": "orders-db",
            "token_accessor": "8609694a-cdbc-db9b-d345-e782dbb562ed",
            "passwordPolicy": "strict",
        },
        {"max_tokens": 4096, "tokens": 12, "automountServiceAccountToken": True, "token": None, "secret": ""},
        {"secretId": "prod/db", "keyId": "k-1", "tokenType": "service", "secretArn": IDENTIFIERS[4]},
        {"secret": {"name": "orders-db", "namespace": "shop"}, "authorization.k8s.io/decision": "allow"},
        {"accessKey": "AKIAIOSFODNN7EXAMPLE", "monkey": "banana-banana-banana"},
        {"message": "The token expired and the password was changed."},
    ],
)
def test_names_counts_and_references_stay(value: dict[str, Any]):
    assert redact(value, salt=SALT) == (value, ())


@pytest.mark.parametrize(
    ("value", "secret"),
    [
        ({"env": [{"name": "DB_PASSWORD", "value": "hunter2"}]}, "hunter2"),
        ({"password": 12345678}, "12345678"),
        ({"secret": {"data": "aB3dE5gH7jK9mN1p"}}, "aB3dE5gH7jK9mN1p"),
        ({"secret_id": "8b2c1d3e-4f5a-6b7c-8d9e-0f1a2b3c4d5e"}, "8b2c1d3e-4f5a"),
        ({"cmd": "mysql --password hunter2 -h db"}, "hunter2"),
        ({"cmd": "mysql --password=hunter2 -h db"}, "hunter2"),
        ({"cmd": "curl -u agent:hunter2 https://db"}, "hunter2"),
        ({"cmd": "curl -H 'Authorization: Basic YWdlbnQ6aHVudGVyMg=='"}, "YWdlbnQ6"),
        ({"cmd": "curl -H 'Authorization: opaque-thing'"}, "opaque-thing"),
        ({"cmd": "export AWS_SECRET_ACCESS_KEY=hunter2hunter2"}, "hunter2"),
        ({"url": "postgres://agent:hunter2@db/orders"}, "hunter2"),
        ({"url": "https://api.example/?api_key=hunter2&x=1"}, "hunter2"),
        ({"text": '{"password": "two words"}'}, "words"),
        ({"text": '{\\"password\\": \\"two words\\"}'}, "words"),
        ({"text": "password=hunter(2)[x]"}, "(2)"),
        ({"text": "password=abc-" + SHAPED["github"] + ".tail"}, "tail"),
    ],
)
def test_secrets_by_their_surroundings(value: Any, secret: str):
    clean, found = redact(value, salt=SALT)
    assert secret not in json.dumps(clean)
    assert found


def test_the_same_secret_has_the_same_mark_here_and_another_elsewhere():
    value = {"a": SHAPED["vault"], "b": f"x {SHAPED['vault']}"}
    clean, found = redact(value, salt=SALT)
    assert clean == {"a": f"[redacted:vault:{found[0].digest}]", "b": f"x [redacted:vault:{found[0].digest}]"}
    assert redact(value, salt=b"another installation")[1][0].digest != found[0].digest


def test_keys_of_objects_are_searched_too():
    clean, found = redact({"a": {SHAPED["vault"]: {"password": "hunter2"}}}, salt=SALT)
    assert SHAPED["vault"] not in json.dumps(clean)
    assert SHAPED["vault"] not in "".join(one.path for one in found)
    assert {one.kind for one in found} == {"vault", "keyed"}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=30) | st.sampled_from([*SHAPED.values(), "token: x"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(max_size=8) | st.sampled_from(["token", "name", "value", "password"]), inner, max_size=4
        )
    ),
)


@given(value=json_values, secret=st.sampled_from(sorted(SHAPED.values())), data=st.data())
@settings(max_examples=200, deadline=None)
def test_a_secret_planted_anywhere_never_survives(value: Any, secret: str, data: st.DataObject):
    holder: Any = {"root": value}
    where, key = data.draw(st.sampled_from(list(_places(holder))))
    how = data.draw(st.sampled_from(["value", "inside", "key", "escaped"]))
    match how:
        case "value":
            where[key] = secret
        case "inside":
            where[key] = f"log: {secret} end"
        case "escaped":
            where[key] = json.dumps({"log": f"a {secret} b"})
        case "key":
            where[key] = {secret: 1}
    clean, found = redact(holder, salt=SALT)
    longest = max(secret.split("\n"), key=len)
    assert longest not in json.dumps(clean)
    assert found
    assert redact(clean, salt=SALT) == (clean, ()), "what is redacted stays as it is"


@given(value=json_values)
@settings(max_examples=300, deadline=None)
def test_what_is_passed_over_at_a_glance_holds_nothing(value: Any):
    assert Redactor(SALT).json({"root": value}) == redact({"root": value}, salt=SALT)[0]


@pytest.mark.parametrize("key", ["value", "Value", "VALUE"])
@pytest.mark.parametrize("name", ["DB_PASSWORD", "session cookie"])
def test_a_named_value_is_not_passed_over(key: str, name: str):
    given = {"env": [{"name": name, key: "correct horse"}]}
    assert Redactor(SALT).json(given) == redact(given, salt=SALT)[0] != given


def _places(value: Any):
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])


@given(st.text(max_size=200))
def test_any_text_is_redacted_once_for_all(text: str):
    once = redact_text(text, salt=SALT)
    assert redact_text(once, salt=SALT) == once


@pytest.mark.parametrize("text", ["[redacted:", "[redacted:[redacted:", "token: [redacted:jwt:12345678]", "password="])
def test_halves_of_marks_are_text(text: str):
    assert redact_text(text, salt=SALT) == text


def test_deep_values_are_cut_not_followed():
    deep: Any = SHAPED["vault"]
    for _ in range(5000):
        deep = [deep]
    clean, found = redact(deep, salt=SALT)
    assert found[0].kind == "depth"
    assert len(json.dumps(clean)) < 400
    while isinstance(deep, list):
        deep = deep[0]


# By value -----------------------------------------------------------------------------------------------------------


def test_known_secrets_are_taken_out_in_every_form_they_travel_in():
    redactor = Redactor(SALT)
    secret = 'pä"ss/w+rd with space'
    redactor.register("smtp", secret)
    forms = [secret, quote(secret, safe=""), json.dumps(secret), json.dumps(secret, ensure_ascii=False)]
    forms += [base64.b64encode(prefix + secret.encode() + b"tail").decode() for prefix in (b"", b"a", b"ab", b"user:")]
    forms += [base64.urlsafe_b64encode(b"ab" + secret.encode()).decode()]
    for form in forms:
        shown = redactor.text(f"error: {form}!")
        assert "[redacted:smtp:" in shown
        assert form not in shown
        assert secret not in shown


def test_the_longer_secret_goes_first():
    redactor = Redactor(SALT)
    redactor.register("short", "abcdef")
    redactor.register("long", "abcdefghij")
    assert redactor.text("abcdefghij").startswith("[redacted:long:")


def test_a_redactor_also_sees_shapes_keys_and_nested_values():
    redactor = Redactor(SALT)
    redactor.register("db", "hunter2hunter2")
    clean = redactor.json({"hunter2hunter2": ["x hunter2hunter2", SHAPED["jwt"], 7], "token": "abc"})
    assert "hunter2" not in json.dumps(clean)
    assert SHAPED["jwt"] not in json.dumps(clean)
    assert clean["token"].startswith("[redacted:keyed:")


def test_a_short_secret_is_refused():
    with pytest.raises(ValueError, match="shorter than 6"):
        Redactor(SALT).register("pin", "1234")
