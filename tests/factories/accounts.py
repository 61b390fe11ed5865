"""Users, whom fixtures create; their sessions, sign-ins that failed, API keys and invitations."""

from __future__ import annotations

from db.tables import ApiKey, Invitation, LoginEvent, User, UserSession
from db.tables.passkeys import Passkey
from tests.factories import Factory

_ROWS = """
UPDATE users SET last_login_at = now(), password_changed_at = now(), email_verified_at = now(), totp_secret = '\\x00', totp_step = 0,
    full_name = initcap(username)
WHERE username = :owner;

INSERT INTO backup_codes (user_id, code_sha256)
SELECT u.id, sha256(uuid_send(gen_random_uuid())) FROM users u, generate_series(1, :count) i WHERE u.username = :owner;

INSERT INTO user_counters (owner_id, kind, value)
SELECT u.id, k, :count FROM users u, unnest(ARRAY['datasets', 'pipelines', 'models', 'experiments', 'jobs']) k WHERE u.username = :owner;

INSERT INTO sessions (user_id, token_sha256, expires_at, idle_seconds, ip_address, network, user_agent, device, browser)
SELECT u.id, sha256(uuid_send(gen_random_uuid())), now() + interval '1 day', 3600, '192.0.2.1', '192.0.2.1', 'Mozilla/5.0 (X11; Linux)', 'Linux', 'Firefox'
FROM users u, generate_series(1, :count) i WHERE u.username = :owner;

INSERT INTO passkeys (user_id, name, webauthn_id, public_key, sign_count, transports, is_backup_eligible, is_backed_up, last_used_at)
SELECT u.id, 'phone ' || i, uuid_send(gen_random_uuid()), '\\x00', i, ARRAY['internal'], true, true, now()
FROM users u, generate_series(1, :count) i WHERE u.username = :owner;

INSERT INTO login_events (user_id, method, succeeded, reason, ip_address, user_agent)
SELECT u.id, 'password', false, 'The password was wrong.', '192.0.2.1', 'curl/8.5.0' FROM users u, generate_series(1, :count) i WHERE u.username = :owner;

INSERT INTO oauth_identities (user_id, provider, issuer, subject, email)
SELECT u.id, 'provider-' || i, 'https://login.example.org/' || i, u.id, 'somebody@example.com' FROM users u, generate_series(1, :count) i WHERE u.username = :owner;

INSERT INTO invitations (email, role, owner_id, invited_by_id, expires_at)
SELECT i || '@example.com', 'member', u.id, u.id, now() + interval '7 days' FROM users u, generate_series(1, :count) i WHERE u.username = :owner;

INSERT INTO api_keys (user_id, name, prefix, token_sha256, scopes, points_per_minute, expires_at, revoked_at, last_used_at)
SELECT u.id, 'nightly', 'trk_00000000', sha256(uuid_send(gen_random_uuid())), ARRAY['read', 'run'], 600, now() + interval '1 day', now(), now()
FROM users u, generate_series(1, :count) i WHERE u.username = :owner;
"""

_STATES = """
INSERT INTO login_events (user_id, method, succeeded)
SELECT u.id, m, true FROM users u, unnest(ARRAY['password', 'totp', 'backup_code', 'oauth', 'passkey']) m WHERE u.username = :owner;

INSERT INTO known_devices (user_id, network, browser, device) SELECT u.id, '192.0.2.0', 'Firefox', 'Linux' FROM users u WHERE u.username = :owner;

INSERT INTO login_challenges (user_id, token_sha256, password_digest, expires_at)
SELECT u.id, sha256(uuid_send(gen_random_uuid())), '', now() + interval '5 minutes' FROM users u WHERE u.username = :owner;

INSERT INTO oauth_flows (secret_sha256, provider, next_path, session_id, expires_at)
SELECT sha256(uuid_send(gen_random_uuid())), 'google', '/graphql', s.id, now() + interval '10 minutes'
FROM sessions s JOIN users u ON u.id = s.user_id WHERE u.username = :owner;

INSERT INTO sessions (user_id, token_sha256, expires_at, idle_seconds, network)
SELECT u.id, sha256(uuid_send(gen_random_uuid())), now() + interval '1 day', 3600, 'unknown' FROM users u WHERE u.username = :owner;

INSERT INTO passkeys (user_id, name, webauthn_id, public_key, sign_count, transports, is_backup_eligible, is_backed_up)
SELECT u.id, 'security key', uuid_send(gen_random_uuid()), '\\x00', 0, '{}', false, false FROM users u WHERE u.username = :owner;

INSERT INTO passkey_challenges (challenge_sha256, session_id, name, expires_at)
SELECT sha256(uuid_send(gen_random_uuid())), s.id, 'laptop', s.expires_at FROM sessions s JOIN users u ON u.id = s.user_id WHERE u.username = :owner;

INSERT INTO invitations (email, role, owner_id, invited_by_id, expires_at)
SELECT 'eve@example.com', 'admin', u.id, u.id, now() + interval '7 days' FROM users u WHERE u.username = :owner;
"""

_TEAMS = """
INSERT INTO users (kind, created_by_id, email, username, full_name, role, storage_quota_bytes)
SELECT 'team', u.id, u.username || '-team@teams.invalid', u.username || '-team', 'A team', 'member', 0 FROM users u WHERE u.username = :owner;

INSERT INTO memberships (team_id, user_id, role)
SELECT t.id, t.created_by_id, 'admin' FROM users t JOIN users u ON u.id = t.created_by_id WHERE u.username = :owner;

INSERT INTO invitations (email, role, owner_id, invited_by_id, expires_at)
SELECT 'kim@example.com', 'member', t.id, t.created_by_id, now() + interval '7 days' FROM users t JOIN users u ON u.id = t.created_by_id WHERE u.username = :owner;
"""

_MAILS = """
INSERT INTO account_tokens (user_id, purpose, email) SELECT u.id, 'reset_password', u.email FROM users u WHERE u.username = :owner;

INSERT INTO registrations (email, username, password_hash, invitation_id, expires_at)
SELECT i.email, 'somebody', 'no hash', i.id, now() + interval '48 hours' FROM invitations i JOIN users u ON u.id = i.invited_by_id WHERE u.username = :owner;
"""

FACTORY = Factory(
    ids={"user": User, "session": UserSession, "login": LoginEvent, "apikey": ApiKey, "invitation": Invitation, "passkey": Passkey},
    rows=_ROWS,
    states=_STATES + _TEAMS + _MAILS,
    unfilled=("User.members", "User.teams", "Invitation.team"),  # the lists of who is in no team are read by other statements
)
