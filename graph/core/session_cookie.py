"""The cookie that signs a browser in, as far as a resolver can decide: the transport reads and writes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

NO_POST = "Only the answer to a single POST can set a cookie. Sign in by HTTP, or ask for a token."


@dataclass(slots=True)
class SessionCookie:
    """What the answer to a request does with the browser's cookie."""

    find_refusal: Callable[[], str | None] = lambda: NO_POST
    token: str | None = None
    lifetime: float = 0.0  # seconds
    is_cleared: bool = False

    @property
    def refusal(self) -> str | None:
        """Why this answer cannot set the cookie; None if it can."""
        return self.find_refusal()

    @property
    def is_changed(self) -> bool:
        return self.is_cleared or self.token is not None

    def set(self, token: str, lifetime: float) -> None:
        """Have the browser keep `token`. Only where `refusal` is None."""
        self.token, self.lifetime, self.is_cleared = token, lifetime, False

    def clear(self) -> None:
        """Have the browser forget the cookie."""
        self.token, self.is_cleared = None, True
