"""Files are imported from addresses, and none but those of the public Internet and of networks that the operator allows are asked."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sqlalchemy import select

from db.core.outbound import is_public, parse_networks
from db.core.work import Database
from db.settings import StateSettings
from db.stores import outbound
from db.stores.objects import ObjectStore
from db.stores.outbound import FetchFailed, fetch
from db.tables import AuditEvent
from tests.client import Client

CSV = b"a,b\n1,x\n2,y\n"
IMPORT = """mutation($input: ImportDatasetInput!) { importDataset(input: $input) { __typename ... on Problem { code }
  ... on InvalidInput { issues { path } } ... on ImportDatasetPayload { version { id } job { id kind } } } }"""
VERSION = """query($id: ID!) { node(id: $id) { ... on DatasetVersion { status source originalFilename format sha256 rowCount issues { code }
  rawFile { filename sizeBytes } } } }"""
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(CSV), CSV)
ALLOWED = parse_networks(["127.0.0.2/32"])


class FileServer:
    """Answers each path with fixed bytes, and closes; `asked` are the paths and Host headers that were asked for."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []
        self.port = 0

    async def respond(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = head.split("\r\n")
        path = lines[0].split(" ")[1]
        self.asked.append((path, next(line.partition(": ")[2] for line in lines if line.lower().startswith("host:"))))
        writer.write(self.answers.get(path, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"))
        await writer.drain()
        writer.close()

    def url(self, path: str) -> str:
        return f"http://127.0.0.2:{self.port}{path}"

    def redirect(self, path: str, location: str) -> None:
        self.answers[path] = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()


@asynccontextmanager
async def serving(host: str, context: ssl.SSLContext | None = None) -> AsyncGenerator[FileServer]:
    files = FileServer()
    server = await asyncio.start_server(files.respond, host, 0, ssl=context)
    files.port = server.sockets[0].getsockname()[1]
    async with server:
        yield files


@pytest.fixture
async def files() -> AsyncGenerator[FileServer]:
    async with serving("127.0.0.2") as server:
        yield server


Import = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture
async def import_file(ada: Client, worker: object) -> Import:
    dataset = await ada.create_dataset("d")

    async def import_file(url: str, **fields: Any) -> dict[str, Any]:
        """Import a file; return its job and version."""
        accepted = await ada.one(IMPORT, input={"datasetId": dataset, "url": url, **fields})
        assert accepted["job"]["kind"] == "IMPORT"
        job = await ada.wait(accepted["job"]["id"])
        return {"job": job, **await ada.one(VERSION, id=accepted["version"]["id"])}

    return import_file


async def test_a_file_is_fetched_over_redirects_and_becomes_a_version(files: FileServer, import_file: Import) -> None:
    files.redirect("/first", "/a%20table.csv?x=1")
    files.answers["/a%20table.csv?x=1"] = OK
    imported = await import_file(files.url("/first"), sha256=hashlib.sha256(CSV).hexdigest(), label="new", idempotencyKey="k")
    assert imported["job"]["status"] == "COMPLETED", imported["job"]
    expected = {"status": "READY", "source": "IMPORTED", "originalFilename": "first", "format": "CSV", "rowCount": 2, "issues": []}
    assert {name: imported[name] for name in expected} == expected
    assert imported["rawFile"] == {"filename": "first", "sizeBytes": len(CSV)}
    assert [node["key"] for node in imported["job"]["nodes"]] == ["fetch", "read", "profile", "propose", "store"]
    assert files.asked == [(path, f"127.0.0.2:{files.port}") for path in ("/first", "/a%20table.csv?x=1")]


async def test_a_file_that_is_not_there_or_not_the_one_announced_is_no_version(files: FileServer, import_file: Import, ada: Client) -> None:
    files.answers["/d.csv"] = OK
    missing, other, inside = await asyncio.gather(
        import_file(files.url("/missing")),
        import_file(files.url("/d.csv"), sha256="0" * 64),
        import_file(f"https://127.0.0.1:{files.port}/d.csv"),
    )
    failures = [(each["status"], each["job"]["status"], each["job"]["error"]["code"], each["rawFile"]) for each in (missing, other, inside)]
    assert failures == [("FAILED", "FAILED", code, None) for code in ("HTTP_STATUS", "UPLOAD_MISMATCH", "ADDRESS_REFUSED")]
    assert (await ada.one("{ viewer { storage { usedBytes } } }"))["storage"]["usedBytes"] < 20_000  # the logs of the jobs


async def test_a_location_in_s3_that_the_operator_allows_is_imported(import_file: Import, ada: Client, settings: StateSettings) -> None:
    async with ObjectStore.open(settings) as objects:
        shared = objects.of_bucket("trellis-imports")
        await shared.ensure_bucket()
        await shared.write("shared/d.csv", CSV, "text/csv")
        imported = await import_file("s3://trellis-imports/shared/d.csv")
        assert (imported["status"], imported["sha256"]) == ("READY", hashlib.sha256(CSV).hexdigest())
        assert await shared.head("shared/d.csv") is not None
    dataset = await ada.create_dataset("e")
    for url in (
        "s3://trellis-imports/shared",
        "s3://trellis-imports/shared2/x",
        "s3://other/shared/x",
        "s3://trellis-imports/shared/../x",
        f"s3://trellis-imports/shared/../../{settings.s3_bucket}/uploads/x",
        "s3://trellis-imports/shared/./x",
        "s3://trellis-imports/shared//x",
        f"s3://{settings.s3_bucket}/shared/x",
    ):
        refused = await ada.one(IMPORT, input={"datasetId": dataset, "url": url})
        if url == "s3://trellis-imports/shared":  # it may be an object itself
            assert refused["__typename"] == "ImportDatasetPayload"
        else:
            assert refused["issues"] == [{"path": ["url"]}]


async def test_what_is_no_address_is_refused_at_once(ada: Client, bob: Client) -> None:
    dataset = await ada.create_dataset("d")
    for url in (
        "ftp://example.org/x",
        "https://",
        "nonsense",
        "https://user:secret@example.org/x",
        "file:///etc/passwd",
        "https://example.org:0/x",
        "https://example.org:65536/x",
        "https://x/" + "y" * 2_000,
    ):
        refused = await ada.one(IMPORT, input={"datasetId": dataset, "url": url})
        assert (refused["code"], refused["issues"]) == ("INVALID_INPUT", [{"path": ["url"]}]), url
    assert (await bob.one(IMPORT, input={"datasetId": dataset, "url": "https://example.org/x"}))["code"] == "NOT_FOUND"


REFUSED = (
    "127.0.0.1", "localhost", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]",
    "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[2001:0:7f00:1::]", "[fe80::1]", "[fd00::1]", "169.254.169.254", "[::ffff:a9fe:a9fe]", "100.100.100.200",
    "10.0.0.1", "172.16.0.1", "192.168.1.1", "198.18.0.1", "192.0.0.192", "0.0.0.0", "255.255.255.255", "224.0.0.1", "127.0.0.3",
)  # fmt: skip


@pytest.mark.parametrize("host", REFUSED)
async def test_no_address_of_this_machine_or_its_network_is_connected_to(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def connect(*_args: object, **_options: object) -> Any:
        raise AssertionError("it was connected to")

    monkeypatch.setattr("httpcore.AnyIOBackend.connect_tcp", connect)
    with pytest.raises(FetchFailed) as refused:
        await fetch(f"https://{host}/x", tmp_path / "x", max_bytes=10, allowed=ALLOWED, progress=lambda *_: None)
    assert refused.value.code in {"ADDRESS_REFUSED", "HOST_UNKNOWN"}
    assert refused.value.code == "ADDRESS_REFUSED" or ":" in host  # where there is no IPv6, its addresses are not even resolved


def test_addresses_of_the_internet_are_public() -> None:
    assert [is_public(address) for address in ("93.184.215.14", "8.8.8.8", "2606:2800:21f:cb07::1")] == [True] * 3
    assert not any(is_public(address) for address in ("", "x", "fe80::1%eth0", "3fff::1", "2001:db8::1", "ff02::1"))


async def test_a_redirect_to_an_address_inside_is_not_followed(files: FileServer, tmp_path: Path) -> None:
    async with serving("127.0.0.1") as inside:
        inside.answers["/secret"] = OK
        for location in (f"http://127.0.0.1:{inside.port}/secret", f"https://localhost:{inside.port}/secret", "file:///etc/passwd"):
            files.redirect("/out", location)
            with pytest.raises(FetchFailed) as refused:
                await fetch(files.url("/out"), tmp_path / "x", max_bytes=1_000, allowed=ALLOWED, progress=lambda *_: None)
            assert refused.value.code == "ADDRESS_REFUSED"
        assert inside.asked == []
    assert not (tmp_path / "x").exists()


async def test_the_address_that_was_checked_is_the_one_connected_to(
    files: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name resolves to the allowed server at first, and to this machine from then on."""
    answers = iter([["127.0.0.2"], ["127.0.0.1"]])

    async def resolve(host: str, port: int) -> list[str]:
        assert host == "rebinding.example"
        return next(answers)

    monkeypatch.setattr(outbound, "_resolve", resolve)
    files.answers["/d.csv"] = OK
    url = f"http://rebinding.example:{files.port}/d.csv"
    fetched = await fetch(url, tmp_path / "x", max_bytes=1_000, allowed=ALLOWED, progress=lambda *_: None)
    assert (fetched.size, (tmp_path / "x").read_bytes()) == (len(CSV), CSV)
    assert files.asked == [("/d.csv", f"rebinding.example:{files.port}")]
    with pytest.raises(FetchFailed, match=r"rebinding\.example is not an address to which"):
        await fetch(url, tmp_path / "x", max_bytes=1_000, allowed=ALLOWED, progress=lambda *_: None)


async def test_one_address_inside_refuses_all_addresses_of_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(_host: str, _port: int) -> list[str]:
        return ["93.184.215.14", "10.0.0.1"]

    monkeypatch.setattr(outbound, "_resolve", resolve)
    with pytest.raises(FetchFailed, match="not an address of the public Internet"):
        await fetch("https://mixed.example/x", tmp_path / "x", max_bytes=10, allowed=(), progress=lambda *_: None)


async def test_what_the_server_says_and_sends_is_bounded(files: FileServer, tmp_path: Path) -> None:
    files.answers["/announced"] = OK
    files.answers["/unannounced"] = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + CSV
    files.answers["/short"] = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + CSV
    files.answers["/encoded"] = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n"
    files.answers["/busy"] = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
    files.answers["/garbage"] = b"no HTTP at all\r\n\r\n"
    files.redirect("/loop", "/loop")
    codes: dict[str, tuple[str, bool]] = {}
    for path in (*files.answers, "/missing"):
        with pytest.raises(FetchFailed) as failed:
            await fetch(files.url(path), tmp_path / "x", max_bytes=len(CSV) - 1, allowed=ALLOWED, progress=lambda *_: None)
        codes[path] = failed.value.code, failed.value.retryable
    assert codes == {
        "/announced": ("TOO_LARGE", False),
        "/unannounced": ("TOO_LARGE", False),
        "/short": ("TOO_LARGE", False),
        "/encoded": ("ENCODED", False),
        "/busy": ("HTTP_STATUS", True),
        "/garbage": ("FETCH_FAILED", True),
        "/loop": ("TOO_MANY_REDIRECTS", False),
        "/missing": ("HTTP_STATUS", False),
    }
    with pytest.raises(FetchFailed) as cut:
        await fetch(files.url("/short"), tmp_path / "x", max_bytes=1_000, allowed=ALLOWED, progress=lambda *_: None)
    assert (cut.value.code, cut.value.retryable) == ("FETCH_FAILED", True)
    assert len([path for path, _ in files.asked if path == "/loop"]) == outbound.MAX_REDIRECTS + 1


async def test_a_server_that_sends_a_byte_now_and_then_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would keep a worker busy until the timeout of the job: no byte is late."""
    monkeypatch.setattr(outbound, "ANSWER_TIMEOUT", 0.2)
    monkeypatch.setattr(outbound, "MIN_BYTES_TIME", 0.2)
    starts = {"/head": b"HTTP/1.1 200 OK\r\nX-A: ", "/body": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"}

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).decode().split(" ")[1]
        writer.write(starts[path])
        with suppress(ConnectionError):
            for _ in range(500):
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.01)
        writer.close()

    async with await asyncio.start_server(respond, "127.0.0.2", 0) as server:
        port = server.sockets[0].getsockname()[1]
        for path in starts:
            url = f"http://127.0.0.2:{port}{path}"
            with pytest.raises(FetchFailed) as failed:
                await fetch(url, tmp_path / "x", max_bytes=1_000, allowed=ALLOWED, progress=lambda *_: None)
            assert (failed.value.code, failed.value.retryable) == ("TOO_SLOW", True), path


async def test_the_audit_has_an_address_without_what_may_be_a_signature(ada: Client, database: Database) -> None:
    url = "https://nobody.invalid/d.csv"
    dataset = await ada.create_dataset("d")
    await ada.one(IMPORT, input={"datasetId": dataset, "url": f"{url}?X-Amz-Signature=secret"})
    create = "mutation($input: CreateImportScheduleInput!) { createImportSchedule(input: $input) { ... on CreateImportSchedulePayload { schedule { id url } } } }"
    made = await ada.one(create, input={"datasetId": dataset, "url": f"{url}?token=secret", "cron": "0 6 * * *"})
    assert made["schedule"]["url"] == f"{url}?token=secret"
    schedule = {"id": made["schedule"]["id"]}
    change = "mutation($input: UpdateImportScheduleInput!) { updateImportSchedule(input: $input) { __typename } }"
    await ada.one(change, input={**schedule, "url": f"{url}?token=secret2"})
    await ada.one("mutation($id: ID!) { deleteImportSchedule(input: {id: $id}) { __typename } }", **schedule)
    rows = await database.rows(select(AuditEvent.action, AuditEvent.before, AuditEvent.after).order_by(AuditEvent.id))
    told = [
        (row.action, row.before and row.before.get("url"), row.after and row.after.get("url")) for row in rows if "import" in row.action
    ]
    assert told == [
        ("import_dataset", None, url),
        ("create_import_schedule", None, url),
        ("update_import_schedule", url, url),
        ("delete_import_schedule", url, None),
    ]


def certificate(folder: Path, name: str) -> ssl.SSLContext:
    """Return a server's context with a certificate of its own for this name; `folder` gets it as `ca.pem`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
    signed = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False).sign(key, hashes.SHA256())
    pem = signed.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "ca.pem").write_bytes(pem)
    (folder / "server.pem").write_bytes(pem + secret)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "server.pem")
    return context


async def test_tls_verifies_the_name_that_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(_host: str, _port: int) -> list[str]:
        return ["127.0.0.2"]

    names: list[str | None] = []
    context = certificate(tmp_path, "data.example")
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    monkeypatch.setattr(outbound, "_resolve", resolve)
    trusting = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    monkeypatch.setattr(outbound, "ssl_context", lambda: trusting)
    async with serving("127.0.0.2", context) as secure:
        secure.answers["/d.csv"] = OK
        url = f"https://data.example:{secure.port}/d.csv"
        fetched = await fetch(url, tmp_path / "x", max_bytes=1_000, allowed=ALLOWED, progress=lambda *_: None)
        assert (fetched.sha256, names) == (hashlib.sha256(CSV).hexdigest(), ["data.example"])
        with pytest.raises(FetchFailed) as failed:
            await fetch(url.replace("data", "other"), tmp_path / "x", max_bytes=1_000, allowed=ALLOWED, progress=lambda *_: None)
        assert failed.value.code == "TLS_FAILED"
