"""A timestamp authority on loopback: OpenSSL's own, behind HTTP."""

from __future__ import annotations

import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CONFIG = """
[tsa]
serial = {folder}/serial
crypto_device = builtin
signer_cert = {folder}/tsa.pem
signer_key = {folder}/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
accuracy = secs:1
ess_cert_id_chain = no
ess_cert_id_alg = sha256
"""


@dataclass
class Authority:
    """`answers`: what it says instead, (status, body), as long as that is set."""

    url: str
    roots: bytes  # PEM
    answers: tuple[int, bytes] | None = None
    asked: int = 0


@contextmanager
def authority() -> Iterator[Authority]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root = _certificates(folder)
        made = Authority("", root)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                query = self.rfile.read(int(self.headers["Content-Length"]))
                made.asked += 1
                status, body = made.answers or (200, _reply(folder, query))
                self.send_response(status)
                self.send_header("Content-Type", "application/timestamp-reply")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Tests are quiet."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            made.url = f"http://127.0.0.1:{server.server_port}/tsr"
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield made
            server.shutdown()


def _reply(folder: Path, query: bytes) -> bytes:
    (folder / "query.tsq").write_bytes(query)
    command = ["openssl", "ts", "-reply", "-config", "tsa.conf", "-section", "tsa", "-queryfile", "query.tsq"]
    subprocess.run([*command, "-out", "reply.tsr"], cwd=folder, check=True, capture_output=True, timeout=30)
    return (folder / "reply.tsr").read_bytes()


def _certificates(folder: Path) -> bytes:
    """A root and, signed by it, one that may stamp; returns the root."""
    root_key, key = generate_private_key(SECP256R1()), generate_private_key(SECP256R1())
    root = _certificate("Root of the test", root_key, "Root of the test", root_key, authority=True)
    stamper = _certificate("Authority of the test", key, "Root of the test", root_key, authority=False)
    (folder / "tsa.pem").write_bytes(stamper)
    (folder / "tsa.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / "serial").write_text("01")
    (folder / "tsa.conf").write_text(CONFIG.format(folder=folder))
    return root


def _certificate(
    name: str, key: EllipticCurvePrivateKey, issuer: str, by: EllipticCurvePrivateKey, *, authority: bool
) -> bytes:
    now = datetime.now(UTC)  # OpenSSL stamps with the machine's time
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
    )
    if authority:
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        made = made.add_extension(usage, critical=True)
    else:
        made = made.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
    return made.sign(by, hashes.SHA256()).public_bytes(Encoding.PEM)
