"""Convolutional networks: what they compute, how large they are, and that trainings of images and signals learn."""

from __future__ import annotations

import csv
import io
import zipfile
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.signal import correlate2d

from tests.exhaustive import exhaustive
from tests.lazy_module import LazyModule
from tests.workers.pipeline_runner import artifact_path, chain, pipeline_error, run
from tests.workers.test_training_checkpoints import FRAME, SPLIT, curves, interrupted_training, model_contents

CONVOLUTIONS: Any = LazyModule("workers.ml.explaining.convolutions")
ESTIMATORS: Any = LazyModule("workers.ml.convolution.estimators")
LAYERS: Any = LazyModule("workers.ml.convolution.layers")
MODEL_FILE: Any = LazyModule("workers.ml.artifacts.model_file")
TRUST: Any = LazyModule("workers.ml.artifacts.trust")
needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="the extra `deep` is not installed")

# Of images with three channels and of odd sides, of signals, and of kernels and pools that do not fit.
NETWORKS: list[Any] = [
    ({"dimensions": 2, "kernel": 3, "depth": 2, "width": 4}, 192),
    exhaustive({"dimensions": 2, "channels": 1, "height": 5, "kernel": 4, "depth": 3, "width": 2, "activation": "tanh"}, 35),
    ({"dimensions": 1, "channels": 2, "kernel": 6, "pool": 3, "depth": 2, "width": 3, "growth": 1, "head": "average"}, 44),
    exhaustive({"dimensions": 1, "kernel": 1, "pool": 8, "depth": 1, "width": 2, "activation": "tanh", "head": "average"}, 7),
]
TARGETS = {"three classes": np.array(["one", "two", "three"] * 8), "two classes": np.array([0, 1] * 12), "numbers": np.arange(24) * 3.0 + 7}


def _network(parameters: dict[str, Any], columns: int, target: np.ndarray) -> tuple[Any, np.ndarray]:
    """An estimator with weights by chance, and rows."""
    rng = np.random.default_rng(8)
    matrix = rng.normal(size=(24, columns)) * 3 + 1
    kind = ESTIMATORS.ConvolutionalRegressor if target.dtype.kind == "f" else ESTIMATORS.ConvolutionalClassifier
    estimator = kind(**parameters)
    estimator.begin(matrix, target)
    estimator.weights_ = [weights + rng.normal(size=weights.shape).astype(np.float32) * np.float32(0.1) for weights in estimator.weights_]
    return estimator, matrix


def _outputs(estimator: Any, row: np.ndarray) -> np.ndarray:
    """What a network computes of one row, channel by channel, with the correlation of scipy."""
    layout = estimator.layout
    image = ((row.reshape(layout.height, layout.width, layout.channels) - estimator.mean_) / estimator.scale_).transpose(2, 0, 1)
    for number in range(estimator.depth):
        kernels, biases = estimator.weights_[2 * number : 2 * number + 2]
        down, across = kernels.shape[2:]
        padded = np.pad(image, ((0, 0), ((down - 1) // 2, down // 2), ((across - 1) // 2, across // 2)))
        image = np.stack(
            [
                sum(correlate2d(channel, kernel, "valid") for channel, kernel in zip(padded, kernels[output], strict=True)) + biases[output]
                for output in range(len(kernels))
            ]
        )
        image = np.maximum(image, 0) if estimator.activation == "relu" else np.tanh(image)
        pools = [estimator.pool if side >= estimator.pool else 1 for side in image.shape[1:]]
        if estimator.dimensions == 1:
            pools[0] = 1
        image = np.array(
            [
                [
                    [part[y : y + pools[0], x : x + pools[1]].max() for x in range(0, part.shape[1] - pools[1] + 1, pools[1])]
                    for y in range(0, part.shape[0] - pools[0] + 1, pools[0])
                ]
                for part in image
            ]
        )
    features = image.mean(axis=(1, 2)) if estimator.head == "average" else image.ravel()
    return estimator.weights_[-2] @ features + estimator.weights_[-1]


@pytest.mark.parametrize(("parameters", "columns"), NETWORKS)
def test_a_network_computes_what_its_layers_say_and_is_as_large_as_its_arrays(
    tmp_path: Path, parameters: dict[str, Any], columns: int
) -> None:
    import onnxruntime
    from skl2onnx import to_onnx
    from sklearn.pipeline import Pipeline

    from workers.ml.convolution import onnx_nodes

    onnx_nodes.register()
    for target in TARGETS.values():
        estimator, matrix = _network(parameters, columns, target)
        expected = np.array([_outputs(estimator, row) for row in matrix])
        np.testing.assert_allclose(estimator.outputs(matrix), expected, rtol=1e-4, atol=1e-4)
        sizes = LAYERS.convolutional(estimator.definition, estimator.layout, len(estimator.weights_[-1]))
        assert sizes.parameter_count == sum(weights.size for weights in estimator.weights_)
        assert sizes.size_bytes == sum(weights.nbytes for weights in estimator.weights_)
        is_classifier = hasattr(estimator, "classes_")
        options = {id(estimator): {"zipmap": False}} if is_classifier else None
        content: Any = to_onnx(estimator, matrix.astype(np.float32), options=options, target_opset={"": 18, "ai.onnx.ml": 3})
        session = onnxruntime.InferenceSession(content.SerializeToString(), providers=["CPUExecutionProvider"])
        results: Any = session.run(None, {session.get_inputs()[0].name: matrix.astype(np.float32)})
        if is_classifier:
            assert results[0].tolist() == estimator.predict(matrix).tolist()
            np.testing.assert_allclose(results[1], estimator.predict_proba(matrix), atol=1e-5)
        else:
            np.testing.assert_allclose(results[0].ravel(), estimator.predict(matrix), rtol=1e-4, atol=1e-3)
        MODEL_FILE.write_model(Pipeline([("model", estimator)]), tmp_path / "model.skops", matrix)
        loaded = TRUST.load_model(tmp_path / "model.skops")
        assert loaded.predict(matrix).tolist() == estimator.predict(matrix).tolist()


def test_columns_are_an_image_or_a_signal_where_that_is_clear() -> None:
    layouts = [
        LAYERS.layout_of(*given) for given in ((64, 2, None, None), (192, 2, None, None), (40, 2, None, 5), (40, 2, 2, 5), (40, 1, 2, None))
    ]
    assert [(layout.channels, layout.height, layout.width) for layout in layouts] == [
        (1, 8, 8),
        (3, 8, 8),
        (1, 5, 8),
        (2, 5, 4),
        (2, 1, 20),
    ]
    assert [LAYERS.layout_of(*given) for given in ((65, 2, None, None), (41, 1, 2, None), (64, 2, None, 7), (64, 2, 2, None))] == [None] * 4


@needs_torch
def test_the_sizes_are_those_that_torch_counts_and_its_outputs_are_ours() -> None:
    torch: Any = import_module("torch")
    counters: Any = import_module("torch.utils.flop_counter")
    from workers.ml.convolution.fitting import Training

    for parameters, columns in ((case.values if hasattr(case, "values") else case) for case in NETWORKS):
        estimator, matrix = _network(parameters, columns, TARGETS["three classes"])
        training = Training(estimator, matrix, TARGETS["three classes"])
        with counters.FlopCounterMode(display=False) as counter, torch.no_grad():
            training.outputs(training.inputs[:1])
        assert LAYERS.convolutional(estimator.definition, estimator.layout, 3).flops == counter.get_total_flops()
        before = training.outputs(training.inputs).detach().numpy()
        np.testing.assert_allclose(estimator.outputs(matrix), before, rtol=1e-4, atol=1e-4)
        training.run_epoch()
        after = training.outputs(training.inputs).detach().numpy()
        assert not np.allclose(before, after)
        np.testing.assert_allclose(estimator.outputs(matrix), after, rtol=1e-4, atol=1e-4)


@needs_torch
@pytest.mark.timeout(600)
def test_digits_are_learned_from_their_pixels(tmp_path: Path) -> None:
    from safetensors.numpy import load_file
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    frame = pl.DataFrame(digits.data, schema=[f"pixel_{number}" for number in range(64)]).with_columns(
        digit=pl.Series(digits.target.astype(str))
    )
    split = ("split", {"test_fraction": 0.2, "validation_fraction": 0.1, "strategy": "stratified"})
    training = ("train_cnn", {"target": "digit", "max_epochs": 12, "learning_rate": 2e-3, "early_stopping_rounds": 6})
    result, report = run(tmp_path, frame, chain(split, training))
    assert result["metrics"]["accuracy"] >= 0.95
    assert (result["framework"], result["algorithm"]) == ("torch", "ConvolutionalClassifier")
    assert result["best_step"] == int(np.argmin([value for _, value in report.metric_points["validation_loss"]]))
    model = TRUST.load_model(artifact_path(result, "MODEL"))["model"]
    assert result["network"]["parameterCount"] == sum(weights.size for weights in model.weights_)
    weights = load_file(artifact_path(result, "WEIGHTS"))
    parts = {f"{part}.{kind}" for part in ("blocks.0", "blocks.1", "head") for kind in ("weight", "bias")}
    assert weights.keys() == parts | {"input.mean", "input.scale"}
    assert all(np.array_equal(weights[name], values) for name, values in model.named_weights().items())


@needs_torch
@pytest.mark.exhaustive
@pytest.mark.timeout(900)
def test_faults_of_bearings_are_learned_from_the_samples_of_their_envelopes(tmp_path: Path) -> None:
    from workers.ml.generating import bearing_vibration
    from workers.ml.signal_processing import filters

    parameters = {
        "recordings": 24, "windows": 1, "samples": 24_576, "sampling_rate": 12_000, "snr_db": 0, "speed_variation": 0.05, "severities": 3,
        "test_fraction": 0.25, "shaft_speed": 1_797, "balls": 9, "ball_diameter": 7.94, "pitch_diameter": 39.04, "contact_angle": 0,
        "resonance": 3_000, "damping": 0.05, "slip": 0.01,
    }  # fmt: skip
    bearing_vibration.write(parameters, 5, tmp_path / "bearings.zip", lambda _share, _step: None)
    rows: list[np.ndarray] = []
    labels: list[str] = []
    groups: list[str] = []
    with zipfile.ZipFile(tmp_path / "bearings.zip") as archive:
        for entry in csv.DictReader(io.StringIO(archive.read("metadata.csv").decode())):
            samples = np.frombuffer(archive.read(entry["file_name"])[44:], "<f4").astype(float)
            envelope = filters.resample(filters.envelope(samples[None], 12_000.0, (2_000.0, 4_000.0), 4), 12_000.0, 1_500.0)[0]
            rows += list(envelope.reshape(3, -1))
            labels += [entry["label"]] * 3
            groups += [entry["recording"]] * 3
    frame = pl.DataFrame(np.array(rows), schema=[f"sample_{number}" for number in range(len(rows[0]))])
    frame = frame.with_columns(label=pl.Series(labels), recording=pl.Series(groups))
    network = {"dimensions": 1, "kernel": 32, "depth": 3, "pool": 4, "head": "average", "learning_rate": 2e-3, "max_epochs": 20}
    split = ("split", {"strategy": "group", "group_column": "recording", "test_fraction": 0.25})
    result, _ = run(tmp_path, frame, chain(split, ("train_cnn", {"target": "label", **network})))
    assert result["metrics"]["accuracy"] >= 0.95


@needs_torch
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("target", "changes"), [("label", {"early_stopping_rounds": 3, "checkpoint_every": 2}), exhaustive("amount", {})])
def test_a_training_that_was_killed_makes_the_same_model(tmp_path: Path, target: str, changes: dict[str, Any]) -> None:
    network = {"dimensions": 1, "width": 4, "depth": 1, "max_epochs": 8, "learning_rate": 0.02, "target": target, **changes}
    frame_definition = chain(("drop_columns", {"columns": ["label" if target == "amount" else "amount"]}), SPLIT, ("train_cnn", network))
    interrupted, cut_short = interrupted_training(tmp_path / "interrupted", frame_definition, target)
    (tmp_path / "resumed").mkdir()
    (tmp_path / "whole").mkdir()
    resumed, report = run(
        tmp_path / "resumed", FRAME, frame_definition, target=target, checkpointing={"interval": 0.0, "checkpoint": interrupted}
    )
    whole, expected = run(tmp_path / "whole", FRAME, frame_definition, target=target)
    assert report.resume_messages
    assert model_contents(resumed) == model_contents(whole)
    assert resumed["best_step"] == whole["best_step"]
    told = {key: dict(points) for key, points in curves(cut_short).items()}
    for key, points in curves(report).items():
        told.setdefault(key, {}).update(points)
    assert {key: sorted(points.items()) for key, points in told.items()} == {
        key: sorted(points) for key, points in curves(expected).items()
    }


@needs_torch
def test_columns_that_are_no_image_are_refused_where_that_is_said(tmp_path: Path) -> None:
    error = pipeline_error(tmp_path, FRAME.drop("amount"), chain(SPLIT, ("train_cnn", {"target": "label"})))
    assert (error.code, error.path) == ("BAD_PARAMETER", ["definition", "nodes", "2", "parameters", "channels"])
    assert error.message.startswith("Step 'train_cnn' has 6 columns, which are no images of 1 or 3 channels and equal sides. ")


@pytest.mark.parametrize(("parameters", "columns"), NETWORKS)
@pytest.mark.parametrize("target", TARGETS)
def test_integrated_gradients_sum_up_to_what_the_network_computes(parameters: dict[str, Any], columns: int, target: str) -> None:
    estimator, matrix = _network(parameters, columns, TARGETS[target])
    network = CONVOLUTIONS.Convolutions(estimator)
    start, end = matrix.mean(axis=0), matrix[3]
    assert network.outputs(matrix) == pytest.approx(network.own_outputs(matrix), rel=1e-4, abs=1e-4)
    # The gradient is that of small steps in each direction.
    point, step = matrix[5], 1e-6
    steps = np.eye(columns) * step
    differences = (network.outputs(point + steps) - network.outputs(point - steps)) / (2 * step)
    assert network.gradient(point[None]) == pytest.approx(differences.T, rel=1e-5, abs=1e-6)
    # The same as the definition, by many more points than are taken.
    shares = (np.arange(4_096) + 0.5) / 4_096
    exact = network.gradient(start + shares[:, None] * (end - start)) / 4_096 * (end - start)
    found = network.contributions(start, end)
    size = 1 + np.abs(network.outputs(matrix)).max()
    assert found == pytest.approx(exact, abs=2e-3 * size)
    first, last = network.own_outputs(np.stack([start, end]))
    assert found.sum(axis=1) == pytest.approx(last - first, abs=5e-4 * size)
