"""Deliver one mail by SMTP, in a thread: smtplib blocks."""

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
from urllib.parse import unquote, urlsplit

from db.services.mail.rendering import ComposedMail

TIMEOUT = 10.0  # seconds for each reply
_POLICY = SMTP.clone(max_line_length=998)  # shorter, and a long link in a header becomes an encoded word


class NotSent(Exception):
    """The server did not take the mail, and may later."""


class Refused(Exception):
    """The server will never take the mail, or the mail cannot be written."""


class Uncertain(Exception):
    """The server got the mail and did not confirm it."""


def deliver(url: str, sender: str, message_id: str, mail: ComposedMail) -> None:
    """Send a mail to the server at `smtp://` or `smtps://user:password@host:port`. Raises `NotSent`, `Refused` or `Uncertain`."""
    try:
        content = _message(sender, message_id, mail)
    except ValueError as error:
        raise Refused(f"The address is not one that a mail can have: {error}") from None
    try:
        with _connect(url) as server:
            _send(server, sender, mail.address, content)
    except UnicodeEncodeError:
        raise Refused("The address has other letters than ASCII, which servers take with SMTPUTF8 alone.") from None
    except (smtplib.SMTPException, OSError) as error:
        raise NotSent(f"{type(error).__name__}: {error}") from None


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
    server.ehlo_or_helo_if_needed()
    _check(*server.mail(parseaddr(sender)[1]))
    _check(*server.rcpt(address))
    try:
        reply = server.data(content)
    except smtplib.SMTPDataError as error:  # before the content
        _check(error.smtp_code, error.smtp_error)
        raise
    except (smtplib.SMTPServerDisconnected, OSError) as error:
        raise Uncertain(f"{type(error).__name__}: {error}") from None
    _check(*reply)
    with suppress(smtplib.SMTPException, OSError):
        server.quit()


def _check(code: int, reply: bytes | str) -> None:
    if 200 <= code < 300:
        return
    text = f"{code} {reply.decode('utf-8', 'replace') if isinstance(reply, bytes) else reply}"
    raise Refused(text) if code >= 500 else NotSent(text)


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"
