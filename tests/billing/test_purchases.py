"""Credits are bought by a checkout of the payment provider: what is paid is credited once, and nothing else is, whatever arrives."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import orjson
import pytest
from pydantic import ValidationError
from sqlalchemy import text

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.errors import Unavailable
from db.services import purchases
from db.services.maintenance import MaintenanceContext
from db.services.maintenance.rows import forget_notifications
from db.settings import StateSettings
from db.stores import stripe as provider
from db.tables.billing import TransactionType
from tests.audit.test_events import events
from tests.billing.conftest import BillingDriver
from tests.billing.stripe_stand_in import (
    StripeStandIn,
    call_back,
    call_back_often,
    dispute_of,
    event_of,
    refund_of,
    signed,
    stand_in,
    use,
)
from tests.client import Client, GraphQLErrors
from tests.notifications.telling import told
from tests.server.test_metrics import sample_value

CREATE = """mutation($input: CreateCreditPackageInput!) { createCreditPackage(input: $input) { __typename ... on Problem { code message }
  ... on InvalidInput { issues { path } } ... on CreateCreditPackagePayload { package { id name credits priceCents currency isActive tierRestriction
  externalPriceId } } } }"""
UPDATE = """mutation($input: UpdateCreditPackageInput!) { updateCreditPackage(input: $input) { __typename ... on Problem { code }
  ... on UpdateCreditPackagePayload { package { name credits isActive } } } }"""
PURCHASE = """mutation($input: PurchaseCreditsInput!) { purchaseCredits(input: $input) { __typename ... on Problem { code message }
  ... on PurchaseCreditsPayload { checkoutUrl transaction { sequence type amount } } } }"""
PACKAGES = "{ creditPackages { id name credits priceCents currency isActive externalPriceId } }"
LEDGER = "{ creditTransactions { edges { node { type amount description externalReference package { id name } actor { username } } } } }"
SignIn = Callable[[str], Awaitable[Client]]


@pytest.fixture
async def stripe(clean: None, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[StripeStandIn]:
    async with stand_in() as server:
        use(server, monkeypatch)
        yield server


async def create_package(admin: Client, name: str = "Starter", **changes: Any) -> str:
    package = {"name": name, "credits": 100, "priceCents": 1_000, "currency": "eur", **changes}
    answer = await admin.one(CREATE, input=package)
    assert answer["__typename"] == "CreateCreditPackagePayload", answer
    return answer["package"]["id"]


async def buy(client: Client, package: str, **changes: Any) -> dict[str, Any]:
    return await client.one(PURCHASE, input={"packageId": package, **changes})


async def test_admins_sell_packages_and_everybody_sees_those_that_are_sold(ada: Client, admin: Client) -> None:
    small, large = (
        await create_package(admin),
        await create_package(admin, "Large", credits=900, priceCents=8_000, externalPriceId="price_9"),
    )
    shown = {
        "id": small,
        "name": "Starter",
        "credits": 100,
        "priceCents": 1_000,
        "currency": "EUR",
        "isActive": True,
        "externalPriceId": None,
    }
    assert (await ada.one(PACKAGES))[0] == shown
    assert [(row["name"], row["externalPriceId"]) for row in await ada.one(PACKAGES)] == [("Starter", None), ("Large", None)]
    assert [(row["name"], row["externalPriceId"]) for row in await admin.one(PACKAGES)] == [("Starter", None), ("Large", "price_9")]
    changed = await admin.one(UPDATE, input={"id": large, "credits": 950, "isActive": False})
    assert changed["package"] == {"name": "Large", "credits": 950, "isActive": False}
    assert [row["name"] for row in await ada.one(PACKAGES)] == ["Starter"]
    assert [row["name"] for row in await admin.one(PACKAGES)] == ["Starter", "Large"]
    assert (await admin.one(CREATE, input={"name": "starter", "credits": 1, "priceCents": 1, "currency": "EUR"}))["code"] == "NAME_TAKEN"
    invalid = await admin.one(CREATE, input={"name": " ", "credits": 0, "priceCents": 0, "currency": "euro"})
    assert sorted(issue["path"] for issue in invalid["issues"]) == [["credits"], ["currency"], ["name"], ["priceCents"]]
    for document, sent in (
        (CREATE, {"name": "x", "credits": 1, "priceCents": 1, "currency": "EUR"}),
        (UPDATE, {"id": small, "credits": 1}),
    ):
        with pytest.raises(GraphQLErrors) as refused:
            await ada.one(document, input=sent)
        assert refused.value.codes == ["FORBIDDEN"]
    recorded = await events(admin, "after", action=["create_credit_package", "update_credit_package"])
    assert [event["after"].get("name") or event["after"] for event in recorded] == [
        "Starter",
        "Large",
        {"credits": 950, "isActive": False},
    ]


async def test_without_a_provider_an_admin_is_named_as_the_way(ada: Client, admin: Client, billing: BillingDriver) -> None:
    answer = await buy(ada, await create_package(admin))
    assert (answer["code"], "`grantCredits`" in answer["message"]) == ("UNSUPPORTED", True)
    assert (await ada.http.post("/hooks/stripe", content=b"{}")).status_code == 404
    assert await billing.database.rows(text("SELECT id FROM credit_purchases")) == []


async def test_what_is_paid_is_credited_once_as_the_purchase_says(
    ada: Client, admin: Client, billing: BillingDriver, stripe: StripeStandIn, database: Database
) -> None:
    package, ada_id = await create_package(admin), await billing.user_id(ada)
    begun = await buy(ada, package, idempotencyKey="once")
    assert begun == {"__typename": "PurchaseCreditsPayload", "checkoutUrl": stripe.last["url"], "transaction": None}
    form = stripe.last["form"]
    assert (form["mode"], form["line_items[0][price_data][unit_amount]"], form["line_items[0][price_data][currency]"]) == (
        "payment",
        "1000",
        "eur",
    )
    assert form["success_url"] == "https://trellis.example.org/account"
    assert form["client_reference_id"] == form["metadata[purchase]"] == form["payment_intent_data[metadata][purchase]"]
    await admin.one(UPDATE, input={"id": package, "credits": 1, "name": "Changed meanwhile"})
    assert await buy(ada, package, idempotencyKey="once") == begun
    assert await billing.entries(ada_id) == []
    assert await call_back(ada, event_of(stripe.last, payment_status="unpaid")) == 204
    assert await billing.entries(ada_id) == [], "a transfer that has not arrived"
    # Taxes and the account of a callback do not matter; it comes several times, at once and later, and as two events.
    paid = event_of(stripe.last, amount_total=1, client_reference_id="somebody")
    later = event_of(stripe.last, "checkout.session.async_payment_succeeded")
    assert await call_back_often(ada, paid, paid, later, paid, later) == [204] * 5
    assert await call_back(ada, paid) == 204
    assert await call_back(ada, event_of(stripe.last, "checkout.session.expired")) == 204
    assert await billing.entries(ada_id) == [("PURCHASE", 100, 0)]
    (node,) = [edge["node"] for edge in (await ada.one(LEDGER))["edges"]]
    assert node == {
        "type": "PURCHASE",
        "amount": 100,
        "description": "Bought: Starter.",
        "externalReference": stripe.last["id"],
        "package": {"id": package, "name": "Changed meanwhile"},
        "actor": None,
    }
    again = await buy(ada, package, idempotencyKey="once")
    assert again == {
        "__typename": "PurchaseCreditsPayload",
        "checkoutUrl": None,
        "transaction": {"sequence": 1, "type": "PURCHASE", "amount": 100},
    }
    assert (await buy(ada, await create_package(admin, "Other"), idempotencyKey="once"))["code"] == "CONFLICT"
    assert [(row["type"], row["title"]) for row in await told(database, ada)] == [("CREDITS_PURCHASED", "Credits of ada were bought")]
    assert len(stripe.checkouts) == 1


async def test_a_price_of_the_provider_is_named_in_its_checkout(ada: Client, admin: Client, stripe: StripeStandIn) -> None:
    await buy(ada, await create_package(admin, externalPriceId="price_1"))
    assert stripe.last["form"]["line_items[0][price]"] == "price_1"
    assert not any("price_data" in name for name in stripe.last["form"])


async def test_callbacks_that_the_provider_did_not_sign_change_nothing(
    ada: Client, admin: Client, billing: BillingDriver, stripe: StripeStandIn
) -> None:
    await buy(ada, await create_package(admin))
    paid = event_of(stripe.last)
    body = orjson.dumps(paid)
    now = time.time()
    tampered = body.replace(b'"paid"', b'"PAID"')
    refused = [
        (signed(body, "whsec_another"), body),
        (signed(body), tampered),
        (signed(body), body + b" "),
        (signed(body, at=now - 301), body),
        (signed(body, at=now + 400), body),
        ("", body),
        ("t=,v1=", body),
        ("t=1e9,v1=0", body),
        ("v1=" + "0" * 64, body),
        (signed(body).replace("v1=", "v0="), body),
        (f"t={int(now)}," + signed(body), body),
        (signed(b"[]"), b"[]"),
        (signed(b"{}"), b"{}"),
        (signed(b"\xff"), b"\xff"),
    ]
    for header, sent in refused:
        assert await call_back(ada, paid, header, sent) == 400, (header, sent)
    long = b"x" * (1024**2 + 1)
    assert await call_back(ada, paid, signed(long), long) == 413
    assert await billing.entries(await billing.user_id(ada)) == []
    # While the secret is replaced, there are two signatures; what is of no purchase is taken and does nothing.
    others: list[dict[str, Any]] = [
        {"metadata": {}},
        {"metadata": None},
        {"metadata": {"purchase": "x"}},
        {"metadata": {"purchase": "0" * 32}},
    ]
    for other in others:
        assert await call_back(ada, event_of(stripe.last, **other)) == 204
    assert await call_back(ada, event_of(stripe.last, "customer.created")) == 204
    assert await call_back(ada, event_of(stripe.last, id="cs_of_something_else")) == 204
    assert await billing.entries(await billing.user_id(ada)) == []
    assert await call_back(ada, paid, signed(body, "whsec_before", "whsec_of_the_stand_in")) == 204
    assert await billing.entries(await billing.user_id(ada)) == [("PURCHASE", 100, 0)]


async def test_a_refund_takes_back_what_the_account_still_has(
    ada: Client, admin: Client, billing: BillingDriver, stripe: StripeStandIn
) -> None:
    package, ada_id = await create_package(admin), await billing.user_id(ada)
    await buy(ada, package)
    checkout = stripe.last
    assert await call_back(ada, event_of(checkout)) == 204
    half, most = refund_of(checkout, 300), refund_of(checkout, 800)
    assert await call_back_often(ada, most, half, half, most) == [204] * 4, "in any order"
    assert sum(amount for _, amount, _ in await billing.entries(ada_id)) == 20
    assert {kind for kind, _, _ in await billing.entries(ada_id)} == {"PURCHASE", "ADJUSTMENT"}
    await billing.grant(ada_id, -15, TransactionType.ADJUSTMENT)
    assert await call_back(ada, refund_of(checkout, 1_000)) == 204
    assert await billing.balances(ada_id) == (0, 0)
    (purchase,) = await billing.database.rows(text("SELECT refunded, taken_back FROM credit_purchases"))
    assert (purchase.refunded, purchase.taken_back) == (100, 85)
    (last, *_) = [edge["node"] for edge in (await ada.one(LEDGER))["edges"]]
    assert (last["amount"], last["description"], last["package"]["id"]) == (-5, "The payment was refunded: Starter.", package)


async def test_a_refund_that_is_told_before_the_payment_is_taken_off_it(
    ada: Client, admin: Client, billing: BillingDriver, stripe: StripeStandIn
) -> None:
    await buy(ada, await create_package(admin))
    assert await call_back(ada, refund_of(stripe.last, 400)) == 204
    assert await call_back(ada, event_of(stripe.last, "checkout.session.expired")) == 204
    assert await billing.entries(await billing.user_id(ada)) == []
    assert await call_back(ada, event_of(stripe.last)) == 204, "paid after all"
    assert await billing.entries(await billing.user_id(ada)) == [("PURCHASE", 100, 0), ("ADJUSTMENT", -40, 0)]


async def test_a_lost_dispute_takes_back_what_the_account_still_has(
    ada: Client, admin: Client, billing: BillingDriver, stripe: StripeStandIn
) -> None:
    package, ada_id = await create_package(admin), await billing.user_id(ada)
    await buy(ada, package)
    first = stripe.last
    await buy(ada, package)
    second = stripe.last
    for checkout in (first, second):
        assert await call_back(ada, event_of(checkout)) == 204
    # What changes nothing: disputes that are open, won or of something else, and an inquiry that was closed.
    harmless = [dispute_of(first, "won"), dispute_of(first, "warning_closed"), dispute_of(first, payment_intent=None)]
    harmless += [dispute_of(first, payment_intent="pi_other"), dispute_of(first, payment_intent="pi_gone")]
    opened = {**dispute_of(first, "needs_response"), "type": "charge.dispute.created"}
    assert await call_back_often(ada, *harmless, opened) == [204] * 6
    assert await call_back(ada, dispute_of(first, amount="all")) == 400
    stripe.status = 500
    lost = dispute_of(first, amount=700)
    assert await call_back(ada, lost) == 503, "Stripe sends it again"
    stripe.status = 200
    assert await billing.balances(ada_id) == (200, 0)
    # With a refund of the rest, in any order and several times.
    assert await call_back_often(ada, lost, refund_of(first, 300), lost, refund_of(first, 300)) == [204] * 4
    assert await billing.balances(ada_id) == (100, 0)
    assert await call_back(ada, dispute_of(first)) == 204, "no more than what was bought"
    assert await billing.balances(ada_id) == (100, 0)
    await billing.grant(ada_id, -60, TransactionType.ADJUSTMENT)
    assert await call_back(ada, dispute_of(second, amount=1_150, currency="usd")) == 204
    assert await billing.balances(ada_id) == (0, 0)
    (last, *_) = [edge["node"] for edge in (await ada.one(LEDGER))["edges"]]
    assert (last["amount"], last["description"]) == (-40, "The payment was disputed, and the dispute was lost: Starter.")
    rows = await billing.database.rows(text("SELECT refunded, disputed, taken_back FROM credit_purchases ORDER BY created_at"))
    assert [tuple(row) for row in rows] == [(30, 100, 100), (0, 100, 40)]


async def test_a_dispute_that_is_told_before_the_payment_is_taken_off_it(
    ada: Client, admin: Client, billing: BillingDriver, stripe: StripeStandIn
) -> None:
    await buy(ada, await create_package(admin))
    assert await call_back(ada, dispute_of(stripe.last, amount=400)) == 204
    assert await billing.entries(await billing.user_id(ada)) == []
    assert await call_back(ada, event_of(stripe.last)) == 204
    assert await billing.entries(await billing.user_id(ada)) == [("PURCHASE", 100, 0), ("ADJUSTMENT", -40, 0)]


async def test_a_payment_that_is_not_what_the_purchase_costs_is_sent_back(
    ada: Client, admin: Client, billing: BillingDriver, stripe: StripeStandIn
) -> None:
    package, ada_id = await create_package(admin, externalPriceId="price_of_something_else"), await billing.user_id(ada)
    before = sample_value("trellis_payment_mismatches_total")
    wrong: list[dict[str, Any]] = [{"amount_subtotal": 999}, {"amount_subtotal": 1_001}, {"currency": "jpy"}]
    for change in wrong:
        await buy(ada, package, idempotencyKey=str(change))
        paid = event_of(stripe.last, **change)
        stripe.status = 500
        assert await call_back(ada, paid) == 503, "nobody knows whether it was sent back: the provider sends the event again"
        stripe.status = 200
        assert await call_back_often(ada, paid, paid) == [204, 204]
        assert await call_back(ada, {**paid, "id": f"{paid['id']}_again"}) == 204
        assert stripe.refunds == {paid["data"]["object"]["payment_intent"]: next(iter(stripe.refunds.values()))}
        assert await call_back(ada, refund_of(stripe.last, 1_000)) == 204
        assert (await buy(ada, package, idempotencyKey=str(change)))["code"] == "WRONG_STATE"
        stripe.refunds.clear()
    assert await billing.entries(ada_id) == []
    assert sample_value("trellis_payment_mismatches_total") == before + 12
    rows = await billing.database.rows(text("SELECT refused FROM payment_events WHERE refused IS NOT NULL GROUP BY 1 ORDER BY 1"))
    costs = "were paid, and the package costs 1000 EUR."
    assert [row.refused for row in rows] == [f"1000 JPY {costs}", f"1001 EUR {costs}", f"999 EUR {costs}"]
    await buy(ada, package)
    assert await call_back(ada, event_of(stripe.last, amount_subtotal=None)) == 400
    assert await call_back(ada, event_of(stripe.last)) == 204
    assert (await billing.entries(ada_id), stripe.refunds) == ([("PURCHASE", 100, 0)], {})


async def test_events_of_payments_are_kept_for_as_long_as_they_may_be_repeated(
    ada: Client, admin: Client, billing: BillingDriver, stripe: StripeStandIn, settings: StateSettings
) -> None:
    await buy(ada, await create_package(admin))
    for event in (paid := event_of(stripe.last), refund_of(stripe.last, 100)):
        assert await call_back(ada, event) == 204
    await billing.tamper("UPDATE payment_events SET created_at = now() - interval '91 days' WHERE type = 'checkout.session.completed'")
    context = MaintenanceContext(billing.database, None, settings)  # pyright: ignore[reportArgumentType] - the task touches no object
    await forget_notifications(context)
    (kept,) = await billing.database.rows(text("SELECT type FROM payment_events"))
    assert kept.type == "charge.refunded"
    assert await call_back(ada, paid) == 204, "the purchase and the ledger still tell that it was paid"
    assert await billing.balances(await billing.user_id(ada)) == (90, 0)
    with pytest.raises(ValidationError):
        StateSettings(retention_payment_events=29)


async def test_a_purchase_whose_process_died_goes_on_by_its_key(
    ada: Client, admin: Client, billing: BillingDriver, stripe: StripeStandIn
) -> None:
    package = await create_package(admin)
    stripe.breaks_off = True  # the checkout is made, and the answer is lost
    for _ in range(2):
        with pytest.raises(GraphQLErrors) as failed:
            await buy(ada, package, idempotencyKey="k")
        assert failed.value.codes == ["UNAVAILABLE"]
    stripe.breaks_off = False
    assert (await buy(ada, package, idempotencyKey="k"))["checkoutUrl"] == stripe.last["url"]
    assert len(stripe.checkouts) == 1
    stripe.status = 429
    with pytest.raises(GraphQLErrors) as failed:
        await buy(ada, package)
    assert failed.value.codes == ["UNAVAILABLE"]
    rows = await billing.database.rows(text("SELECT status FROM credit_purchases ORDER BY created_at"))
    assert [row.status for row in rows] == ["open", "expired"], "nobody can go on with one that has no key"
    await billing.tamper(
        "UPDATE credit_purchases SET checkout_url = NULL, created_at = now() - interval '23.5 hours' WHERE status = 'open'"
    )
    assert (await buy(ada, package, idempotencyKey="k"))["code"] == "WRONG_STATE", "the provider would make another checkout"


async def test_a_process_that_dies_within_a_callback_has_done_nothing(
    ada: Client, admin: Client, billing: BillingDriver, stripe: StripeStandIn
) -> None:
    await buy(ada, await create_package(admin))
    paid = event_of(stripe.last)
    notice = provider.parse(orjson.dumps(paid))
    assert isinstance(notice, provider.PaymentNotice)

    async def applied_and_killed() -> None:
        async with billing.database.work(SYSTEM) as work:
            await purchases.apply(work, notice)
            await work.run_before_commit()  # all that the callback writes
            raise Unavailable("process")

    with pytest.raises(Unavailable):
        await applied_and_killed()
    assert await billing.entries(await billing.user_id(ada)) == []
    assert await billing.database.rows(text("SELECT event_id FROM payment_events")) == []
    assert await call_back(ada, paid) == 204, "the provider sends it again"
    assert await billing.entries(await billing.user_id(ada)) == [("PURCHASE", 100, 0)]


async def test_who_may_buy_what_for_whom(
    ada: Client, bob: Client, reader: Client, admin: Client, billing: BillingDriver, stripe: StripeStandIn, sign_in: SignIn
) -> None:
    for_pro, sold = await create_package(admin, "Pro", tierRestriction="PRO_ONLY"), await create_package(admin)
    refused = await buy(ada, for_pro)
    assert refused["code"] == "INVALID_INPUT"
    await billing.tamper("UPDATE users SET tier = 'pro' WHERE username = 'ada'")
    assert (await buy(ada, for_pro))["__typename"] == "PurchaseCreditsPayload"
    create = 'mutation { createTeam(input: {name: "Bearings", username: "bearings"}) { ... on CreateTeamPayload { team { id } } } }'
    team = (await (await sign_in("ada")).one(create))["team"]["id"]
    assert (await buy(ada, sold, accountId=team))["code"] == "INVALID_INPUT", "its jobs are paid by its maker"
    await billing.tamper(
        "UPDATE users SET storage_quota_bytes = 1000 WHERE username = 'bearings'",
        "INSERT INTO memberships (team_id, user_id, role) SELECT t.id, u.id, 'member' FROM users t, users u WHERE t.username = 'bearings' AND u.username = 'bob'",
    )
    assert (await buy(ada, sold, accountId=team))["__typename"] == "PurchaseCreditsPayload"
    assert await call_back(ada, event_of(stripe.last)) == 204
    of_team = "query($id: ID!) { user(id: $id) { credits { available } } }"
    assert await bob.one(of_team, id=team) == {"credits": {"available": 100}}
    for client, changes in ((bob, {"accountId": team}), (reader, {})):
        with pytest.raises(GraphQLErrors) as denied:
            await buy(client, sold, **changes)
        assert denied.value.codes == ["FORBIDDEN"]
    await admin.one(UPDATE, input={"id": sold, "isActive": False})
    assert (await buy(ada, sold))["code"] == "WRONG_STATE"
    assert (await buy(ada, "package_" + "0" * 32))["code"] == "NOT_FOUND"


async def test_an_account_has_a_bounded_number_of_open_purchases(
    ada: Client, admin: Client, stripe: StripeStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purchases, "MAX_OPEN", 2)
    package = await create_package(admin)
    answers = await asyncio.gather(*(buy(ada, package) for _ in range(5)))
    assert sorted(answer["__typename"] for answer in answers) == ["PurchaseCreditsPayload"] * 2 + ["QuotaExceeded"] * 3


def test_the_provider_is_set_up_as_a_whole() -> None:
    with pytest.raises(ValueError, match="needs TRELLIS_STRIPE_SECRET_KEY, TRELLIS_STRIPE_WEBHOOK_SECRET, TRELLIS_PUBLIC_URL too"):
        StateSettings(payment_provider="stripe", public_url="")
