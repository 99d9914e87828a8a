"""Keys, signatures and the pre-authentication encoding."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.errors import ConfigError, RecordBroken
from bot.store import seal
from bot.store.seal import Signer


def test_pre_authentication_encoding_is_dsse() -> None:
    # The example of the DSSE protocol document.
    encoded = seal.pre_authentication(b"hello world", "http://example.com/HelloWorld")
    assert encoded == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_key_file_is_private_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "record.pem"
    made = Signer.generate(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Signer.load(path).public() == made.public()
    with pytest.raises(ConfigError, match="there already"):
        Signer.generate(path)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        Signer.load(path)


def test_a_key_file_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "record.pem"
    with pytest.raises(ConfigError, match="cannot be read"):
        Signer.load(path)
    path.write_text("no key")
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="not an unencrypted PEM"):
        Signer.load(path)


def test_signature_of_a_trusted_earlier_key_verifies_and_a_strange_one_does_not(tmp_path: Path) -> None:
    old, new = Signer.fresh(), Signer.generate(tmp_path / "new.pem")
    signature = old.sign(b"body")
    with pytest.raises(RecordBroken, match="not trusted"):
        new.verify(b"body", signature, old.key_id)
    rotated = Signer.load(tmp_path / "new.pem", trusted=[old.public()])
    rotated.verify(b"body", signature, old.key_id)
    for body, text in ((b"bodY", signature), (b"body", signature[::-1]), (b"body", "?")):
        with pytest.raises(RecordBroken, match="signature"):
            rotated.verify(body, text, old.key_id)
