"""The object store tells of files that have arrived, and those that their clients forget are completed minutes later."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote_plus

import pytest
from pydantic import SecretStr
from sqlalchemy import select, text

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services import maintenance
from db.settings import StateSettings
from db.stores.objects import ObjectStore
from db.tables import Upload
from server.settings import server_settings
from tests.client import Client
from tests.workers.worker_harness import run_maintenance

CSV = b"a,b\n1,x\n2,y\n"
TOKEN = "the-token-of-the-object-store"


def notice(*keys: str, bucket: str, event: str = "s3:ObjectCreated:Put") -> dict[str, Any]:
    return {"Records": [{"eventName": event, "s3": {"bucket": {"name": bucket}, "object": {"key": quote_plus(key)}}} for key in keys]}


async def tell(client: Client, body: Any, token: str = TOKEN) -> int:
    """Send a notice; return the status of the answer."""
    answer = await client.http.post("/hooks/s3", json=body, headers={"Authorization": f"Bearer {token}"})
    return answer.status_code


@pytest.fixture
def _with_token(live_server: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_settings(), "s3_events_token", SecretStr(TOKEN))


async def test_without_a_token_there_is_no_such_address(ada: Client) -> None:
    assert await tell(ada, {}) == 404


@pytest.mark.usefixtures("_with_token")
async def test_a_file_of_which_the_store_told_is_ingested_minutes_later(ada: Client, database: Database, settings: StateSettings) -> None:
    requested = [(await ada.request_upload(await ada.create_dataset(f"d{number}"), "d.csv", CSV))["upload"] for number in range(3)]
    for upload in requested[:2]:
        assert (await ada.put(upload, CSV)).status_code == 200
    rows = await database.rows(select(Upload.object_key).order_by(Upload.created_at))
    keys = [row.object_key for row in rows]
    bucket = settings.s3_bucket
    ignored = [
        notice(*keys, bucket="other"),
        notice(*keys, bucket=bucket, event="s3:ObjectRemoved:Delete"),
        notice("datasets/x", bucket=bucket),
    ]
    for body in (*ignored, {"Event": "s3:TestEvent"}, {"Records": [None, {"eventName": 1}]}):
        assert await tell(ada, body) == 204
    assert await tell(ada, notice(*keys, bucket=bucket), token="wrong") == 401
    assert await tell(ada, []) == 400
    assert {row.noticed_at for row in await database.rows(select(Upload.noticed_at))} == {None}
    assert await tell(ada, notice(keys[0], keys[2], bucket=bucket)) == 204

    async def states() -> list[str]:
        async with ObjectStore.open(settings) as objects:
            await run_maintenance(maintenance.MaintenanceContext(database, objects, settings), "expire_uploads")
        return [row.state.value for row in await database.rows(select(Upload.state).order_by(Upload.created_at))]

    assert await states() == ["open"] * 3  # their clients may be about to complete them
    async with database.work(SYSTEM) as work:
        await work.run(text("UPDATE uploads SET noticed_at = noticed_at - interval '6 minutes'"))
    assert (await states())[1:] == ["open", "open"]  # nothing was told of the second, and the third has not arrived
    (first,) = await database.rows(select(Upload.state, Upload.job_id).where(Upload.object_key == keys[0]))
    assert first.job_id is not None
    assert {row.noticed_at for row in await database.rows(select(Upload.noticed_at).where(Upload.object_key != keys[0]))} == {None}
