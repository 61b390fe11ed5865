"""The words of the models, published. The graph takes them from here, so that none is used before it is described."""

from __future__ import annotations

from db.queries.models import ModelOrderField
from graph.core.enums import describe

__all__ = ["ModelOrderField"]

describe(
    ModelOrderField,
    "What a list of models can be ordered by.",
    CREATED_AT="When it was made.",
    UPDATED_AT="When it was last changed, by a new version too.",
    NAME="Its name, upper and lower case alike.",
)
