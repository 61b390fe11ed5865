"""The body of EXPLAIN jobs."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

import numpy as np
import polars as pl

from workers.ml.contents.places import ItemFiles
from workers.ml.convolution.estimators import ConvolutionalNetwork
from workers.ml.errors import BadInput
from workers.ml.explaining import plots
from workers.ml.explaining.contributions import (
    Contributions,
    class_labels,
    columns_of,
    integrated_gradients,
    linear,
    output_labels,
    tree_shap,
)
from workers.ml.explaining.documents import Told, tell_contributions, tell_curves, tell_occlusion, tell_permutation
from workers.ml.explaining.groups import chosen, sources_of
from workers.ml.explaining.occlusion import ExplainedItem, occlusion
from workers.ml.explaining.outputs import Outputs
from workers.ml.explaining.partial_dependence import partial_dependence
from workers.ml.explaining.permutation import permutation_importance
from workers.ml.explaining.rows import ExplainedRows, held_out_rows, requested_rows, row_limit, table_row, version_rows
from workers.ml.node_errors import RETRYABLE
from workers.ml.prediction.contents import ContentReader
from workers.ml.prediction.loading import load_predictor
from workers.ml.prediction.predictor import PipelinePredictor, Predictor
from workers.ml.reporting import Reporter
from workers.ml.trainer import THREADS, thread_pools

MAX_DOCUMENT_BYTES = 1024**2
MAX_DEPENDENCE_PLOTS = 3
CONTRIBUTIONS = ("TREE_SHAP", "LINEAR", "INTEGRATED_GRADIENTS")
READ_PERCENT, EXPLAINED_PERCENT = 20.0, 90.0
PNG, PARQUET = "image/png", "application/vnd.apache.parquet"


class Options(TypedDict):
    """As the job's parameters: `features` and `classLabel` None for all, or the method's default."""

    method: Literal["TREE_SHAP", "LINEAR", "INTEGRATED_GRADIENTS", "PERMUTATION", "PARTIAL_DEPENDENCE", "OCCLUSION"]
    maxRows: int
    features: list[str] | None
    classLabel: str | None
    seed: int


class ExplanationSpec(TypedDict):
    """Paths of the model's file, its signature and the rows that it was measured on, if they were kept; then the rows: `request` is a JSON list of
    objects, `parquet` the file of a version, of which `row` is the only one if it is not None, and `items` the files of its items, if the
    model reads them. Without any, the rows that the model was measured on. Plots go to `folder`."""

    model: str
    signature: str
    results: NotRequired[str]
    request: NotRequired[str]
    parquet: NotRequired[str]
    row: NotRequired[int | None]
    items: NotRequired[ItemFiles | None]
    options: Options
    folder: str


class ExplanationResult(TypedDict):
    """`attributions` are `Attribution`s; `data` is None where a file has it; `files` are {path, role, filename, content_type}."""

    attributions: list[dict[str, Any]]
    data: dict[str, Any] | None
    additivity_error: float | None
    rows: int
    files: list[dict[str, str]]


def explain(spec: ExplanationSpec, reporter: Reporter) -> ExplanationResult:
    """Raises BadInput: BAD_MODEL, NOT_SUPPORTED, NO_PREDICTIONS, NO_TARGET_VALUES, NO_BACKGROUND, BAD_CONTENT, and those of `FeatureReader.read`."""
    signature = json.loads(Path(spec["signature"]).read_bytes())
    reporter.progress(1, "Load the model")
    with thread_pools().limit(limits=THREADS):
        predictor = load_predictor(Path(spec["model"]), signature)
        explained = Explaining(signature, predictor, spec["options"], Path(spec["folder"]), reporter)
        if spec["options"]["method"] == "OCCLUSION":
            told = explained.item(spec)
        else:
            reporter.progress(5, "Read the rows")
            told = explained.rows(_read_rows(spec, signature, predictor), spec)
    return explained.result(told)


def _read_rows(spec: ExplanationSpec, signature: Mapping[str, Any], predictor: Predictor) -> ExplainedRows:
    options = spec["options"]
    outputs = len(output_labels(predictor)) if options["method"] in CONTRIBUTIONS else 1  # each of which a column contributes to
    limit = row_limit(options["maxRows"], len(signature["inputs"]) * outputs)
    if (request := spec.get("request")) is not None:
        return requested_rows(Path(request), signature, predictor, limit, options["seed"])
    if (parquet := spec.get("parquet")) is not None:
        contents = None if (files := spec.get("items")) is None else ContentReader(signature["contents"], files)
        return version_rows(Path(parquet), signature, predictor, contents, limit, options["seed"], spec.get("row"))
    return held_out_rows(Path(spec.get("results", "")), signature, limit, options["seed"])


class Explaining:
    """One explanation: what the method tells, and its files."""

    def __init__(self, signature: Mapping[str, Any], predictor: Predictor, options: Options, folder: Path, reporter: Reporter) -> None:
        self._signature, self._predictor, self._options = signature, predictor, options
        self._folder, self._reporter = folder, reporter
        self._files: list[dict[str, str]] = []
        self._target: str | None = signature["output"].get("target")

    def result(self, told: Told) -> ExplanationResult:
        data: dict[str, Any] | None = told.document
        if len(json.dumps(data, ensure_ascii=False).encode()) > MAX_DOCUMENT_BYTES:
            data = None
            told.table().write_parquet(self._file("EXPLANATION_DATA", "explanation.parquet", PARQUET), compression="zstd")
        self._reporter.progress(100, "Explain")
        return {
            "attributions": [dict(each) for each in told.attributions],
            "data": data,
            "additivity_error": told.error,
            "rows": told.rows,
            "files": [file for file in self._files if Path(file["path"]).exists()],
        }

    def _file(self, role: str, filename: str, content_type: str = PNG) -> Path:
        path = self._folder / filename
        self._files.append({"role": role, "filename": filename, "content_type": content_type, "path": str(path)})
        return path

    def _progress(self, verb: str) -> Callable[[float], None]:
        def report(share: float) -> None:
            self._reporter.progress(READ_PERCENT + (EXPLAINED_PERCENT - READ_PERCENT) * share, f"{verb}: {share:.0%}")

        return report

    def item(self, spec: ExplanationSpec) -> Told:
        files, row, parquet = spec.get("items"), spec.get("row"), spec.get("parquet")
        if files is None or row is None or parquet is None:
            raise BadInput("NOT_SUPPORTED", "OCCLUSION explains an item whose contents the model reads. Name one.")
        contents = ContentReader(self._signature["contents"], files)
        table = table_row(Path(parquet), self._signature, self._predictor, row)
        explained = ExplainedItem(contents, row, table, self._signature, self._predictor)
        found = occlusion(explained, self._options["classLabel"], self._progress("Hide parts"))
        quantity = Outputs.of(self._predictor, found.label, self._target).quantity
        named = quantity if found.label is None else f"the {quantity} of {found.label}"
        with optional_plot(self._reporter):
            plots.plot_occlusion(found, named, self._file("OCCLUSION_PLOT", "occlusion.png"))
        return tell_occlusion(found, quantity)

    def rows(self, rows: ExplainedRows, spec: ExplanationSpec) -> Told:
        """Explain many rows, or one."""
        for issue in rows.issues:
            self._reporter.log(str(issue["message"]))
        match self._options["method"]:
            case "PERMUTATION":
                return self._permutation(rows)
            case "PARTIAL_DEPENDENCE":
                return self._partial_dependence(rows)
            case "TREE_SHAP":
                found, explained = tree_shap(self._predictor, rows.features, self._options["seed"], self._progress("Explain"))
                return self._contributions(found, replace(rows, features=explained))
            case "INTEGRATED_GRADIENTS":
                background, seed = self._background(rows, spec), self._options["seed"]
                found, explained = integrated_gradients(self._predictor, rows.features, background, seed, self._progress("Explain"))
                return self._contributions(found, replace(rows, features=explained))
            case _:
                found = linear(self._predictor, rows.features, self._background(rows, spec), self._progress("Explain"))
                return self._contributions(found, rows)

    def _background(self, rows: ExplainedRows, spec: ExplanationSpec) -> pl.DataFrame:
        """The rows whose mean values are compared with: the held-out ones, if the model has them. Raises BadInput (NO_BACKGROUND)."""
        if (results := spec.get("results")) is not None:
            limit = row_limit(10_000, rows.features.width)
            return held_out_rows(Path(results), self._signature, limit, self._options["seed"]).features
        if rows.features.height < 2:
            message = (
                f"{self._options['method']} compares values with their mean over many rows, and this model version has none of its own."
            )
            raise BadInput("NO_BACKGROUND", f"{message} Explain at least two rows.")
        return rows.features

    def _permutation(self, rows: ExplainedRows) -> Told:
        if rows.truth is None:
            raise BadInput(
                "NO_TARGET_VALUES", "PERMUTATION compares predictions with the target, which these rows do not have. Choose others."
            )
        groups = sources_of(self._signature)
        names = chosen(groups, self._options["features"])
        found = permutation_importance(
            self._predictor, rows.features, rows.truth, groups, names, self._options["seed"], self._progress("Exchange values")
        )
        with optional_plot(self._reporter):
            verb = "rises" if found.metric == "rmse" else "falls"
            plots.plot_bars(
                names,
                found.losses.mean(axis=1).tolist(),
                f"Permutation importance, {rows.features.height:,} rows",
                f"how much {found.metric} {verb} without the column ({found.score:.4g} with it)",
                self._file("BAR_PLOT", "importance.png"),
                found.losses.std(axis=1).tolist(),
            )
        return tell_permutation(found, names, rows.features.height, rows.total)

    def _partial_dependence(self, rows: ExplainedRows) -> Told:
        outputs = Outputs.of(self._predictor, self._options["classLabel"], self._target)
        names = [name for name in rows.features.columns if self._options["features"] is None or name in self._options["features"]]
        curves = partial_dependence(outputs, rows.features, names, self._options["seed"], self._progress("Draw curves"))
        told = tell_curves(curves, outputs, rows.features.height, rows.total)
        if curves:
            most = {name: number for number, name in enumerate(dict.fromkeys(each["feature"] for each in told.attributions))}
            ordered = sorted(curves, key=lambda curve: most.get(curve.feature, len(most)))
            for number, label in enumerate(outputs.labels[:MAX_DEPENDENCE_PLOTS], start=1):
                quantity = f"mean {outputs.quantity}" + ("" if label is None else f" of {label}")
                with optional_plot(self._reporter):
                    path = self._file("PARTIAL_DEPENDENCE_PLOT", f"partial_dependence_{number}.png")
                    plots.plot_curves(ordered, number - 1, quantity, path)
        return told

    def _contributions(self, found: Contributions, rows: ExplainedRows) -> Told:
        """Sum up the contributions by columns of the data, and draw them."""
        classes, label = class_labels(self._predictor), self._options["classLabel"]
        if label is not None:
            found = found.of_class(label, classes)
        groups = sources_of(self._signature)
        positions = {name: number for number, name in enumerate(rows.features.columns)}
        grouped = found.summed([[positions[name] for name in members] for members in groups.values()])
        error = grouped.error
        names = chosen(groups, self._options["features"])
        order = {name: number for number, name in enumerate(groups)}
        shown = Contributions(
            grouped.labels, grouped.values[..., [order[name] for name in names]], grouped.base, grouped.predictions, grouped.scale
        )
        values = {name: rows.features[members[0]].alias(name) for name, members in groups.items() if name in names and len(members) == 1}
        predicted = self._predictor.predict(rows.features).values
        told = tell_contributions(shown, names, values, predicted, rows.total)
        self._draw(shown, names, values, predicted)
        self._draw_places(found, rows.features.columns, _drawn_output(found, predicted))
        return Told(told.attributions, told.document, told.table, error, told.rows)

    def _draw_places(self, found: Contributions, columns: list[str], output: int) -> None:
        """Draw an image or a signal whose columns are explained, where they lie in it."""
        placed = _places(self._predictor, columns)
        if placed is None:
            return
        order, shape = placed
        matrix = np.empty_like(found.values[output])
        matrix[:, order] = found.values[output]
        sums = matrix.reshape(-1, *shape).sum(axis=3)
        is_one = len(sums) == 1
        title = "Contribution of each place" if is_one else f"Mean size of the contribution of each place, {len(sums):,} rows"
        axis = found.scale if found.labels[output] is None else f"{found.scale} of {found.labels[output]}"
        with optional_plot(self._reporter):
            places = sums[0] if is_one else np.abs(sums).mean(axis=0)
            plots.plot_map(places, title, axis, self._file("CONTRIBUTION_MAP", "map.png"))

    def _draw(self, found: Contributions, names: list[str], values: dict[str, pl.Series], predicted: np.ndarray) -> None:
        output = _drawn_output(found, predicted)
        subject = {"value": str(self._target)}.get(
            found.scale, f"{found.scale} of {found.labels[output]}" if found.labels[output] else found.scale
        )
        axis = plots.shorten(f"contribution to the {subject}" if found.scale != "value" else f"contribution to {subject}", 60)
        matrix = found.values[output]
        if len(matrix) == 1:
            with optional_plot(self._reporter):
                title = f"One prediction: {found.predictions[output, 0]:.4g}, {found.base[output]:.4g} without any column"
                plots.plot_bars(names, matrix[0].tolist(), title, axis, self._file("BAR_PLOT", "contributions.png"))
            return
        size = np.abs(matrix).mean(axis=0)
        with optional_plot(self._reporter):
            title = f"Mean size of contributions, {len(matrix):,} rows"
            plots.plot_bars(names, size.tolist(), title, f"mean size of the {axis}", self._file("BAR_PLOT", "importance.png"))
        with optional_plot(self._reporter):
            plots.plot_swarm(names, matrix, values, "Contributions of each row", axis, self._file("BEESWARM_PLOT", "beeswarm.png"))
        numeric = [
            index
            for index in np.argsort(-size, kind="stable").tolist()
            if names[index] in values and values[names[index]].dtype.is_numeric()
        ]
        for number, index in enumerate(numeric[:MAX_DEPENDENCE_PLOTS], start=1):
            series = values[names[index]].cast(pl.Float64).fill_null(np.nan).to_numpy()
            if np.isfinite(series).any():
                with optional_plot(self._reporter):
                    path = self._file("DEPENDENCE_PLOT", f"dependence_{number}.png")
                    plots.plot_dependence(names[index], series, matrix[:, index], axis, path)


def _places(predictor: Predictor, columns: list[str]) -> tuple[np.ndarray, tuple[int, int, int]] | None:
    """Of a network that reads images or signals, the places of its columns in a row, and the height, width and channels of these."""
    estimator: Any = getattr(predictor, "estimator", None)
    if not isinstance(estimator, ConvolutionalNetwork) or not isinstance(predictor, PipelinePredictor):
        return None
    outputs, layout = columns_of(predictor.transformer), estimator.layout
    if any(len(outputs.get(name, ())) != 1 for name in columns):
        return None
    return np.array([outputs[name][0] for name in columns]), (layout.height, layout.width, layout.channels)


def _drawn_output(found: Contributions, predicted: np.ndarray) -> int:
    """Of several classes, the one that most rows are predicted to be."""
    if len(found.labels) == 1:
        return 0
    texts = [str(value).lower() if isinstance(value, bool) else str(value) for value in predicted.tolist()]
    return max(range(len(found.labels)), key=lambda output: (texts.count(str(found.labels[output])), -output))


@contextmanager
def optional_plot(reporter: Reporter) -> Generator[None]:
    """Go on without a plot that cannot be drawn, and log why, unless another attempt may succeed."""
    try:
        yield
    except RETRYABLE:
        raise
    except Exception as error:  # noqa: BLE001 - numbers are not thrown away because they cannot be drawn
        reporter.log(f"A plot could not be drawn. {type(error).__name__}: {' '.join(str(error).split())}")
