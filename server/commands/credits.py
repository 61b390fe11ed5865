"""`trellis credits`: show and grant credits. It works on the database, so the API need not run."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from server.commands.services import WITHOUT_OBJECT_STORE, AsJson, DataDir, run_async, running_settings

app = typer.Typer(help="Credits of users, for jobs that have a price.", no_args_is_help=True, rich_markup_mode=None)

Email = Annotated[str, typer.Argument(help="Email address of the user.", metavar="EMAIL")]


class GrantKind(StrEnum):
    """The kinds of `db.tables.billing` that an operator writes, repeated here so that `--help` need not import `db`."""

    PURCHASE = "purchase"
    REFUND = "refund"
    ADJUSTMENT = "adjustment"


# So that a negative amount is not parsed as an option.
@app.command(context_settings={"ignore_unknown_options": True})
def grant(
    email: Email,
    amount: Annotated[int, typer.Argument(help="Number of credits; an adjustment may be negative, such as -5.", metavar="AMOUNT")],
    kind: Annotated[GrantKind, typer.Option(help="Kind of ledger entry.", case_sensitive=False)] = GrantKind.PURCHASE,
    note: Annotated[str | None, typer.Option(help="Reason, kept in the ledger.", show_default=False)] = None,
    data_dir: DataDir = None,
) -> None:
    """Grant credits to a user and print the new balance."""
    from server.commands import operations

    settings = running_settings(data_dir, WITHOUT_OBJECT_STORE)
    balance = run_async(operations.grant(settings, email, kind.value, amount, note))
    typer.echo(f"{email} can spend {balance}.")


@app.command()
def show(
    email: Email,
    limit: Annotated[int, typer.Option(help="Number of last ledger entries.", min=0, max=1000)] = 20,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Show a user's balance, the credits that unfinished jobs hold, and the last ledger entries, newest first."""
    from server.commands import operations, rendering

    settings = running_settings(data_dir, WITHOUT_OBJECT_STORE)
    rendering.print_credits(run_async(operations.credit_account(settings, email, limit)), as_json=as_json)
