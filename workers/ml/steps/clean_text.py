"""Step that cleans texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from workers.ml.steps.columns import ColumnName
from workers.ml.steps.step import Parameters, PipelineNode, Step

if TYPE_CHECKING:
    from workers.ml.bundle import Bundle

# For the engine of polars, that of Rust: \p{P} is punctuation and \p{S} symbols, of all scripts.
_URLS = r"(?i)\b(?:https?://|www\.)\S+"
_NUMBERS = r"\d+(?:[.,:]\d+)*"
_PUNCTUATION = r"[\p{P}\p{S}]+"
_SPACES = r"[\s\p{Z}\p{C}]+"


class CleanTextParameters(Parameters):
    columns: list[ColumnName] = Field(
        min_length=1, max_length=2_000, title="Columns", description="The text columns to clean.", json_schema_extra={"x-column": True}
    )
    unicode: Literal["NFC", "NFKC", "keep"] = Field(
        default="NFC",
        title="Unicode",
        description="`NFC`: one form for each character with accents; `NFKC`: one for ligatures, wide letters and the like, too.",
    )
    case: Literal["lower", "keep"] = Field(default="lower", title="Case", description="Whether letters become lower case.")
    urls: Literal["remove", "mark", "keep"] = Field(
        default="mark", title="URLs", description="Whether addresses of the Web are removed, or each becomes the word `url`."
    )
    numbers: Literal["remove", "mark", "keep"] = Field(
        default="keep", title="Numbers", description="Whether numbers are removed, or each becomes the word `number`."
    )
    punctuation: Literal["remove", "keep"] = Field(
        default="keep", title="Punctuation", description="Whether punctuation and symbols become spaces."
    )
    whitespace: Literal["collapse", "keep"] = Field(
        default="collapse",
        title="Whitespace",
        description="Whether spaces, line breaks and invisible characters become one space each, and none at the ends.",
    )


def run(bundle: Bundle, node: PipelineNode) -> dict[str, Any]:
    """Raises BadInput: those of `Bundle.columns_to_transform`."""
    import polars as pl  # the API imports the registry only for its schemas

    from workers.ml.columns import Derivation
    from workers.ml.steps.derive import Source

    parameters: CleanTextParameters = node.parameters
    options = parameters.model_dump(exclude={"columns"})
    columns = [column for column in bundle.columns_to_transform(node, parameters.columns, ("text",)) if column.name in bundle.columns]
    names = list(bundle.columns)
    for column in columns:
        document = {"column": column.name, "clean": options}
        derivation = Derivation(column.name, (column.name,), document, cleaned(Source("pl"), column.name, options).text, "cleaned from")
        bundle.derive(derivation, cleaned(pl, column.name, options), "STRING", "text")
    bundle.columns = {name: bundle.columns[name] for name in names}
    return {"columns": len(bundle.columns), "cleaned_columns": len(columns)}


def cleaned(polars: Any, name: str, options: Mapping[str, str]) -> Any:
    """Return the polars expression, or its source if `polars` is a Source."""
    value = polars.col(name).cast(polars.String)
    if options["unicode"] != "keep":
        value = value.str.normalize(options["unicode"])
    if options["urls"] != "keep":
        value = value.str.replace_all(_URLS, " url " if options["urls"] == "mark" else " ")
    if options["case"] == "lower":
        value = value.str.to_lowercase()
    if options["numbers"] != "keep":
        value = value.str.replace_all(_NUMBERS, " number " if options["numbers"] == "mark" else " ")
    if options["punctuation"] == "remove":
        value = value.str.replace_all(_PUNCTUATION, " ")
    if options["whitespace"] == "collapse":
        value = value.str.replace_all(_SPACES, " ").str.strip_chars(" ")
    return value


CLEAN_TEXT = Step(
    key="clean_text",
    type="TRANSFORM",
    title="Clean text",
    description="Makes texts alike that differ in case, spaces or the form of characters, and removes what tells little: addresses, numbers, "
    "punctuation. It runs before the rows are split; predictions clean their texts likewise.",
    parameters=CleanTextParameters,
    place="choose",
    run=run,
)
