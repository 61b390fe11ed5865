"""What groups of jobs have in common, and how many and how long they are."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Self

import strawberry

from graph.accounts.types import User
from graph.core.ids import encode
from graph.core.scalars import JSON, BigInt, Duration
from graph.jobs.enums import JobGrouping


@strawberry.type(description="A group of jobs.")
class JobStatistic:
    group: JSON = strawberry.field(
        description='What its jobs have in common, as an object with a text for each grouping, such as `{"kind": "TRAIN", "day": "2026-11-30"}`.'
    )
    count: BigInt = strawberry.field(description="How many jobs it has.")
    median_duration: Duration | None = strawberry.field(
        description="The median time from the first start to the end of those that started and ended; null without any."
    )
    median_wait: Duration | None = strawberry.field(
        description="The median time from the submission to the first start of those that started; null without any."
    )

    @classmethod
    def of(cls, row: Any, groupings: Sequence[JobGrouping]) -> Self:
        return cls(
            group={grouping.name.lower(): _text(grouping, getattr(row, grouping.value)) for grouping in groupings},
            count=BigInt(row.count),
            median_duration=row.median_duration,
            median_wait=row.median_wait,
        )


def _text(grouping: JobGrouping, value: Any) -> str:
    if grouping is JobGrouping.OWNER:
        return encode(User.prefix, value)
    return value.name if isinstance(value, StrEnum) else value
