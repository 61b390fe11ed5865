"""The client of `trellis demo` follows jobs for as long as they take, and says when it cannot."""

from __future__ import annotations

import asyncio

import pytest

from server.demo.api import Api, ApiError
from tests.client import Client
from tests.server.serving import serving
from tests.server.test_sse import UPDATES


async def test_a_silent_stream_is_kept_by_answering_pings_and_its_loss_is_an_error(ada: Client) -> None:
    assert ada.token is not None
    async with serving(socket_ping_interval=0.1) as url:
        api = Api(url.removesuffix("/graphql"), ada.token)
        waiting = asyncio.create_task(anext(api.subscribe(UPDATES["query"])))
        # After two intervals and a second without a response the server closes the connection.
        done, _ = await asyncio.wait({waiting}, timeout=1.8)
        assert not done
    with pytest.raises(ApiError, match="The connection was closed before the stream had ended"):
        await waiting
    await api.close()
