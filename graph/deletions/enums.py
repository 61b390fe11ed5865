"""The enum of what can be restored, published in the schema. `graph` imports it from here, so that it is not used without a description."""

from __future__ import annotations

from db.tables.deletions import DeletedKind
from graph.core.enums import describe

__all__ = ["DeletedKind"]

describe(
    DeletedKind,
    "What can be deleted and restored.",
    DATASET="A dataset with its versions.",
    PIPELINE="A pipeline with its snapshots.",
    MODEL="A model with its versions and aliases.",
    EXPERIMENT="An experiment with its runs.",
    STUDY="A study with its trials; their runs stay in their experiment.",
    DATASET_VERSION="A version of a dataset, with its files, profiles and items.",
    MODEL_VERSION="A version of a model, with its files.",
    RUN="A run with its metrics; a model of it is kept.",
)
