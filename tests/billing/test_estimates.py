"""What a run would cost is told beforehand, and an account that is low on credits says since when."""

from __future__ import annotations

from datetime import datetime

import pytest

from db.settings import state_settings
from db.tables.billing import TransactionType
from tests.billing.conftest import BillingDriver
from tests.billing.test_credits import RUN, row_counts, seed_platform
from tests.client import Client, GraphQLErrors

ESTIMATE = "query($input: RunPipelineInput!) { estimateCost(input: $input) { credits available isAffordable basis } }"


async def test_an_estimate_is_what_the_run_then_costs_and_writes_nothing(
    billing: BillingDriver, prices: dict[str, int], ada: Client, bob: Client
) -> None:
    pipeline, version, _ = await seed_platform(billing, ada)
    await billing.grant(await billing.user_id(ada), 9)
    before = await row_counts(billing)
    request = {"pipelineId": pipeline, "datasetVersionId": version}
    basis = "The pipeline does not train, and a PROCESS job costs 10 credits at present."
    assert await ada.one(ESTIMATE, input=request) == {"credits": 10, "available": 9, "isAffordable": False, "basis": basis}
    assert (await ada.one(RUN, input=request))["__typename"] == "InsufficientCredits"
    prices["PROCESS"] = 9
    assert (await ada.one(ESTIMATE, input=request))["isAffordable"]
    with pytest.raises(GraphQLErrors) as hidden:
        await bob.one(ESTIMATE, input=request)
    assert hidden.value.codes == ["NOT_FOUND"]
    with pytest.raises(GraphQLErrors, match="The priority is 11") as refused:
        await ada.one(ESTIMATE, input={**request, "priority": 11})
    assert refused.value.codes == ["BAD_USER_INPUT"]
    archive = "mutation($id: ID!) { updatePipeline(input: {id: $id, status: ARCHIVED}) { __typename } }"
    assert await row_counts(billing) == before
    assert (await ada.one(RUN, input=request))["job"]["creditCost"] == 9
    await ada.one(archive, id=pipeline)
    with pytest.raises(GraphQLErrors, match="The pipeline is archived") as archived:
        await ada.one(ESTIMATE, input=request)
    assert archived.value.codes == ["BAD_USER_INPUT"]


async def test_an_account_that_falls_below_the_limit_is_low_until_it_has_more(
    billing: BillingDriver, ada: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_settings(), "low_credits", 10)
    ada_id = await billing.user_id(ada)

    async def low_since() -> datetime | None:
        since = (await ada.one("{ viewer { credits { lowSince } } }"))["credits"]["lowSince"]
        return None if since is None else datetime.fromisoformat(since)

    assert await low_since() is None, "it never had any"
    await billing.grant(ada_id, 12)
    assert await low_since() is None
    await billing.grant(ada_id, -3, TransactionType.ADJUSTMENT)
    since = await low_since()
    assert since is not None
    await billing.grant(ada_id, -1, TransactionType.ADJUSTMENT)
    assert await low_since() == since, "it has been low since the first time"
    await billing.grant(ada_id, 2)
    assert await low_since() is None
