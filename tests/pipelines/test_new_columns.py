"""Columns that steps make, rename and convert: later steps may name them, and what cannot work is refused before the job."""

from __future__ import annotations

from typing import Any

from tests.client import Client

TABLE = "price,area,city,sold,at\n" + "".join(
    f"{row * 100},{row % 7 + 1},{'Ulm' if row % 3 else 'Bonn'},{'yes' if row % 2 else 'no'},2024-01-{row % 28 + 1:02}\n"
    for row in range(40)
)


async def make(ada: Client, name: str, *steps: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    nodes = [("data", "dataset", {}), *((f"n{number}", step, parameters) for number, (step, parameters) in enumerate(steps, 1))]
    return await ada.create_pipeline(name, *nodes)


def derive(**formulas: str) -> tuple[str, dict[str, Any]]:
    return "derive_columns", {"columns": [{"name": name, "formula": formula} for name, formula in formulas.items()]}


async def test_a_dataset_of_new_columns_is_written(ada: Client, worker: object) -> None:
    version = await ada.ingest("d", TABLE)
    condition = {"column": "ratio", "operator": "greater_than", "value": 300}
    pipeline = await make(
        ada,
        "p",
        ("rename_columns", {"columns": [{"column": "city", "name": "place"}]}),
        derive(ratio="price / area", north="place == 'Bonn'", late="day(at) > 20"),
        ("filter_rows", {"conditions": [condition]}),
        ("deduplicate_rows", {"columns": ["place", "sold"]}),
        ("select_columns", {"columns": ["place", "ratio", "north", "late"]}),
    )
    started = await ada.run_pipeline(pipeline["pipeline"]["id"], version)
    assert (await ada.wait(started["job"]["id"]))["status"] == "COMPLETED"
    query = "query($id: ID!) { dataset(id: $id) { currentVersion { preview columns { name type } } } }"
    current = (await ada.one(query, id=started["targetDataset"]["id"]))["currentVersion"]
    rows = [(row * 100 / (row % 7 + 1), "Ulm" if row % 3 else "Bonn", row) for row in range(40)]
    kept = {(place, row % 2): (ratio, row) for ratio, place, row in reversed(rows) if ratio > 300}
    expected = [
        {"place": place, "ratio": ratio, "north": place == "Bonn", "late": row % 28 + 1 > 20}
        for (place, _), (ratio, row) in sorted(kept.items(), key=lambda item: item[1][1])
    ]
    assert [{**row, "ratio": row["ratio"]} for row in current["preview"]] == expected
    assert {column["name"]: column["type"] for column in current["columns"]} == {
        "ratio": "FLOAT",
        "north": "BOOLEAN",
        "late": "BOOLEAN",
        "place": "CATEGORY",
    }


async def test_a_formula_that_cannot_be_read_is_refused_with_the_pipeline(ada: Client, worker: object) -> None:
    refused = await make(ada, "p", derive(x="price +", y="price"))
    assert refused["__typename"] == "InvalidInput"
    assert refused["issues"] == [
        {
            "path": ["definition", "nodes", "1", "parameters", "columns", "0", "formula"],
            "message": "At character 8: The formula ends where a value is expected: a number, a 'text', a column or a function.",
        }
    ]


async def test_what_does_not_suit_the_columns_is_refused_before_the_job(ada: Client, worker: object) -> None:
    version = await ada.ingest("d", TABLE)
    of_node = "Node 'n1' of the pipeline: At character "
    cases: dict[str, tuple[list[Any], list[str]]] = {
        "types": ([derive(x="price + city")], [f"{of_node}9: '+' takes a number, and this is a text."]),
        "unknown": ([derive(x="prise * 2")], [f"{of_node}1: There is no column 'prise'. Did you mean 'price'?"]),
        "renamed text": (
            [("rename_columns", {"columns": [{"column": "city", "name": "place"}]}), ("train_k_means", {"exclude": ["sold", "at"]})],
            [
                "Node 'n2' of the pipeline: The column 'place' is text which is not encoded, and 'n2' learns only from numbers. Link a step before it"
            ],
        ),
        "converted to text": (
            [("cast_columns", {"columns": ["area"], "type": "text"}), ("train_k_means", {"exclude": ["sold", "at", "city"]})],
            [
                "Node 'n2' of the pipeline: The column 'area' is text which is not encoded, and 'n2' learns only from numbers. Link a step before it"
            ],
        ),
    }
    for name, (steps, expected) in cases.items():
        refused = await ada.run_pipeline((await make(ada, name, *steps))["pipeline"]["id"], version)
        assert refused["__typename"] == "InvalidInput", (name, refused)
        for issue, message in zip(refused["issues"], expected, strict=True):
            assert issue["message"].startswith(message), name
    assert await ada.one("{ jobs(filter: {kind: [TRAIN, PROCESS]}) { totalCount } }") == {"totalCount": 0}
