"""The `ledger` section of firedoor.yaml: where the sealed record is published, and where its checkpoints go."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from bot.config.reading import Section


@dataclass(frozen=True, slots=True)
class Place:
    """A folder, or a bucket reached through an AWS connection."""

    path: str = ""
    bucket: str = ""
    prefix: str = ""
    connection: str = "aws"


@dataclass(frozen=True, slots=True)
class Timestamps:
    """Of an RFC 3161 authority. `roots`: a file of certificates beside firedoor.yaml; `every`: how often the newest
    checkpoint is stamped."""

    url: str
    roots: str
    every: timedelta = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Ledger:
    """`anchors` get every checkpoint, write-once, locked for `retain` where the bucket can. `every`: how often the
    record is sealed. `origin` names the log to outsiders, before `/MODE`; '' is `firedoor/INSTALL`."""

    place: Place
    anchors: Place
    every: timedelta = timedelta(seconds=10)
    retain: timedelta = timedelta(days=3650)
    origin: str = ""
    timestamps: Timestamps | None = None


_USUAL = Ledger(Place(), Place())


def read_ledger(top: Section) -> Ledger | None:
    if "ledger" not in top:
        return None
    with top.section("ledger") as section:
        with section.section("anchors") as anchors:
            where = _place(anchors, "anchors")
        found = Ledger(
            place=_place(section, "ledger"),
            anchors=where,
            every=section.duration("every", _USUAL.every),
            retain=section.duration("retain", _USUAL.retain),
            origin=section.text("origin", ""),
            timestamps=_timestamps(section),
        )
        if found.every < timedelta(seconds=1):
            section.report("every", "'every' is shorter than a second.")
        if any(letter.isspace() or letter == "+" for letter in found.origin):
            section.report("origin", "'origin' has a space or a '+', which no log's name may have.")
        if found.place == found.anchors:
            section.report("anchors", "the anchors lie where the ledger lies.", "Who changes one could change both.")
        return found


def _timestamps(top: Section) -> Timestamps | None:
    with top.section("timestamps") as section:
        url, roots = section.text("url", ""), section.text("roots", "")
        found = Timestamps(url, roots, section.duration("every", Timestamps(url, roots).every))
        if "timestamps" not in top:
            return None
        if not url.startswith(("https://", "http://")):
            section.report("url", "'url' is no http(s) address.")
        if not roots:
            section.report("roots", "'roots' is missing.", "Name a file with the authority's certificates, in PEM.")
        return found


def _place(section: Section, name: str) -> Place:
    found = Place(
        path=section.text("path", ""),
        bucket=section.text("bucket", ""),
        prefix=section.text("prefix", ""),
        connection=section.text("connection", "aws"),
    )
    if bool(found.path) == bool(found.bucket):
        section.report("", f"{name!r} needs either 'path' (a folder) or 'bucket'.")
    return found
