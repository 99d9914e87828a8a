"""Pages by e-mail."""

from __future__ import annotations

import hashlib
import smtplib
import ssl
from collections.abc import Callable
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from html import escape

from bot.errors import Denied, Rejected, SystemFailure, Unavailable
from bot.ports import Clock, PageMessage


class SmtpPager:
    """ports.Pager. `sender` is a bare address. `password` is asked at each send; without `user` nobody logs in. With
    `starttls` a server that does not offer it gets nothing. A page's Message-ID comes from its key, so that a repeat is
    the same message, and the mails of one incident form a thread."""

    def __init__(
        self,
        name: str,
        host: str,
        port: int,
        sender: str,
        clock: Clock,
        *,
        starttls: bool = True,
        user: str = "",
        password: Callable[[], str] = str,
        timeout: float = 10.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._name, self._host, self._port, self._sender, self._clock = name, host, port, sender, clock
        self._starttls, self._user, self._password, self._timeout, self._tls = starttls, user, password, timeout, tls
        self._domain = Address(addr_spec=sender).domain

    def send(self, message: PageMessage) -> str:
        mail = self._mail(message)
        try:
            server = self._connect()
        except smtplib.SMTPException as error:
            raise self._translated(error, sent=False) from error
        except OSError as error:
            raise Unavailable(self._name, f"cannot reach {self._host}:{self._port}: {error}") from error
        try:
            server.send_message(mail)
        except smtplib.SMTPException as error:
            raise self._translated(error, sent=True) from error
        except OSError as error:
            raise Unavailable(self._name, f"the connection broke while sending: {error}", sent=True) from error
        finally:
            server.close()  # not quit(): the mail is accepted, and a slow goodbye is not a failure
        return str(mail["Message-ID"])

    def _mail(self, message: PageMessage) -> EmailMessage:
        mail = EmailMessage()
        try:
            mail["From"] = Address("Firedoor", addr_spec=self._sender)
            mail["To"] = Address(addr_spec=message.address)
        except (ValueError, MessageError, IndexError) as error:
            raise Rejected(self._name, f"the e-mail address of {message.person} is not valid") from error
        # A header is one line; and a control character or lone surrogate must not keep a page from leaving.
        mail["Subject"] = " ".join(_carried(message.subject).split())
        body = _carried(message.body)
        mail["Date"] = self._clock.now()
        mail["Message-ID"] = self._id(message.key)
        mail["References"] = self._id(message.incident)
        mail["Auto-Submitted"] = "auto-generated"
        mail["Importance"] = "high"
        mail.set_content(body + (f"\n\nAcknowledge: {message.ack_url}\n" if message.ack_url else "\n"))
        link = f'<p><a href="{escape(message.ack_url)}">Acknowledge</a></p>' if message.ack_url else ""
        mail.add_alternative(f"<pre>{escape(body)}</pre>{link}", subtype="html")
        return mail

    def _id(self, key: str) -> str:
        return f"<{hashlib.sha256(key.encode()).hexdigest()[:32]}@{self._domain}>"

    def _connect(self) -> smtplib.SMTP:
        server = smtplib.SMTP(self._host, self._port, timeout=self._timeout)
        try:
            if self._starttls:
                server.starttls(context=self._tls or ssl.create_default_context())
            if self._user:
                server.login(self._user, self._password())
        except (smtplib.SMTPException, OSError):
            server.close()
            raise
        return server

    def _translated(self, error: smtplib.SMTPException, *, sent: bool) -> SystemFailure:
        match error:
            case smtplib.SMTPAuthenticationError():
                return Denied(self._name, f"the mail server refused the login: {_text(error.smtp_error)}")
            case smtplib.SMTPServerDisconnected() | smtplib.SMTPConnectError():
                return Unavailable(self._name, f"the mail server hung up: {error}", sent=sent)
            case smtplib.SMTPRecipientsRefused():
                code, reply = next(iter(error.recipients.values()))
                return Rejected(self._name, f"recipient refused: {code} {_text(reply)}", retryable=code < 500)
            case smtplib.SMTPResponseException():
                why = f"the mail server answered {error.smtp_code} {_text(error.smtp_error)}"
                return Rejected(self._name, why, retryable=error.smtp_code < 500)
            case _:
                return Rejected(self._name, str(error))


def _carried(text: str) -> str:
    return "".join(sign if sign.isprintable() or sign in "\n\r\t" else "?" for sign in text)


def _text(answer: bytes | str) -> str:
    return answer.decode(errors="replace") if isinstance(answer, bytes) else answer
