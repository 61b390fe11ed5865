"""OpenID Connect: a provider that is known by its issuer, names its endpoints and keys, and says by a signed ID token who signed in.

OpenID Connect Core 1.0 and Discovery 1.0; RFC 7519 and 8725 for the tokens, RFC 9207 for the issuer of a response.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from typing import TYPE_CHECKING, Any, cast

import orjson
from authlib.oidc.core import CodeIDToken
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, KeySet, RSAKey

from server.oauth.http import ProviderError
from server.oauth.provider import Provider, endpoint

if TYPE_CHECKING:
    from db.services.accounts import FlowSecret, Identity
    from server.oauth.http import ProviderHttp

# By public keys alone: with HS256 the client's secret would be the key, and with `none` everybody has it.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
MAX_AGE = 3600.0  # seconds for which the provider's document and keys are kept
KEY_INTERVAL = 30.0  # seconds between requests for keys because of a token with an unknown one: anybody can send those
LEEWAY = 60  # seconds that the provider's clock may be wrong
MIN_RSA_BITS = 2048


class SigningKeys:
    """The public keys of a provider. They are asked for again once an hour, and when a token names one that is not known."""

    def __init__(self, http: ProviderHttp) -> None:
        self._http = http
        self._lock = asyncio.Lock()
        self._keys: list[Key] = []
        self._expires_at = 0.0
        self._next_for_unknown = 0.0

    async def find(self, url: str, key_id: str | None) -> Key:
        """Return the key with this id, or the only one for a token that names none. Raises `ProviderError`."""
        async with self._lock:  # one request serves all who wait
            if time.monotonic() >= self._expires_at:
                await self._load(url)
            key = self._find(key_id)
            if key is None and time.monotonic() >= self._next_for_unknown:
                self._next_for_unknown = time.monotonic() + KEY_INTERVAL
                await self._load(url)
                key = self._find(key_id)
        if key is None:
            raise ProviderError(f"The ID token is signed with the key {key_id!r}, which is not among those at {url}.")
        return key

    async def _load(self, url: str) -> None:
        document = await self._http.get(url)
        try:
            keys = [key for key in KeySet.import_key_set(document) if _is_usable(key)]
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise ProviderError(f"{url} has no keys that can be read: {type(error).__name__}: {error}") from None
        self._keys, self._expires_at = keys, time.monotonic() + MAX_AGE

    def _find(self, key_id: str | None) -> Key | None:
        if key_id is None:
            return self._keys[0] if len(self._keys) == 1 else None
        return next((key for key in self._keys if key.kid == key_id), None)


class OpenIdProvider(Provider):
    """A provider of OpenID Connect."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._keys = SigningKeys(self.http)
        self._lock = asyncio.Lock()
        self._document: dict[str, Any] = {}
        self._expires_at = 0.0

    async def authorization_url(self, secret: FlowSecret, redirect_uri: str) -> str:
        url = endpoint(await self._metadata(), "authorization_endpoint")
        return self.with_parameters(url, secret, redirect_uri, nonce=secret.nonce)

    async def check_response_issuer(self, issuer: str | None) -> None:
        if issuer is None and (await self._metadata()).get("authorization_response_iss_parameter_supported") is not True:
            return
        if not hmac.compare_digest((issuer or "").encode("utf-8", "replace"), self.settings.issuer.encode()):
            raise ProviderError(f"{issuer!r} answered in the name of {self.settings.issuer}.")

    async def identify(self, code: str, secret: FlowSecret, redirect_uri: str) -> Identity:
        metadata = await self._metadata()
        methods = metadata.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])  # the default of Discovery 1.0, section 3
        by_header = isinstance(methods, list) and "client_secret_basic" in methods
        answer = await self.exchange(endpoint(metadata, "token_endpoint"), code, secret, redirect_uri, by_header=by_header)
        claims = await self._claims(answer.get("id_token"), endpoint(metadata, "jwks_uri"), secret.nonce, answer["access_token"])
        # Claims that a scope asks for may be at the UserInfo endpoint alone (Core 1.0, 5.4).
        if "email" not in claims and "email" in self.settings.scopes and "userinfo_endpoint" in metadata:
            claims = {**await self._user_info(endpoint(metadata, "userinfo_endpoint"), answer["access_token"], claims["sub"]), **claims}
        return self.identity(
            claims["sub"],
            email=claims.get("email"),
            is_email_verified=claims.get("email_verified") is True or claims.get("email_verified") == "true",  # some write it as text
            full_name=claims.get("name"),
            names=(claims.get("preferred_username"), claims.get("nickname")),
        )

    async def _metadata(self) -> dict[str, Any]:
        async with self._lock:
            if time.monotonic() >= self._expires_at:
                url = f"{self.settings.issuer.rstrip('/')}/.well-known/openid-configuration"
                document = await self.http.get(url)
                issuer = cast("dict[str, Any]", document).get("issuer") if isinstance(document, dict) else None
                if issuer != self.settings.issuer:
                    raise ProviderError(f"{url} is the document of {issuer!r}, not of {self.settings.issuer!r}.")
                self._document, self._expires_at = cast("dict[str, Any]", document), time.monotonic() + MAX_AGE
            return self._document

    async def _claims(self, id_token: object, jwks_uri: str, nonce: str, access_token: str) -> dict[str, Any]:
        """Verify an ID token (Core 1.0, 3.1.3.7); return what it says. Raises `ProviderError`."""
        if not isinstance(id_token, str):
            raise ProviderError("The provider gave no ID token.")
        try:
            token = jws.extract_compact(id_token.encode())
            header = token.headers()
            if header.get("alg") not in ALGORITHMS:
                raise ProviderError(f"The ID token is signed by {header.get('alg')!r}, which is not accepted.")
            key = await self._keys.find(jwks_uri, header.get("kid"))
            verified = jws.deserialize_compact(id_token.encode(), key, algorithms=[header["alg"]])
            claims = _object(verified.payload)
            options: Any = {
                "iss": {"essential": True, "value": self.settings.issuer},
                "aud": {"essential": True, "value": self.settings.client_id},
                "sub": {"essential": True},
            }
            params = {"nonce": nonce, "client_id": self.settings.client_id, "access_token": access_token}
            CodeIDToken(claims, header, options, params).validate(leeway=LEEWAY)  # pyright: ignore[reportUnknownMemberType] - no types
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise ProviderError(f"The ID token is not valid: {type(error).__name__}: {error}") from None
        return claims

    async def _user_info(self, url: str, access_token: str, subject: str) -> dict[str, Any]:
        info = await self.http.get(url, access_token)
        if not isinstance(info, dict) or cast("dict[str, Any]", info).get("sub") != subject:  # Core 1.0, 5.3.2
            raise ProviderError(f"{url} tells of another person than the ID token.")
        return cast("dict[str, Any]", info)


def _is_usable(key: Key) -> bool:
    if isinstance(key, RSAKey):
        return key.public_key.key_size >= MIN_RSA_BITS
    return isinstance(key, ECKey)


def _object(payload: bytes) -> dict[str, Any]:
    value = orjson.loads(payload)
    if not isinstance(value, dict):
        raise TypeError("it is no JSON object")
    return cast("dict[str, Any]", value)
