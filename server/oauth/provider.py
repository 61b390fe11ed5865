"""What a provider of either kind does: it sends the browser to the provider, and finds out who came back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from authlib.oauth2.rfc7636 import create_s256_code_challenge  # pyright: ignore[reportUnknownVariableType] - the package has no types

from db.services.accounts import FlowSecret, Identity
from server.oauth.http import ProviderError, ProviderHttp
from server.oauth.settings import SignInProvider, is_safe_url

MAX_SUBJECT = 255  # characters, OpenID Connect Core 1.0, section 2
MAX_EMAIL = 254


class Provider(ABC):
    """A provider of identities. Each method raises `ProviderError` if the provider cannot be used, or says what cannot be true."""

    def __init__(self, name: str, settings: SignInProvider) -> None:
        self.name = name
        self.settings = settings
        self.http = ProviderHttp()

    @abstractmethod
    async def authorization_url(self, secret: FlowSecret, redirect_uri: str) -> str:
        """Where the browser is sent."""

    @abstractmethod
    async def check_response_issuer(self, issuer: str | None) -> None:
        """Check who says that it answers (RFC 9207): another provider may have sent the browser here to get the code."""

    @abstractmethod
    async def identify(self, code: str, secret: FlowSecret, redirect_uri: str) -> Identity:
        """Exchange the code of a browser that came back; return who it is."""

    def with_parameters(self, endpoint: str, secret: FlowSecret, redirect_uri: str, **others: str) -> str:
        """The address of the authorization endpoint for a sign-in."""
        challenge = str(create_s256_code_challenge(secret.verifier))  # pyright: ignore[reportUnknownArgumentType] - as above
        parameters = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(self.settings.scopes),
            "state": secret.state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            **others,
        }
        return f"{endpoint}{'&' if urlsplit(endpoint).query else '?'}{urlencode(parameters)}"

    async def exchange(self, endpoint: str, code: str, secret: FlowSecret, redirect_uri: str, *, by_header: bool) -> dict[str, Any]:
        """Exchange a code; return the answer. `by_header` is how the client shows its secret (RFC 6749, 2.3.1)."""
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri, "code_verifier": secret.verifier}
        client_id, client_secret = self.settings.client_id, self.settings.client_secret.get_secret_value()
        if client_secret and by_header:
            answer = await self.http.post(endpoint, form, (quote(client_id, safe=""), quote(client_secret, safe="")))
        else:
            answer = await self.http.post(
                endpoint, {**form, "client_id": client_id, **({"client_secret": client_secret} if client_secret else {})}
            )
        if not isinstance(answer, dict) or not isinstance(answer.get("access_token"), str):  # pyright: ignore[reportUnknownMemberType] - JSON
            raise ProviderError(f"{endpoint} gave no access token.")
        return answer  # pyright: ignore[reportUnknownVariableType] - JSON

    def identity(
        self,
        subject: object,
        *,
        email: object = None,
        is_email_verified: bool = False,
        full_name: object = None,
        names: tuple[object, ...] = (),
    ) -> Identity:
        """The identity of what a provider said. Raises `ProviderError` for what is no subject."""
        if not _is_text(subject, MAX_SUBJECT):
            raise ProviderError(f"{self.name} gave {subject!r} as the subject.")
        return Identity(
            self.name,
            self.settings.issuer,
            str(subject),
            str(email) if _is_text(email, MAX_EMAIL) else None,
            is_email_verified,
            full_name if isinstance(full_name, str) else None,
            tuple(name for name in names if isinstance(name, str)),
        )

    async def close(self) -> None:
        await self.http.close()


def endpoint(document: dict[str, Any], name: str) -> str:
    """An address that a provider names. Raises `ProviderError` for one where others could listen."""
    url = document.get(name)
    if not isinstance(url, str) or not is_safe_url(url):
        raise ProviderError(f"The provider names {url!r} as its {name}.")
    return url


def _is_text(value: object, length: int) -> bool:
    return isinstance(value, str) and 0 < len(value) <= length and value.isprintable()
