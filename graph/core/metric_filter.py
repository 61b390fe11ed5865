"""The filter by a number that is known by its key: the metric of a run, the feature of an item."""

import strawberry

from db.queries.runs import MetricBound
from graph.core.errors import BadUserInput

MAX_CONDITIONS = 20  # each is a join or an index lookup
MAX_KEY, MAX_DOTS = 200, 20  # each dot is one more level to descend


@strawberry.input(description="Bounds on the last value of a metric, or on a feature. Without bounds: it has a finite value.")
class MetricFilter:
    key: str = strawberry.field(description="The name of the metric or feature.")
    gte: float | None = strawberry.field(description="The value is greater than or equal to this.")
    lte: float | None = strawberry.field(description="The value is less than or equal to this.")

    def to_criteria(self) -> MetricBound:
        check_key(self.key)
        return MetricBound(self.key, self.gte, self.lte)


def check_key(key: str) -> None:
    """Raise `BadUserInput` for a key that is too long or too deep."""
    if len(key) > MAX_KEY or key.count(".") > MAX_DOTS:
        raise BadUserInput(
            f"A filter's `key` has at most {MAX_KEY} characters and {MAX_DOTS} dots; this one has {len(key)} and {key.count('.')}."
        )
