"""`trellis up`: everything on one machine, as children of this process, which only starts, supervises and stops them."""

from __future__ import annotations

import http.client
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import structlog

from db.settings import StateSettings
from server.api_processes import bind
from server.embedded import AlreadyRunning, EmbeddedServers, ManagedProcess, StartFailed
from server.embedded.credentials import load_or_create_secret
from server.embedded.s3 import WILDCARD_HOSTS
from server.embedded.service import LOOPBACK, Service
from server.logs import configure_logs
from server.runtime_env import publish_environment
from server.settings import METRICS_FOLDER, ServerSettings
from server.supervisor import StopRequested, SupervisedProcess, start_command, stop_on_signal, stopping, supervise
from workers.settings import WorkerSettings

log: structlog.stdlib.BoundLogger = structlog.get_logger()

READY_TIMEOUT = 90.0
_LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})


def run(settings: ServerSettings) -> int:
    """Start everything and keep it running until a stop signal; return the exit status."""
    configure_logs()
    try:
        with stop_on_signal():
            _run_all(settings)
    except StopRequested:
        return 0
    except (AlreadyRunning, StartFailed) as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command-line program's error message
        return 1
    return 0


def _run_all(settings: ServerSettings) -> None:
    state = StateSettings()
    data_dir = settings.data_dir.expanduser().absolute()
    url = f"http://{_url_host(LOOPBACK if settings.host in WILDCARD_HOSTS else settings.host)}:{settings.port}"
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        next(data_dir.iterdir(), None)
    except OSError as error:
        raise StartFailed(f"The data folder {data_dir} cannot be used: {error.strerror}. Choose another one with --data-dir.") from error
    servers = EmbeddedServers(
        data_dir,
        postgres=not state.database_url,
        valkey=not state.redis_url,
        s3=not state.s3_endpoint_url,
        durable=settings.embedded_durable,
        bucket=state.s3_bucket,
        s3_host=settings.host,
        note=url,
    )
    with servers, bind(settings.host, settings.port, settings.api_processes) as listeners:
        environment = {**os.environ, **servers.environment}
        if state.s3_public_url:
            environment["TRELLIS_S3_PUBLIC_URL"] = state.s3_public_url
        secret_key = state.secret_key.get_secret_value() or load_or_create_secret(data_dir / "secret-key")
        environment["TRELLIS_SECRET_KEY"] = secret_key
        token_file = data_dir / "admin-token"
        _migrate(environment, token_file)
        if settings.host in _LOOPBACK_HOSTS:
            environment.setdefault("TRELLIS_SERVER_TIMING", "true")
            environment.setdefault("TRELLIS_SHOW_PLANS", "true")
            environment.setdefault("TRELLIS_MAIL_PREVIEWS", "true")
        environment.pop("TRELLIS_ADMIN_TOKEN", None)  # the API needs only its hash, which is in the database

        processes: list[SupervisedProcess] = []
        with stopping(processes):
            processes.append(_supervised_api(environment, settings, tuple(listener.fileno() for listener in listeners)))
            for number in range(1, settings.worker_processes + 1):
                worker_environment = _worker_environment(environment, number)
                processes.append(
                    SupervisedProcess(
                        f"worker {number}", lambda worker_environment=worker_environment: start_command(worker_environment, "worker")
                    )
                )
            said_by_commands = {"TRELLIS_PUBLIC_URL": state.public_url, "TRELLIS_REGISTRATION": state.registration}
            with publish_environment(data_dir, {**servers.environment, **said_by_commands, "TRELLIS_SECRET_KEY": secret_key}):
                # Without workers of ours there may be workers elsewhere, or none: do not wait for any.
                status = _await_ready(url, processes, strict=settings.worker_processes > 0)
                token_source = "in TRELLIS_ADMIN_TOKEN" if settings.admin_token.get_secret_value() else f"in {token_file}"
                print(f"Trellis is {status} at {url}/graphql; the admin's token is {token_source}", flush=True)  # noqa: T201 - parsed by programs that start us
                supervise([*processes, *map(_supervised_service, servers.services)])


def _supervised_api(environment: Mapping[str, str], settings: ServerSettings, descriptors: tuple[int, ...]) -> SupervisedProcess:
    address = ("--host", settings.host, "--port", str(settings.port))
    environment = {
        name: value for name, value in environment.items() if name != METRICS_FOLDER
    }  # the API makes its own, where it needs one
    sockets = [argument for descriptor in descriptors for argument in ("--fd", str(descriptor))]
    return SupervisedProcess("api", lambda: start_command(environment, "api", *address, *sockets, descriptors=descriptors))


def _worker_environment(environment: Mapping[str, str], number: int) -> Mapping[str, str]:
    """A worker's environment: each worker serves its metrics on its own port, counted up from the setting's."""
    first = WorkerSettings().metrics_port
    return {**environment, "TRELLIS_WORKER_METRICS_PORT": str(first + number - 1)} if first else environment


def _migrate(environment: Mapping[str, str], token_file: Path) -> None:
    """Migrate in a child process, so that this one stays small."""
    child = start_command(environment, "migrate", "--admin-token-file", str(token_file))
    try:
        code = child.process.wait()
    finally:
        child.stop()
    if code != 0:
        raise StartFailed("The database could not be migrated to this release; the reason is above.")


def _await_ready(url: str, processes: list[SupervisedProcess], *, strict: bool) -> str:
    """Wait for `ready`; after `READY_TIMEOUT` also accept `ready (degraded)`, in which anything but PostgreSQL may be missing."""
    deadline = time.monotonic() + READY_TIMEOUT
    address = url.removeprefix("http://")
    while time.monotonic() < deadline:
        if _get_status(address, "/readyz?strict" if strict else "/readyz") == 200:
            return "ready"
        for process in processes:
            if (code := process.child.exit_code()) is not None:
                raise StartFailed(f"The {process.name} exited with {code} during startup; the reason is above.")
        time.sleep(0.05)
    if _get_status(address, "/readyz") == 200:
        return "ready (degraded, see /readyz)"
    raise StartFailed(f"Trellis did not become ready within {READY_TIMEOUT:.0f} s; {url}/readyz says what is missing.")


def _get_status(address: str, path: str) -> int | None:
    connection = http.client.HTTPConnection(address, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _supervised_service(service: Service) -> SupervisedProcess:
    def launch() -> ManagedProcess:
        service.launch()
        assert service.child is not None
        return service.child

    return SupervisedProcess(service.name, launch, service.child)


def _url_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host
