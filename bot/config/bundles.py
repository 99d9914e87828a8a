"""The `bundles` section of firedoor.yaml: the agents' modes as a bundle that OPA fetches."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from bot.config.reading import Section
from bot.config.secrets import SecretRef


@dataclass(frozen=True, slots=True)
class Bundles:
    """`key` is the PEM file of an RSA key that signs each bundle, `key_id` what OPA's configuration calls its public
    half. `tokens`: what a fetching OPA must show, the newest first. `valid`: how long a bundle is good at most."""

    key: SecretRef
    tokens: tuple[SecretRef, ...]
    key_id: str = "firedoor"
    valid: timedelta = timedelta(minutes=10)


def read_bundles(top: Section) -> Bundles | None:
    needed = "bundles" in top
    with top.section("bundles") as section:
        unset = SecretRef("env", "UNSET")
        tokens = section.secret("token", needed), section.secret("previous_token")
        found = Bundles(
            key=section.secret("key", needed) or unset,
            tokens=tuple(token for token in tokens if token),
            key_id=section.text("key_id", "firedoor"),
            valid=section.duration("valid", timedelta(minutes=10)),
        )
        if found.valid < timedelta(minutes=1):
            section.report("valid", "'valid' is shorter than a minute.", "Each OPA must fetch twice within it.")
        return found if needed else None
