"""Credits: adjustments, and entries of other types. None is of a job: the ledger keeps the jobs that it refers to."""

from __future__ import annotations

from db.tables import CreditPackage, CreditTransaction
from tests.factories import Factory

# A trigger lets an account take one entry at a time, so it is disabled while several are inserted.
_ROWS = """
SET LOCAL session_replication_role = replica;

INSERT INTO credit_packages (owner_id, name, credits, price_cents, currency, tier_restriction, external_price_id)
SELECT u.id, 'package ' || i, 100 * i, 500 * i, 'EUR', (ARRAY['none', 'pro_only', 'enterprise_only'])[1 + i % 3], 'price_' || i
FROM users u, generate_series(1, :count) i WHERE u.username = :owner;

INSERT INTO credit_budgets (owner_id, experiment_id, max_credits, held, charged)
SELECT u.id, e.id, 100, 0, 0 FROM users u, LATERAL (SELECT id FROM experiments WHERE owner_id = u.id UNION ALL SELECT NULL) e WHERE u.username = :owner;

INSERT INTO credit_budget_jobs (job_id, budget_id)
SELECT j.id, b.id FROM credit_budgets b JOIN users u ON u.id = b.owner_id JOIN jobs j ON j.owner_id = u.id
WHERE u.username = :owner AND b.experiment_id IS NULL AND j.credit_cost = 0;

INSERT INTO credit_purchases (owner_id, package_id, name, credits, price_cents, currency, checkout_url, external_reference)
SELECT owner_id, id, name, credits, price_cents, currency, 'https://checkout.example.org/' || id, 'checkout ' || id FROM credit_packages
WHERE owner_id = (SELECT id FROM users WHERE username = :owner);

INSERT INTO payment_events (event_id, type, purchase_id)
SELECT 'event ' || p.id, 'checkout.session.completed', p.id FROM credit_purchases p JOIN users u ON u.id = p.owner_id WHERE u.username = :owner;

INSERT INTO credit_transactions (owner_id, sequence, kind, amount, balance_after, held_after, actor_id, note, package_id, external_reference)
SELECT u.id, i, 'adjustment', 1, i, 0, u.id, 'gift ' || i, p.id, 'checkout ' || i
FROM users u, generate_series(1, :count) i, credit_packages p WHERE u.username = :owner AND p.owner_id = u.id AND p.name = 'package 1';

UPDATE users u SET credit_sequence = t.entries, credit_balance = t.entries, credits_low_since = now()
FROM (SELECT owner_id, count(*) AS entries FROM credit_transactions GROUP BY owner_id) t WHERE t.owner_id = u.id AND u.username = :owner;

SET LOCAL session_replication_role = origin;
"""

_STATES = """
SET LOCAL session_replication_role = replica;

INSERT INTO credit_packages (owner_id, name, credits, price_cents, currency, is_active, tier_restriction)
SELECT id, 'sold no more', 10, 100, 'USD', false, 'none' FROM users WHERE username = :owner;

INSERT INTO credit_transactions (owner_id, sequence, kind, amount, balance_after, held_after, note)
SELECT u.id, u.credit_sequence + i, (ARRAY['purchase', 'refund'])[i], 5, u.credit_balance + 5 * i, u.credits_held, (ARRAY['for people'])[i]
FROM users u, generate_series(1, 2) i WHERE u.username = :owner;

UPDATE users SET credit_sequence = credit_sequence + 2, credit_balance = credit_balance + 10 WHERE username = :owner;

SET LOCAL session_replication_role = origin;
"""

FACTORY = Factory(
    ids={"package": CreditPackage, "transaction": CreditTransaction},
    after=("accounts", "experiments"),
    rows=_ROWS,
    states=_STATES,
    unfilled=("CreditTransaction.job", "CreditPackage.externalPriceId"),
)
