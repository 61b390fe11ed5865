"""`trellis jobs`: list, inspect, cancel and retry jobs. It works on the database, so the API need not run."""

from __future__ import annotations

from typing import Annotated

import typer

from server.commands.services import WITHOUT_OBJECT_STORE, AsJson, DataDir, command_error, run_async, running_settings

app = typer.Typer(help="List, inspect, cancel and retry jobs.", no_args_is_help=True, rich_markup_mode=None)
maintenance = typer.Typer(help="The maintenance tasks of the workers; without a command, their last runs.", rich_markup_mode=None)
app.add_typer(maintenance, name="maintenance")
app.add_typer(maintenance, name="chores", hidden=True)  # deprecated name

JobId = Annotated[str, typer.Argument(help="The job's id, `job_<32 hex digits>` or a plain UUID.", metavar="JOB")]


@app.command("list")
def list_jobs(
    status: Annotated[
        list[str] | None, typer.Option(help="Only these, such as `running,pending`. May be repeated.", show_default=False)
    ] = None,
    queue: Annotated[list[str] | None, typer.Option(help="Only of these queues. May be repeated.", show_default=False)] = None,
    kind: Annotated[
        list[str] | None, typer.Option(help="Only of these kinds, such as `train`. May be repeated.", show_default=False)
    ] = None,
    owner: Annotated[str | None, typer.Option(help="Only of the user with this email address.", show_default=False)] = None,
    since: Annotated[
        str | None, typer.Option(help="Only those created since: `90s`, `30m`, `2h`, `7d` ago, or an ISO time.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(help="Page size, newest first.", min=1, max=1000)] = 20,
    after: Annotated[str | None, typer.Option(help="Cursor that the previous page printed.", show_default=False)] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """List jobs, newest first, with why the waiting ones wait."""
    from server.commands import operations, rendering
    from server.commands.filters import job_filter

    settings = running_settings(data_dir, WITHOUT_OBJECT_STORE)

    async def print_page() -> None:
        async with operations.open_database(settings) as database:
            owner_id = await operations.owner_id(database, owner) if owner else None
            page = await operations.list_jobs(database, job_filter(status, queue, kind, since, owner_id), limit, after)
        rendering.print_jobs(page.jobs, as_json=as_json)
        if page.next_cursor:
            typer.echo(f"There are more. For the next page add: --after {page.next_cursor}", err=True)

    run_async(print_page())


@app.command()
def show(
    job: JobId,
    events: Annotated[int, typer.Option(help="Number of its last events.", min=0, max=1000)] = 10,
    follow: Annotated[bool, typer.Option("--follow", help="Print its further events until it ends.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Show a job: its status and why it waits, attempts, nodes, error and last events."""
    from server.commands import operations, rendering

    settings = running_settings(data_dir, WITHOUT_OBJECT_STORE)

    async def print_details() -> None:
        async with operations.open_database(settings) as database:
            job_id = operations.parse_job_id(job)
            details = await operations.job_details(database, job_id, events)
            rendering.print_job(details, as_json=as_json)
            if follow:
                # Not after the job's last event: it was read before them, and may have had fewer.
                shown = details.events[-1].sequence if details.events else details.job.last_sequence
                async for event in operations.follow_events(database, job_id, shown):
                    rendering.print_event(event, as_json=as_json)

    run_async(print_details())


@app.command()
def cancel(job: JobId, data_dir: DataDir = None) -> None:
    """Cancel a waiting or running job. A running body gets SIGTERM, and SIGKILL after the grace period."""
    from server.commands import operations

    settings = running_settings(data_dir, WITHOUT_OBJECT_STORE)
    status = run_async(operations.cancel(settings, job))
    typer.echo({"cancelled": "CANCELLED"}.get(status, "CANCELLING: its worker is stopping it."))


@app.command()
def retry(job: JobId, data_dir: DataDir = None) -> None:
    """Run an ended job again, as a new job with the same inputs; print its id."""
    from server.commands import operations

    settings = running_settings(data_dir, WITHOUT_OBJECT_STORE)
    typer.echo(run_async(operations.retry(settings, job)))


@app.command()
def requeue(job: JobId, data_dir: DataDir = None) -> None:
    """Dispatch a waiting job now, without its remaining backoff. Its place in the queue stays."""
    from server.commands import operations

    settings = running_settings(data_dir, WITHOUT_OBJECT_STORE)
    status = run_async(operations.requeue(settings, job))
    typer.echo(f"{status.upper()}: the workers of its queue have been notified.")


@maintenance.callback(invoke_without_command=True)
def list_maintenance(context: typer.Context, as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """The maintenance tasks of the workers; without a command, their last runs."""
    if context.invoked_subcommand is not None:
        return
    from server.commands import operations, rendering

    settings = running_settings(data_dir, WITHOUT_OBJECT_STORE)
    rendering.print_maintenance(run_async(operations.maintenance_runs(settings)), as_json=as_json)


@maintenance.command("run")
def run_maintenance(name: Annotated[str, typer.Argument(help="The task's name, as listed.")], data_dir: DataDir = None) -> None:
    """Run a maintenance task now, due or not, in this process."""
    from server.commands import operations

    settings = running_settings(data_dir)
    outcome = run_async(operations.run_maintenance(settings, name))
    if outcome.error is not None:
        raise command_error(f"{name} failed: {outcome.error}")
    typer.echo(f"{name}: {outcome.changed} changed.")


def list_workers(
    every: Annotated[bool, typer.Option("--all", help="Also the hundred that stopped last.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """List the live worker processes."""
    from server.commands import operations, rendering

    settings = running_settings(data_dir, WITHOUT_OBJECT_STORE)
    rendering.print_workers(run_async(operations.list_workers(settings, stopped=every)), as_json=as_json)
