"""Invitations to teams through a process, with the limits on how many are sent and how often their tokens are tried."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Row

from db.core.networks import ClientInfo
from db.core.viewer import SYSTEM, UserRole, Viewer
from db.core.work import Database
from db.services import account_tokens
from db.services.accounts import invitations
from db.services.accounts.sessions import require_recent_check
from db.services.accounts.sign_in import AttemptLimits
from db.settings import StateSettings


class TeamInvitations:
    """The invitations to teams through a process."""

    def __init__(self, database: Database, attempts: AttemptLimits, settings: StateSettings) -> None:
        self._database = database
        self._attempts = attempts
        self._settings = settings

    async def invite(self, viewer: Viewer, team_id: UUID, email: str, role: UserRole, client: ClientInfo) -> UUID:
        """Invite who has this address to a team; return the invitation's id.

        It takes a session that was checked lately: whoever stole one must not give themselves a right that outlives it. An address that got too
        many mails gets none, which nobody is told: it would tell who invited it before. Raises `WrongState`, `NotFound`, `Forbidden`,
        `InvalidInput` or `TooManyAttempts`.
        """
        async with self._database.work(viewer) as work:
            await require_recent_check(work)
            await invitations.require_inviter(work, team_id)
        email = invitations.checked_address(email, "email")
        await self._attempts.take_invitation(viewer.id)
        is_mailed = await self._attempts.take_mail("team-invitation", email, client.address)
        async with self._database.work(viewer) as work:
            return await invitations.invite(work, email, role, team_id, is_mailed=is_mailed)

    async def accept(self, viewer: Viewer, token: str, client: ClientInfo) -> Row[Any]:
        """Put the viewer in the team that the token invites to; return the membership. Raises `InvalidInput`, `WrongState` or `TooManyAttempts`."""
        await self._attempts.take_link(client.address)
        async with self._database.work(viewer) as work:
            membership = await invitations.accept_invitation(work, self._read(token))
        await self._attempts.give_back_link(client.address)
        return membership

    async def decline(self, token: str, client: ClientInfo) -> UUID:
        """End the invitation of the token, to a team or to register; return its id. Raises `InvalidInput` or `TooManyAttempts`."""
        await self._attempts.take_link(client.address)
        invitation_id = self._read(token)
        async with self._database.work(SYSTEM) as work:
            await invitations.decline_invitation(work, invitation_id)
        await self._attempts.give_back_link(client.address)
        return invitation_id

    def _read(self, token: str) -> UUID:
        invitation_id = account_tokens.read_token(self._settings, token, account_tokens.INVITATION)
        if invitation_id is None:
            raise invitations.not_acceptable()
        return invitation_id
