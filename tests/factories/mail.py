"""Mails: some of events that were sent, one of each status, and one with a token. Those about a team are to an ADMIN of it."""

from __future__ import annotations

from db.tables import EmailMessage
from db.tables.mail import EmailStatus
from tests.factories import Factory

_RECIPIENTS = """
WITH recipients AS (
  SELECT u.id AS account_id, u.username, CASE u.kind WHEN 'person' THEN u.id ELSE (
    SELECT m.user_id FROM memberships m WHERE m.team_id = u.id AND m.role = 'admin' ORDER BY m.user_id LIMIT 1) END AS id
  FROM users u WHERE u.username = :owner
)
"""
_COLUMNS = """INSERT INTO email_messages (user_id, account_id, address, template, is_notification, event_id, event_type, subject_id, name, status, tries, error,
  created_at, sent_at, provider, message_id, delivered_at, opened_at, clicked_at)"""
_SUBJECT = "'user_' || replace(r.account_id::text, '-', '')"

_ROWS = f"""
{_RECIPIENTS}
{_COLUMNS}
SELECT r.id, r.account_id, r.username || '@example.org', 'event', true, uuidv7(), 'quota_near', {_SUBJECT}, r.username, 'clicked', 2, 'later',
  now() - i * interval '1 minute', now(), 'mail.example.org', '<' || i || '@example.org>', now(), now(), now()
FROM recipients r, generate_series(1, :count) i WHERE r.id IS NOT NULL;
"""

_STATES = f"""
{_RECIPIENTS}
{_COLUMNS}
SELECT r.id, r.account_id, r.username || '@example.org', 'daily_digest', true, NULL, NULL, NULL, NULL, status, 0, NULL, now(), NULL, NULL, NULL, NULL, NULL, NULL
FROM recipients r, unnest(ARRAY[{", ".join(f"'{status.value}'" for status in EmailStatus)}]) status WHERE r.id IS NOT NULL;

INSERT INTO email_messages (user_id, account_id, address, template, token_id, status)
SELECT t.user_id, t.user_id, t.email, 'password_reset', t.id, 'sent' FROM account_tokens t JOIN users u ON u.id = t.user_id WHERE u.username = :owner;
"""

FACTORY = Factory(ids={"email": EmailMessage}, after=("accounts",), rows=_ROWS, states=_STATES)
