"""`trellis audit`: whether what was recorded of people's changes is still what was recorded. It works on the database, so the API need not run."""

from __future__ import annotations

from typing import Annotated

import typer

from server.commands.services import WITHOUT_OBJECT_STORE, DataDir, run_async, running_settings

app = typer.Typer(help="The audit: who changed what.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def main() -> None:
    """With a callback, `verify` stays a command of its own though it is the only one."""


@app.command()
def verify(
    seal: Annotated[
        str | None,
        typer.Option(help="A seal that an earlier run printed, as NUMBER:SHA256; finds an audit that was rewritten or cut off as a whole."),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Compare the audit with its seals. Exit 1 if events were changed, removed or added; the first seal that does not fit is named first."""
    from server.commands import audit_operations as operations

    report = run_async(operations.verify(running_settings(data_dir, WITHOUT_OBJECT_STORE), seal))
    for problem in report.problems:
        typer.echo(problem, err=True)
    if report.problems:
        raise typer.Exit(1)
    wait = "1 waits for its seal" if report.waiting == 1 else f"{report.waiting:,} wait for their seal"
    typer.echo(f"{report.events:,} events in {report.seals:,} seals are as they were sealed; {wait}.")
    if report.dropped:
        typer.echo(f"{report.dropped:,} sealed events are gone with their months, for which TRELLIS_AUDIT_RETENTION is over.")
    if report.last is not None:
        typer.echo(f"Last seal: {report.last.number}:{report.last.sha256.hex()}")
