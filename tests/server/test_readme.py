"""The five queries of the README, and its predictions, run one after the other, as they stand there."""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.client import Client

README = Path("README.md").read_text(encoding="utf-8")
VARIABLES = {"dataset": "dataset", "upload": "upload", "version": "version", "pipeline": "pipeline", "job": "job", "model": "mversion"}

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="no curl is installed on this machine")


def code_of(title: str) -> list[tuple[str, str]]:
    """The language and the text of each block of code of the section, in order."""
    section = README.partition(f"## {title}\n")[2].partition("\n## ")[0]
    return re.findall(r"```(\w+)\n(.+?)```", section, re.DOTALL)


def ids_in(value: Any, path: tuple[str, ...] = ()) -> dict[str, str]:
    """Every id of an answer, by the prefix that tells its kind, and those of runs by their alias in the document."""
    if isinstance(value, list):
        return {name: found for part in value for name, found in ids_in(part, path).items()}
    if not isinstance(value, dict):
        return {}
    found: dict[str, str] = {}
    for key, part in value.items():
        if key == "id":
            kind = part.partition("_")[0]
            found[path[0] if kind == "run" else next((name for name, prefix in VARIABLES.items() if prefix == kind), kind)] = part
        else:
            found |= ids_in(part, (*path, key))
    return found


@needs_curl
async def test_the_five_queries_and_the_predictions_run_in_order(admin: Client, worker: object) -> None:
    known: dict[str, str] = {}
    answers: list[dict[str, Any]] = []
    for language, text in (*code_of("Five queries to try"), *code_of("Predict")):
        if language == "sh":
            upload = answers[-1]["requestUpload"]["upload"]
            process = await asyncio.create_subprocess_shell(text.replace("url='…'", f"url='{upload['url']}'"))
            assert await process.wait() == 0
            continue
        variables = {name: known[name] for name in re.findall(r"\$(\w+):", text)}
        if text.startswith("subscription"):
            events = [event["jobEvents"] async for event in admin.subscribe(text, **variables)]
            assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
            assert (events[-1]["type"], events[-1]["progress"]) == ("COMPLETED", 100)
            answers.append({"jobEvents": events[-1]})
        else:
            answers.append(await admin.execute(text, **variables))
        known |= ids_in(answers[-1])
        for job in re.findall(r"job_[0-9a-f]{32}", str(answers[-1])):
            ended = await admin.wait(job)
            assert ended["status"] == "COMPLETED", ended

    predicted = answers.pop()["job"]
    assert (predicted["status"], predicted["modelVersion"]["model"]) == ("COMPLETED", {"name": "iris"})
    assert predicted["result"]["classes"] == ["setosa", "versicolor", "virginica"]
    assert [row["prediction"] for row in predicted["result"]["predictions"]] == ["virginica"]
    assert predicted["result"]["issues"] == []
    last = next(answer for answer in answers if "compareRuns" in answer)
    assert [(row["key"], row["values"]) for row in last["compareRuns"]["parameters"]] == [("C", [1.0, 0.01])]
    accuracy = next(row for row in last["compareRuns"]["metrics"] if row["key"] == "accuracy")
    assert accuracy["values"][0] > accuracy["values"][1]
    assert accuracy["bestIndex"] == 0
    kinds = [node["kind"] for node in last["lineage"]["nodes"]]
    assert set(kinds) >= {"MODEL_VERSION", "RUN", "JOB", "DATASET_VERSION", "PIPELINE_SNAPSHOT"}
