"""The API's processes behind one port. They share the address and a folder for their metrics, and nothing else.

Each process has a socket of its own, over which the kernel spreads new connections. The sockets are bound here, so that connections wait in
the backlog while a process restarts, instead of being refused.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module

from server.embedded import StartFailed
from server.forks import ForkedProcess
from server.importing import importing
from server.logs import configure_logs
from server.settings import METRICS_FOLDER
from server.supervisor import StopRequested, SupervisedProcess, stop_on_signal, stopping, supervise


def run(host: str, port: int, count: int, descriptors: Sequence[int] = ()) -> int:
    """Serve the API by `count` processes, or by one for each inherited socket, until a stop signal; return the exit status.

    They are forks of this process, which has imported the application once for all of them: they start sooner, and share that memory.
    """
    configure_logs()
    processes: list[SupervisedProcess] = []
    try:
        with (
            stop_on_signal(),
            _inherited(descriptors) if descriptors else bind(host, port, count) as listeners,
            _shared_metrics(),
            stopping(processes),
        ):
            with importing():
                import_module("server.app")
            processes += [_supervised(host, port, number, listeners) for number in range(len(listeners))]
            supervise(processes)
    except StopRequested:
        return 0
    except StartFailed as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command-line program's error message
        return 1
    return 0


def _supervised(host: str, port: int, number: int, listeners: Sequence[socket.socket]) -> SupervisedProcess:
    from prometheus_client import multiprocess

    from server.uvicorn_config import serve

    def body() -> int:
        for other in listeners:
            if other is not listeners[number]:
                other.close()
        serve(host, port, listeners[number].fileno())
        return 0

    def forget_gauges(pid: int) -> None:
        """What the process counted stays; what it said of itself at the time goes."""
        multiprocess.mark_process_dead(pid)  # pyright: ignore[reportUnknownMemberType] - the library has no types

    return SupervisedProcess(f"api {number + 1}", lambda: ForkedProcess(body), on_exit=forget_gauges)


@contextmanager
def _shared_metrics() -> Generator[None]:
    """Have the forks keep their metrics in one folder, so that any of them can answer for all. To be entered before the metrics are imported."""
    with tempfile.TemporaryDirectory(prefix="trellis-metrics-") as folder:
        os.environ[METRICS_FOLDER] = folder
        yield


@contextmanager
def _inherited(descriptors: Sequence[int]) -> Generator[list[socket.socket]]:
    with ExitStack() as stack:
        yield [stack.enter_context(socket.socket(fileno=descriptor)) for descriptor in descriptors]


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
