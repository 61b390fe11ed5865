"""The providers of the settings, each opened when somebody first signs in by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from server.oauth.provider import Provider
    from server.oauth.settings import SignInProvider
    from server.settings import ServerSettings


class Providers:
    """The providers of a process, with what is known of their keys."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._opened: dict[tuple[str, SignInProvider], Provider] = {}

    def find(self, name: str) -> Provider | None:
        """Return a provider; None if the settings have none of this name."""
        settings = self._settings.sign_in_providers.get(name)
        if settings is None:
            return None
        if (name, settings) not in self._opened:
            self._opened[name, settings] = _open(name, settings)
        return self._opened[name, settings]

    async def close(self) -> None:
        for provider in self._opened.values():
            await provider.close()


def _open(name: str, settings: SignInProvider) -> Provider:
    # Imported here: most processes never need an HTTP client and the formats of keys.
    if settings.preset == "github":
        from server.oauth.github import GitHubProvider

        return GitHubProvider(name, settings)
    from server.oauth.openid import OpenIdProvider

    return OpenIdProvider(name, settings)
