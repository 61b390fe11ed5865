"""The audit: changes of datasets by their owner, and one that an operator made."""

from __future__ import annotations

from db.tables import AuditEvent
from tests.factories import Factory

_ROWS = """
INSERT INTO audit_events (actor_id, credential_id, owner_id, action, subject_id, before, after, origin, ip_address, request_id)
SELECT u.id, 'session_' || replace(uuidv7()::text, '-', ''), u.id, 'update_dataset', 'dataset_' || replace(d.id::text, '-', ''), '{"name": "a"}',
  '{"name": "b"}', 'api', '192.0.2.1', 'a request'
FROM users u JOIN datasets d ON d.owner_id = u.id WHERE u.username = :owner ORDER BY d.id LIMIT :count;
"""

_STATES = """
INSERT INTO audit_events (owner_id, action, subject_id, after, origin)
SELECT u.id, 'administer_user', 'user_' || replace(u.id::text, '-', ''), '{"role": "ADMIN"}', 'command_line' FROM users u WHERE u.username = :owner;

INSERT INTO audit_seals (number, event_ids, newest_id, sha256)
SELECT coalesce(max(number), 0) + 1, ARRAY[uuidv7()], uuidv7(), sha256('') FROM audit_seals WHERE :owner <> '';
"""

FACTORY = Factory(ids={"audit": AuditEvent}, after=("datasets",), rows=_ROWS, states=_STATES)
