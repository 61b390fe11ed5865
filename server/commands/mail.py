"""`trellis mail`: the mails to users, and whether they were sent. It works on the database, so the API need not run."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from server.commands.services import WITHOUT_OBJECT_STORE, AsJson, DataDir, run_async, running_settings

app = typer.Typer(help="Mails to users.", no_args_is_help=True, rich_markup_mode=None)


class Status(StrEnum):
    """The statuses of `db.tables.mail`, repeated here so that `--help` need not import `db`; a test compares the two."""

    PENDING = "pending"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"
    UNCERTAIN = "uncertain"
    DELIVERED = "delivered"
    OPENED = "opened"
    CLICKED = "clicked"
    BOUNCED = "bounced"
    SUPPRESSED = "suppressed"


@app.command("list")
def list_mails(
    status: Annotated[Status | None, typer.Option(help="Only those with this status.", case_sensitive=False, show_default=False)] = None,
    limit: Annotated[int, typer.Option(help="Page size.", min=1, max=1000)] = 50,
    after: Annotated[str | None, typer.Option(help="Cursor that the previous page printed.", show_default=False)] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """List mails, newest first. Without TRELLIS_SMTP_URL they wait: `trellis mail show` prints one."""
    from server.commands import mail_operations as operations
    from server.commands import rendering

    settings = running_settings(data_dir, WITHOUT_OBJECT_STORE)
    page = run_async(operations.list_mails(settings, None if status is None else status.value, limit, after))
    rendering.print_mails(page.rows, as_json=as_json)
    if page.next_cursor:
        typer.echo(f"There are more. For the next page add: --after {page.next_cursor}", err=True)


@app.command()
def show(
    mail: Annotated[str, typer.Argument(help="The mail's id, as `trellis mail list` shows it.", metavar="MAIL")], data_dir: DataDir = None
) -> None:
    """Print a mail with its token, whose time begins: hand it to its recipient where no mail server is set. Its status stays."""
    from server.commands import mail_operations as operations

    composed = run_async(operations.compose(running_settings(data_dir, WITHOUT_OBJECT_STORE), mail))
    typer.echo(f"To: {composed.address}\nSubject: {composed.subject}\n\n{composed.text}", nl=False)
