"""Deliver mails by SMTP, many over one connection, in threads: smtplib blocks."""

from __future__ import annotations

import ipaddress
import smtplib
import ssl
from contextlib import suppress
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from threading import Lock
from urllib.parse import unquote, urlsplit

from db.services.mail.rendering import ComposedMail

TIMEOUT = 10.0  # seconds for each reply
_OK, _SHUTTING_DOWN = 250, 421  # replies: https://www.rfc-editor.org/rfc/rfc5321#section-4.2.3
_POLICY = SMTP.clone(max_line_length=998)  # shorter, and a long link in a header becomes an encoded word


class NotSent(Exception):
    """The server did not take the mail, and may later."""


class ConnectionLost(NotSent):
    """The server has ended the connection, or is about to, and did not take the mail."""


class Refused(Exception):
    """The server will never take the mail, or the mail cannot be written."""


class Uncertain(Exception):
    """The server got the mail and did not confirm it."""


class SmtpClient:
    """A client of the server at `smtp://` or `smtps://user:password@host:port`: it connects for the first mail, and keeps the connection for the next.

    Its methods block, and wait for each other.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._server: smtplib.SMTP | None = None
        self._lock = Lock()

    def deliver(self, sender: str, message_id: str, mail: ComposedMail) -> None:
        """Send a mail. Raises `NotSent`, `Refused` or `Uncertain`.

        The server may have closed a connection that was kept, or closes it now: a mail that it did not take is sent over a new one then.
        """
        try:
            content = _message(sender, message_id, mail)
        except ValueError as error:
            raise Refused(f"The address is not one that a mail can have: {error}") from None
        with self._lock:
            if self._server is not None:
                with suppress(ConnectionLost):
                    return self._send(self._server, sender, mail.address, content)
            try:
                self._server = _connect(self._url)
            except (smtplib.SMTPException, OSError) as error:
                raise NotSent(f"{type(error).__name__}: {error}") from None
            return self._send(self._server, sender, mail.address, content)

    def close(self) -> None:
        """End the connection, if there is one."""
        with self._lock, suppress(smtplib.SMTPException, OSError):
            server, self._server = self._server, None
            if server is not None:
                server.quit()

    def _send(self, server: smtplib.SMTP, sender: str, address: str, content: bytes) -> None:
        """Send a mail over a connection, which is given up unless the server is ready for the next one then."""
        is_ready = False
        try:
            _send(server, sender, address, content)
            is_ready = True
        except (Refused, NotSent) as error:
            is_ready = not isinstance(error, ConnectionLost) and _reset(server)
            raise
        finally:
            if not is_ready:
                self._server = None
                server.close()


def _message(sender: str, message_id: str, mail: ComposedMail) -> bytes:
    message = EmailMessage()
    message["From"] = sender
    message["To"] = Address(addr_spec=mail.address)
    message["Subject"] = mail.subject
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = message_id
    message["Auto-Submitted"] = "auto-generated"
    for name, value in mail.headers.items():
        message[name] = value
    message.set_content(mail.text)
    message.add_alternative(mail.html, subtype="html")
    return message.as_bytes(policy=_POLICY)


def _connect(url: str) -> smtplib.SMTP:
    parts = urlsplit(url)
    host = parts.hostname or "localhost"
    if parts.scheme == "smtps":
        server: smtplib.SMTP = smtplib.SMTP_SSL(host, parts.port or 465, timeout=TIMEOUT, context=ssl.create_default_context())
        is_private = True
    else:
        server = smtplib.SMTP(host, parts.port or 25, timeout=TIMEOUT)
        server.ehlo_or_helo_if_needed()
        is_private = server.has_extn("starttls") or _is_loopback(host)
        if server.has_extn("starttls"):
            server.starttls(context=ssl.create_default_context())
    if parts.username:
        if not is_private:
            server.close()
            raise smtplib.SMTPException(
                "The server offers no TLS, so it is not told the password. Use smtps://, or a server with STARTTLS."
            )
        server.login(unquote(parts.username), unquote(parts.password or ""))
    return server


def _send(server: smtplib.SMTP, sender: str, address: str, content: bytes) -> None:
    try:
        server.ehlo_or_helo_if_needed()
        _check(*server.mail(parseaddr(sender)[1]))
        _check(*server.rcpt(address))
    except UnicodeEncodeError:
        raise Refused("The address has other letters than ASCII, which servers take with SMTPUTF8 alone.") from None
    except (smtplib.SMTPException, OSError) as error:
        raise ConnectionLost(f"{type(error).__name__}: {error}") from None
    try:
        code, reply = server.data(content)
    except smtplib.SMTPDataError as error:  # before the content
        code, reply = error.smtp_code, error.smtp_error
    except (smtplib.SMTPException, OSError) as error:
        raise Uncertain(f"{type(error).__name__}: {error}") from None
    else:
        if code < 0:
            raise Uncertain("The server's answer to the mail is not one of SMTP.")
    _check(code, reply)


def _check(code: int, reply: bytes | str) -> None:
    if 200 <= code < 300:
        return
    text = f"{code} {reply.decode('utf-8', 'replace') if isinstance(reply, bytes) else reply}"
    if code == _SHUTTING_DOWN:
        raise ConnectionLost(text)
    raise Refused(text) if code >= 500 else NotSent(text)


def _reset(server: smtplib.SMTP) -> bool:
    """Have the server forget a mail that it did not take; False if the connection cannot be used any more."""
    try:
        return server.rset()[0] == _OK
    except (smtplib.SMTPException, OSError):
        return False


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"
