"""The profile of large whole numbers is numbers: jsonb returns a float such as 1.5e18 as an integer."""

from __future__ import annotations

from tests.client import Client

PROFILE = """query($id: ID!) { node(id: $id) { ... on DatasetVersion { profile { columns {
  type mean standardDeviation min max histogram { lower upper count } quantiles } } } } }"""


async def test_the_profile_of_nanosecond_timestamps_is_complete(ada: Client, worker: object) -> None:
    first, step = 1_582_218_195_625_938_945, 4_194_304
    version = await ada.ingest("d", "at\n" + "".join(f"{first + step * row}\n" for row in range(50)))
    (column,) = (await ada.one(PROFILE, id=version))["profile"]["columns"]
    assert (column["type"], column["min"], column["max"]) == ("INTEGER", first, first + 49 * step)
    assert abs(column["mean"] - (first + 49 * step / 2)) < 1_000
    assert abs(column["standardDeviation"] - 14.577 * step) < step
    assert (column["histogram"][0]["lower"], sum(bar["count"] for bar in column["histogram"])) == (float(first), 50)
