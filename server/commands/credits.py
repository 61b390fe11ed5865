"""`trellis credits`: what users have, and giving it to them. It works on the database, so the API need not run."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from server.commands.services import WITHOUT_OBJECT_STORE, AsJson, DataDir, run_async, running_settings

app = typer.Typer(help="What users can spend on jobs that cost something.", no_args_is_help=True, rich_markup_mode=None)

Email = Annotated[str, typer.Argument(help="Email address of the user.", metavar="EMAIL")]


class GrantKind(StrEnum):
    """The kinds of `db.tables.billing` that an operator writes, spelled here so that `--help` need not import the state room."""

    PURCHASE = "purchase"
    REFUND = "refund"
    ADJUSTMENT = "adjustment"


# A negative amount is no option.
@app.command(context_settings={"ignore_unknown_options": True})
def grant(
    email: Email,
    amount: Annotated[int, typer.Argument(help="How many credits; an adjustment may take some, such as -5.", metavar="AMOUNT")],
    kind: Annotated[GrantKind, typer.Option(help="What the ledger calls it.", case_sensitive=False)] = GrantKind.PURCHASE,
    note: Annotated[str | None, typer.Option(help="Why, for whoever reads the ledger.", show_default=False)] = None,
    data_dir: DataDir = None,
) -> None:
    """Give credits to a user and print what they can spend now."""
    from server.commands import operations

    settings = running_settings(data_dir, WITHOUT_OBJECT_STORE)
    balance = run_async(operations.grant(settings, email, kind.value, amount, note))
    typer.echo(f"{email} can spend {balance}.")


@app.command()
def show(
    email: Email,
    limit: Annotated[int, typer.Option(help="Of the ledger, the last so many lines.", min=0, max=1000)] = 20,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Show what a user can spend, what jobs under way hold, and the last lines of the ledger, newest first."""
    from server.commands import operations, rendering

    settings = running_settings(data_dir, WITHOUT_OBJECT_STORE)
    rendering.print_credits(run_async(operations.credit_account(settings, email, limit)), as_json=as_json)
