"""Step that turns text into weights of its words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from workers.ml.errors import BadInput
from workers.ml.steps.columns import ColumnName
from workers.ml.steps.step import Parameters, PipelineNode, Step

if TYPE_CHECKING:
    from workers.ml.bundle import Bundle


class TfidfParameters(Parameters):
    columns: list[ColumnName] = Field(
        min_length=1,
        max_length=20,
        title="Columns",
        description="The text columns to transform, each on its own.",
        json_schema_extra={"x-column": True},
    )
    max_features: int = Field(
        default=200, ge=1, le=2_000, title="Maximum terms", description="How many terms of a column are kept: those that occur most often."
    )
    max_words: int = Field(default=1, ge=1, le=3, title="Words per term", description="Terms of up to so many consecutive words.")
    min_rows: int = Field(default=1, ge=1, le=1_000_000, title="Minimum rows", description="Terms of fewer training rows are left out.")
    analyzer: Literal["word", "characters"] = Field(
        default="word", title="Analyzer", description="Whether terms are words, or sequences of 3 characters within words."
    )
    stop_words: Literal["english"] | None = Field(
        default=None, title="Stop words", description="Leaves out the most common words of a language."
    )


def run(bundle: Bundle, node: PipelineNode) -> dict[str, Any]:
    """Raises BadInput (NO_TERMS) and those of `Bundle.columns_to_transform`."""
    columns = [column for column in bundle.columns_to_transform(node, node.parameters.columns, ("text",)) if column.name in bundle.columns]
    counts: dict[str, int] = {}
    renamed: dict[str, str] = {}
    for index, column in enumerate(columns):
        bundle.add_stage(node, [column], _vectorizer(node.parameters), kind="number", fills=True)
        try:
            transformer = bundle.fit_transformer([column.name], node)
        except ValueError as error:
            if not any(words in str(error) for words in ("empty vocabulary", "no terms remain", "documents than min_df")):
                raise
            raise BadInput(
                "NO_TERMS",
                f"The column '{column.name}' has no term in its training rows that step '{node.key}' could count. Lower min_rows, analyze characters, or "
                "remove it from the columns.",
                column=column.name,
                path=node.path("columns", str(index)),
            ) from None
        terms = transformer.transformers_[0][1][-1]["terms"].get_feature_names_out()
        counts[column.name] = len(terms)
        renamed |= bundle.name_features(column.name, [f"{column.name}_{term}" for term in terms], node)
    output = {"rows": bundle.height, "columns": len(bundle.columns), "terms": counts}
    return {**output, **({"renamed": dict(list(renamed.items())[:20])} if renamed else {})}


def _vectorizer(parameters: TfidfParameters) -> Any:
    import numpy as np  # the API imports the registry only for its schemas
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import FunctionTransformer

    is_words = parameters.analyzer == "word"
    options: dict[str, Any] = {
        "analyzer": "word" if is_words else "char_wb",
        "ngram_range": (1, parameters.max_words) if is_words else (3, 3),
        "max_features": parameters.max_features,
        "min_df": parameters.min_rows,
        "stop_words": parameters.stop_words if is_words else None,
    }
    # A missing text is one without words, whether it is NaN (pandas) or None (polars).
    return Pipeline(
        [
            ("nan", SimpleImputer(missing_values=np.nan, strategy="constant", fill_value="")),
            ("none", SimpleImputer(missing_values=None, strategy="constant", fill_value="")),  # pyright: ignore[reportArgumentType] - None is accepted
            ("ravel", FunctionTransformer(np.ravel, feature_names_out="one-to-one")),
            ("terms", TfidfVectorizer(**options)),
        ]
    )


TFIDF = Step(
    key="tfidf_text",
    type="TRANSFORM",
    title="Text to TF-IDF",
    description="Turns text into a column for each term: how often it occurs in the row, weighted by how rare it is in the training rows. It is part of the model.",
    parameters=TfidfParameters,
    place="fit",
    run=run,
    takes=("text",),
    gives="number",
)
