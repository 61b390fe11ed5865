"""The rows of two versions are compared by a key: what was added, removed and changed, as a comparison row by row has it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.client import Client
from tests.endings import UNKNOWN
from tests.workers.pipeline_runner import PipelineRecorder
from workers.ml import row_comparison
from workers.ml.errors import BadInput
from workers.ml.row_comparison import compare_rows

COMPARE = """mutation($input: CompareRowsInput!) { compareRows(input: $input) { __typename ... on CompareRowsPayload { job { id kind } }
  ... on Problem { code message } ... on InvalidInput { issues { path message } } } }"""
RESULT = "query($id: ID!) { job(id: $id) { status parameters result error { code message } } }"


def compare(folder: Path, before: pl.DataFrame, after: pl.DataFrame, *key: str) -> dict[str, Any]:
    spec: dict[str, Any] = {"key": list(key)}
    for number, (side, frame) in enumerate((("from", before), ("to", after)), start=1):
        frame.write_parquet(folder / f"{side}.parquet")
        columns = [{"name": name, "type": str(dtype)} for name, dtype in frame.schema.items()]
        spec[side] = {"parquet": str(folder / f"{side}.parquet"), "number": number, "columns": columns}
    return compare_rows(spec, PipelineRecorder())  # pyright: ignore[reportArgumentType] - built key by key


@pytest.mark.parametrize("cells", [8_000_000, 500])
def test_counts_are_those_of_a_comparison_row_by_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, cells: int) -> None:
    """In one part, and in many."""
    monkeypatch.setattr(row_comparison, "PART_CELLS", cells)
    rng = random.Random(seed)

    def table(rows: range) -> pl.DataFrame:
        made = [
            {
                "a": row // 7 if row else None,
                "b": f"k{row % 7}",
                "x": rng.choice([1.0, 2.0, None, float("nan")]),
                "y": rng.choice(["p", "q", None]),
                "z": row % 3,
            }
            for row in rows
        ]
        rng.shuffle(made)
        return pl.DataFrame(made, schema={"a": pl.Int64, "b": pl.String, "x": pl.Float64, "y": pl.String, "z": pl.Int64})

    before, after = table(range(400)), table(range(150, 600)).drop("z").with_columns(w=pl.lit(1))
    answer = compare(tmp_path, before, after, "a", "b")
    olds, news = [{(row["a"], row["b"]): row for row in frame.to_dicts()} for frame in (before, after)]

    def differ(one: Any, other: Any) -> bool:
        return one != other and not (one != one and other != other)

    both = olds.keys() & news.keys()
    changed = {key: {name for name in ("x", "y") if differ(olds[key][name], news[key][name])} for key in both}
    assert len(both) == 250
    assert {name: answer[name] for name in ("rowsFrom", "rowsTo", "added", "removed", "changed", "unchanged")} == {
        "rowsFrom": 400,
        "rowsTo": 450,
        "added": 200,
        "removed": 150,
        "changed": sum(map(bool, changed.values())),
        "unchanged": sum(not names for names in changed.values()),
    }
    assert answer["changedByColumn"] == {name: sum(name in names for names in changed.values()) for name in ("x", "y")}
    assert (answer["columnsAdded"], answer["columnsRemoved"], answer["typesChanged"]) == (["w"], ["z"], [])
    samples = answer["samples"]
    first_added = sorted((key for key in news if key not in olds), key=lambda key: (key[0], key[1]))[:100]
    assert [(row["a"], row["b"]) for row in samples["added"]] == first_added
    assert len(samples["removed"]) == len(samples["changed"]) == 100
    for sample in samples["changed"]:
        key = (sample["key"]["a"], sample["key"]["b"])
        assert set(sample["columns"]) == changed[key]
        assert sample["changedColumns"] == len(changed[key])


def test_types_that_changed_are_compared_by_value(tmp_path: Path) -> None:
    before = pl.DataFrame({"k": ["a", "b"], "n": [1, 2], "t": [1, 2]})
    after = pl.DataFrame({"k": pl.Series(["a", "b"], dtype=pl.Categorical), "n": [1.0, 2.5], "t": ["1", "x"]})
    answer = compare(tmp_path, before, after, "k")
    assert (answer["changed"], answer["changedByColumn"], answer["typesChanged"]) == (1, {"n": 1, "t": 1}, ["n", "t"])
    assert answer["samples"]["changed"] == [
        {"key": {"k": "b"}, "columns": {"n": {"from": 2.0, "to": 2.5}, "t": {"from": "2", "to": "x"}}, "changedColumns": 2}
    ]


def test_tables_of_keys_alone_and_without_rows_are_compared(tmp_path: Path) -> None:
    keys = pl.DataFrame({"k": [1, 2, None]})
    answer = compare(tmp_path, keys, keys.head(2), "k")
    assert (answer["added"], answer["removed"], answer["changed"], answer["unchanged"]) == (0, 1, 0, 2)
    assert answer["samples"]["removed"] == [{"k": None}]
    empty = compare(tmp_path, keys.head(0), keys.head(0), "k")
    assert (empty["added"], empty["removed"], empty["unchanged"]) == (0, 0, 0)


def test_keys_that_are_not_unique_are_told(tmp_path: Path) -> None:
    unique, repeated = pl.DataFrame({"k": [1, 2], "l": [1, 1]}), pl.DataFrame({"k": [2, 2], "l": [1, 2]})
    with pytest.raises(BadInput, match=r"Version 2 has several rows with the same key, such as k = 2,") as raised:
        compare(tmp_path, unique, repeated, "k")
    assert (raised.value.code, raised.value.column) == ("DUPLICATE_KEY", "k")
    assert compare(tmp_path, unique, repeated, "k", "l")["added"] == 1


async def test_rows_are_compared_by_a_job_of_the_owner(ada: Client, bob: Client, worker: object) -> None:
    before = await ada.ingest("d", "id,x,y\n1,a,5\n2,b,6\n3,c,7\n")
    dataset = (await ada.one("{ datasets { edges { node { id } } } }"))["edges"][0]["node"]["id"]
    after, job = await ada.upload(dataset, "d.csv", b"id,x,y\n2,b,6\n3,z,7\n4,d,8\n")
    assert (await ada.wait(job))["status"] == "COMPLETED"
    pair = {"from": before, "to": after}
    submitted = await ada.one(COMPARE, input={**pair, "key": ["id"]})
    assert submitted["job"]["kind"] == "COMPARE"
    assert (await ada.wait(submitted["job"]["id"]))["status"] == "COMPLETED"
    told = await ada.one(RESULT, id=submitted["job"]["id"])
    assert told["parameters"] == {"fromVersionId": before, "toVersionId": after, "key": ["id"]}
    assert told["result"] == {
        "key": ["id"],
        "rowsFrom": 3,
        "rowsTo": 3,
        "added": 1,
        "removed": 1,
        "changed": 1,
        "unchanged": 1,
        "changedByColumn": {"x": 1},
        "columnsAdded": [],
        "columnsRemoved": [],
        "typesChanged": [],
        "samples": {
            "added": [{"id": 4, "x": "d", "y": 8}],
            "removed": [{"id": 1, "x": "a", "y": 5}],
            "changed": [{"key": {"id": 3}, "columns": {"x": {"from": "c", "to": "z"}}, "changedColumns": 1}],
        },
    }
    other = await ada.ingest("other", "id,x\n1,a\n1,b\n")
    for given, paths in (
        ({**pair, "key": []}, [["key"]]),
        ({**pair, "key": ["id", "id"]}, [["key"]]),
        ({**pair, "key": ["id", "idd"]}, [["key", "1"]]),
        ({"from": before, "to": other, "key": ["id"]}, [["to"]]),
    ):
        assert [issue["path"] for issue in (await ada.one(COMPARE, input=given))["issues"]] == paths
    failed = await ada.one(COMPARE, input={"from": other, "to": other, "key": ["id"]})
    await ada.wait(failed["job"]["id"])
    ended = await ada.one(RESULT, id=failed["job"]["id"])
    assert (ended["status"], ended["error"]["code"], ended["result"]) == ("FAILED", "DUPLICATE_KEY", None)
    for given in ({**pair, "key": ["id"]}, {"from": f"version_{UNKNOWN}", "to": after, "key": ["id"]}):
        assert (await bob.one(COMPARE, input=given))["code"] == "NOT_FOUND"
    assert await bob.one(RESULT, id=submitted["job"]["id"]) is None
