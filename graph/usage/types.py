"""What the API was used for: requests, and their sums by period."""

from collections.abc import Mapping
from datetime import datetime
from typing import Self
from uuid import UUID

import strawberry

from db.queries import accounts, api_keys, usage
from graph.accounts.types import ApiKey, User
from graph.core.costs import costs
from graph.core.edges import connection, extend, one
from graph.core.ids import Node
from graph.core.paging import Connection
from graph.core.permissions import Scope
from graph.core.scalars import BigInt, Duration


@strawberry.type(description="The requests of a period that had one operation name.")
class OperationUsage:
    operation_name: str | None = strawberry.field(
        description="The name; null for operations without one. `(other)` sums up names beyond the first hundred of a user in an hour."
    )
    requests: BigInt = strawberry.field(description="How many there were.")
    errors: BigInt = strawberry.field(description="How many of them had errors.")
    mean_duration: Duration = strawberry.field(description="How long they took on average, in seconds.")
    p95: Duration = strawberry.field(description="The time within which 95 of 100 were answered, to one percent.")

    @classmethod
    def of(cls, operation: usage.Usage) -> Self:
        return cls(
            operation_name=operation.operation_name,
            requests=operation.requests,
            errors=operation.errors,
            mean_duration=operation.duration / operation.requests,
            p95=operation.percentiles["p95"],
        )


@strawberry.type(
    description="The requests that ended in an hour or a day. A subscription ends when it is closed, and counts in durations with the time until"
    " it began."
)
class ApiUsageBucket:
    period_start: datetime = strawberry.field(description="When the hour or day begins.")
    requests: BigInt = strawberry.field(description="How many operations ended, subscriptions included.")
    errors: BigInt = strawberry.field(description="How many of them had errors; problems that mutations return are none.")
    error_rate: float = strawberry.field(description="`errors` as a part of `requests`, from 0 to 1; 0 without requests.")
    requests_per_second: float = strawberry.field(description="`requests` by the seconds of the period that have passed.")
    mean_duration: Duration | None = strawberry.field(description="How long they took on average, in seconds; null without requests.")
    p50: Duration | None = strawberry.field(description="The time within which half of them were answered, to one percent.")
    p95: Duration | None = strawberry.field(description="The time within which 95 of 100 were answered, to one percent.")
    p99: Duration | None = strawberry.field(description="The time within which 99 of 100 were answered, to one percent.")
    cost: BigInt = strawberry.field(description="The points that they cost together.")
    operations: list[OperationUsage] = strawberry.field(
        metadata=costs(0, entries=1), description="The same by operation name, the most requested first, at most 20."
    )

    @classmethod
    def of(cls, period: usage.Period) -> Self:
        total = period.total
        requests = 0 if total is None else total.requests
        errors = 0 if total is None else total.errors
        percentiles: Mapping[str, float] = {} if total is None else total.percentiles
        return cls(
            period_start=period.start,
            requests=requests,
            errors=errors,
            error_rate=errors / requests if requests else 0.0,
            requests_per_second=requests / period.seconds,
            mean_duration=None if total is None else total.duration / total.requests,
            p50=percentiles.get("p50"),
            p95=percentiles.get("p95"),
            p99=percentiles.get("p99"),
            cost=0 if total is None else total.cost,
            operations=[OperationUsage.of(operation) for operation in period.operations],
        )


@strawberry.type(description="An operation that the API answered with a token. Its document, its variables and its result are not kept.")
class ApiRequest(Node, prefix="request", found_by=usage.by_id, scope=Scope.ACCOUNT):
    user_id: strawberry.Private[UUID | None]
    api_key_id: strawberry.Private[UUID | None]
    operation_name: str | None = strawberry.field(description="Its name, at most 100 characters; null without one.")
    operation_kind: str = strawberry.field(
        description="`query`, `mutation` or `subscription`; `unknown` for a document that could not be parsed."
    )
    cost: int = strawberry.field(description="The points that it cost; 0 if it was refused before its cost was known.")
    duration: Duration = strawberry.field(description="How long it took, in seconds; of a subscription, how long it was open.")
    error_code: str | None = strawberry.field(description="The code of its first error; null without errors.")
    request_bytes: BigInt = strawberry.field(description="The length of the request's body, of a GET of its query string.")
    response_bytes: BigInt = strawberry.field(description="The length of the response's body, or of all events of a stream.")
    ip_address: str | None = strawberry.field(description="The address from which it came.")
    user_agent: str | None = strawberry.field(description="What the client called itself.")
    created_at: datetime = strawberry.field(description="When it ended.")
    user: User | None = one(accounts.by_id, key="user_id", description="Who sent it; null for one without a token.")
    api_key: ApiKey | None = one(api_keys.by_id, key="api_key_id", description="The API key that it was sent with; null for a session.")


extend(
    ApiKey,
    "requests",
    Connection[ApiRequest],
    connection(usage.of_api_key, description="The operations that it was used for in the last month, the newest first."),
)
