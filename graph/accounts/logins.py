"""How a sign-in ends well, whatever it was proven with: a session begins, and the operation goes on as its user."""

from uuid import UUID

import strawberry

from db import errors
from db.queries import accounts as account_queries
from db.queries import sign_ins
from db.services import accounts
from graph.accounts.enums import LoginTransport
from graph.accounts.types import Session, User
from graph.core.context import Info
from graph.core.edges import one
from graph.core.session_cookie import SessionCookie


@strawberry.type(description="You are signed in. The rest of this operation is executed as the user who signed in.")
class LoginPayload:
    user_id: strawberry.Private[UUID]
    session_id: strawberry.Private[UUID]
    token: str | None = strawberry.field(
        description="The token of the session: send it as `Authorization: Bearer <token>`, and keep it secret. It is shown only here. Null if the"
        " browser has it as a cookie."
    )
    session: Session = one(sign_ins.session_by_id, key="session_id", description="The session that begins.")
    viewer: User = one(account_queries.live_by_id, key="user_id", description="The user who signed in.")


def cookie_to_set(info: Info, transport: LoginTransport) -> SessionCookie | None:
    """The browser's cookie, if that is to get the token. Raises `InvalidInput` where it cannot be set."""
    if transport is not LoginTransport.COOKIE:
        return None
    if (refusal := info.context.cookie.refusal) is not None:
        raise errors.invalid("transport", message=refusal)
    return info.context.cookie


def go_on_as(info: Info, signed_in: accounts.SignedIn, cookie: SessionCookie | None) -> LoginPayload:
    """Execute the rest of the operation as the user who signed in."""
    assert info.context.sign_ins is not None
    info.context.viewer = signed_in.viewer
    info.context.reset_loaders()
    if cookie is not None:
        cookie.set(signed_in.token, info.context.sign_ins.session_lifetime)
    session_id = signed_in.viewer.require_session()
    return LoginPayload(user_id=signed_in.viewer.id, session_id=session_id, token=None if cookie else signed_in.token)
