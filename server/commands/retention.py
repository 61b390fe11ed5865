"""`trellis retention`: what is kept for how long, and what would be removed. It works on the database, so the API need not run."""

from __future__ import annotations

from typing import Annotated

import typer

from server.commands.services import ALL_SERVICES, AsJson, DataDir, run_async, running_settings


def retention(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be removed, and remove nothing.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Remove what is past its retention, as workers do every hour, and print what was removed by table. Exit 1 if something was in use or a worker is at it."""
    from server.commands import rendering
    from server.commands import retention_operations as operations
    from server.logs import configure_logs

    settings = running_settings(data_dir, ALL_SERVICES)
    if dry_run:
        rendering.print_forecasts(run_async(operations.forecast(settings)), as_json=as_json)
        return
    configure_logs()  # to standard error: what is printed may be JSON
    removal = run_async(operations.remove(settings))
    rendering.print_removals(removal.tables, as_json=as_json)
    for problem in removal.problems:
        typer.echo(problem, err=True)
    if removal.problems:
        raise typer.Exit(1)
