"""The `trellis` command line. Commands import what they run when called, so that `--help` and child processes start fast."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from server.commands import audit, credits, jobs, mail, retention, users
from server.commands.services import DataDir, check_tracing_packages, command_error, require_settings, valid_settings
from server.importing import importing

app = typer.Typer(
    name="trellis",
    help="The GraphQL backend of a machine-learning platform.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(users.app, name="user")
app.add_typer(users.tokens, name="token")
app.add_typer(jobs.app, name="jobs")
app.add_typer(credits.app, name="credits")
app.add_typer(mail.app, name="mail")
app.add_typer(audit.app, name="audit")

Host = Annotated[str | None, typer.Option(help="Address to listen on. [TRELLIS_HOST, else 127.0.0.1]", show_default=False)]
Port = Annotated[int | None, typer.Option(help="Port to listen on. [TRELLIS_PORT, else 8000]", min=1, max=65_535, show_default=False)]
ApiProcesses = Annotated[
    int | None, typer.Option(help="API processes behind the port. [TRELLIS_API_PROCESSES, else 1]", min=1, max=64, show_default=False)
]


def _print_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"trellis {version('trellis')}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")] = False,
) -> None:
    """The options of `trellis` itself; typer calls it before each command."""


@app.command()
def up(
    host: Host = None,
    port: Port = None,
    data_dir: DataDir = None,
    api_processes: ApiProcesses = None,
    worker_processes: Annotated[
        int | None, typer.Option(help="Worker processes. [TRELLIS_WORKER_PROCESSES, else 1]", min=0, max=64, show_default=False)
    ] = None,
) -> None:
    """Start everything: PostgreSQL, Valkey and S3 unless settings name others, migrations, the admin, the API and the workers."""
    from server.settings import server_settings
    from server.up import run

    overrides = {
        "host": host,
        "port": port,
        "data_dir": data_dir,
        "api_processes": api_processes,
        "worker_processes": worker_processes,
    }
    valid_settings()
    settings = server_settings().model_copy(update={name: value for name, value in overrides.items() if value is not None})
    raise typer.Exit(run(settings))


@app.command()
def api(
    host: Host = None,
    port: Port = None,
    processes: ApiProcesses = None,
    descriptors: Annotated[list[int] | None, typer.Option("--fd", hidden=True, help="An inherited, bound socket for each process.")] = None,
) -> None:
    """Serve the API; PostgreSQL, Redis and S3 come from the settings."""
    with importing():
        require_settings()
        check_tracing_packages()
        from server.settings import server_settings

    settings = server_settings()
    host, port, processes = host or settings.host, port or settings.port, processes or settings.api_processes
    if len(descriptors or ()) > 1 or (not descriptors and processes > 1):
        from server.api_processes import run

        raise typer.Exit(run(host, port, processes, descriptors or ()))
    with importing():
        import_module("server.app")  # of which uvicorn gets the name
        from server.uvicorn_config import serve

    serve(host, port, descriptors[0] if descriptors else None)


@app.command()
def worker(
    queues: Annotated[
        list[str] | None, typer.Option(help="Queues to serve, separated by commas; may be repeated. [all]", show_default=False)
    ] = None,
) -> None:
    """Run a worker; PostgreSQL, Redis and S3 come from the settings."""
    require_settings()
    with importing():
        from db.errors import DatabaseNotMigrated
        from server.commands.filters import InvalidOption, parse_queues
        from server.logs import configure_logs
        from server.worker_tracing import trace_attempts
        from workers.main import run

    check_tracing_packages()
    try:
        queue_names = parse_queues(queues) if queues else None
    except InvalidOption as error:
        raise command_error(error, 2) from None
    configure_logs()
    try:
        with trace_attempts():
            run(queue_names)
    except DatabaseNotMigrated as error:
        raise command_error(error) from None


@app.command(name="worker-health", hidden=True)
def worker_health() -> None:
    """Exit 0 if a worker of this host (in a container: of this container) is alive by its heartbeat, else 1."""
    settings = require_settings()
    import asyncio
    import socket

    from server.health import is_worker_alive

    raise typer.Exit(0 if asyncio.run(is_worker_alive(settings, socket.gethostname())) else 1)


@app.command()
def migrate(
    admin_token_file: Annotated[
        Path | None, typer.Option(hidden=True, help="File of the admin's token, created if TRELLIS_ADMIN_TOKEN is not set.")
    ] = None,
) -> None:
    """Migrate the database to this release; create the step catalogue, the bucket, and the admin if TRELLIS_ADMIN_TOKEN is set."""
    settings = require_settings()
    from db.errors import StateError
    from server.bootstrap import prepare
    from server.logs import configure_logs

    configure_logs()
    try:
        prepare(settings, admin_token_file)
    except StateError as error:
        raise command_error(error) from None


@app.command()
def schema(
    release: Annotated[
        bool, typer.Option("--release", help="Record it as the contract that later releases must keep, unless it breaks the present one.")
    ] = False,
) -> None:
    """Print the GraphQL schema in SDL."""
    from graph import contract
    from graph.schema import schema as graphql_schema

    sdl = graphql_schema.as_str() + "\n"
    if not release:
        typer.echo(sdl, nl=False)
        return
    if breaking_changes := contract.release(sdl, datetime.now(UTC).date()):
        for change in breaking_changes:
            typer.echo(change, err=True)
        typer.echo("These changes break clients. Deprecate first, with a removal date; see CONTRIBUTING.md.", err=True)
        raise typer.Exit(1)


@app.command(hidden=True)
def revision(name: Annotated[str, typer.Argument(help="What it changes, in a few words; part of the file name.")]) -> None:
    """Write the next database migration from the tables in code."""
    from server.make_migration import make_migration

    typer.echo(f"Review it, and add what autogenerate does not see (checks, triggers, functions): {make_migration(name)}")


@app.command()
def demo(
    url: Annotated[
        str, typer.Option(help="Address of Trellis. If it is this machine and nothing answers there, `trellis up` is started.")
    ] = "http://127.0.0.1:8000",
    data_dir: DataDir = None,
) -> None:
    """Train models on three real tables and on generated signals through the public API, show their progress, and compare them."""
    from server.demo import main
    from server.settings import server_settings

    raise typer.Exit(main(url, data_dir or server_settings().data_dir))


app.command("workers")(jobs.list_workers)
app.command("retention")(retention.retention)


if __name__ == "__main__":
    app(prog_name="trellis")
