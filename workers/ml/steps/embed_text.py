"""Step that replaces texts by embeddings of their meaning."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from workers.ml.errors import BadInput
from workers.ml.steps.columns import ColumnName, composed
from workers.ml.steps.step import Parameters, PipelineNode, Step

if TYPE_CHECKING:
    import polars as pl

    from workers.ml.bundle import Bundle
    from workers.ml.columns import Column


class EmbedTextParameters(Parameters):
    columns: list[ColumnName] = Field(
        min_length=1,
        max_length=5,
        title="Columns",
        description="The text columns to embed, each on its own.",
        json_schema_extra={"x-column": True},
    )
    prefix: str | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        title="Prefix",
        description="What the names of the columns begin with, before an underscore and, of several, the name of the text column. By default that name alone.",
        json_schema_extra={"x-column-prefix": True},
    )


def run(bundle: Bundle, node: PipelineNode) -> dict[str, Any]:
    """Raises BadInput: TOO_LARGE, NOT_INSTALLED, OTHER_WEIGHTS, and those of `Bundle.columns_to_transform`."""
    from workers.ml.embeddings import DIMENSIONS  # numpy; the API imports the registry only for its schemas

    columns = [column for column in bundle.columns_to_transform(node, node.parameters.columns, ("text",)) if column.name in bundle.columns]
    bundle.check_size(bundle.count(), len(bundle.columns) + len(columns) * (DIMENSIONS - 1), node)
    start, end = bundle.progress_span
    texts = cut = 0
    for number, column in enumerate(columns):
        span = start + (end - start) * number / len(columns), start + (end - start) * (number + 1) / len(columns)
        embedded, shortened = _embed(bundle, node, column, span)
        texts += embedded
        cut += shortened
    return {"columns": len(bundle.columns), "embedded_columns": len(columns), "texts": texts, "cut_texts": cut}


def _embed(bundle: Bundle, node: PipelineNode, column: Column, span: tuple[float, float]) -> tuple[int, int]:
    """Replace a column. Return how many different texts it has, and how many of them were cut."""
    import polars as pl  # see run

    from workers.ml.columns import Derivation, unique
    from workers.ml.embeddings import MAX_WORD_PIECES, MODEL, document

    taken = bundle.lazy.collect_schema().names()
    prefix = _prefix(node, column)
    names = _names(prefix)
    if taken_name := next((name for name in names if name in taken), None):
        number = next(number for number in count(2) if set(_names(f"{prefix}_{number}")).isdisjoint(taken))
        prefix = f"{prefix}_{number}"
        names = _names(prefix)
        bundle.reporter.log(f"Step '{node.key}' calls its columns '{names[0]}' and so on: there is a column '{taken_name}' already.")
    key = unique(f"{column.name}_text", {*taken, *names})
    texts = bundle.lazy.select(pl.col(column.name).cast(pl.String).alias(key)).drop_nulls().unique(maintain_order=True)
    found = texts.collect(engine="streaming")
    path = bundle.folder / f"embeddings-{node.index}-{node.parameters.columns.index(column.name)}.parquet"

    def report(done: int) -> None:
        bundle.reporter.progress(
            span[0] + (span[1] - span[0]) * done / found.height, f"{node.step.title}: {done:,} of {found.height:,} texts"
        )

    cut = _write(found, names, path, node, report)
    if cut:
        bundle.reporter.log(
            f"Step '{node.key}': of the column '{column.name}', {cut:,} of {found.height:,} different texts are longer than the {MAX_WORD_PIECES - 2} word pieces "
            "that are read: their beginning is embedded."
        )
    # Each text is embedded once, however often it occurs; a missing one has no embedding.
    rows = bundle.lazy.with_columns(pl.col(column.name).cast(pl.String).alias(key))
    bundle.lazy = rows.join(pl.scan_parquet(path), on=key, how="left", maintain_order="left").drop(key)
    code = _code(column.name, prefix)
    bundle.drop(column.name, node, by_name=False)  # a split by groups may still name it
    for dimension, name in enumerate(names):
        words = f"number {dimension} of the embedding by {MODEL} of"
        bundle.derived(Derivation(name, (column.name,), document(column.name, dimension), None, words, code), "FLOAT", "number")
    return found.height, cut


def _prefix(node: PipelineNode, column: Column) -> str:
    if node.parameters.prefix is None:
        return column.name
    prefix = composed(node.parameters.prefix)
    return prefix if len(set(node.parameters.columns)) == 1 else f"{prefix}_{column.name}"


def _names(prefix: str) -> list[str]:
    from workers.ml.embeddings import DIMENSIONS  # see run

    return [f"{prefix}_{dimension}" for dimension in range(DIMENSIONS)]


def _write(texts: pl.DataFrame, names: list[str], path: Path, node: PipelineNode, report: Callable[[int], None]) -> int:
    """Write the texts and their embeddings, and return how many texts were cut. Raises BadInput: NOT_INSTALLED, OTHER_WEIGHTS."""
    import polars as pl  # see run
    import pyarrow.parquet as pq

    from workers.ml.embeddings import DIMENSIONS, encoder

    try:
        model = encoder()
    except BadInput as error:
        raise BadInput(error.code, error.message, path=["definition", "nodes", str(node.index), "step"]) from None
    schema = pl.DataFrame(schema={texts.columns[0]: pl.String, **dict.fromkeys(names, pl.Float32)}).to_arrow().schema
    done = cut = 0
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=False) as writer:
        for vectors, shortened in model.encode(texts.to_series().to_list()):
            part = texts[done : done + len(vectors)].with_columns(pl.Series(names[index], vectors[:, index]) for index in range(DIMENSIONS))
            writer.write_table(part.to_arrow().cast(schema))
            done += len(vectors)
            cut += shortened
            report(done)
    return cut


def _code(column: str, prefix: str) -> str:
    """What computes the columns where sentence-transformers is installed, for the model card."""
    return f"""from sentence_transformers import SentenceTransformer  # pip install sentence-transformers
texts = rows[{column!r}].cast(pl.String)
vectors = SentenceTransformer("sentence-transformers/all-MiniLM-L6-v2").encode(texts.fill_null("").to_list(), normalize_embeddings=True)
vectors = pl.DataFrame(vectors, schema=[{prefix + "_"!r} + str(number) for number in range(384)], orient="row")
rows = rows.with_columns(vector.set(texts.is_null(), None) for vector in vectors)"""


EMBED_TEXT = Step(
    key="embed_text",
    type="TRANSFORM",
    title="Embed text",
    description="Replaces each text by 384 numbers, as `text_0` and so on, that are near each other for texts of similar meaning, whatever their words. By the model "
    "all-MiniLM-L6-v2, for English; of a long text the first 254 word pieces count. A missing text has no numbers. It runs before the rows are split; predictions "
    "embed their texts likewise. Some 50 short texts a second. Needs the extra `embeddings`.",
    parameters=EmbedTextParameters,
    place="choose",
    run=run,
    takes=("text",),
    gives="number",
    makes_columns=True,
    extra="embeddings",
)
