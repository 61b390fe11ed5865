"""Recorded requests, and their sums by hour."""

from __future__ import annotations

from db.tables import ApiRequest
from tests.factories import Factory

_ROWS = """
INSERT INTO api_requests (user_id, api_key_id, session_id, operation_name, operation_kind, cost, duration, error_code, request_bytes, response_bytes,
  ip_address, user_agent)
SELECT u.id, k.id, uuidv7(), 'Viewer', 'query', 2, 0.01, 'TIMEOUT', 100, 1000, '192.0.2.1', 'curl/8.5.0'
FROM users u JOIN api_keys k ON k.user_id = u.id, generate_series(1, :count) i WHERE u.username = :owner;

INSERT INTO api_metrics (user_id, hour, api_key_id, operation_name, requests, errors, cost, duration, sketch)
SELECT u.id, timestamptz '2026-01-01T00:00:00Z' + i * interval '1 hour', k.id, 'Viewer', 10, 1, 20, 0.1, '{"-230": 10}'
FROM users u JOIN api_keys k ON k.user_id = u.id, generate_series(1, :count) i WHERE u.username = :owner;
"""

_STATES = """
INSERT INTO api_requests (user_id, operation_kind, cost, duration, request_bytes, response_bytes)
SELECT u.id, 'unknown', 0, 0, 0, 0 FROM users u WHERE u.username = :owner;
"""

FACTORY = Factory(ids={"request": ApiRequest}, after=("accounts",), rows=_ROWS, states=_STATES)
