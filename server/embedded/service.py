"""Base class of the embedded servers: a free port, a start with a readiness check, restarts on the same port."""

from __future__ import annotations

import importlib.util
import socket
from abc import ABC, abstractmethod
from pathlib import Path

from server.embedded.processes import Command, ManagedProcess, StartFailed, wait_until_ready

LOOPBACK = "127.0.0.1"
START_TIMEOUT = 60.0
PORT_ATTEMPTS = 3


class Service(ABC):
    """An embedded server. `launch` and `wait` are separate, so that several can start at once."""

    name: str

    def __init__(self, host: str = LOOPBACK) -> None:
        self.host = host
        self.port = 0
        self.child: ManagedProcess | None = None

    @abstractmethod
    def command(self) -> Command:
        """The command that starts it on `self.port`."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether it accepts requests."""

    def prepare(self) -> None:  # noqa: B027 - nothing to prepare is the common case
        """Create what the next start needs and remove leftovers of the last one."""

    def launch(self) -> None:
        """Start it without waiting, on its previous port if it had one."""
        self.prepare()
        self.port = self.port or free_port(self.host)
        self.child = ManagedProcess(self.command())

    def wait(self) -> None:
        """Wait until it is ready; if its port was taken meanwhile, try another. Raises `StartFailed`."""
        for attempt in range(1, PORT_ATTEMPTS + 1):
            assert self.child is not None, "call launch first"
            try:
                return wait_until_ready(self.is_ready, self.child, START_TIMEOUT)
            except StartFailed:
                if attempt == PORT_ATTEMPTS or "in use" not in self.child.log_tail().lower():
                    raise
            self.port = 0
            self.launch()
        return None

    def stop(self) -> None:
        """Stop it and wait until it has exited."""
        if self.child is not None:
            self.child.stop()


def wheel_folder(package: str) -> Path:
    """The folder of a wheel's files, found without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise StartFailed(
            f"The package {package}, which has a server that `trellis up` starts, is not installed. "
            "Install the extra `embedded` (`make up` does), or name an outside service in the settings."
        )
    return Path(spec.submodule_search_locations[0])


def free_port(host: str) -> int:
    """A TCP port that is free at this moment."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]
