"""The embedded servers of one data folder, started and stopped together."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

from server.embedded.credentials import Credentials
from server.embedded.lock import folder_lock
from server.embedded.postgres import Postgres
from server.embedded.s3 import S3ReverseProxy, S3Server
from server.embedded.service import LOOPBACK, Service
from server.embedded.valkey import Valkey


class EmbeddedServers:
    """A context manager that runs the servers; `environment` has the settings to reach them.

    Enter it from a thread that outlives it (see `processes`). Raises `AlreadyRunning` or `StartFailed`, after stopping what it had
    started. `durable=False` trades safety of the data for speed, for tests.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        postgres: bool = True,
        valkey: bool = True,
        s3: bool = True,
        durable: bool = True,
        bucket: str = "trellis",
        s3_host: str = LOOPBACK,
        note: str = "",
    ) -> None:
        self.data_dir = data_dir.expanduser().absolute()
        self.environment: Mapping[str, str] = {}
        self.services: list[Service] = []
        self._enabled = (postgres, valkey, s3)
        self._durable = durable
        self._bucket = bucket
        self._s3_host = s3_host
        self._note = note
        self._exit_stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            stack.enter_context(folder_lock(self.data_dir, self._note))
            credentials = Credentials.load_or_create(self.data_dir)
            with_postgres, with_valkey, with_s3 = self._enabled
            environment: dict[str, str] = {}
            valkey = Valkey(self.data_dir, credentials.valkey_password)
            s3_server = S3Server(self.data_dir, self._bucket, credentials.s3_access_key_id, credentials.s3_secret_access_key)
            s3_proxy = S3ReverseProxy(self.data_dir, s3_server, self._s3_host)
            postgres = Postgres(self.data_dir, credentials.postgres_password, durable=self._durable)
            stack.callback(self._stop)
            # PostgreSQL last: initdb takes longest, and the others start meanwhile.
            candidates = zip((valkey, s3_server, postgres), (with_valkey, with_s3, with_postgres), strict=True)
            for service in (service for service, enabled in candidates if enabled):
                self.services.append(service)
                service.launch()
            if with_s3:
                s3_server.wait()
                self.services.append(s3_proxy)
                s3_proxy.launch()
            for service in self.services:
                service.wait()
            if with_postgres:
                environment["TRELLIS_DATABASE_URL"] = postgres.url
            if with_valkey:
                environment["TRELLIS_REDIS_URL"] = valkey.url
            if with_s3:
                environment |= {
                    "TRELLIS_S3_ENDPOINT_URL": s3_server.url,
                    "TRELLIS_S3_PUBLIC_URL": s3_proxy.url,
                    "TRELLIS_S3_BUCKET": s3_server.bucket,
                    "TRELLIS_S3_REGION": "us-east-1",
                    "TRELLIS_S3_ACCESS_KEY_ID": s3_server.key_id,
                    "TRELLIS_S3_SECRET_ACCESS_KEY": s3_server.secret,
                }
            self.environment = environment
            self._exit_stack = stack.pop_all()
        return self

    def __exit__(self, *failure: object) -> None:
        self._exit_stack.close()

    def _stop(self) -> None:
        for service in self.services:  # signal all, then wait for each
            if service.child is not None:
                service.child.request_stop()
        for service in self.services:
            service.stop()


@contextmanager
def embedded_servers(
    data_dir: Path, *, postgres: bool = True, valkey: bool = True, s3: bool = True, durable: bool = True
) -> Generator[dict[str, str]]:
    """Run the servers until the block ends; yield the `TRELLIS_*` variables to reach them."""
    with EmbeddedServers(data_dir, postgres=postgres, valkey=valkey, s3=s3, durable=durable) as servers:
        yield dict(servers.environment)
