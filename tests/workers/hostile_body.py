"""A body that looks for all that it must not reach, as code in a hostile file would, and reports what it got."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from workers.ml.reporting import Reporter

BLOCK = 4 * 1024**2


def reach_out(spec: dict[str, Any], _reporter: Reporter) -> dict[str, Any]:
    """Write what could be reached to the file `spec["findings"]`. The secrets come in halves, so that this process never holds them."""
    forkserver = os.getppid()
    worker = int(Path(f"/proc/{forkserver}/stat").read_text().rpartition(")")[2].split()[1])
    attempts: dict[str, Callable[[], object]] = {}
    for name, pid in (("worker", worker), ("forkserver", forkserver), ("postmaster", spec["postmaster"])):
        process = Path(f"/proc/{pid}")
        attempts |= {f"{file} of {name}": partial(_read_byte, process / file) for file in ("environ", "mem")}
        attempts |= {f"{folder} of {name}": partial(_list_folder, process / folder) for folder in ("fd", "cwd", "root")}
        attempts[f"signal to {name}"] = partial(os.kill, pid, 0)
    for file in map(Path, spec["files"]):
        attempts |= {f"{file} read": partial(_read_byte, file), f"{file} written": partial(file.open, "ab")}
        attempts[f"folder of {file}"] = partial(_list_folder, file.parent)
    for host, port in spec["addresses"]:
        attempts[f"{host}:{port}"] = partial(socket.create_connection, (host, port), timeout=5)
    attempts["a socket of its own"] = partial(socket.create_server, ("127.0.0.1", 0))
    reached: list[str] = []
    for name, attempt in attempts.items():
        with suppress(PermissionError, ProcessLookupError):
            attempt()
            reached.append(name)
    thread = threading.Thread(target=lambda: reached.extend(_read_in_thread(spec["files"])))
    thread.start()
    thread.join()
    settings = sorted(name for name in os.environ if name.startswith("TRELLIS_"))
    secrets = [halves for halves in spec["halves_of_secrets"] if any(_has_both(block, *halves) for block in _own_memory())]
    findings = {"reached": reached, "settings": settings, "secrets": secrets}
    Path(spec["findings"]).write_text(json.dumps(findings))
    return {}


def _has_both(block: bytes, first: str, second: str) -> bool:
    """Whether the block has both texts, one right after the other. Built from neither: what was freed stays in memory, and would be found too."""
    start = block.find(first.encode())
    while start >= 0:
        if block.startswith(second.encode(), start + len(first)):
            return True
        start = block.find(first.encode(), start + 1)
    return False


def _read_byte(path: Path) -> bytes:
    with path.open("rb", 0) as file:
        return file.read(1)


def _list_folder(path: Path) -> list[Path]:
    return [link.readlink() if link.is_symlink() else link for link in path.iterdir()]  # names of descriptors alone are no secret


def _read_in_thread(files: list[str]) -> Generator[str]:
    for file in files:
        with suppress(PermissionError):
            _read_byte(Path(file))
            yield f"{file} in a thread"


def _own_memory() -> Generator[bytes]:
    with Path("/proc/self/mem").open("rb", 0) as memory:
        for line in Path("/proc/self/maps").read_text().splitlines():
            span, access, *_ = line.split()
            start, end = (int(address, 16) for address in span.split("-"))
            if access.startswith("rw"):
                for offset in range(start, end, BLOCK):
                    with suppress(OSError):  # pages of the kernel
                        memory.seek(offset)
                        yield memory.read(min(BLOCK, end - offset) + 64)
