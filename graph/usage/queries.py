"""The root query of the API's use."""

from datetime import datetime
from typing import Annotated

import strawberry
from strawberry import ID

from db.queries import usage
from graph.accounts.types import ApiKey
from graph.core.context import Info
from graph.core.costs import COMPUTED, costs
from graph.core.errors import BadUserInput
from graph.core.ids import filter_id
from graph.core.permissions import Scope, query
from graph.usage.enums import UsageGranularity
from graph.usage.types import ApiUsageBucket


@strawberry.type
class UsageQueries:
    @query(
        scope=Scope.ACCOUNT,
        metadata=costs(COMPUTED, entries=1),
        description="Your requests to this API by hour or day, all periods from that of `since` to that before `until`, empty ones included, at most"
        " 1,000; for admins, everybody's, and those without a token. A request is counted a few seconds after it ended.",
    )
    async def api_usage(
        self,
        info: Info,
        since: Annotated[datetime, strawberry.argument(description="A time in the first period.")],
        until: Annotated[datetime, strawberry.argument(description="The end; a period that goes on after it is the last.")],
        granularity: Annotated[UsageGranularity, strawberry.argument(description="The length of the periods.")] = UsageGranularity.HOUR,
        api_key_id: Annotated[ID | None, strawberry.argument(description="Count only requests with this API key.")] = None,
        operation_name: Annotated[str | None, strawberry.argument(description="Count only operations with this name.")] = None,
    ) -> list[ApiUsageBucket]:
        if since >= until:
            raise BadUserInput("`since` must be before `until`.")
        count = granularity.periods(since, until)
        if count > usage.MAX_PERIODS:
            way = "give a later `since`" if granularity is UsageGranularity.DAY else "give a later `since`, or the granularity DAY"
            raise BadUserInput(f"From `since` to `until` there are {count:,} periods; at most {usage.MAX_PERIODS:,} are returned: {way}.")
        context = info.context
        periods = await usage.by_period(
            context.database,
            context.signed_in_viewer,
            since,
            until,
            granularity,
            api_key_id=None if api_key_id is None else filter_id(ApiKey.prefix, api_key_id),
            operation_name=operation_name,
        )
        return [ApiUsageBucket.of(period) for period in periods]
