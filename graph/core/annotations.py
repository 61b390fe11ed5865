"""Annotations of things: the field, its change and the filter by them."""

from typing import Any

import strawberry

from db.core.annotations import KEY_LENGTH, VALUE_LENGTH
from db.queries.annotations import AnnotationMatch
from graph.core.errors import BadUserInput

ANNOTATIONS = (
    "Texts by key that people and programs attached to it, as an object. Unlike a tag, an annotation has a value and belongs to this one thing; MLflow calls"
    " them tags."
)
CHANGED_ANNOTATIONS = (
    f"Annotations to set, as an object of texts by key: keys of at most {KEY_LENGTH} characters, texts of at most {VALUE_LENGTH:,}; null as a text removes"
    " one, and those that are not named stay. Null instead of an object removes all."
)


def annotations_field() -> Any:
    """The field `annotations` of a type."""
    return strawberry.field(description=ANNOTATIONS)


@strawberry.input(description="A condition on an annotation. Without `eq`: there is one with this key.")
class AnnotationFilter:
    key: str = strawberry.field(description="Its key.")
    eq: str | None = strawberry.field(description="It has exactly this text; case matters.")

    def to_criteria(self) -> AnnotationMatch:
        if len(self.key) > KEY_LENGTH or len(self.eq or "") > VALUE_LENGTH:
            raise BadUserInput(f"The key of an annotation has at most {KEY_LENGTH} characters, and its text at most {VALUE_LENGTH}.")
        return AnnotationMatch(self.key, self.eq)
