"""Which services a command works on, and how it ends."""

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
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line, for machines.")]
ALL_SERVICES = ("database_url", "redis_url", "s3_endpoint_url")
WITHOUT_OBJECT_STORE = ("database_url", "redis_url")


def require_settings(data_dir: Path | None = None, needs: tuple[str, ...] = ALL_SERVICES) -> StateSettings:
    """Settings that name these services, or an end with a message. With `data_dir`, a running `trellis up` there lends its own."""
    from server.runtime_env import load_environment

    if data_dir is not None:
        load_environment(data_dir)
    settings = valid_settings()
    missing = [f"TRELLIS_{name.upper()}" for name in needs if not getattr(settings, name)]
    if missing:
        raise command_error(f"Trellis needs {', '.join(missing)}. Set it, or run `trellis up`, which starts servers of its own.", 2)
    return settings


def running_settings(data_dir: Path | None, needs: tuple[str, ...] = ALL_SERVICES) -> StateSettings:
    """The same for a command that finds a running `trellis up` by its folder, the one of the settings where none is given."""
    from server.settings import server_settings

    return require_settings((data_dir or server_settings().data_dir).expanduser(), needs)


def valid_settings() -> StateSettings:
    """The settings of the state, or an end that names those that cannot be."""
    from pydantic import ValidationError

    from db.settings import StateSettings

    try:
        return StateSettings()
    except ValidationError as error:
        for detail in error.errors():
            name = StateSettings.source_name(str(detail["loc"][0]))
            typer.echo(f"{name}: {detail['msg'].removeprefix('Value error, ')}", err=True)
        raise typer.Exit(2) from error


def check_tracing_packages() -> None:
    """End with a message if spans are asked for and their packages are not there."""
    from importlib.util import find_spec

    from server.settings import server_settings

    if server_settings().tracing and find_spec("opentelemetry") is None:
        raise command_error("TRELLIS_TRACING needs more packages: pip install 'trellis[otel]', or set it to false.", 2)


def command_error(text: object, status: int = 1) -> typer.Exit:
    """Say on standard error why nothing was done; to be raised."""
    typer.echo(str(text), err=True)
    return typer.Exit(status)


def run_async(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The answer; an expected refusal becomes a line on standard error and the exit status 1."""
    from db.errors import StateError
    from server.commands.filters import InvalidOption

    try:
        return asyncio.run(coroutine)
    except StateError as error:
        raise command_error(error) from None
    except InvalidOption as error:
        raise command_error(error, 2) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
