"""PostgreSQL from its wheel, with a cluster under the data folder.

Started as root it runs as an unprivileged user (see `account`), and must work wherever the clone is, also below folders such as /root
that this user cannot traverse. Neither those folders' permissions nor the location of the data are changed for it:

- the server gets its data folder as an open descriptor, `-D /proc/self/fd/N`: opening that link needs permissions on the folder
  itself, which the user owns, and on nothing above it;
- programs that the user cannot execute in place are copied once to `/var/lib/trellis` (see `programs`).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import psutil

from server.embedded.account import Account, unprivileged_account
from server.embedded.processes import Command, StartFailed, die_with_parent
from server.embedded.programs import postgres_programs
from server.embedded.service import Service

ROLE = "trellis"
DATABASE = "trellis"
READY_STATE = "ready"
ORPHAN_STOP_TIMEOUT = 5.0
ORPHAN_KILL_TIMEOUT = 10.0

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "effective_cache_size": "1GB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "max_wal_size": "2GB",
    "wal_compression": "on",
    "random_page_cost": "1.1",  # for solid-state disks
    "jit": "off",  # our queries are short: compiling them costs more than it saves
    "max_locks_per_transaction": "256",  # a query of a partitioned table locks all its partitions
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "log_min_duration_statement": "2s",
}
# For tests: a crash of the machine may lose all data, a crash of PostgreSQL none.
NON_DURABLE_SETTINGS = {"fsync": "off", "full_page_writes": "off"}
# Of initdb. A password is hashed for each connection, which takes the client milliseconds.
NON_DURABLE_OPTIONS = ("--no-sync", "--set=scram_iterations=1")


class Postgres(Service):
    """A private PostgreSQL that requires a password (SCRAM) from every client."""

    name = "postgres"

    def __init__(self, data_dir: Path, password: str, *, durable: bool = True) -> None:
        super().__init__()
        self.data_dir = data_dir
        self.folder = data_dir / "postgres"
        self.password = password
        self.durable = durable
        self.log = data_dir / "logs" / "postgres.log"
        self._account: Account | None = None
        self._programs = Path()
        self._descriptor: int | None = None

    @property
    def url(self) -> str:
        return f"postgresql://{ROLE}:{self.password}@{self.host}:{self.port}/{DATABASE}"

    def prepare(self) -> None:
        try:
            self._account = unprivileged_account(self.folder)
        except LookupError as error:
            raise StartFailed(str(error)) from error
        self._programs = postgres_programs(self._account)
        if (self.folder / "PG_VERSION").exists():
            _terminate_orphans(self.folder)
        else:
            self._create_cluster()

    def command(self) -> Command:
        settings = {**SETTINGS, **({} if self.durable else NON_DURABLE_SETTINGS), "port": str(self.port)}
        self._close_descriptor()
        self._descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        return Command(
            name=self.name,
            argv=(
                str(self._programs / "postgres"),
                "-D",
                f"/proc/self/fd/{self._descriptor}" if self._account else str(self.folder),
                *(f"--{name}={value}" for name, value in settings.items()),
            ),
            environment={"TZ": "UTC"},
            log=self.log,
            account=self._account,
            descriptors=(self._descriptor,) if self._account else (),
            cwd="/",
            # Fast shutdown (ends sessions, writes a checkpoint), then immediate (recovers at the next start), then SIGKILL.
            stop_signals=(signal.SIGINT, signal.SIGQUIT, signal.SIGKILL),
            orphan_signal=signal.SIGQUIT,
        )

    def is_ready(self) -> bool:
        assert self.child is not None
        try:
            lines = (self.folder / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        # The eighth line is the state; the first the server's pid, which distinguishes this start's file from a leftover one.
        return len(lines) >= 8 and lines[0] == str(self.child.pid) and lines[7].strip() == READY_STATE

    def stop(self) -> None:
        super().stop()
        self._close_descriptor()

    def _close_descriptor(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _create_cluster(self) -> None:
        """Run initdb in a draft folder and rename it when complete, so that a killed start leaves no partial cluster."""
        draft = self.data_dir / "postgres.new"
        if draft.exists():
            shutil.rmtree(draft)
        if self.folder.exists():
            self.folder.rmdir()  # fails unless empty: files that are no cluster are not ours to remove
        draft.mkdir(mode=0o700)
        if self._account:
            os.chown(draft, self._account.uid, self._account.gid)
        descriptor = os.open(draft, os.O_RDONLY | os.O_DIRECTORY)
        try:
            data_directory = f"/proc/self/fd/{descriptor}" if self._account else str(draft)
            with _readable_pipe(self.password, self._account) as (password_descriptor, password_path):
                self._run(
                    "initdb",
                    f"--pgdata={data_directory}",
                    f"--username={ROLE}",
                    f"--pwfile={password_path}",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    # The same collation on every machine, whatever its C library.
                    "--locale-provider=builtin",
                    "--builtin-locale=C.UTF-8",
                    "--locale=C",
                    *(() if self.durable else NON_DURABLE_OPTIONS),
                    descriptors=(descriptor, password_descriptor),
                )
            self._run(
                "postgres",
                "--single",
                *(() if self.durable else ("-F",)),
                "-D",
                data_directory,
                "postgres",
                stdin=f"CREATE DATABASE {DATABASE} STRATEGY file_copy;\n",
                descriptors=(descriptor,),
            )
            draft.rename(self.folder)
        finally:
            os.close(descriptor)

    def _run(self, program: str, *arguments: str, descriptors: tuple[int, ...], stdin: str = "") -> None:
        account = self._account
        completed = subprocess.run(  # noqa: S603 - PostgreSQL's own program with our own arguments
            [self._programs / program, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            env={"TZ": "UTC", "PATH": os.defpath},
            cwd="/",
            pass_fds=descriptors,
            process_group=0,
            preexec_fn=die_with_parent(signal.SIGKILL),
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
        if completed.returncode != 0:
            raise StartFailed(f"PostgreSQL's {program} exited with {completed.returncode}:\n{completed.stdout}{completed.stderr}".strip())


@contextmanager
def _readable_pipe(text: str, account: Account | None) -> Generator[tuple[int, str]]:
    """A pipe that holds `text`, and the path by which only `account` can read it: no password on disk or a command line."""
    reader, writer = os.pipe()
    try:
        if account:
            os.fchown(reader, account.uid, account.gid)
        os.write(writer, f"{text}\n".encode())
        os.close(writer)
        yield reader, f"/dev/fd/{reader}"
    finally:
        os.close(reader)


def _terminate_orphans(folder: Path) -> None:
    """Terminate processes that a killed start left running on this cluster, and remove a stale pid file.

    Called with the data folder's lock held, so every process on the cluster is an orphan. PostgreSQL refuses to start while one runs,
    and also if an unrelated process has the pid in a stale `postmaster.pid`.
    """
    orphans = [process for process in psutil.process_iter() if _is_running_on(process, folder)]
    for signal_number, timeout in ((signal.SIGQUIT, ORPHAN_STOP_TIMEOUT), (signal.SIGKILL, ORPHAN_KILL_TIMEOUT)):
        for process in orphans:
            try:
                process.send_signal(signal_number)
            except psutil.NoSuchProcess:
                continue
        _, orphans = psutil.wait_procs(orphans, timeout)
    if orphans:
        raise StartFailed(f"Process {orphans[0].pid} still uses {folder} and could not be stopped. Stop it and start again.")
    (folder / "postmaster.pid").unlink(missing_ok=True)


def _is_running_on(process: psutil.Process, folder: Path) -> bool:
    # The working folder of PostgreSQL's processes is their cluster, whatever path they were given.
    try:
        return process.name() == "postgres" and Path(process.cwd()) == folder.resolve()
    except psutil.Error:
        return False
