"""A pipeline that cannot learn from the types of a version's columns is refused when it is submitted, and says which column and what helps."""

from __future__ import annotations

from typing import Any

import pytest

from tests.client import Client

ROWS = "".join(
    f"{row},{'red' if row % 3 else 'blue'},2024-01-{row % 28 + 1:02},{row % 2 == 0},{row / 3},{'yes' if row % 2 else 'no'}\n"
    for row in range(60)
)
TABLE = f"size,color,day,fresh,price,sold\n{ROWS}"
LEAVE_OUT = "eave it out: name it in `exclude` of 'train', or in a drop_columns step."
COLOR = (
    "The column 'color' is text which is not encoded, and 'train' learns only from numbers. Link a step before it that encodes text "
    f"(embed_text or one_hot_encode or ordinal_encode or prepare or target_encode or tfidf_text), or l{LEAVE_OUT}"
)
DAY = (
    "The column 'day' is of type DATE, and 'train' learns only from numbers. Link a step before it that turns it into numbers "
    f"(decompose_dates or prepare), or l{LEAVE_OUT}"
)

Steps = list[tuple[str, dict[str, Any]]]
FOREST = {"n_estimators": 5}
REFUSED: dict[str, tuple[Steps, list[tuple[str, str]]]] = {
    "text and a date": ([("train_random_forest", {"target": "sold"})], [("", COLOR), ("", DAY)]),
    "another column is encoded": ([("one_hot_encode", {"columns": ["size"]}), ("train_lightgbm", {"target": "sold", "exclude": ["day"]})], [("", COLOR)]),
    "imputing does not encode": (
        [("impute", {"strategy": "most_frequent"}), ("drop_columns", {"columns": ["day"]}), ("train_ridge_regression", {"target": "price", "exclude": ["sold"]})],
        [("", COLOR)],
    ),
    "clusters of text": ([("select_columns", {"columns": ["size", "color"]}), ("train_k_means", {})], [("", COLOR)]),
    "no target": (
        [("train_random_forest", {})],
        [("target", "'train' has no target: neither this parameter nor the dataset names the column to predict. Set one of them.")],
    ),
    "numbers from text": (
        [("train_linear_regression", {"target": "color"})],
        [("target", "'train' predicts numbers, and the target 'color' is of type CATEGORY. Choose a numeric target, or a step that predicts classes.")],
    ),
    "classes from dates": (
        [("train_logistic_regression", {"target": "day"})],
        [("target", "The target 'day' is of type DATE; classes must be text, booleans or integers. Choose another target.")],
    ),
}  # fmt: skip
ACCEPTED: dict[str, Steps] = {
    "encoded": [("one_hot_encode", {}), ("train_random_forest", {**FOREST, "target": "sold", "exclude": ["day"]})],
    "encoded by name": [
        ("ordinal_encode", {"columns": ["color"]}),
        ("train_random_forest", {**FOREST, "target": "sold", "exclude": ["day"]}),
    ],
    "prepared": [("prepare", {}), ("train_xgboost", {**FOREST, "target": "sold"})],
    "rows chosen for the training": [
        ("split", {"strategy": "group", "group_column": "size"}),
        ("remove_outliers", {}),
        ("balance_classes", {}),
        ("target_encode", {}),
        ("train_random_forest", {**FOREST, "target": "sold", "exclude": ["day"]}),
    ],
    "left out": [("select_columns", {"columns": ["size", "fresh"]}), ("train_random_forest", {**FOREST, "target": "sold"})],
    "the parts of the date": [
        ("decompose_dates", {}),
        ("one_hot_encode", {}),
        ("train_random_forest", {**FOREST, "target": "sold"}),
    ],
    "the parts of the date that splits": [
        ("decompose_dates", {"columns": ["day"]}),
        ("split", {"strategy": "time", "time_column": "day"}),
        ("train_random_forest", {**FOREST, "target": "sold", "exclude": ["color"]}),
    ],
    "the time of the split": [
        ("split", {"strategy": "time", "time_column": "day"}),
        ("ordinal_encode", {}),
        ("train_random_forest", {**FOREST, "target": "sold"}),
    ],
}


def chain(steps: Steps) -> list[tuple[str, str, dict[str, Any]]]:
    """Nodes for `create_pipeline`; the training's key is `train`."""
    return [("data", "dataset", {}), *(("train" if step.startswith("train_") else step, step, parameters) for step, parameters in steps)]


async def test_what_cannot_be_learned_from_is_refused_with_the_column_and_a_way_out(ada: Client, worker: object) -> None:
    version = await ada.ingest("d", TABLE)
    for name, (steps, expected) in REFUSED.items():
        pipeline = (await ada.create_pipeline(name, *chain(steps)))["pipeline"]["id"]
        refused = await ada.run_pipeline(pipeline, version)
        path = ["definition", "nodes", str(len(steps)), "parameters"]
        issues = [
            {"path": [*path, *(parameter and [parameter])], "message": f"Node 'train' of the pipeline: {message}"}
            for parameter, message in expected
        ]
        assert (refused["__typename"], refused.get("issues")) == ("InvalidInput", issues), name
    assert await ada.one("{ jobs(filter: {kind: [TRAIN]}) { totalCount } }") == {"totalCount": 0}


async def test_all_conditions_that_do_not_suit_their_columns_are_told_before_the_job(ada: Client, worker: object) -> None:
    version = await ada.ingest("d", TABLE)
    conditions = [
        {"column": "size", "operator": "equals", "value": "abc"},
        {"column": "size", "operator": "in", "value": [1, 2.5, True]},
        {"column": "day", "operator": "between", "value": ["2024-01-01", "soon"]},
        {"column": "color", "operator": "less_than", "value": "red"},
        {"column": "fresh", "operator": "equals", "value": 1},
        {"column": "fresh", "operator": "is_missing"},
        {"column": "sold", "operator": "starts_with", "value": "y"},
        {"column": "price", "operator": "greater_than", "value": 3},
    ]
    pipeline = (await ada.create_pipeline("p", *chain([("filter_rows", {"conditions": conditions})])))["pipeline"]["id"]
    refused = await ada.run_pipeline(pipeline, version)
    assert refused["__typename"] == "InvalidInput", refused
    of_text = "Operators for it: is_missing, is_not_missing, equals, not_equals, in, not_in, contains, ends_with, starts_with."
    place, of_node = ["definition", "nodes", "1", "parameters", "conditions"], "Node 'filter_rows' of the pipeline: "
    assert [(issue["path"], issue["message"]) for issue in refused["issues"]] == [
        ([*place, "0", "value"], f"{of_node}The column 'size' is of type INTEGER, and 'abc' is not. Give a value of that type."),
        ([*place, "1", "value", "2"], f"{of_node}The column 'size' is of type INTEGER, and True is not. Give a value of that type."),
        (
            [*place, "2", "value", "1"],
            f"{of_node}The column 'day' is of type DATE, and 'soon' is not. Give a value of that type, such as '2024-05-01'.",
        ),
        ([*place, "3", "operator"], f"{of_node}The column 'color' is of type CATEGORY, which 'less_than' does not support. {of_text}"),
        ([*place, "4", "value"], f"{of_node}The column 'fresh' is of type BOOLEAN, and 1 is not. Give a value of that type."),
    ]
    assert await ada.one("{ jobs(filter: {kind: [PROCESS]}) { totalCount } }") == {"totalCount": 0}


@pytest.mark.exhaustive
async def test_what_the_refusal_recommends_trains(ada: Client, worker: object) -> None:
    version = await ada.ingest("d", TABLE)
    for name, steps in ACCEPTED.items():
        started = await ada.run_pipeline((await ada.create_pipeline(name, *chain(steps)))["pipeline"]["id"], version, modelName="m")
        ended = await ada.wait(started["job"]["id"])
        assert ended["status"] == "COMPLETED", (name, ended)


@pytest.mark.exhaustive
async def test_a_table_of_texts_is_not_answered_with_an_issue_for_each(ada: Client, worker: object) -> None:
    names = [f"t{number}" for number in range(60)]
    version = await ada.ingest("d", ",".join([*names, "y"]) + "\n" + (",".join(["some", "text"] * 30) + ",1\n") * 20)
    refused = await ada.run_pipeline(
        (await ada.create_pipeline("p", *chain([("train_lightgbm", {"target": "y"})])))["pipeline"]["id"], version
    )
    assert len(refused["issues"]) == 21
    assert refused["issues"][-1]["message"] == "Node 'train' of the pipeline: The same holds for 40 more columns."


@pytest.mark.parametrize("failing", ["train", "filter_rows"])
async def test_the_event_of_the_failure_and_the_nodes_name_the_same_node(ada: Client, worker: object, failing: str) -> None:
    """Both faults are found while `impute` runs: the target has one class only, or the filter reads what `impute` changes."""
    version = await ada.ingest("d", "x,y\n" + ("1,1\n" if failing == "train" else "1,1\n1,2\n") * 30)
    keep = ("filter_rows", {"conditions": [{"column": "x", "operator": "equals", "value": 1}]})
    steps: Steps = [
        ("impute", {"columns": ["x"]}),
        *([keep] if failing == "filter_rows" else []),
        ("train_logistic_regression", {"target": "y"}),
    ]
    started = await ada.run_pipeline((await ada.create_pipeline("p", *chain(steps)))["pipeline"]["id"], version)
    events = [event async for event in ada.events(started["job"]["id"])]
    ended = await ada.wait(started["job"]["id"])
    assert [node["key"] for node in ended["nodes"] if node["status"] == "FAILED"] == [failing]
    titles = {"train": "Train logistic regression", "filter_rows": "Filter rows"}
    assert (events[-1]["type"], events[-1]["step"]) == ("FAILED", titles[failing])
    assert events[-1]["data"]["nodes"] == [{"key": failing, "status": "FAILED"}]


async def test_a_column_that_a_condition_names_is_looked_up_before_the_job(ada: Client, worker: object) -> None:
    version = await ada.ingest("d", TABLE)
    conditions = [{"column": column, "operator": "is_not_missing"} for column in ("size", "sise", "price")]
    pipeline = (await ada.create_pipeline("p", *chain([("filter_rows", {"conditions": conditions})])))["pipeline"]["id"]
    refused = await ada.run_pipeline(pipeline, version)
    path = ["definition", "nodes", "1", "parameters", "conditions", "1", "column"]
    assert refused["issues"] == [{"path": path, "message": "Node 'filter_rows' of the pipeline: The dataset version has no column 'sise'."}]
