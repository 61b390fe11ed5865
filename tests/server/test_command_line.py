"""The command line shows its help fast, and explains missing settings."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from db.core.viewer import ApiScope, UserRole, UserTier
from server.cli import app
from server.commands.users import Role, Scope, Tier
from tests.prefork import run_command

ROOT = Path(__file__).parents[2]


def environment(**settings: str) -> dict[str, str]:
    return {**{name: value for name, value in os.environ.items() if not name.startswith("TRELLIS_")}, "COLUMNS": "120", **settings}


def trellis(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return run_command(environment(**settings), *arguments)


def test_help_names_every_command() -> None:
    """In a process that starts as a user's does."""
    command = [sys.executable, "-m", "server.cli", "--help"]
    answer = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stderr) == (0, "")
    commands = answer.stdout.split("Commands:")[1].split("\n")
    assert [line.split()[0] for line in commands if line.strip()] == [
        *("up", "api", "worker", "migrate", "schema", "demo", "workers", "retention"),
        *("user", "token", "jobs", "credits", "mail", "audit"),
    ]


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (("up",), ["--host", "--port", "--data-dir", "--api-processes", "--worker-processes"]),
        (("api",), ["--host", "--port", "--processes"]),
        (("worker",), ["--queues"]),
        (("migrate",), []),
        (("schema",), ["--release"]),
        (("demo",), ["--url", "--data-dir"]),
        (("user", "add"), ["--username", "--full-name", "--role", "--tier", "--password", "--data-dir"]),
        (("user", "invite"), ["--role", "--by", "--data-dir"]),
        (("user", "set-password"), ["--hash", "--data-dir"]),
        (("mail", "list"), ["--status", "--limit", "--after", "--json", "--data-dir"]),
        (("mail", "show"), ["--data-dir"]),
        (("user", "list"), ["--role", "--tier", "--active", "--search", "--limit", "--after", "--json", "--data-dir"]),
        (("user", "show"), ["--json", "--data-dir"]),
        (("user", "role"), ["--data-dir"]),
        (("user", "tier"), ["--data-dir"]),
        (("user", "quota"), ["--data-dir"]),
        (("user", "disable"), ["--data-dir"]),
        (("user", "enable"), ["--data-dir"]),
        (("user", "token"), ["--name", "--expires", "--scope", "--points", "--data-dir"]),
        (("token", "list"), ["--user", "--limit", "--after", "--json", "--data-dir"]),
        (("token", "rotate"), ["--overlap", "--data-dir"]),
        (("token", "revoke"), ["--data-dir"]),
        (("user", "revoke"), ["--data-dir"]),
        (("jobs", "list"), ["--status", "--queue", "--kind", "--owner", "--since", "--limit", "--after", "--json", "--data-dir"]),
        (("jobs", "show"), ["--events", "--follow", "--json", "--data-dir"]),
        (("jobs", "cancel"), ["--data-dir"]),
        (("jobs", "retry"), ["--data-dir"]),
        (("jobs", "requeue"), ["--data-dir"]),
        (("jobs", "maintenance"), ["--json", "--data-dir"]),
        (("jobs", "maintenance", "run"), ["--data-dir"]),
        (("workers",), ["--all", "--json", "--data-dir"]),
    ],
    ids=lambda given: "-".join(given) if isinstance(given, tuple) else "",
)
def test_each_command_has_the_options_it_is_documented_with(command: tuple[str, ...], options: list[str]) -> None:
    text = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "120"}, prog_name="trellis").stdout
    listed = [line.split()[0] for line in text.splitlines() if line.strip().startswith("--")]
    assert [name for name in listed if name != "--help"] == options


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("server.cli", {"sqlalchemy", "strawberry", "polars", "sklearn", "pydantic", "aioboto3"}),
        ("server.app", {"aioboto3", "aiohttp", "polars"}),
    ],
)
def test_a_start_imports_nothing_heavy(module: str, heavy: set[str]) -> None:
    code = f"import sys, {module}; print(*sorted({heavy} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == ""


@pytest.mark.parametrize("command", [("api",), ("worker",), ("migrate",)], ids=lambda command: command[0])
def test_a_command_that_needs_services_names_the_settings_it_lacks(command: tuple[str, ...]) -> None:
    answer = trellis(*command, TRELLIS_REDIS_URL="redis://127.0.0.1:1/0")
    assert answer.returncode == 2
    assert answer.stderr == (
        "Trellis needs TRELLIS_DATABASE_URL, TRELLIS_S3_ENDPOINT_URL. Set it, or run `trellis up`, which starts its own servers.\n"
    )


@pytest.mark.parametrize(
    ("setting", "value", "reason"),
    [
        ("QUERY_MAX_DEPTH", "abc", "Input should be a valid integer, unable to parse string as an integer"),
        ("LOG_LEVEL", "loud", "Input should be 'debug', 'info', 'warning' or 'error'"),
        ("ALLOWED_ORIGINS", "https://a", "This is not JSON. Further origins whose pages may call the API"),
        ("ALLOWED_ORIGINS", '["https://a/x"]', "'https://a/x' is no origin"),
        ("WORKER_JOB_TIMEOUTS", '{"INJEST": 3}', "'INJEST' is no kind of job. Kinds are INGEST, "),
        ("DOCUMENTS_FILE", "/nope", "There is no file /nope."),
        ("S3_ENDPOINT_URL", "store:9000", "write it as https://host:port"),
        ("S3_PUBLIC_URL", "http://my_store:9000", "write it as https://host:port"),
    ],
)
def test_an_invalid_setting_is_named_in_one_line(setting: str, value: str, reason: str) -> None:
    problem = f"TRELLIS_{setting}: {reason}"
    answer = trellis("api" if setting == "LOG_LEVEL" else "up", **{f"TRELLIS_{setting}": value})
    assert (answer.returncode, [line[: len(problem)] for line in answer.stderr.splitlines()]) == (2, [problem])


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (
            "postgresql://trellis:secret@127.0.0.1:1/trellis",
            "PostgreSQL at 127.0.0.1:1 cannot be used: [Errno 111] Connect call failed ('127.0.0.1', 1). Start it, or correct TRELLIS_DATABASE_URL.",
        ),
        (
            "not an address",
            "TRELLIS_DATABASE_URL is no address of PostgreSQL: write it as postgresql://user:password@host:port/name.",
        ),
    ],
)
def test_migrate_without_postgresql_says_where_it_looked(url: str, reason: str) -> None:
    services = {"TRELLIS_REDIS_URL": "redis://127.0.0.1:1/0", "TRELLIS_S3_ENDPOINT_URL": "http://127.0.0.1:1"}
    answer = trellis("migrate", TRELLIS_DATABASE_URL=url, **services)
    assert (answer.returncode, answer.stderr) == (1, f"{reason}\n")


def test_the_version_is_that_of_the_package() -> None:
    answer = trellis("--version")
    assert (answer.returncode, answer.stdout) == (0, f"trellis {version('trellis')}\n")


def test_a_data_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    answer = trellis("up", "--data-dir", str(tmp_path / "file"))
    assert answer.returncode == 1
    assert answer.stderr == f"The data folder {tmp_path}/file cannot be used: File exists. Choose another one with --data-dir.\n"


def test_the_roles_tiers_and_scopes_of_the_command_line_are_those_of_the_state() -> None:
    assert [role.value for role in Role] == [role.value for role in UserRole]
    assert [tier.value for tier in Tier] == [tier.value for tier in UserTier]
    assert [scope.value for scope in Scope] == [scope.value for scope in ApiScope]
