"""The demo: three tables with three trainings each, then signals of bearings with two; the best model of each becomes `production`."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.tree import Tree

from server.demo.api import Api, ApiError

EXPERIMENT = "Demo"
START_TIMEOUT = 90.0
WATCH = "subscription($id: ID!) { jobEvents(id: $id) { type status progress step message } }"


@dataclass(frozen=True)
class Example:
    """Data, its problem type, the metric that decides, and estimators to compare.

    The data is a table that ships with scikit-learn, by its `loader`, or what a generator of Trellis writes.
    """

    name: str
    problem: str
    metric: str
    estimators: tuple[str, ...]
    loader: str | None = None
    generator: str | None = None
    modality: str = "TABULAR"
    target: str = "target"
    description: str = "Ships with scikit-learn."
    split: Mapping[str, Any] = field(default_factory=dict[str, Any])
    exclude: tuple[str, ...] = ()


EXAMPLES = (
    Example("breast-cancer", "CLASSIFICATION", "accuracy", ("logistic_regression", "random_forest", "lightgbm"), "load_breast_cancer"),
    Example("wine", "CLASSIFICATION", "accuracy", ("logistic_regression", "random_forest", "gradient_boosting"), "load_wine"),
    Example("diabetes", "REGRESSION", "rmse", ("ridge_regression", "random_forest", "gradient_boosting"), "load_diabetes"),
)
SIGNALS = (
    Example(
        "bearings",
        "CLASSIFICATION",
        "accuracy",
        ("random_forest", "lightgbm"),
        generator="bearing_vibration",
        modality="SIGNAL",
        target="label",
        description="Vibration of bearings with faults, in as much noise as signal.",
        split={"strategy": "group", "group_column": "group"},
        exclude=("key", "split", "severity"),
    ),
)


@dataclass
class TrainingResult:
    """One finished training."""

    example: Example
    estimator: str
    run: str


def main(url: str, data_dir: Path) -> int:
    """Run the demo against the Trellis at `url`, with or without `/graphql`; if none answers, start one on `data_dir` and stop it at the
    end. Return the exit status.
    """
    console = Console()
    url = url.rstrip("/").removesuffix("/graphql")  # `trellis up` prints it with /graphql
    server_process: subprocess.Popen[bytes] | None = None
    try:
        if not _is_ready(url):
            console.print(f"No Trellis answers at {url}; starting one on {data_dir} …")
            server_process = _start_server(url, data_dir)
        started_at = time.monotonic()
        asyncio.run(_run_demo(console, url, _token(data_dir)))
        hint = "`make up` shows the results" if server_process is not None else f"Look around at {url}/graphql"
        console.print(f"\nDone in {time.monotonic() - started_at:.0f} s. {hint}.")
    except (ApiError, httpx.HTTPError, OSError, RuntimeError) as error:
        console.print(f"[bold red]The demo stopped:[/] {error}")
        return 1
    finally:
        if server_process is not None:
            server_process.terminate()
            server_process.wait(20)
    return 0


def _is_ready(url: str) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(f"{url}/readyz", timeout=2).json().get("status") == "ready"
    return False


def _start_server(url: str, data_dir: Path) -> subprocess.Popen[bytes]:
    address = httpx.URL(url)
    command = [
        sys.executable,
        "-m",
        "server.cli",
        "up",
        "--host",
        address.host,
        "--port",
        str(address.port or 80),
        "--data-dir",
        str(data_dir),
    ]
    log = data_dir / "demo.log"
    data_dir.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)  # noqa: S603 - our own command, no shell
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if _is_ready(url):
            return process
        if process.poll() is not None:
            raise RuntimeError(f"`trellis up` exited with status {process.returncode}; {log} says why.")
        time.sleep(0.2)
    process.terminate()
    raise RuntimeError(f"`trellis up` was not ready after {START_TIMEOUT:.0f} s; see {log}.")


def _token(data_dir: Path) -> str:
    token = os.environ.get("TRELLIS_ADMIN_TOKEN")
    if token:
        return token
    path = data_dir / "admin-token"
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise RuntimeError(
            f"There is no token: set TRELLIS_ADMIN_TOKEN, or point --data-dir at the folder that holds admin-token ({path})."
        ) from None


async def _run_demo(console: Console, url: str, token: str) -> None:
    async with AsyncExitStack() as stack:
        api = Api(url, token)
        stack.push_async_callback(api.close)
        viewer = await api.execute("{ viewer { username role } }")
        console.print(f"Signed in as [bold]{viewer['username']}[/] ({viewer['role']}).")
        columns = (
            TextColumn("{task.description:<38}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[step]:<40}"),
            TimeElapsedColumn(),
        )
        for examples in (EXAMPLES, SIGNALS):
            with Progress(*columns, console=console) as progress:
                versions = await asyncio.gather(*(_ingest(api, progress, example) for example in examples))
                experiment = await api.find_or_create(
                    "experiment",
                    EXPERIMENT,
                    description="The tables of scikit-learn and signals of bearings, with several estimators each.",
                )
                trainings = [
                    _train(api, progress, example, estimator, version, experiment)
                    for example, version in zip(examples, versions, strict=True)
                    for estimator in example.estimators
                ]
                results = await asyncio.gather(*trainings)
            await (_profiles if examples is EXAMPLES else _items)(api, console, versions)
            for example in examples:
                await _compare(api, console, example, [result for result in results if result.example is example])


async def _ingest(api: Api, progress: Progress, example: Example) -> str:
    dataset = await api.find_or_create(
        "dataset",
        example.name,
        modality=example.modality,
        problemType=example.problem,
        targetColumn=example.target,
        description=example.description,
    )
    if example.generator is not None:
        bar = progress.add_task(f"generate {example.name}", total=100, step="waiting")
        made = await api.mutate("generateDataset", "version { id } job { id }", datasetId=dataset, generator=example.generator, seed=7)
        version, job = made["version"]["id"], made["job"]["id"]
    else:
        content = await asyncio.to_thread(_csv, example)
        bar = progress.add_task(f"ingest {example.name}", total=100, step="uploading")
        version, job = await api.upload(dataset, f"{example.name}.csv", content)
    await _watch(api, progress, bar, job)
    return version


def _csv(example: Example) -> bytes:
    import polars as pl  # heavy, and needed only by the demo
    import sklearn.datasets

    assert example.loader is not None
    bunch: Any = getattr(sklearn.datasets, example.loader)()
    table = pl.DataFrame(bunch.data, schema=[str(name) for name in bunch.feature_names]).with_columns(target=pl.Series(bunch.target))
    return table.write_csv().encode()


async def _train(api: Api, progress: Progress, example: Example, estimator: str, version: str, experiment: str) -> TrainingResult:
    name = f"{example.name} {estimator}"
    steps: list[tuple[str, str, dict[str, Any]]] = [
        ("data", "dataset", {}),
        ("split", "split", {"test_fraction": 0.3, **example.split}),
        ("scale", "scale", {}),
        ("train", f"train_{estimator}", {"exclude": list(example.exclude)}),
        ("evaluate", "evaluate", {}),
    ]
    definition = {
        "nodes": [{"key": key, "step": step, "parameters": parameters} for key, step, parameters in steps],
        "links": [{"source": before[0], "target": after[0]} for before, after in itertools.pairwise(steps)],
    }
    pipeline = await api.find_or_create("pipeline", name, definition=definition)
    bar = progress.add_task(name, total=100, step="waiting")
    payload = await api.mutate(
        "runPipeline",
        "job { id } run { id }",
        pipelineId=pipeline,
        datasetVersionId=version,
        experimentId=experiment,
        modelName=example.name,
        seed=7,
    )
    await _watch(api, progress, bar, payload["job"]["id"])
    return TrainingResult(example, estimator, payload["run"]["id"])


async def _watch(api: Api, progress: Progress, bar: TaskID, job: str) -> None:
    async for event in api.subscribe(WATCH, id=job):
        progress.update(bar, completed=event["progress"], step=(event["step"] or event["type"].lower())[:40])
        if event["status"] in {"FAILED", "CANCELLED"}:
            raise ApiError(f"The job {job} ended {event['status']}: {event['message']}")


async def _profiles(api: Api, console: Console, versions: list[str]) -> None:
    table = Table(title="What was ingested")
    for heading in ("dataset", "rows", "columns", "missing", "duplicates", "strongest correlation with the target"):
        table.add_column(heading)
    query = (
        "query($ids: [ID!]!) { nodes(ids: $ids) { ... on DatasetVersion { rowCount columnCount dataset { name }"
        " profile { missingCellRatio duplicateRowCount correlations } } } }"
    )
    for version in await api.execute(query, ids=versions):
        profile = version["profile"]
        table.add_row(
            version["dataset"]["name"],
            str(version["rowCount"]),
            str(version["columnCount"]),
            f"{profile['missingCellRatio']:.1%}",
            str(profile["duplicateRowCount"]),
            _strongest(profile["correlations"]),
        )
    console.print(table)


async def _items(api: Api, console: Console, versions: list[str]) -> None:
    table = Table(title="What was generated")
    for heading in ("dataset", "signals", "samples", "Hz", "classes", "severities", "splits"):
        table.add_column(heading)
    query = (
        "query($ids: [ID!]!) { nodes(ids: $ids) { ... on DatasetVersion { itemCount dataset { name } signal { samples sampleRate }"
        " classLabels { label count } severityLevels { label count } splits { label count } } } }"
    )

    def listed(counts: list[dict[str, Any]]) -> str:
        return ", ".join(f"{entry['label']} ({entry['count']})" for entry in counts)

    for version in await api.execute(query, ids=versions):
        signal = version["signal"]
        table.add_row(
            version["dataset"]["name"],
            str(version["itemCount"]),
            str(signal["samples"]),
            f"{signal['sampleRate']:g}",
            *(listed(version[name]) for name in ("classLabels", "severityLevels", "splits")),
        )
    console.print(table)


def _strongest(correlations: dict[str, Any]) -> str:
    names, matrix = correlations["columns"], correlations["matrix"]
    row = matrix[names.index("target")]
    pairs = [(abs(value), value, name) for value, name in zip(row, names, strict=True) if name != "target" and value is not None]
    _, value, name = max(pairs)
    return f"{name} ({value:+.2f})"


async def _compare(api: Api, console: Console, example: Example, results: list[TrainingResult]) -> None:
    comparison = await api.execute(
        "query($ids: [ID!]!) { compareRuns(ids: $ids) { runs { id number duration modelVersion { id number algorithm } }"
        " metrics { key values bestIndex } } }",
        ids=[result.run for result in results],
    )
    metrics = {metric["key"]: metric for metric in comparison["metrics"]}
    decisive = metrics[example.metric]
    best_index = decisive["bestIndex"]
    metric_keys = [example.metric, *(key for key in ("f1_macro", "roc_auc", "log_loss", "mae", "r2") if key in metrics)]
    table = Table(title=f"{example.name}: compared by {example.metric}")
    for heading in ("run", "algorithm", "seconds", *metric_keys, ""):
        table.add_column(heading)
    for index, run in enumerate(comparison["runs"]):
        values = [metrics[key]["values"][index] for key in metric_keys]
        numbers = [f"{value:.4f}" if value is not None else "–" for value in values]
        label = "★ production" if index == best_index else ""
        table.add_row(
            f"#{run['number']}",
            run["modelVersion"]["algorithm"],
            f"{run['duration']:.1f}",
            *numbers,
            label,
            style="bold" if index == best_index else "",
        )
    console.print(table)
    winner = comparison["runs"][best_index]["modelVersion"]["id"]
    reason = f"best {example.metric} of {len(results)}: {decisive['values'][best_index]:.4f}"
    await api.mutate("setModelAlias", "modelVersion { id }", modelVersionId=winner, name="production", reason=reason)
    await _lineage(api, console, example, winner)


async def _lineage(api: Api, console: Console, example: Example, version: str) -> None:
    lineage = await api.execute(
        "query($id: ID!) { lineage(id: $id, direction: UPSTREAM) { nodes { nodeId kind label status aliases depth } edges { source target relation } } }",
        id=version,
    )
    nodes = {node["nodeId"]: node for node in lineage["nodes"]}

    def describe(node_id: str) -> str:
        node = nodes[node_id]
        aliases = f" [green]({', '.join(node['aliases'])})[/]" if node["aliases"] else ""
        return f"{node['kind'].lower().replace('_', ' ')}: [bold]{node['label']}[/]{aliases}"

    def add_branches(tree: Tree, node_id: str, visited: set[str]) -> None:
        for edge in lineage["edges"]:
            if edge["target"] == node_id and edge["source"] not in visited:
                branch = tree.add(f"{describe(edge['source'])} [dim]{edge['relation'].lower().replace('_', ' ')}[/]")
                add_branches(branch, edge["source"], visited | {edge["source"]})

    tree = Tree(f"Where {example.name}'s production model comes from: {describe(version)}")
    add_branches(tree, version, {version})
    console.print(tree)
