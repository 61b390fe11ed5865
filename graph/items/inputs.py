"""The filter and order of lists of items."""

from enum import StrEnum
from typing import ClassVar

import strawberry

from db.core.criteria import Criteria, Order
from db.tables.items import FEATURES
from graph.core.enums import describe
from graph.core.errors import BadUserInput
from graph.core.filters import Filter, OrderDirection, OrderInput, StringFilter
from graph.core.metric_filter import MAX_CONDITIONS, MetricFilter


class ItemOrderField(StrEnum):
    KEY = "key"
    LABEL = "label"
    SPLIT = "split"
    SIZE = "size_bytes"


describe(
    ItemOrderField,
    "The fields that a list of items can be ordered by.",
    KEY="Its key, ignoring case.",
    LABEL="Its label, ignoring case; items without one are before all others in ascending order.",
    SPLIT="Its split; items without one are before all others in ascending order.",
    SIZE="Its size in bytes.",
)


@strawberry.input(description="Conditions on items, all of which must hold. A list of values means any of them, ignoring case.")
class ItemFilter(Filter):
    key: StringFilter | None = strawberry.field(description="Its key.")
    label: list[str] | None = strawberry.field(description="The class that it is filed under.")
    split: list[str] | None = strawberry.field(description="The split that it is filed under, such as `train`.")
    severity: list[str] | None = strawberry.field(description="The severity that it is filed under.")
    content_type: StringFilter | None = strawberry.field(description="Its media type.")
    has_issues: bool | None = strawberry.field(description="Whether something is wrong with it.")
    features: list[MetricFilter] | None = strawberry.field(
        description=f"Bounds on its features, all of which must hold. The keys are {', '.join(f'`{name}`' for name in FEATURES)}."
    )

    def to_criteria(self) -> Criteria:
        for values in (self.label, self.split, self.severity, self.features):
            if values is not None and len(values) > MAX_CONDITIONS:
                raise BadUserInput(f"At most {MAX_CONDITIONS} values are accepted in a condition on items.")
        for bound in self.features or ():
            _check_feature(bound.key)
        return super().to_criteria()


@strawberry.input(description="The order of a list of items: by a field or by a feature, not both.")
class ItemOrder(OrderInput):
    columns: ClassVar = (*(member.value for member in ItemOrderField), *FEATURES)
    field: ItemOrderField | None = strawberry.field(
        default=None, description="The field to order by; the key if there is no feature either."
    )
    feature: str | None = strawberry.field(
        default=None,
        description=f"The feature to order by: {', '.join(f'`{name}`' for name in FEATURES)}. Items without it are before all others in"
        " ascending order.",
    )
    direction: OrderDirection = strawberry.field(default=OrderDirection.DESC, description="The direction; descending by default.")

    def to_order(self) -> Order:
        if self.field is not None and self.feature is not None:
            raise BadUserInput("Give `field` or `feature`, not both: a list has one order.")
        if self.feature is not None:
            _check_feature(self.feature)
        return Order(self.feature or (self.field or ItemOrderField.KEY).value, self.direction is OrderDirection.DESC)


def _check_feature(name: str) -> None:
    if name not in FEATURES:
        raise BadUserInput(f"Lists of items know no feature {name[:60]!r}. Those they know are {', '.join(FEATURES)}.")
