"""Webhooks reach addresses of the public Internet and those that the operator allows: with TLS by the name, and by no detour."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from db.core.outbound import parse_networks
from db.stores import outbound
from db.stores.outbound import FetchFailed, post
from tests.client import Client
from tests.datasets.test_importing import REFUSED, certificate
from tests.webhooks.receiving import CREATE, HOST, Receiver, receiving

ALLOWED = parse_networks([f"{HOST}/32"])


async def send(url: str, timeout: float = 5.0) -> outbound.Answer:
    return await post(url, b"{}", {"content-type": "application/json"}, allowed=ALLOWED, timeout=timeout, max_bytes=65_536)


@pytest.fixture
async def receiver() -> AsyncGenerator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@pytest.mark.parametrize("host", REFUSED)
async def test_no_address_of_this_machine_or_its_network_is_connected_to(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def connect(*_args: object, **_options: object) -> Any:
        raise AssertionError("it was connected to")

    monkeypatch.setattr("httpcore.AnyIOBackend.connect_tcp", connect)
    with pytest.raises(FetchFailed) as refused:
        await send(f"https://{host}/x")
    assert refused.value.code in {"ADDRESS_REFUSED", "HOST_UNKNOWN"}
    assert refused.value.code == "ADDRESS_REFUSED" or ":" in host  # where there is no IPv6, its addresses are not even resolved


async def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    async with receiving(host="127.0.0.1") as inside:
        receiver.headers = f"Location: http://127.0.0.1:{inside.port}/secret\r\n"
        receiver.answer = lambda _: (307, b"there")
        assert await send(receiver.url()) == outbound.Answer(307, b"there")
        assert inside.received == []


async def test_a_name_is_resolved_once_and_that_address_connected_to(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name resolves to the allowed receiver at first, and to this machine from then on."""
    answers = iter([[HOST], ["127.0.0.1"]])

    async def resolve(host: str, _port: int) -> list[str]:
        assert host == "rebinding.example"
        return next(answers)

    monkeypatch.setattr(outbound, "_resolve", resolve)
    url = f"http://rebinding.example:{receiver.port}/hook"
    assert (await send(url)).status == 200
    assert receiver.received[0].headers["host"] == f"rebinding.example:{receiver.port}"
    with pytest.raises(FetchFailed) as refused:
        await send(url)
    assert (refused.value.code, len(receiver.received)) == ("ADDRESS_REFUSED", 1)


async def test_tls_verifies_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = certificate(tmp_path, "receiver.example")

    async def resolve(_host: str, _port: int) -> list[str]:
        return [HOST]

    monkeypatch.setattr(outbound, "_resolve", resolve)
    trusting = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    monkeypatch.setattr(outbound, "ssl_context", lambda: trusting)
    async with receiving(context) as receiver:
        assert (await send(f"https://receiver.example:{receiver.port}/hook")).status == 200
        with pytest.raises(FetchFailed) as refused:
            await send(f"https://other.example:{receiver.port}/hook")
        assert (refused.value.code, len(receiver.received)) == ("TLS_FAILED", 1)


async def test_an_answer_without_an_end_is_cut_off(receiver: Receiver) -> None:
    receiver.answer = lambda _: (200, b"x" * 1_000_000)
    assert len((await send(receiver.url())).content) == 65_536
    receiver.delay = 30.0
    with pytest.raises(FetchFailed) as slow:
        await send(receiver.url(), timeout=0.3)
    assert slow.value.code == "TOO_SLOW"


async def test_an_address_is_checked_when_it_is_given(ada: Client) -> None:
    for url in ("ftp://example.org/x", "https://user:secret@example.org/x", "https://", "file:///etc/passwd", "https://x/" + "y" * 2_000):
        refused = await ada.one(CREATE, input={"name": "n", "url": url, "events": ["JOB_FAILED"]})
        assert (refused["__typename"], refused["issues"][0]["path"]) == ("InvalidInput", ["url"]), url
    for host in (host for host in REFUSED if host != "localhost"):  # names are checked with each request
        refused = await ada.one(CREATE, input={"name": "n", "url": f"https://{host}/x", "events": ["JOB_FAILED"]})
        assert (refused["__typename"], refused["issues"][0]["path"]) == ("InvalidInput", ["url"]), host
        if host == "2130706433":
            message = "2130706433 is not an address of the public Internet. Whoever runs this Trellis can allow networks of their own."
            assert refused["issues"] == [{"path": ["url"], "message": message}]
