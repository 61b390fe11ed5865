"""Settings and exit statuses of commands."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from db.settings import StateSettings

DataDir = Annotated[
    Path | None, typer.Option(help="Folder of the embedded servers' data. [TRELLIS_DATA_DIR, else .trellis]", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")]
ALL_SERVICES = ("database_url", "redis_url", "s3_endpoint_url")
WITHOUT_OBJECT_STORE = ("database_url", "redis_url")


def require_settings(data_dir: Path | None = None, needs: tuple[str, ...] = ALL_SERVICES) -> StateSettings:
    """Settings with these services' addresses, or exit 2. With `data_dir`, missing ones come from a `trellis up` running there."""
    from server.runtime_env import load_environment

    if data_dir is not None:
        load_environment(data_dir)
    settings = valid_settings()
    missing = [f"TRELLIS_{name.upper()}" for name in needs if not getattr(settings, name)]
    if missing:
        raise command_error(f"Trellis needs {', '.join(missing)}. Set it, or run `trellis up`, which starts its own servers.", 2)
    return settings


def running_settings(data_dir: Path | None, needs: tuple[str, ...] = ALL_SERVICES) -> StateSettings:
    """`require_settings` for commands that find a running `trellis up` by its data folder, by default the one of the settings."""
    from server.settings import server_settings

    valid_settings()
    return require_settings((data_dir or server_settings().data_dir).expanduser(), needs)


def valid_settings() -> StateSettings:
    """The state settings, or exit 2 with each invalid setting named, of whichever process."""
    from db.settings import StateSettings
    from graph.settings import GraphSettings
    from server.settings import ServerSettings
    from workers.settings import WorkerSettings

    problems = [problem for cls in (StateSettings, ServerSettings, GraphSettings, WorkerSettings) for problem in cls.problems()]
    for problem in problems:
        typer.echo(problem, err=True)
    if problems:
        raise typer.Exit(2)
    return StateSettings()


def check_tracing_packages() -> None:
    """Exit 2 if tracing is on and its packages are not installed."""
    from importlib.util import find_spec

    from server.settings import server_settings

    if server_settings().tracing and find_spec("opentelemetry") is None:
        raise command_error("TRELLIS_TRACING needs further packages: pip install 'trellis[otel]', or set it to false.", 2)


def command_error(text: object, status: int = 1) -> typer.Exit:
    """Print the reason on standard error; return the exit to raise."""
    typer.echo(str(text), err=True)
    return typer.Exit(status)


def run_async(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine; an expected error becomes a line on standard error and exit status 1, an invalid option 2."""
    from db.core.audit import AuditOrigin, Origin, acting
    from db.errors import StateError
    from server.commands.filters import InvalidOption

    try:
        with acting(Origin(AuditOrigin.COMMAND_LINE)):
            return asyncio.run(coroutine)
    except StateError as error:
        raise command_error(error) from None
    except InvalidOption as error:
        raise command_error(error, 2) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
