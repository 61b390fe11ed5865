"""Credits: an entry of the ledger."""

from __future__ import annotations

from tests.factories import Factory

_STATES = """
INSERT INTO credit_transactions (owner_id, sequence, kind, amount, balance_after, held_after, note)
SELECT u.id, u.credit_sequence + 1, 'purchase', 5, u.credit_balance + 5, u.credits_held, 'for people' FROM users u WHERE u.username = :owner;

UPDATE users SET credit_sequence = credit_sequence + 1, credit_balance = credit_balance + 5 WHERE username = :owner;
"""

FACTORY = Factory(ids={}, after=("accounts",), states=_STATES)
