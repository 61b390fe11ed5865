"""GitHub, and GitHub Enterprise: OAuth 2 without ID tokens. Who signs in is asked of its API."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Any, cast

from server.oauth.http import ProviderError
from server.oauth.provider import Provider

if TYPE_CHECKING:
    from db.services.accounts import FlowSecret, Identity


class GitHubProvider(Provider):
    """https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps"""

    async def authorization_url(self, secret: FlowSecret, redirect_uri: str) -> str:
        return self.with_parameters(f"{self._base}/login/oauth/authorize", secret, redirect_uri)

    async def check_response_issuer(self, issuer: str | None) -> None:
        expected = f"{self._base}/login/oauth"
        if issuer is not None and not hmac.compare_digest(issuer.encode("utf-8", "replace"), expected.encode()):
            raise ProviderError(f"{issuer!r} answered in the name of {expected}.")

    async def identify(self, code: str, secret: FlowSecret, redirect_uri: str) -> Identity:
        answer = await self.exchange(f"{self._base}/login/oauth/access_token", code, secret, redirect_uri, by_header=False)
        api, token = "https://api.github.com" if self._base == "https://github.com" else f"{self._base}/api/v3", answer["access_token"]
        user = await self.http.get(f"{api}/user", token)
        if not isinstance(user, dict):
            raise ProviderError(f"{api}/user gave no user.")
        user = cast("dict[str, Any]", user)
        id_ = user.get("id")
        if not isinstance(id_, int) or isinstance(id_, bool):  # the login may become another person's, the id never
            raise ProviderError(f"{api}/user gave the id {id_!r}.")
        email = _primary(await self.http.get(f"{api}/user/emails", token)) if "user:email" in self.settings.scopes else None
        return self.identity(
            str(id_), email=email, is_email_verified=email is not None, full_name=user.get("name"), names=(user.get("login"),)
        )

    @property
    def _base(self) -> str:
        return self.settings.issuer.rstrip("/")


def _primary(emails: object) -> object:
    """The primary address, if it is verified."""
    entries = cast("list[Any]", emails) if isinstance(emails, list) else []
    for entry in entries:
        if isinstance(entry, dict):
            given = cast("dict[str, Any]", entry)
            if given.get("primary") is True and given.get("verified") is True:
                return given.get("email")
    return None
