"""Sign-ins by a provider that are under way: each is bound to the browser that began it, and comes back once, within ten minutes.

The browser has a secret in a cookie; the database has its hash. What goes to the provider is derived from the secret: the state that the provider
returns with the browser, the nonce of the ID token, and the verifier of PKCE (RFC 7636). So a callback in another browser, a code of another
sign-in and an ID token of another one are all refused, and neither the database nor the provider can make a callback.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import delete, func, insert

from db.core.work import Work
from db.queries.accounts import token_hash
from db.tables import OAuthFlow

LIFETIME = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Flow:
    """What a sign-in at a provider is for. `session_id` is the session that an identity is linked from; None for a sign-in.

    One that `restores` brings back the deleted account of the identity, named `username` if given.
    """

    provider: str
    next_path: str
    session_id: UUID | None = None
    invitation_id: UUID | None = None
    restores: bool = False
    username: str | None = None


@dataclass(frozen=True, slots=True)
class FlowSecret:
    """The secret of a browser's sign-in, 256 bits, and what is derived from it."""

    text: str

    @property
    def state(self) -> str:
        return self._derive("state")

    @property
    def nonce(self) -> str:
        return self._derive("nonce")

    @property
    def verifier(self) -> str:
        return self._derive("verifier")

    def has_state(self, state: str) -> bool:
        return hmac.compare_digest(self.state.encode(), state.encode("utf-8", "replace"))

    def _derive(self, purpose: str) -> str:
        mac = hmac.digest(self.text.encode("utf-8", "replace"), f"oauth {purpose}".encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(mac).decode().rstrip("=")


async def begin_flow(work: Work, flow: Flow) -> FlowSecret:
    """Begin a sign-in; return its secret, which is not stored."""
    secret = FlowSecret(secrets.token_urlsafe(32))
    values = {
        "secret_sha256": token_hash(secret.text),
        "provider": flow.provider,
        "next_path": flow.next_path,
        "session_id": flow.session_id,
        "invitation_id": flow.invitation_id,
        "restores": flow.restores,
        "username": flow.username,
    }
    await work.run(insert(OAuthFlow).values(**values, expires_at=func.now() + LIFETIME))
    return secret


async def use_flow(work: Work, secret: FlowSecret) -> Flow | None:
    """End a sign-in that came back; None if it is unknown, came back before, or took too long."""
    columns = (
        *(OAuthFlow.provider, OAuthFlow.next_path, OAuthFlow.session_id, OAuthFlow.invitation_id),
        *(OAuthFlow.restores, OAuthFlow.username),
    )
    is_it = (OAuthFlow.secret_sha256 == token_hash(secret.text), OAuthFlow.expires_at > func.now())
    row = await work.first(delete(OAuthFlow).where(*is_it).returning(*columns))
    return None if row is None else Flow(*row)
