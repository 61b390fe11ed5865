"""The enum of the search, published in the schema. `graph` imports it from here, so that it is not used without a description."""

from __future__ import annotations

from db.tables.search import SearchType
from graph.core.enums import describe

__all__ = ["SearchType"]

describe(
    SearchType,
    "What a search finds.",
    DATASET="By name, description and the names of the columns of its newest READY version.",
    PIPELINE="By name and description.",
    EXPERIMENT="By name, description and notes.",
    RUN="By name and notes; a run that has neither is not found.",
    MODEL="By name and description, and by the labels and descriptions of its versions.",
    STUDY="By name, the metric of its objective and the parameters that it searches.",
)
