"""`trellis up`: everything on one machine, as children of this process, which only starts, supervises and stops them."""

from __future__ import annotations

import errno
import http.client
import os
import signal
import socket
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import structlog

from db.settings import StateSettings
from server.embedded import AlreadyRunning, Command, EmbeddedServers, ManagedProcess, StartFailed
from server.embedded.s3 import WILDCARD_HOSTS
from server.embedded.service import LOOPBACK, Service
from server.logs import configure_logs
from server.runtime_env import publish_environment
from server.settings import ServerSettings
from server.supervisor import SupervisedProcess
from workers.settings import WorkerSettings

log: structlog.stdlib.BoundLogger = structlog.get_logger()

SOURCES = Path(__file__).resolve().parent.parent
READY_TIMEOUT = 90.0
STOP_TIMEOUT = 5.0  # for the API and the workers; the embedded servers get the rest of ten seconds
POLL_INTERVAL = 0.2
_LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequested(BaseException):
    """A stop signal came. Raised in the main thread, wherever that is, so that every `with` block cleans up."""


def run(settings: ServerSettings) -> int:
    """Start everything and keep it running until a stop signal; return the exit status."""
    configure_logs()
    try:
        with _raise_on_signal():
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
    with servers, _bind(settings.host, settings.port) as listener:
        environment = {**os.environ, **servers.environment}
        if state.s3_public_url:
            environment["TRELLIS_S3_PUBLIC_URL"] = state.s3_public_url
        token_file = data_dir / "admin-token"
        _migrate(environment, token_file)
        if settings.host in _LOOPBACK_HOSTS:
            environment.setdefault("TRELLIS_SERVER_TIMING", "true")
        environment.pop("TRELLIS_ADMIN_TOKEN", None)  # the API needs only its hash, which is in the database

        def launch_api() -> ManagedProcess:
            address = ("--host", settings.host, "--port", str(settings.port), "--fd", str(listener.fileno()))
            return _start_command(environment, "api", *address, descriptors=(listener.fileno(),))

        processes: list[SupervisedProcess] = []
        try:
            processes.append(SupervisedProcess("api", launch_api))
            for number in range(1, settings.worker_processes + 1):
                worker_environment = _worker_environment(environment, number)
                processes.append(
                    SupervisedProcess(
                        f"worker {number}", lambda worker_environment=worker_environment: _start_command(worker_environment, "worker")
                    )
                )
            with publish_environment(data_dir, servers.environment):
                # Without workers of ours there may be workers elsewhere, or none: do not wait for any.
                status = _await_ready(url, processes, strict=settings.worker_processes > 0)
                token_source = "in TRELLIS_ADMIN_TOKEN" if settings.admin_token.get_secret_value() else f"in {token_file}"
                print(f"Trellis is {status} at {url}/graphql; the admin's token is {token_source}", flush=True)  # noqa: T201 - parsed by programs that start us
                supervised = [*processes, *map(_supervised_service, servers.services)]
                while True:
                    for process in supervised:
                        process.poll()
                    time.sleep(POLL_INTERVAL)
        finally:
            _stop([process.child for process in processes])


def _worker_environment(environment: Mapping[str, str], number: int) -> Mapping[str, str]:
    """A worker's environment: each worker serves its metrics on its own port, counted up from the setting's."""
    first = WorkerSettings().metrics_port
    return {**environment, "TRELLIS_WORKER_METRICS_PORT": str(first + number - 1)} if first else environment


def _migrate(environment: Mapping[str, str], token_file: Path) -> None:
    """Migrate in a child process, so that this one stays small."""
    child = _start_command(environment, "migrate", "--admin-token-file", str(token_file))
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


def _start_command(environment: Mapping[str, str], *arguments: str, descriptors: tuple[int, ...] = ()) -> ManagedProcess:
    """Start one of our commands, with output to our terminal."""
    argv = (sys.executable, "-m", "server.cli", *arguments)
    return ManagedProcess(Command(name=arguments[0], argv=argv, environment=environment, cwd=str(SOURCES), descriptors=descriptors))


def _supervised_service(service: Service) -> SupervisedProcess:
    def launch() -> ManagedProcess:
        service.launch()
        assert service.child is not None
        return service.child

    return SupervisedProcess(service.name, launch, service.child)


def _stop(children: list[ManagedProcess]) -> None:
    deadline = time.monotonic() + STOP_TIMEOUT
    for child in children:
        child.request_stop()
    for child in children:
        child.stop(max(0.1, deadline - time.monotonic()))


@contextmanager
def _bind(host: str, port: int) -> Generator[socket.socket]:
    """Bind the API's address in this process, so that connections wait in the backlog while the API restarts, instead of being refused."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise StartFailed(f"{host} is not an address of this machine: {error.strerror}. Choose another with --host.") from error
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise StartFailed(
                    f"Port {port} of {host} is taken by another program. Stop that one, or choose another with --port."
                ) from error
            raise StartFailed(f"Port {port} of {host} cannot be used: {error.strerror}. Choose others with --host and --port.") from error
        yield listener


@contextmanager
def _raise_on_signal() -> Generator[None]:
    """The first stop signal raises `StopRequested`; further ones are ignored, since shutdown has begun."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        for signal_number in STOP_SIGNALS:
            signal.signal(signal_number, signal.SIG_IGN)
        raise StopRequested

    previous_handlers = {signal_number: signal.signal(signal_number, stop) for signal_number in STOP_SIGNALS}
    try:
        yield
    finally:
        for signal_number, handler in previous_handlers.items():
            signal.signal(signal_number, handler)


def _url_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host
