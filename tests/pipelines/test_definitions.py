"""A definition is checked when saved: an invalid one is rejected with the path, an incomplete one is DRAFT, a complete one VALIDATED."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from tests.client import Client

CREATE = """mutation($input: CreatePipelineInput!) { createPipeline(input: $input) {
  ... on CreatePipelinePayload { pipeline { id name status version validatedAt isTemplate
    definition { nodes { key stepKey step { key type } parameters } links { source target } } } }
  ... on Problem { code message } ... on InvalidInput { issues { path message } } } }"""
UPDATE = """mutation($input: UpdatePipelineInput!) { updatePipeline(input: $input) {
  ... on UpdatePipelinePayload { pipeline { id name status version description } }
  ... on Problem { code message } ... on InvalidInput { issues { path message } } ... on WrongState { state } } }"""

DATA = {"key": "data", "step": "dataset"}
SCALE = {"key": "scale", "step": "scale", "parameters": {"method": "minmax"}}
TRAIN = {"key": "train", "step": "train_logistic_regression", "parameters": {"target": "y"}}


def links(*pairs: str) -> list[dict[str, str]]:
    return [dict(zip(("source", "target"), pair.split(">"), strict=True)) for pair in pairs]


async def test_a_complete_definition_is_validated_at_once(ada: Client) -> None:
    definition = {"nodes": [DATA, SCALE, TRAIN], "links": links("data>scale", "scale>train")}
    pipeline = (await ada.one(CREATE, input={"name": "p", "definition": definition}))["pipeline"]
    assert (pipeline["status"], pipeline["version"], pipeline["validatedAt"] is None) == ("VALIDATED", 1, False)
    assert pipeline["definition"] == {
        "nodes": [
            {"key": "data", "stepKey": "dataset", "step": {"key": "dataset", "type": "DATASET"}, "parameters": {}},
            {"key": "scale", "stepKey": "scale", "step": {"key": "scale", "type": "TRANSFORM"}, "parameters": {"method": "minmax"}},
            {"key": "train", "stepKey": TRAIN["step"], "step": {"key": TRAIN["step"], "type": "TRAIN"}, "parameters": {"target": "y"}},
        ],
        "links": links("data>scale", "scale>train"),
    }


@pytest.mark.parametrize(
    "definition", [{"nodes": [], "links": []}, {"nodes": [DATA], "links": []}, {"nodes": [SCALE], "links": []}], ids=str
)
async def test_an_incomplete_definition_is_a_draft_that_does_not_run(ada: Client, definition: dict[str, Any]) -> None:
    pipeline = (await ada.one(CREATE, input={"name": "p", "definition": definition}))["pipeline"]
    assert (pipeline["status"], pipeline["validatedAt"]) == ("DRAFT", None)
    forced = await ada.one(UPDATE, input={"id": pipeline["id"], "status": "VALIDATED"})
    assert (forced["code"], [issue["path"] for issue in forced["issues"]]) == ("INVALID_INPUT", [["definition", "nodes"]])


async def test_a_definition_that_chooses_rows_for_no_training_is_a_draft(ada: Client) -> None:
    definition = {"nodes": [DATA, {"key": "sample", "step": "sample_rows"}], "links": links("data>sample")}
    pipeline = (await ada.one(CREATE, input={"name": "p", "definition": definition}))["pipeline"]
    assert pipeline["status"] == "DRAFT"
    forced = await ada.one(UPDATE, input={"id": pipeline["id"], "status": "VALIDATED"})
    assert [(issue["path"], issue["message"].split(",")[0]) for issue in forced["issues"]] == [
        (["definition", "nodes", "1"], "'sample' chooses the rows that a training learns from")
    ]


@pytest.mark.parametrize(
    ("nodes", "drawn", "path"),
    [
        ([DATA, {"key": "x", "step": "no_such_step"}], ["data>x"], ["definition", "nodes", "1", "step"]),
        ([DATA, {**SCALE, "parameters": {"method": "loud"}}], ["data>scale"], ["definition", "nodes", "1", "parameters", "method"]),
        ([DATA, {**SCALE, "parameters": {"volume": 11}}], ["data>scale"], ["definition", "nodes", "1", "parameters", "volume"]),
        ([DATA, {**SCALE, "parameters": [1]}], ["data>scale"], ["definition", "nodes", "1", "parameters"]),
        ([DATA, SCALE, TRAIN], ["data>scale"], ["definition", "nodes", "2"]),
        ([DATA, SCALE, TRAIN], ["data>scale", "scale>train", "data>train"], ["definition", "links", "2", "target"]),
        ([DATA, SCALE], ["data>scale", "scale>nowhere"], ["definition", "links", "1", "target"]),
        ([DATA, SCALE], ["scale>data"], ["definition", "links", "0", "target"]),
        ([DATA, DATA], [], ["definition", "nodes", "1", "key"]),
        ([DATA, {**DATA, "key": "more"}, SCALE], ["data>scale"], ["definition", "nodes", "1"]),
        ([DATA, TRAIN, {**TRAIN, "key": "again"}], ["data>train", "train>again"], ["definition", "nodes", "2"]),
        ([DATA, SCALE, {**SCALE, "key": "b"}], ["data>scale", "data>b"], ["definition", "links", "1", "source"]),
        ([DATA, TRAIN, SCALE], ["data>train", "train>scale"], ["definition", "links", "1", "target"]),
        ([DATA, {"key": "measure", "step": "evaluate"}], ["data>measure"], ["definition", "nodes", "1"]),
        ([DATA, {"key": "s", "step": "split"}, {"key": "t", "step": "split"}], ["data>s", "s>t"], ["definition", "nodes", "2"]),
        ([{"key": "a b", "step": "dataset"}], [], ["definition", "nodes", "0", "key"]),
        ([SCALE, {**SCALE, "key": "b"}], ["scale>b", "b>scale"], ["definition", "links", "0"]),
    ],
)
async def test_an_unsound_definition_is_refused_at_its_place(ada: Client, nodes: list[Any], drawn: list[str], path: list[str]) -> None:
    refused = await ada.one(CREATE, input={"name": "p", "definition": {"nodes": nodes, "links": links(*drawn)}})
    assert refused.get("code") == "INVALID_INPUT", refused
    assert path in [issue["path"] for issue in refused["issues"]]
    assert (await ada.one("{ pipelines { totalCount } }")) == {"totalCount": 0}


SPLIT = {"key": "split", "step": "split"}
CONTRADICTIONS: dict[str, tuple[list[Any], list[tuple[list[str], str]]]] = {
    "the time of a split": (
        [{**SPLIT, "parameters": {"strategy": "time"}}],
        [(["1", "parameters", "time_column"], "The strategy 'time' needs this parameter: the column that the rows are ordered by.")],
    ),
    "no column for the time": (
        [{**SPLIT, "parameters": {"strategy": "time", "time_column": None}}],
        [(["1", "parameters", "time_column"], "The strategy 'time' needs this parameter: the column that the rows are ordered by.")],
    ),
    "columns of other strategies": (
        [{**SPLIT, "parameters": {"strategy": "random", "time_column": "t", "stratify_by": "s"}}],
        [
            (["1", "parameters", "stratify_by"], "Only the strategies 'auto' and 'stratified' can use this parameter."),
            (["1", "parameters", "time_column"], "Only the strategy 'time' can use this parameter."),
        ],
    ),
    "no validation rows": (
        [
            SPLIT,
            {"key": "train", "step": "train_lightgbm", "parameters": {"early_stopping_rounds": 5}},
            {"key": "measure", "step": "evaluate", "parameters": {"part": "validation"}},
        ],
        [
            (["2", "parameters", "early_stopping_rounds"], "This needs validation rows, and the pipeline holds none out."),
            (["3", "parameters", "part"], "This needs validation rows, and the pipeline holds none out."),
        ],
    ),
    "values of conditions": (
        [
            {
                "key": "keep",
                "step": "filter_rows",
                "parameters": {
                    "conditions": [
                        {"column": "x", "operator": "between", "value": [1]},
                        {"column": "x", "operator": "in", "value": 1},
                        {"column": "x", "operator": "less_than"},
                        {"column": "x", "operator": "is_missing"},
                        {"column": "x", "operator": "between", "value": [1, 2]},
                    ]
                },
            }
        ],
        [
            (["1", "parameters", "conditions", "0", "value"], "'between' takes two values, [lowest, highest]."),
            (["1", "parameters", "conditions", "1", "value"], "'in' and 'not_in' take a list of values."),
            (["1", "parameters", "conditions", "2", "value"], "This operator takes one value."),
        ],
    ),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
async def test_all_contradictions_within_a_definition_are_told(ada: Client, name: str) -> None:
    added, expected = CONTRADICTIONS[name]
    nodes = [DATA, *added]
    drawn = [f"{before['key']}>{node['key']}" for before, node in pairwise(nodes)]
    refused = await ada.one(CREATE, input={"name": "p", "definition": {"nodes": nodes, "links": links(*drawn)}})
    found = [(issue["path"], issue["message"]) for issue in refused["issues"]]
    assert [path for path, _ in found] == [["definition", "nodes", *path] for path, _ in expected]
    assert all(message.startswith(words) for (_, message), (_, words) in zip(found, expected, strict=True)), found
    assert (await ada.one("{ pipelines { totalCount } }")) == {"totalCount": 0}


async def test_validation_rows_of_the_split_are_enough_for_what_needs_them(ada: Client) -> None:
    nodes = [
        DATA,
        {**SPLIT, "parameters": {"validation_fraction": 0.2}},
        {"key": "train", "step": "train_lightgbm", "parameters": {"early_stopping_rounds": 5}},
        {"key": "measure", "step": "evaluate", "parameters": {"part": "validation"}},
    ]
    definition = {"nodes": nodes, "links": links("data>split", "split>train", "train>measure")}
    assert (await ada.one(CREATE, input={"name": "p", "definition": definition}))["pipeline"]["status"] == "VALIDATED"


async def test_a_change_counts_the_version_up_and_a_stale_one_conflicts(ada: Client) -> None:
    definition = {"nodes": [DATA, SCALE], "links": links("data>scale")}
    pipeline = (await ada.one(CREATE, input={"name": "p", "definition": definition}))["pipeline"]
    changed = (await ada.one(UPDATE, input={"id": pipeline["id"], "expectedVersion": 1, "description": "d"}))["pipeline"]
    assert (changed["version"], changed["status"], changed["description"]) == (2, "VALIDATED", "d")
    assert (await ada.one(UPDATE, input={"id": pipeline["id"], "expectedVersion": 1, "name": "q"}))["code"] == "CONFLICT"
    emptied = (await ada.one(UPDATE, input={"id": pipeline["id"], "definition": {"nodes": [], "links": []}}))["pipeline"]
    assert (emptied["version"], emptied["status"], emptied["name"]) == (3, "DRAFT", "p")


async def test_an_archived_pipeline_keeps_its_definition_and_does_not_run(ada: Client, worker: object) -> None:
    version = await ada.ingest("d", "x,y\n1,2\n3,4\n")
    pipeline = (await ada.create_pipeline("p", ("data", "dataset", {}), ("scale", "scale", {})))["pipeline"]
    await ada.one(UPDATE, input={"id": pipeline["id"], "status": "ARCHIVED"})
    refused = await ada.one(UPDATE, input={"id": pipeline["id"], "definition": {"nodes": [DATA], "links": []}})
    assert (refused["code"], refused["state"]) == ("WRONG_STATE", "ARCHIVED")
    assert (await ada.run_pipeline(pipeline["id"], version))["state"] == "ARCHIVED"


async def test_steps_carry_a_json_schema_and_filter_by_modality(ada: Client) -> None:
    steps = await ada.one("{ stepDefinitions(modality: TABULAR) { key type title description modalities parameterSchema } }")
    assert {"dataset", "select_columns", "split", "train_lightgbm", "evaluate"} <= {step["key"] for step in steps}
    assert all(step["parameterSchema"]["$schema"].endswith("2020-12/schema") for step in steps)
    keys = {
        modality: {step["key"] for step in await ada.one(f"{{ stepDefinitions(modality: {modality}) {{ key }} }}")}
        for modality in ("TABULAR", "AUDIO", "SIGNAL", "IMAGE", "VIDEO")
    }
    # What works on tables works on the table of every kind.
    assert keys["AUDIO"] - keys["SIGNAL"] == {"audio_mono", "resample_audio", "trim_audio", "audio_features"}
    assert {"detrend_signal", "signal_windows", "signal_features"} <= (keys["SIGNAL"] & keys["AUDIO"]) - keys["TABULAR"]
    assert not keys["TABULAR"] - (keys["AUDIO"] & keys["SIGNAL"])
    assert keys["VIDEO"] - keys["IMAGE"] == {"sample_frames", "video_pixels", "video_hog", "video_colours", "video_motion"}
    assert {"resize_image", "flip_image"} <= (keys["VIDEO"] & keys["IMAGE"]) - keys["TABULAR"]
    assert not keys["TABULAR"] - keys["VIDEO"]
