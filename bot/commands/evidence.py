"""`firedoor evidence list | show | verify | export`: what was kept, and whether it still is what was kept."""

from __future__ import annotations

import hashlib
import json
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from bot.commands.command import Command, Exit, Usage, with_config, with_json
from bot.commands.investigate import SHORT, with_evidence
from bot.commands.server import tell, with_server
from bot.commands.terminal import as_json, block, heading, moment, say, table
from bot.domain.evidence import Handled, Kept, custody, lacking, manifests, snapshots
from bot.domain.record import Entry
from bot.domain.wording import counted
from bot.errors import Refused, Rejected, SystemFailure
from bot.files import write_whole
from bot.ports import Evidence

SCHEMA = "firedoor/evidence-export/v1"
INDEX = "export.json"
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Item:
    """A line of a manifest. A manifest itself is one too, of kind `manifest`, with what the record says of it."""

    source: str
    kind: str
    sha256: str
    address: str
    size: int
    says: Mapping[str, Any]


def items(entries: tuple[Entry, ...], store: Evidence) -> Iterator[Item]:
    """Every manifest of the record, each before its items. Raises Rejected for one that is not what the record says."""
    for kept in manifests(entries):
        yield from of_manifest(store, kept)


def of_manifest(store: Evidence, kept: Kept) -> Iterator[Item]:
    data = read(store, kept.address, kept.sha256)
    manifest = json.loads(data)
    missing = [said for _, said in lacking(manifest)]
    says = {**asdict(kept), "missing": missing}
    yield Item(f"manifest of {kept.step}", "manifest", kept.sha256, kept.address, len(data), says)
    for one in manifest.get("items", ()):
        kind = str(one.get("kind", "item"))
        name = str(one.get("source") or kind)
        yield Item(name, kind, str(one["sha256"]), str(one["address"]), int(one.get("size", 0)), one)


def read(store: Evidence, address: str, sha256: str) -> bytes:
    """Raises Rejected where it is gone, or not what it was."""
    data = store.get(address)
    if data is None:
        raise Rejected("evidence", f"{address} is gone")
    if (found := hashlib.sha256(data).hexdigest()) != sha256:
        raise Rejected("evidence", f"{address} was changed: its SHA-256 is {found}, collected was {sha256}")
    return data


def _list(asked: Namespace) -> int:
    with with_evidence(asked) as (kept, store):
        entries = kept.entries(asked.incident)
        found, links = list(items(entries, store)), custody(entries)
    made = [one for one in found if one.kind == "manifest"]
    if asked.json:
        as_json(
            {
                "manifests": [dict(one.says) for one in made],
                "items": [dict(one.says) for one in found if one.kind != "manifest"],
                "snapshots": snapshots(entries),
                "custody": [asdict(one) for one in links],
            }
        )
        return Exit.OK
    _print_list(asked.incident, entries, made, found)
    if links:
        heading("Chain of custody")
        table([_link(one) for one in links])
    return Exit.OK


def _print_list(incident: str, entries: tuple[Entry, ...], made: Sequence[Item], found: Sequence[Item]) -> None:
    if not made:
        say(f"{incident} has no evidence yet. What its steps do: firedoor incident show {incident}")
    else:
        say(f"{incident}: {counted(len(found) - len(made), 'item')} in {counted(len(made), 'manifest')}")
    columns = ("sha256", "kind", "records", "bytes", "redacted", "locked until", "source")
    rows = [
        (
            one.sha256[:SHORT],
            one.kind,
            one.says.get("records", ""),
            one.size,
            _redacted(one) or "",
            str(one.says.get("locked_until") or "")[:10],
            one.source,
        )
        for one in found
    ]
    table([columns, *rows] if rows else [])
    if missing := [said for one in made for said in one.says["missing"]]:
        heading("Not collected: nobody knows what it would have shown")
        table([(said,) for said in missing])
    if taken := snapshots(entries):
        heading("Snapshots, which stay where they are")
        table([(one["taken_at"], one["step"], one.get("snapshots") or one.get("snapshot")) for one in taken])


def _link(one: Handled) -> tuple[object, ...]:
    about = _DIGEST.sub(lambda digest: digest[0][:SHORT], one.about)
    return moment(one.at), one.what, one.who, f"{one.entry.stream}/{one.entry.version}", about


_DIGEST = re.compile(r"\b[0-9a-f]{64}\b")


def _redacted(item: Item) -> object:
    redacted = item.says.get("redacted", "")
    return redacted.get("count", "") if isinstance(redacted, Mapping) else redacted


def _show(asked: Namespace) -> int:
    with with_evidence(asked) as (kept, store):
        begin = asked.sha256.lower()
        wanted = {one.sha256: one for one in items(kept.entries(asked.incident), store) if one.sha256.startswith(begin)}
        if len(wanted) != 1:
            several = (
                f"{len(wanted)} items of {asked.incident} begin" if wanted else f"No item of {asked.incident} begins"
            )
            raise Refused("no_item", f"{several} with {begin!r}. See: firedoor evidence list {asked.incident}")
        (item,) = wanted.values()
        data = read(store, item.address, item.sha256)
    tell(asked, f"/v1/incidents/{asked.incident}/evidence", purpose="show", sha256=item.sha256)
    print(block(json.dumps(json.loads(data), indent=2)))
    return Exit.OK


def _verify(asked: Namespace) -> int:
    if asked.export is not None:
        return verify_export(asked.export)
    if not asked.incident:
        raise Usage("which incident? firedoor evidence verify INC-7, or --export DIR")
    seen, problems = 0, 0
    with with_evidence(asked) as (kept, store):
        made = manifests(kept.entries(asked.incident))
        for manifest in made:
            try:
                found = tuple(of_manifest(store, manifest))
            except SystemFailure as failure:
                say(f"WRONG  {manifest.sha256[:SHORT]}  manifest of {manifest.step}: {failure.why}")
                problems += 1
                continue
            for one in found:
                problem = _problem(store, one)
                seen, problems = seen + 1, problems + bool(problem)
                word = "WRONG" if problem else "ok   "
                say(f"{word}  {one.sha256[:SHORT]}  {one.source}: {problem or _locked(store, one)}")
    if not made:
        raise Refused("no_evidence", f"{asked.incident} has no evidence yet: there is nothing to verify.")
    say(f"{asked.incident}: {counted(seen, 'object')} of {counted(len(made), 'manifest')} read, {problems} wrong.")
    return Exit.FOUND if problems else Exit.OK


def _problem(store: Evidence, item: Item) -> str:
    """'' where its bytes are what was collected and its lock holds as long as the manifest says."""
    try:
        read(store, item.address, item.sha256)
        lock = store.retention(item.address)
    except SystemFailure as failure:
        return failure.why
    promised = item.says.get("locked_until")
    if promised and (lock is None or lock.mode != "COMPLIANCE" or lock.until.isoformat() < str(promised)):
        return (
            f"locked until {promised} was promised; it is {f'{lock.mode} until {lock.until}' if lock else 'not locked'}"
        )
    return ""


def _locked(store: Evidence, item: Item) -> str:
    lock = store.retention(item.address)
    return f"as collected, {lock.mode} until {moment(lock.until)}" if lock else "as collected, not locked"


# Out of the house -------------------------------------------------------------------------------------------------


def _export(asked: Namespace) -> int:
    folder: Path = asked.folder
    if folder.exists() and any(folder.iterdir()):
        raise Usage(f"{folder} is not empty; nothing was written.")
    with with_evidence(asked) as (kept, store):
        entries = kept.entries(asked.incident)
        if not manifests(entries):
            raise Refused("no_evidence", f"{asked.incident} has no evidence.")
        tell(asked, f"/v1/incidents/{asked.incident}/evidence", purpose="export", sha256="")
        count = write_export(folder, asked.incident, kept.entries(asked.incident), store)
    say(f"{counted(count, 'item')} of {asked.incident} in {folder}, manifests among them.")
    say(f"They can be verified anywhere: firedoor evidence verify --export {folder}")
    return Exit.OK


def write_export(folder: Path, incident: str, entries: tuple[Entry, ...], store: Evidence) -> int:
    """Every item, held against its digest, and the index last: a folder without one is no export."""
    found = {one.sha256: one for one in items(entries, store)}
    for one in found.values():
        write_whole(folder / "items" / one.sha256, read(store, one.address, one.sha256))
    write_whole(folder / "SHA256SUMS", "".join(f"{sum}  items/{sum}\n" for sum in found).encode())
    index = {
        "schema": SCHEMA,
        "incident": incident,
        "last_entry": entries[-1].digest,
        "manifests": [asdict(one) for one in manifests(entries)],
        "items": [
            {"path": f"items/{one.sha256}", "sha256": one.sha256, "size": one.size, "source": one.source}
            for one in found.values()
        ],
        "snapshots": snapshots(entries),
        "custody": [asdict(one) for one in custody(entries)],
    }
    write_whole(folder / INDEX, json.dumps(index, indent=2, default=_written).encode())
    return len(found)


def _written(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def verify_export(folder: Path) -> int:
    """By the files alone: no configuration, no store, no network."""
    index = _index(folder)
    listed = {str(one["path"]): one for one in index["items"]}
    problems = [problem for path, one in listed.items() if (problem := _differs(folder / path, one))]
    there = {path.relative_to(folder).as_posix() for path in (folder / "items").rglob("*") if path.is_file()}
    problems += [f"{path}: it is in the folder and not in {INDEX}" for path in sorted(there - listed.keys())]
    inside = {str(one["sha256"]) for kept in index["manifests"] for one in _inside(folder, str(kept["sha256"]))}
    sums = {str(one["sha256"]) for one in index["items"]}
    problems += [f"{one}: a manifest lists it, and it was not exported" for one in sorted(inside - sums)]
    for one in problems:
        say(f"WRONG {one}")
    say(f"{counted(len(listed), 'item')} of {index['incident']}, {len(problems)} wrong.")
    say("Whether these are the ones that were collected, the record says: firedoor ledger prove. It has of manifests")
    for kept in index["manifests"]:
        entry = kept["entry"]
        say(f"  {kept['sha256']} in {entry['stream']}/{entry['version']} ({entry['digest']})")
    return Exit.FOUND if problems else Exit.OK


def _index(folder: Path) -> Json:
    try:
        index = json.loads((folder / INDEX).read_bytes())
        if index["schema"] == SCHEMA and all({"path", "sha256", "size"} <= one.keys() for one in index["items"]):
            return dict(index)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Usage(f"{folder} is no export of evidence: {error}") from None
    raise Usage(f"{folder}/{INDEX} is not an export that this release reads.")


def _differs(path: Path, says: Json) -> str:
    if ".." in path.parts or path.is_symlink():
        return f"{path}: it does not lie in the export"
    try:
        data = path.read_bytes()
    except OSError as error:
        return f"{path}: {error.strerror}"
    if hashlib.sha256(data).hexdigest() != says["sha256"]:
        return f"{path}: it was changed: its SHA-256 is not {says['sha256']}"
    return "" if len(data) == says["size"] else f"{path}: {len(data)} bytes, {says['size']} were listed"


def _inside(folder: Path, manifest: str) -> list[Json]:
    """What a manifest lists; none where it is not there, which is a problem of its own."""
    try:
        return list(json.loads((folder / "items" / manifest).read_bytes()).get("items", ()))
    except (OSError, ValueError, AttributeError):
        return []


def _incident(parser: ArgumentParser) -> None:
    parser.add_argument("incident", metavar="INCIDENT", type=str.upper, help="its id, like INC-7")


def _list_arguments(parser: ArgumentParser) -> None:
    _incident(parser)
    with_config(parser)
    with_json(parser)


def _show_arguments(parser: ArgumentParser) -> None:
    _incident(parser)
    parser.add_argument("sha256", metavar="SHA256", help="the item's, or how it begins")
    with_server(parser)


def _verify_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("incident", metavar="INCIDENT", nargs="?", default="", type=str.upper, help="like INC-7")
    parser.add_argument("--export", metavar="DIR", type=Path, help="a folder that evidence export made, by itself")
    with_config(parser)


def _export_arguments(parser: ArgumentParser) -> None:
    _incident(parser)
    parser.add_argument("folder", metavar="DIR", type=Path, help="a new or empty folder")
    with_server(parser)


RECORDED = "\nThat it was read is recorded: it is done through the running server, as a person with a TOTP code."

COMMANDS = (
    Command(
        "evidence list",
        "what was kept, and through whose hands it went",
        "Lists the evidence of an incident as its manifests say, the snapshots, and the chain of custody.",
        "firedoor evidence list INC-7",
        _list,
        _list_arguments,
    ),
    Command(
        "evidence show",
        "show one item",
        f"Prints one item, after it was held against its SHA-256.{RECORDED}",
        "firedoor evidence show INC-7 3f1c --as head-of-security",
        _show,
        _show_arguments,
    ),
    Command(
        "evidence verify",
        "is everything still what was kept?",
        "Hashes every item again and reads every lock back. With --export a folder that was carried out, by itself.",
        "firedoor evidence verify INC-7",
        _verify,
        _verify_arguments,
    ),
    Command(
        "evidence export",
        "carry the evidence out, verifiable",
        f"Writes every item, the manifests, the chain of custody and SHA256SUMS into a folder.{RECORDED}",
        "firedoor evidence export INC-7 /srv/handover/inc-7 --as head-of-security",
        _export,
        _export_arguments,
    ),
)
