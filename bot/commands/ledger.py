"""`firedoor ledger`: what an auditor needs, and what gives it to them. Verifying asks nothing of this installation but
the files and the public key."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from bot.commands.command import Command, Exit, Usage, with_config, with_json
from bot.commands.terminal import as_json, moment, say, table
from bot.config import Config, SecretRef, load
from bot.config.ledger import Ledger
from bot.errors import ConfigError, RecordBroken, Refused

if TYPE_CHECKING:
    from cryptography import x509

    from bot.ledger.note import Key
    from bot.ledger.shelf import Shelf

FOR_AUDITORS = """The sealed record of {origin}.

log/      every entry, signed, in a transparency log (c2sp.org/tlog-tiles): entry bundles, tiles, the checkpoint
anchors/  the checkpoints as they were published, kept apart from the log

Take the public key from the operator by another way than this folder, then check everything:

  firedoor ledger verify log --anchors anchors --mode {mode} --key KEY
"""


def key(asked: Namespace) -> int:
    print(_own_key(asked.config))
    return Exit.OK


def verify(asked: Namespace) -> int:
    from bot.ledger.audit import audit, mode_of  # here and below: help needs no cryptography
    from bot.ledger.shelf import Folder

    shelf: Shelf
    anchors: Shelf | None
    if asked.folder:
        if not asked.key:
            raise Usage("--key is missing: an audit trusts nothing but the public key that you were given.")
        public, shelf = _given_key(asked.key), Folder(asked.folder)
        anchors, mode = (Folder(asked.anchors) if asked.anchors else None), asked.mode or "live"
    else:
        public = _given_key(asked.key) if asked.key else _own_key(asked.config)
        shelf, anchors = _own_shelves(asked.config)
        mode = asked.mode or mode_of(public.name)
    roots = _roots(asked)
    report = audit(shelf, public, anchors=_beside(anchors), mode=mode, roots=roots)
    if asked.json:
        found = [{"name": finding.name, "what": finding.what} for finding in report.findings]
        as_json(
            {
                "size": report.size,
                "anchors": report.anchors,
                "timestamps": report.timestamps,
                "stamped": report.stamped,
                "streams": report.streams,
                "findings": found,
            }
        )
    else:
        table((finding.name, finding.what) for finding in report.findings)
        anchored = f"{report.anchors} anchored checkpoints" if anchors else "no anchors: a cut tail would not be seen"
        verdict = f"{len(report.findings)} findings" if report.findings else "sound"
        say(f"{public.name}: {verdict}. {report.size} entries of {len(report.streams)} streams, {anchored}.")
        if report.stamped:
            say(f"{report.timestamps} timestamps by an authority, the newest of {moment(report.stamped)}.")
        elif not roots:
            say("Timestamps were not looked at: --roots names the certificates of the authority.")
    return Exit.FOUND if report.findings else Exit.OK


def prove(asked: Namespace) -> int:
    from bot.commands.records import records
    from bot.ledger.proof import prove as proof_of

    stream, _, version = asked.entry.rpartition("/")
    if not stream or not version.isdigit():
        raise Usage(f"{asked.entry!r} names no entry. It looks like INC-7/3: see firedoor incident show INC-7 --json")
    with records(asked.config) as found:
        place = found.tx.place(stream, int(version))
        if place is None:
            known = found.tx.head(stream)
            missing = "is not in the record" if known is None or known.version < int(version) else "is not sealed yet"
            raise Refused("not_sealed", f"{asked.entry} {missing}.")
    text = proof_of(_own_shelves(asked.config)[0], place)
    if asked.out:
        asked.out.write_text(text, "utf-8")
        say(f"{asked.out}: entry {place} of the log. Check it: firedoor ledger check {asked.out} --key KEY")
    else:
        print(text, end="")
    return Exit.OK


def check(asked: Namespace) -> int:
    import json

    from bot.ledger.proof import check as checked

    try:
        text = asked.proof.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Usage(f"{asked.proof} cannot be read: {error}") from None
    proved = checked(text, _given_key(asked.key))
    leaf = json.loads(proved.leaf)
    if asked.json:
        as_json(
            {"index": proved.index, "size": proved.checkpoint.size, "origin": proved.checkpoint.origin, "leaf": leaf}
        )
        return Exit.OK
    say(f"Entry {proved.index} is one of the {proved.checkpoint.size} entries of {proved.checkpoint.origin}.")
    print(_body(leaf))
    return Exit.OK


def export(asked: Namespace) -> int:
    from bot.ledger.audit import mode_of
    from bot.ledger.shelf import Folder

    folder: Path = asked.folder
    if folder.exists() and any(folder.iterdir()):
        raise Usage(f"{folder} is not empty. Choose another folder.")
    log, anchors = _own_shelves(asked.config)
    checkpoint = log.read("checkpoint")
    if checkpoint is None:
        raise Refused("no_ledger", "Nothing is sealed yet: firedoor serve seals the record while it runs.")
    out, kept, count = Folder(folder / "log"), Folder(folder / "anchors"), 0
    for path in log.names(""):
        if path.startswith(("tile/", "objects/", "record-keys")) and (data := log.read(path)) is not None:
            out.write(path, data)
            count += 1
    out.write("checkpoint", checkpoint)
    for path in (*anchors.names("anchors"), *anchors.names("timestamps")):
        if (data := anchors.read(path)) is not None:
            kept.write(path, data)
    public = _own_key(asked.config)
    (folder / "README.txt").write_text(FOR_AUDITORS.format(origin=public.name, mode=mode_of(public.name)), "utf-8")
    say(f"{folder}: {count + 1} files of the log, and its anchors. Give the key apart from it: firedoor ledger key")
    return Exit.OK


def _body(leaf: dict[str, str]) -> str:
    import base64
    import json

    if "payload" not in leaf:
        return f"Its bytes lie beside the log: SHA-256 {leaf['payloadSha256']}"
    return json.dumps(json.loads(base64.b64decode(leaf["payload"])), indent=2)


def _roots(asked: Namespace) -> tuple[x509.Certificate, ...]:
    from bot import wiring
    from bot.ledger.stamp import read_roots

    if not asked.roots:
        return () if asked.folder else wiring.ledger_roots(load(asked.config), asked.config)
    try:
        return read_roots(asked.roots.read_bytes(), str(asked.roots))
    except OSError as error:
        raise ConfigError(str(asked.roots), f"it cannot be read: {error}") from None


def _given_key(text: str) -> Key:
    """The key itself, or a file that holds it."""
    from bot.ledger.note import Key

    path = Path(text)
    try:
        return Key.parse(path.read_text("utf-8") if "+" not in text and path.is_file() else text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(text, f"it cannot be read: {error}") from None


def _own_key(folder: Path) -> Key:
    from bot import wiring
    from bot.ledger.note import Key

    config = load(folder)
    _settings(config, folder)
    return Key(wiring.ledger_origin(config), wiring.ledger_signer(config, folder).public())


def _own_shelves(folder: Path) -> tuple[Shelf, Shelf]:
    from bot import wiring
    from bot.domain.redaction import Redactor

    config = load(folder)
    made = _settings(config, folder)

    def secret(ref: SecretRef) -> str:
        return wiring.read_secret(ref, folder, Redactor(b""))

    return (
        wiring.ledger_shelf(config, folder, made.place, secret),
        wiring.ledger_shelf(config, folder, made.anchors, secret),
    )


def _beside(anchors: Shelf | None) -> Shelf | None:
    """An exported folder of anchors may be given itself, or the one above it."""
    from bot.ledger.shelf import Folder

    if isinstance(anchors, Folder) and not anchors.root.is_dir():
        raise RecordBroken(f"there are no anchors at {anchors.root}")
    if isinstance(anchors, Folder) and anchors.root.name == "anchors" and not (anchors.root / "anchors").exists():
        return Folder(anchors.root.parent)
    return anchors


def _settings(config: Config, folder: Path) -> Ledger:
    if config.settings.ledger is None:
        raise ConfigError(
            f"{folder}/firedoor.yaml", "no ledger is configured.", "Add: ledger: {path: ..., anchors: ...}"
        )
    return config.settings.ledger


def _verify_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "folder", metavar="DIR", type=Path, nargs="?", help="the log's files; without it the configured ledger"
    )
    parser.add_argument("--key", metavar="KEY", help="the public key, name+id+base64, or a file with it")
    parser.add_argument("--anchors", metavar="DIR", type=Path, help="the anchored checkpoints")
    parser.add_argument(
        "--roots", metavar="FILE", type=Path, help="certificates of the timestamp authority, PEM; checks timestamps too"
    )
    parser.add_argument(
        "--mode", choices=("live", "sandbox", "tabletop"), help="what the log should be (default: live)"
    )
    with_config(parser)
    with_json(parser)


def _prove_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("entry", metavar="ENTRY", help="INC-7/3: the third entry of INC-7")
    parser.add_argument("--out", metavar="FILE", type=Path, help="write it there (usually NAME.tlog-proof)")
    with_config(parser)


def _check_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("proof", metavar="FILE", type=Path, help="what `firedoor ledger prove` wrote")
    parser.add_argument("--key", metavar="KEY", required=True, help="the public key, or a file with it")
    with_json(parser)


def _export_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", type=Path, help="a new or empty folder")
    with_config(parser)


COMMANDS = (
    Command(
        "ledger key",
        "print the public key that auditors verify with",
        "Prints name+id+base64, the form in which verifiers of signed notes take a key. Publish it where the bot\n"
        "cannot change it.",
        "firedoor ledger key",
        key,
        with_config,
    ),
    Command(
        "ledger verify",
        "check the whole sealed record",
        "Reads every entry: signatures, hashes, the chain of each incident, and that every anchored checkpoint is a\n"
        "part of this log. Each finding has a name: cut_tail, replaced_log, changed_entry, changed_tile,\n"
        "missing_file, foreign_entry, broken_chain, bad_signature, bad_timestamp, sandbox_log, not_ours,\n"
        "no_log.\n"
        "With DIR nothing else of this installation is read.",
        "firedoor ledger verify log --anchors anchors --key firedoor/acme/live+1a2b3c4d+AbC...",
        verify,
        _verify_arguments,
    ),
    Command(
        "ledger prove",
        "prove to an outsider that one entry is in the record",
        "Writes a proof that stands by itself (c2sp.org/tlog-proof): the entry, its path and the signed checkpoint.",
        "firedoor ledger prove INC-7/3 --out inc-7-3.tlog-proof",
        prove,
        _prove_arguments,
    ),
    Command(
        "ledger check",
        "check such a proof",
        "Shows the entry if the proof leads to a checkpoint that this key has signed. Nothing else is read.",
        "firedoor ledger check inc-7-3.tlog-proof --key ledger.key",
        check,
        _check_arguments,
    ),
    Command(
        "ledger export",
        "copy the ledger out for an auditor",
        "Copies the log and its anchors from wherever they lie into a folder, with a note how to verify them.",
        "firedoor ledger export audit-2026",
        export,
        _export_arguments,
    ),
)
