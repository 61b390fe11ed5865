"""The API's processes behind one port. They share the address and a folder for their metrics, and nothing else.

Each process has a socket of its own, over which the kernel spreads new connections. The sockets are bound here, so that connections wait in
the backlog while a process restarts, instead of being refused.
"""

from __future__ import annotations

import errno
import socket
import sys
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from prometheus_client import multiprocess

from server.embedded import ManagedProcess, StartFailed
from server.logs import configure_logs
from server.settings import METRICS_FOLDER
from server.supervisor import StopRequested, SupervisedProcess, start_command, stop_on_signal, stopping, supervise


def run(environment: Mapping[str, str], host: str, port: int, count: int) -> int:
    """Serve the API by `count` processes until a stop signal; return the exit status."""
    configure_logs()
    processes: list[SupervisedProcess] = []
    try:
        with (
            stop_on_signal(),
            bind(host, port, count) as listeners,
            shared_metrics(environment, count) as api_environment,
            stopping(processes),
        ):
            processes += launch_api_processes(api_environment, host, port, listeners)
            supervise(processes)
    except StopRequested:
        return 0
    except StartFailed as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command-line program's error message
        return 1
    return 0


def launch_api_processes(
    environment: Mapping[str, str], host: str, port: int, listeners: Sequence[socket.socket]
) -> list[SupervisedProcess]:
    """Start a process for each of the sockets, which `bind` returned; `environment` is that of `shared_metrics`."""

    def supervised(number: int, listener: socket.socket) -> SupervisedProcess:
        def launch() -> ManagedProcess:
            address = ("--host", host, "--port", str(port), "--fd", str(listener.fileno()))
            return start_command(environment, "api", *address, descriptors=(listener.fileno(),))

        def forget_gauges(pid: int) -> None:
            """What the process counted stays; what it said of itself at the time goes."""
            if METRICS_FOLDER in environment:
                multiprocess.mark_process_dead(pid, environment[METRICS_FOLDER])  # pyright: ignore[reportUnknownMemberType] - the library has no types

        return SupervisedProcess("api" if len(listeners) == 1 else f"api {number}", launch, on_exit=forget_gauges)

    return [supervised(number, listener) for number, listener in enumerate(listeners, 1)]


@contextmanager
def shared_metrics(environment: Mapping[str, str], count: int) -> Generator[dict[str, str]]:
    """The environment of `count` processes. Several keep their metrics in one folder, so that any of them can answer for all."""
    own_environment = {name: value for name, value in environment.items() if name != METRICS_FOLDER}
    if count == 1:
        yield own_environment
        return
    with tempfile.TemporaryDirectory(prefix="trellis-metrics-") as folder:
        yield {**own_environment, METRICS_FOLDER: folder}


@contextmanager
def bind(host: str, port: int, count: int = 1) -> Generator[list[socket.socket]]:
    """Bind `count` sockets to the address. Raises `StartFailed` if another program has it."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise StartFailed(f"{host} is not an address of this machine: {error.strerror}. Choose another with --host.") from error

    def bound(*, shared: bool) -> socket.socket:
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            listener.bind(address)
        except OSError as error:
            listener.close()
            if error.errno == errno.EADDRINUSE:
                raise StartFailed(
                    f"Port {port} of {host} is taken by another program. Stop that one, or choose another with --port."
                ) from error
            raise StartFailed(f"Port {port} of {host} cannot be used: {error.strerror}. Choose others with --host and --port.") from error
        return listener

    with ExitStack() as stack:
        if count == 1:
            yield [stack.enter_context(bound(shared=False))]
            return
        # A shared socket may join the processes of another start of ours on this port; one that is not shared finds them.
        bound(shared=False).close()
        yield [stack.enter_context(bound(shared=True)) for _ in range(count)]
