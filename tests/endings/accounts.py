"""The endings of mutations on accounts."""

from __future__ import annotations

from tests.client import PASSWORD, Client
from tests.endings import UNKNOWN, Endings, World, endings_of


async def _other_session(world: World) -> str:
    other = await world.sign_in("ada")
    return (await other.one("{ sessions { id isCurrent } }"))[0]["id"]


async def _signed_in(world: World) -> Client:
    world.sender = await world.sign_in("ada")
    return world.sender


@endings_of("login")
async def login(world: World) -> Endings:
    await world.sign_in("ada")
    yield "LoginPayload", {"login": "ada@example.org", "password": PASSWORD}
    yield "InvalidCredentials", {"login": "ada", "password": "not the password"}
    yield "InvalidInput", {"login": "ada", "password": ""}


@endings_of("logout")
async def logout(world: World) -> Endings:
    await _signed_in(world)
    yield "LogoutPayload", {}


@endings_of("revokeSession")
async def revoke_session(world: World) -> Endings:
    await _signed_in(world)
    yield "RevokeSessionPayload", {"id": await _other_session(world)}
    yield "NotFound", {"id": f"session_{UNKNOWN}"}


@endings_of("revokeOtherSessions")
async def revoke_other_sessions(world: World) -> Endings:
    await _signed_in(world)
    yield "RevokeOtherSessionsPayload", {}
