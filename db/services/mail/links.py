"""How mails ask their recipients to go on."""

from __future__ import annotations

from urllib.parse import quote

from db.settings import StateSettings


def how_to_use(settings: StateSettings, token: str, page: str, mutation: str) -> str:
    """A link, whose fragment reaches no server's log; without a public address, the mutation that takes the token."""
    if settings.public_url:
        return f"Open this link to go on:\n\n  {settings.public_url.rstrip('/')}/{page}#token={quote(token)}\n\n"
    return f"To go on, pass this token to the mutation `{mutation}`:\n\n  {token}\n\n"
