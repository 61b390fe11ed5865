"""An app that shows codes, as a user has it, at a time that the test sets; and the requests that take them."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any

from pyotp.totp import TOTP
from sqlalchemy import select

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services.accounts import codes
from db.services.mail import compose
from db.settings import state_settings
from db.tables import EmailMessage, LoginEvent, User
from tests.client import PASSWORD, Client

SignIn = Callable[[str], Awaitable[Client]]
PROBLEM = "__typename ... on Problem { code message }"
INVALID = f"{PROBLEM} ... on InvalidInput {{ issues {{ path }} }}"
WRONG_STATE = "... on WrongState { state }"
ENROLL = (
    f"mutation($input: EnrollTotpInput!) {{ enrollTotp(input: $input) {{ {PROBLEM} {WRONG_STATE}"
    " ... on EnrollTotpPayload { secret uri qrSvg } } }"
)
CONFIRM = (
    f"mutation($input: ConfirmTotpInput!) {{ confirmTotp(input: $input) {{ {INVALID} {WRONG_STATE}"
    " ... on ConfirmTotpPayload { backupCodes } } }"
)
DISABLE = f"mutation($input: DisableTotpInput!) {{ disableTotp(input: $input) {{ {INVALID} {WRONG_STATE} ... on DisableTotpPayload {{ isDisabled }} }} }}"
REGENERATE = (
    f"mutation($input: RegenerateBackupCodesInput!) {{ regenerateBackupCodes(input: $input) {{ {INVALID} {WRONG_STATE}"
    " ... on RegenerateBackupCodesPayload { backupCodes } } }"
)
CONFIRM_LOGIN = (
    f"mutation($input: ConfirmLoginInput!) {{ confirmLogin(input: $input) {{ {INVALID}"
    " ... on LoginPayload { token session { id isCurrent } viewer { username } } } }"
)
FACTOR = "{ viewer { hasTotp backupCodesLeft } }"


class Clock:
    """The time by which Trellis checks codes, and apps show them. It stands still, so that no test meets the end of a step."""

    def __init__(self) -> None:
        self.now = time.time()

    def next_step(self) -> None:
        self.now += codes.STEP


@dataclass
class Authenticator:
    """An app with a secret, and the backup codes that came with it."""

    secret: str
    clock: Clock
    backup_codes: list[str]

    def code(self, steps: int = 0) -> str:
        """The code of now, or of a step before or after."""
        return TOTP(self.secret).at(int(self.clock.now) + steps * codes.STEP)

    def wrong_codes(self, count: int) -> list[str]:
        right = {self.code(steps) for steps in (-1, 0, 1)}
        return [code for code in (f"{number:06}" for number in range(count + 3)) if code not in right][:count]


async def enroll(session: Client, clock: Clock) -> Authenticator:
    """Begin to add an app; the next codes come from it."""
    answer = await session.one(ENROLL, input={"password": PASSWORD})
    assert answer["__typename"] == "EnrollTotpPayload", answer
    return Authenticator(answer["secret"], clock, [])


async def add_factor(session: Client, clock: Clock) -> Authenticator:
    """Add an app, whose code of now is not used yet."""
    app = await enroll(session, clock)
    answer = await session.one(CONFIRM, input={"code": app.code()})
    assert answer["__typename"] == "ConfirmTotpPayload", answer
    app.backup_codes = answer["backupCodes"]
    clock.next_step()
    return app


async def challenge(client: Client, login: str = "ada", password: str = PASSWORD, **headers: str) -> str:
    """Sign in with the password; return what it gives."""
    answer = await client.login(login, password, **headers)
    assert answer["__typename"] == "TotpRequired", answer
    return answer["challenge"]


async def confirm(client: Client, challenge: str, code: str, **headers: str) -> dict[str, Any]:
    """Send a code; return the result, or the first error with its extensions."""
    body = {"query": CONFIRM_LOGIN, "variables": {"input": {"challenge": challenge, "code": code}}}
    answer = (await client.http.post("/graphql", json=body, headers=headers)).json()
    return answer["errors"][0] if answer.get("errors") else answer["data"]["confirmLogin"]


async def history(database: Database, name: str = "ada") -> list[tuple[str, str | None]]:
    """The method of each sign-in, and why it failed."""
    statement = select(LoginEvent.method, LoginEvent.reason).join(User, User.id == LoginEvent.user_id).where(User.username == name)
    return [(row.method.name, row.reason) for row in await database.rows(statement.order_by(LoginEvent.id))]


async def mails(database: Database, *templates: str) -> list[str]:
    """The texts of the mails with these templates, or of all."""
    rows = await database.rows(select(EmailMessage.id, EmailMessage.template).order_by(EmailMessage.id))
    async with database.work(SYSTEM) as work:
        return [
            f"{mail.subject}\n{mail.text}"
            for row in rows
            if not templates or row.template.value in templates
            for mail in [await compose(work, state_settings(), row.id)]
        ]


def types(answers: Collection[dict[str, Any]]) -> list[str]:
    """How the mutations ended, sorted."""
    return sorted(answer.get("__typename") or answer["extensions"]["code"] for answer in answers)
