"""The context of an operation: the services of its process and request, and its own state."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import uuid4

from db.core.networks import NO_CLIENT, ClientInfo
from graph.core.context import Context, StreamProgress
from graph.core.session_cookie import SessionCookie

if TYPE_CHECKING:
    from db.core.deadlines import Deadlines
    from db.core.viewer import Viewer
    from db.core.work import Database
    from db.services.accounts import (
        AccountDeletions,
        EmailChanges,
        Passkeys,
        PasswordChanges,
        Registrations,
        Restorations,
        SecondFactors,
        SignIns,
        TeamInvitations,
    )
    from db.stores.objects import ObjectStore
    from db.streams.feed import Feed
    from db.streams.sessions import Session
    from graph.execution.limits.gate import Gate
    from graph.execution.observation import Observation, Observer


@dataclass(frozen=True, slots=True)
class RequestServices:
    """The services that the operations of one request, or of one websocket, share. They do not change while an operation runs."""

    database: Database
    objects: ObjectStore
    feed: Feed
    gate: Gate | None = None
    observer: Observer | None = None
    introspection: bool = True
    execution_timeout: float | None = None  # seconds that one execution may take
    deadlines: Deadlines | None = None  # of the executions of this process, each after these seconds
    client: ClientInfo = NO_CLIENT  # anonymous clients are rate limited by its address
    sign_ins: SignIns | None = None
    password_changes: PasswordChanges | None = None
    registrations: Registrations | None = None
    team_invitations: TeamInvitations | None = None
    email_changes: EmailChanges | None = None
    second_factors: SecondFactors | None = None
    sign_in_providers: tuple[str, ...] = ()  # by which one can sign in, besides passwords
    account_deletions: AccountDeletions | None = None
    restorations: Restorations | None = None
    passkeys: Passkeys | None = None
    cookie: SessionCookie = field(default_factory=SessionCookie)  # what the response does with the browser's cookie
    shows_cost: bool = False  # whether `extensions` of results report the cost of the operation
    plan_requested: bool = False  # whether `extensions` of results report how the operation was executed, to those who may know
    shows_plan_to_all: bool = False  # not to admins alone

    @property
    def address(self) -> str | None:
        return self.client.address

    def for_operation(
        self,
        viewer: Viewer | None,
        *,
        session: Session | None = None,
        request_id: str | None = None,
        after: str | None = None,
        observer: Observer | None = None,
    ) -> OperationContext:
        """Return the context of one operation. It shares no loader, no progress and no cost with any other.

        `session` is the websocket's, if one is open; `after` is the cursor from which a stream resumes; `observer` is another than that of the
        services, which equal requests may share.
        """
        return OperationContext(
            self.database,
            self.objects,
            self.feed,
            viewer,
            self.client,
            self.sign_ins,
            self.password_changes,
            self.registrations,
            self.team_invitations,
            self.email_changes,
            self.second_factors,
            self.sign_in_providers,
            self.account_deletions,
            self.restorations,
            self.passkeys,
            self.cookie,
            session,
            request_id or uuid4().hex,
            StreamProgress(after),
            services=self,
            observer=observer or self.observer,
        )


@dataclass(slots=True, kw_only=True)
class OperationContext(Context):
    """The resolvers' context, with what only the execution reads and writes.

    `phase` is parse, validate or execute: how far the operation has come, for the codes of its errors.
    """

    services: RequestServices
    observer: Observer | None = None
    phase: str = "parse"
    observation: Observation | None = None
    prepaid_points: int = 0  # points taken for validating the document
    request_bytes: int = 0  # of an operation on a websocket; HTTP counts those of the whole request
    hash_to_register: str | None = None  # the hash under which the document is registered once it has been admitted

    @property
    def shows_plan(self) -> bool:
        """Whether the client asked how the operation is executed, and may know it."""
        services = self.services
        return services.plan_requested and (services.shows_plan_to_all or (self.viewer is not None and self.viewer.sees_all))
