"""The settings of a provider of identities."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

MAX_PROVIDERS = 20
_ISSUERS = {"google": "https://accounts.google.com", "github": "https://github.com"}
_SCOPES = {"github": ("read:user", "user:email")}
_OPENID_SCOPES = ("openid", "email", "profile")
_LOOPBACK = re.compile(r"localhost|127(?:\.[0-9]{1,3}){3}|::1")

ProviderName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")]


class SignInProvider(BaseModel):
    """One provider. Its issuer is the preset's unless one is given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    preset: Literal["google", "github"] | None = None
    issuer: str = ""
    client_id: str = Field(min_length=1)
    client_secret: SecretStr = SecretStr("")
    scopes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _complete(self) -> Self:
        # Pydantic's own way to fill in a field of a frozen model.
        if not self.issuer:
            if self.preset is None:
                raise ValueError("A provider has a preset, `google` or `github`, or an issuer, such as `https://login.example.org`.")
            object.__setattr__(self, "issuer", _ISSUERS[self.preset])
        if not is_safe_url(self.issuer) or urlsplit(self.issuer).query:
            raise ValueError(f"{self.issuer!r} is no issuer: an https address without a query, such as `https://login.example.org`.")
        if not self.scopes:
            object.__setattr__(self, "scopes", _SCOPES.get(self.preset or "", _OPENID_SCOPES))
        if self.preset != "github" and "openid" not in self.scopes:
            raise ValueError("The scopes need `openid`, without which the provider does not say who signs in.")
        return self


def is_safe_url(url: str) -> bool:
    """Whether what is sent to this address reaches nobody else: by https, or without leaving the machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return False
    if not host or parts.username is not None or parts.fragment or not url.isprintable():
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _LOOPBACK.fullmatch(host) is not None)
