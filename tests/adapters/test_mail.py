import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bot.adapters.mail import SmtpPager
from bot.errors import Denied, Rejected, Unavailable
from bot.ports import PageMessage
from bot.sandbox.clock import SimClock

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CLOCK = SimClock(NOW)
PAGE = PageMessage(
    key="INC-7/L1/0/p-oncall/email",
    incident="INC-7",
    person="p-oncall",
    address="oncall@example.test",
    subject="SEV1 agent 7\r\nBcc: all@example.test",
    body="Agent <7> deletes objects.\nBucket: prod",
    ack_url="https://firedoor.test/ack/t?a=1&b=2",
)


class Inbox:
    """Keeps mail; answers as it is told."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.to: list[str] = []
        self.rcpt = self.data = ""
        self.hang_up = False

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:
        if not self.rcpt:
            envelope.rcpt_tos.append(address)
        return self.rcpt or "250 OK"

    async def handle_DATA(self, server: Any, _session: Any, envelope: Any) -> str:
        if self.hang_up:
            server.transport.abort()
            return "421 gone"
        self.to += envelope.rcpt_tos
        mail = message_from_bytes(envelope.content, policy=default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        return self.data or "250 OK"


@contextmanager
def post_office(inbox: Inbox, **how: Any) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    controller = Controller(inbox, hostname="127.0.0.1", port=port, **how)
    controller.start()
    try:
        yield port
    finally:
        controller.stop()


def pager(port: int, **how: Any) -> SmtpPager:
    return SmtpPager("mail", "127.0.0.1", port, "bot@firedoor.test", CLOCK, **{"starttls": False, "timeout": 2, **how})


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def port(inbox: Inbox) -> Iterator[int]:
    with post_office(inbox) as port:
        yield port


def test_a_page_arrives_as_text_and_html_with_the_acknowledge_link(inbox: Inbox, port: int):
    reference = pager(port).send(PAGE)
    (mail,) = inbox.mails
    assert inbox.to == ["oncall@example.test"]
    assert mail["From"] == "Firedoor <bot@firedoor.test>"
    assert mail["Subject"] == "SEV1 agent 7 Bcc: all@example.test"
    assert mail["Bcc"] is None
    assert mail["Date"].datetime == NOW
    assert mail["Message-ID"] == reference
    text, html = (mail.get_body((kind,)).get_content().replace("\r\n", "\n") for kind in ("plain", "html"))
    assert "Agent <7> deletes objects.\nBucket: prod" in text
    assert "Acknowledge: https://firedoor.test/ack/t?a=1&b=2" in text
    assert "Agent &lt;7&gt; deletes" in html
    assert '<a href="https://firedoor.test/ack/t?a=1&amp;b=2">Acknowledge</a>' in html


def test_a_repeat_is_the_same_message_and_another_page_joins_its_thread(inbox: Inbox, port: int):
    first, again = pager(port).send(PAGE), pager(port).send(PAGE)
    other = pager(port).send(replace(PAGE, key="INC-7/L2/0/p-lead/email", ack_url=""))
    assert first == again != other
    assert len({mail["References"] for mail in inbox.mails}) == 1
    assert "Acknowledge" not in inbox.mails[2].get_body(("html",)).get_content()


def test_text_that_no_mail_can_carry_does_not_stop_the_page(inbox: Inbox, port: int):
    pager(port).send(replace(PAGE, subject="agent \x00 \ud800", body="\x00 \ud800 ü"))
    assert "? ? ü" in inbox.mails[0].get_body(("plain",)).get_content()


@pytest.mark.parametrize(("answer", "retryable"), [("550 no such user", False), ("451 greylisted", True)])
@pytest.mark.parametrize("at", ["rcpt", "data"])
def test_a_refusal_says_what_the_server_said(inbox: Inbox, port: int, at: str, answer: str, retryable: bool):
    setattr(inbox, at, answer)
    with pytest.raises(Rejected, match=answer) as caught:
        pager(port).send(PAGE)
    assert caught.value.retryable is retryable


def test_a_connection_that_breaks_while_sending_may_have_sent(inbox: Inbox, port: int):
    inbox.hang_up = True
    with pytest.raises(Unavailable) as caught:
        pager(port).send(PAGE)
    assert caught.value.sent


def test_nobody_listens():
    with pytest.raises(Unavailable, match="cannot reach") as caught:
        pager(1).send(PAGE)
    assert not caught.value.sent


@pytest.mark.parametrize("address", ["", "oncall", "a@b.test\r\nBcc: c@d.test", "a@b.test, c@d.test"])
def test_an_address_that_is_none(address: str):
    with pytest.raises(Rejected, match="the e-mail address of p-oncall is not valid"):
        pager(1).send(replace(PAGE, address=address))


def test_starttls_is_demanded_where_it_is_configured(inbox: Inbox, port: int):
    with pytest.raises(Rejected, match="STARTTLS"):
        pager(port, starttls=True).send(PAGE)
    assert inbox.mails == []


def test_starttls_checks_the_certificate_and_then_logs_in(inbox: Inbox, tmp_path: Path):
    certificate = self_signed(tmp_path)
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_side.load_cert_chain(certificate)

    def login(_server: Any, _session: Any, _envelope: Any, _mechanism: Any, data: Any) -> AuthResult:
        return AuthResult(success=(data.login, data.password) == (b"bot", b"right"), handled=False)

    with post_office(inbox, tls_context=server_side, require_starttls=True, authenticator=login) as port:
        trusted = ssl.create_default_context(cafile=certificate)
        pager(port, starttls=True, tls=trusted, user="bot", password=lambda: "right").send(PAGE)
        assert len(inbox.mails) == 1
        with pytest.raises(Denied, match="refused the login"):
            pager(port, starttls=True, tls=trusted, user="bot", password=lambda: "wrong").send(PAGE)
        with pytest.raises(Unavailable, match="certificate"):
            pager(port, starttls=True).send(PAGE)


def self_signed(folder: Path) -> Path:
    """A certificate and key of 127.0.0.1 in one file."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=36500))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "mail.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path
