"""Notifications: some that were read, and one of each event. Those of a team are to an ADMIN of it."""

from __future__ import annotations

from db.tables import Notification
from tests.factories import Example, Factory

_RECIPIENTS = """
WITH recipients AS (
  SELECT u.id AS account_id, u.username, CASE u.kind WHEN 'person' THEN u.id ELSE (
    SELECT m.user_id FROM memberships m WHERE m.team_id = u.id AND m.role = 'admin' ORDER BY m.user_id LIMIT 1) END AS id
  FROM users u WHERE u.username = :owner
), numbered AS (
  SELECT r.*, coalesce((SELECT max(sequence) FROM notifications WHERE recipient_id = r.id), 0) AS last FROM recipients r WHERE r.id IS NOT NULL
)
"""
_COLUMNS = "INSERT INTO notifications (recipient_id, account_id, sequence, type, subject_id, name, data, created_at, read_at)"
_SUBJECT = "'user_' || replace(r.account_id::text, '-', '')"
_INBOX = """
INSERT INTO inboxes (user_id, last_sequence) SELECT recipient_id, max(sequence) FROM notifications GROUP BY recipient_id
ON CONFLICT (user_id) DO UPDATE SET last_sequence = excluded.last_sequence;
"""

_ROWS = f"""
{_RECIPIENTS}
{_COLUMNS}
SELECT r.id, r.account_id, r.last + i, 'quota_near', {_SUBJECT}, r.username, '{{}}', now() - i * interval '1 minute', now()
FROM numbered r, generate_series(1, :count) i;
{_INBOX}
INSERT INTO notification_preferences (user_id, event_type, in_app, email_frequency)
SELECT id, 'job_completed', true, 'daily' FROM users WHERE username = :owner AND kind = 'person'
ON CONFLICT DO NOTHING;
{_RECIPIENTS}
INSERT INTO digest_items (user_id, account_id, event_id, event_type, subject_id, name, created_at, frequency, due_at)
SELECT r.id, r.account_id, uuidv7(), 'quota_near', {_SUBJECT}, r.username, now(), 'daily', now() + interval '1 day'
FROM numbered r, generate_series(1, :count);
"""

_STATES = f"""
{_RECIPIENTS}
{_COLUMNS}
SELECT r.id, r.account_id, r.last + row_number() OVER (ORDER BY type), type, {_SUBJECT}, r.username, '{{"kind": "train", "number": 1, "alias": "best"}}', now(), NULL
FROM numbered r, unnest(ARRAY['job_failed', 'version_ready', 'alias_changed', 'credits_low']) type;
{_INBOX}
"""

FACTORY = Factory(
    ids={"notification": Notification},
    after=("accounts",),
    rows=_ROWS,
    states=_STATES,
    examples={
        "NotificationFilter.isRead": (
            Example(value=True, selection="readAt", fits=lambda row: row["readAt"] is not None),
            Example(value=False, selection="readAt", fits=lambda row: row["readAt"] is None),
        )
    },
)
