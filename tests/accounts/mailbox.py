"""A real mail server that keeps what it gets, and the worker's part of sending mails."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage as Mail
from typing import Any

from aiosmtpd.controller import UnthreadedController
from aiosmtpd.smtp import SMTP, Envelope, Session
from sqlalchemy import select

from db.core.work import Database
from db.services import maintenance
from db.tables import EmailMessage
from tests.workers.worker_harness import run_maintenance


def body(mail: Mail) -> str:
    """The plain text of a mail."""
    part = mail.get_body(("plain",))
    assert part is not None
    return part.get_content().replace("\r\n", "\n")


def token_of(mail: Mail) -> str:
    match = re.search(r"^  (?:https://\S+#token=)?(\S+)$", body(mail), re.MULTILINE)
    assert match is not None, body(mail)
    return match[1]


class Mailbox:
    """A mail server that keeps what it gets; `reply` is its answer to the content of a mail.

    `script` has what becomes of the next mails, one each: DROP breaks the connection at `MAIL`, LOSE once the content has arrived; what starts with
    MAIL or DATA is the answer there; else it is taken. `peers` are the clients' addresses, one a connection.
    """

    def __init__(self) -> None:
        self.mails: list[Mail] = []
        self.reply = "250 OK"
        self.hang_up = False
        self.port = 0
        self.script: list[str] = []
        self.peers: set[Any] = set()
        self._current = ""

    async def handle_MAIL(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]) -> str:  # noqa: N802 - aiosmtpd's
        self.peers.add(session.peer)
        self._current = self.script.pop(0) if self.script else ""
        if self._current == "DROP":
            await self._abort(server)
        command, _, reply = self._current.partition(" ")
        if command == "MAIL":
            return reply
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        if self.hang_up or self._current == "LOSE":
            await self._abort(server)
        command, _, reply = self._current.partition(" ")
        if command == "DATA":
            return reply
        if self.reply.startswith("250"):
            assert isinstance(envelope.content, bytes)
            self.mails.append(message_from_bytes(envelope.content, policy=policy.default))  # pyright: ignore[reportArgumentType] - the policy's class
        return self.reply

    @staticmethod
    async def _abort(server: SMTP) -> None:
        transport: Any = server.transport
        transport.abort()
        await asyncio.sleep(3_600)  # cancelled with the connection


@asynccontextmanager
async def mail_server(port: int = 0) -> AsyncGenerator[Mailbox]:
    """A mail server at 127.0.0.1, of this event loop, on a port of its own unless one is given."""
    mailbox = Mailbox()
    controller = UnthreadedController(mailbox, hostname="127.0.0.1", port=port, loop=asyncio.get_running_loop())
    server: Any = await controller._create_server()
    mailbox.port = server.sockets[0].getsockname()[1]
    try:
        yield mailbox
    finally:
        server.close()


class Post:
    """The worker's part, run now: `send` sends the mails that wait, to a real mail server."""

    def __init__(self, mailbox: Mailbox, context: maintenance.MaintenanceContext) -> None:
        self.mailbox = mailbox
        self.context = context

    async def send(self, **settings: Any) -> list[Mail]:
        """Return the mails that arrived."""
        before = len(self.mailbox.mails)
        context = maintenance.MaintenanceContext(
            self.context.database, self.context.objects, self.context.settings.model_copy(update=settings)
        )
        result = await run_maintenance(context, "send_mail")
        assert result.error is None
        return self.mailbox.mails[before:]

    async def token(self) -> str:
        """Send the one mail that waits; return its token."""
        (mail,) = await self.send()
        return token_of(mail)


async def mails(database: Database) -> list[tuple[str, str, int]]:
    rows = await database.rows(select(EmailMessage.template, EmailMessage.status, EmailMessage.tries).order_by(EmailMessage.id))
    return [(row.template.name, row.status.name, row.tries) for row in rows]
