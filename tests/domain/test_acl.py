"""Whether Vault policies allow less, against Vault's own rules for which of them decides."""

from __future__ import annotations

import itertools
import json
import random

import pytest

from bot.domain.acl import compare, parse
from bot.domain.scope import Unclear

PLAIN = """
# what the agent reads
path "secret/data/app/*" { capabilities = ["read", "list",] } // a comma more
/* and
   writes */
path "secret/data/app/out" {
  capabilities = ["create", "update"]
}
"""


def hcl(rules: dict[str, set[str]]) -> str:
    return "\n".join(f'path "{path}" {{ capabilities = {json.dumps(sorted(own))} }}' for path, own in rules.items())


def test_both_notations_say_the_same() -> None:
    read = parse("app", PLAIN)
    assert read == {"secret/data/app/*": {"read", "list"}, "secret/data/app/out": {"create", "update"}}
    same = {"path": {path: {"capabilities": sorted(own)} for path, own in read.items()}}
    assert parse("app", json.dumps(same)) == read
    assert parse("empty", "") == {}


@pytest.mark.parametrize(
    "text",
    [
        'path "a" { policy = "read" }',
        'path "a" { capabilities = ["read"] allowed_parameters = { "x" = [] } }',
        'path "a" { capabilities = ["read"], min_wrapping_ttl = "1s" }',
        'path "a" { capabilities = ["raed"] }',
        'path "a" { capabilities = ["read" }',
        'path "a" { capabilities = [read] }',
        'path "a" { capabilities = ["read"] } path "a" { capabilities = ["deny"] }',
        'path "a\\"b" { capabilities = ["read"] }',
        'path "a/*/b" { capabilities = ["read"] }',
        'path "a/b+" { capabilities = ["read"] }',
        'path "/a" { capabilities = ["read"] }',
        'path "" { capabilities = ["read"] }',
        "path a { capabilities = <<E\nread\nE\n}",
        'name = "x"',
        'path "a" {',
        'path "a"',
        "path",
        "/* never closed",
        '{"path": {"a": {"capabilities": ["read"]}, "a": {"capabilities": []}}}',
        '{"path": {"a": {"capabilities": "read"}}}',
        '{"path": {"a": {"capabilities": ["read"], "control_group": {}}}}',
        '{"path": [{"a": {"capabilities": ["read"]}}]}',
        '{"path": ',
        '{"path": ' + '{"a":' * 5000,
        "# " + "x" * 70_000,
    ],
    ids=itertools.count(),
)
def test_what_is_not_understood_cannot_be_told(text: str) -> None:
    with pytest.raises(Unclear, match="policy p"):
        parse("p", text)
    verdict = compare({"p": text}, {})
    assert verdict.word == "unclear"
    assert verdict.why.startswith("it cannot be told: policy p: ")
    assert verdict.diff == ("- policy p",)


def test_what_is_lost_is_said_by_path_and_capability() -> None:
    old = {"app": hcl({"secret/*": {"read", "update"}}), "ops": hcl({"sys/mounts": {"sudo", "read"}})}
    verdict = compare(old, {"app-read": hcl({"secret/app/*": {"read"}})})
    assert verdict.word == "narrower"
    assert verdict.diff == (
        *("- policy app", "- policy ops", "+ policy app-read"),
        *("- read, update on secret/*", "+ read on secret/app/*", "- read, sudo on sys/mounts"),
    )
    assert compare(old, old).word == "same"
    assert compare({"root": ""}, {}).word == "unclear"


@pytest.mark.parametrize(
    ("old", "new", "beside"),
    [
        # Less by name, more in force: the policy that is dropped was the one that held the others back.
        ({"wide": {"secret/*": {"read"}}, "not": {"secret/prod/*": {"deny"}}}, {"wide"}, {}),
        ({"wide": {"secret/*": {"read", "delete"}}, "exact": {"secret/prod": {"read"}}}, {"wide"}, {}),
        ({"not": {"secret/prod/*": {"deny"}}}, set(), {"secret/*": {"read"}}),
        ({"list": {"a/*": {"list"}}, "plain": {"a": {"read"}}}, {"list"}, {}),  # LIST a/ goes by the rule for a
    ],
    ids=["deny", "specific", "entity", "list"],
)
def test_fewer_names_can_be_more(
    old: dict[str, dict[str, set[str]]], new: set[str], beside: dict[str, set[str]]
) -> None:
    texts = {name: hcl(rules) for name, rules in old.items()}
    verdict = compare(texts, {name: texts[name] for name in new}, {"entity": hcl(beside)})
    assert verdict.word == "wider", verdict


def test_vaults_own_default_policy_stands_beside() -> None:
    default = hcl({"auth/token/lookup-self": {"read"}, "identity/entity/id/{{identity.entity.id}}": {"read"}})
    old = {"app": hcl({"secret/*": {"read", "update"}})}
    assert compare(old, {"app-read": hcl({"secret/*": {"read"}})}, {"default": default}).word == "narrower"
    wider = compare(old, {"app": old["app"], "id": hcl({"identity/entity/id/e-1": {"read"}})}, {"default": default})
    assert wider.word == "wider"


# Against the rules as Vault documents them -----------------------------------------------------------------------

ROUNDS = 1500
PATTERNS = (
    "*",
    "a",
    "a/",
    "a/*",
    "a/b",
    "a/b/",
    "a/b*",
    "a/b/*",
    "a/+",
    "+/b",
    "a/+/c",
    "a/+/*",
    "+/+",
    "a/b/c",
    "+/b/*",
)
PATHS = ("a", "a/", "b", "a/b", "a/b/", "a/c", "a/c/", "a/bc", "a/b/c", "a/b/d", "a/c/c", "b/b", "b/b/x", "a/b/c/d")


def _matches(pattern: str, path: str) -> bool:
    glob, own, its = pattern.endswith("*"), pattern.removesuffix("*").split("/"), path.split("/")
    if len(its) < len(own) or (not glob and len(its) != len(own)):
        return False
    for number, (one, part) in enumerate(zip(own, its, strict=False)):
        if glob and number == len(own) - 1:
            return part.startswith(one)
        if one not in ("+", part):
            return False
    return True


def _decides(rules: dict[str, set[str]], path: str, capability: str) -> bool:
    """Exact first; for LIST exact without the slash too; then the wildcards by their documented order."""
    exact = [path, *([path.rstrip("/")] if capability == "list" else [])]
    for one in exact:
        if one in rules:
            return capability in rules[one] and "deny" not in rules[one]
    found = [pattern for pattern in rules if ("+" in pattern or "*" in pattern) and _matches(pattern, path)]
    if not found:
        return False

    def order(pattern: str) -> tuple[int, bool, int, int, str]:
        first = min(at for at in (pattern.find("+"), pattern.find("*")) if at >= 0)
        return first, not pattern.endswith("*"), -pattern.split("/").count("+"), len(pattern), pattern

    best = rules[max(found, key=order)]
    return capability in best and "deny" not in best


def test_what_is_called_narrower_allows_nothing_more_anywhere() -> None:
    chance, told = random.Random(7), {"narrower": 0, "same": 0, "wider": 0, "unclear": 0}

    def some(most: int) -> dict[str, set[str]]:
        paths = chance.sample(PATTERNS, chance.randint(1, most))
        return {path: set(chance.sample(("read", "list", "update", "deny"), chance.randint(1, 3))) for path in paths}

    for _ in range(ROUNDS):
        old = some(4)
        fewer = {path: own for path, own in old.items() if chance.random() < 0.7}
        new = chance.choice(
            (fewer, some(2), {path: own - {chance.choice(("read", "list"))} for path, own in old.items()})
        )
        verdict = compare({"old": hcl(old)}, {"new": hcl(new)}).word
        told[verdict] += 1
        if verdict in ("narrower", "same"):
            for path, capability in itertools.product(PATHS, ("read", "list", "update")):
                assert not _decides(new, path, capability) or _decides(old, path, capability), (old, new, path)
    assert told["unclear"] == 0
    assert min(told["narrower"], told["wider"]) > 150, told
