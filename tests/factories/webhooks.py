"""Webhooks: active endpoints that have failed, each with a delivery, and one delivery of each status."""

from __future__ import annotations

from db.tables import WebhookDelivery, WebhookEndpoint
from tests.factories import Factory

_ROWS = """
INSERT INTO webhook_endpoints (owner_id, created_by_id, name, description, url, provider, events, secret, consecutive_failures, last_error,
  last_used_at, disabled_at, failing_since)
SELECT u.id, u.id, 'receiver ' || i, 'ours', 'https://example.org/hook', 'generic', ARRAY['job_failed'], '\\x01', 1, 'no answer', now(), now(), now()
FROM users u, generate_series(1, :count) i WHERE u.username = :owner;

INSERT INTO webhook_deliveries (endpoint_id, event_id, event_type, subject_id, name, data, status, attempts, http_status, duration, response_body,
  error, delivered_at)
SELECT w.id, uuidv7(), 'job_failed', 'job_' || replace(w.id::text, '-', ''), 'd', '{"kind": "train"}', 'failed', 2, 500, 0.25, 'no', 'no answer', now()
FROM webhook_endpoints w JOIN users u ON u.id = w.owner_id WHERE u.username = :owner;
"""

_STATES = """
INSERT INTO webhook_endpoints (owner_id, name, url, provider, events, secret)
SELECT u.id, provider, 'https://example.org/hook', provider, ARRAY['job_failed', 'credits_low'], '\\x01'
FROM users u, unnest(ARRAY['slack', 'discord', 'teams']) provider WHERE u.username = :owner;

INSERT INTO webhook_deliveries (endpoint_id, event_id, event_type, name, status)
SELECT w.id, uuidv7(), 'credits_low', 'd', status FROM webhook_endpoints w JOIN users u ON u.id = w.owner_id,
  unnest(ARRAY['pending', 'delivered', 'failed', 'abandoned']) status WHERE u.username = :owner;
"""

FACTORY = Factory(ids={"webhook": WebhookEndpoint, "delivery": WebhookDelivery}, after=("accounts",), rows=_ROWS, states=_STATES)
